"""The ledger: what a run set out with, what it lost, and what became of it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightdesk.errors import FrameError, StaleProduct
from nightdesk.io.atomic import read_json, write_json
from nightdesk.io.inventory import select_frames, take_inventory
from nightdesk.manifest import (
    FileState,
    forget_loss,
    read_inputs,
    read_loss,
    read_manifest,
    record_loss,
    renew_raw,
    renew_sidecar,
    require_inputs,
    sidecar_state,
    states_of,
    write_inputs,
)
from nightdesk.steps import reduce
from tests.small_night import SmallNight

ONE, TWO, THREE = "r0743053", "r0743054", "r0743055"


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return SmallNight(tmp_path, shape=(24, 32)).write()


def state(night: SmallNight, name: str) -> FileState:
    return FileState.of(night.layout, night.raw(name))


def written_inputs(night: SmallNight) -> Any:
    _, raws = take_inventory(night.settings).of_group(night.group)
    return write_inputs(night.layout, "by hand", raws, select_frames(raws), ())


def test_inputs_are_read_as_they_were_written(night: SmallNight) -> None:
    night.write_raw(THREE, EXPTIME=30.0)
    inputs = written_inputs(night)
    assert read_inputs(night.layout) == inputs == require_inputs(night.layout)
    assert inputs.frames == (ONE, TWO)
    assert list(inputs.left_out) == [THREE]
    assert (inputs.run_id, inputs.shape, inputs.binning) == ("by hand", (24, 32), "2x2")
    assert inputs.states == {state(night, name) for name in (ONE, TWO, THREE)}
    assert inputs.states == states_of(take_inventory(night.settings).raws)
    assert inputs.sidecar == sidecar_state(night.layout) == FileState.of(night.layout, night.sidecar)


def test_a_copied_frame_has_two_paths(night: SmallNight) -> None:
    copy = night.write_raw(ONE, path=night.root / f"processed/NGC5949/R/raws/{ONE}.fits")
    inputs = written_inputs(night)
    assert sorted(inputs.paths_of(ONE)) == [night.layout.relative(path) for path in (copy, night.raw(ONE))]
    assert inputs.frames == (ONE, TWO, THREE)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"schema": 2}, id="another schema"),
        pytest.param({"group": "2026-11-20/NGC5949/R"}, id="another night's"),
        pytest.param(None, id="none"),
        pytest.param("[]", id="something else"),
    ],
)
def test_inputs_that_are_not_the_groups_count_as_none(night: SmallNight, change: Any) -> None:
    written_inputs(night)
    path = night.layout.inputs
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change)
    else:
        write_json(path, read_json(path) | change)
    assert read_inputs(night.layout) is None
    with pytest.raises(StaleProduct, match=r"inputs.json is missing; list_frames writes it"):
        require_inputs(night.layout)


def test_a_mended_raw_is_renewed_and_no_other(night: SmallNight) -> None:
    before = written_inputs(night)
    os.utime(night.raw(TWO), ns=(0, 1))
    renew_raw(night.layout, state(night, TWO))
    after = require_inputs(night.layout)
    assert after.states == {state(night, name) for name in (ONE, TWO, THREE)}
    assert after.states != before.states
    assert replace(after, raws=before.raws) == before


def test_a_raw_that_the_run_did_not_set_out_with_is_not_added(night: SmallNight) -> None:
    before = written_inputs(night)
    late = night.write_raw(ONE, path=night.raw("late"))
    renew_raw(night.layout, FileState.of(night.layout, late))
    assert require_inputs(night.layout) == before


def test_renewing_what_has_not_changed_writes_nothing(night: SmallNight) -> None:
    written_inputs(night)
    inode = night.layout.inputs.stat().st_ino
    renew_raw(night.layout, state(night, ONE))
    renew_sidecar(night.layout, FileState.of(night.layout, night.sidecar))
    assert night.layout.inputs.stat().st_ino == inode


def test_the_sidecar_that_was_used_is_renewed(night: SmallNight) -> None:
    night.sidecar.unlink()
    assert written_inputs(night).sidecar is None
    night.write_sidecar()
    renew_sidecar(night.layout, FileState.of(night.layout, night.sidecar))
    assert require_inputs(night.layout).sidecar == sidecar_state(night.layout)


def test_renewing_without_inputs_makes_none(night: SmallNight) -> None:
    renew_raw(night.layout, state(night, ONE))
    renew_sidecar(night.layout, FileState.of(night.layout, night.sidecar))
    assert read_inputs(night.layout) is None


def test_a_loss_holds_for_the_raw_as_it_was(night: SmallNight) -> None:
    lost = state(night, ONE)
    record_loss(night.layout, ONE, "isr", FrameError("r0743053.fits: no EGAIN."), lost)
    loss = read_loss(night.layout, ONE, lost)
    assert loss is not None
    assert (loss["step"], loss["reason"]) == ("isr", "r0743053.fits: no EGAIN.")
    os.utime(night.raw(ONE), ns=(0, 1))
    assert read_loss(night.layout, ONE, state(night, ONE)) is None
    assert read_loss(night.layout, ONE, None) is None
    assert read_loss(night.layout, TWO, lost) is None
    forget_loss(night.layout, ONE)
    forget_loss(night.layout, ONE)
    assert read_loss(night.layout, ONE, lost) is None


def test_a_raw_that_is_gone_can_be_a_loss(night: SmallNight) -> None:
    record_loss(night.layout, ONE, "isr", FrameError("gone"), None)
    assert read_loss(night.layout, ONE, None) is not None
    assert read_loss(night.layout, ONE, state(night, ONE)) is None


def run(night: SmallNight) -> dict[str, Any]:
    reduce.run(night.settings, night.group, run_id="a run")
    manifest = read_manifest(night.settings, night.group)
    assert manifest is not None
    return manifest


def test_the_manifest_is_plain_and_says_whose_it_is(night: SmallNight) -> None:
    assert read_manifest(night.settings, night.group) is None
    manifest = run(night)
    assert manifest == json.loads(night.layout.manifest.read_bytes())
    assert (manifest["schema"], manifest["group"]["key"], manifest["run_id"]) == (1, night.group.key, "a run")
    assert str(night.root) not in night.layout.manifest.read_text()


@pytest.mark.parametrize("change", [{"schema": 2}, {"group": {"key": "2026-11-20/NGC5949/R"}}, {"group": {}}])
def test_a_manifest_that_is_not_the_groups_counts_as_none(night: SmallNight, change: dict[str, Any]) -> None:
    manifest = run(night)
    write_json(night.layout.manifest, manifest | change)
    assert read_manifest(night.settings, night.group) is None


def test_each_profile_has_its_own_ledger(night: SmallNight) -> None:
    assert run(night)["state"] == "done"
    notebook = replace(night, profile="notebook")
    assert read_manifest(notebook.settings, night.group) is None
    assert run(notebook)["profile"] == "notebook"
    assert run(night)["profile"] == "standard"
