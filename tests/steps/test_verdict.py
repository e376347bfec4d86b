"""`verdict`: every group ends with a manifest, and every raw with a fate."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from nightdesk import __version__
from nightdesk.errors import FrameError, FrameLost, GroupError, NightdeskError, Waiting
from nightdesk.manifest import read_manifest
from nightdesk.steps import align, combine, extinction, find_sidecar, isr, publish, verdict
from tests.small_night import SmallNight

FIRST, SECOND, THIRD = "r0743053", "r0743054", "r0743055"


def go(night: SmallNight) -> str:
    """Run the steps as Airflow does, each frame for itself; then the verdict, whatever happened."""
    failed = {}
    step = "list_frames"
    try:
        names = [name for batch in night.list_raws() for name in batch]
        each(night, isr, names)
        each(night, extinction, names)
        step = "find_sidecar"
        find_sidecar.run(night.settings, night.group)
        each(night, align, names)
        step = "combine"
        combine.run(night.settings, night.group, names)
        publish.run(night.settings, night.group)
    except Waiting:
        pass
    except NightdeskError as error:
        failed[step] = str(error)
    return verdict.run(night.settings, night.group, run_id=night.group.run_id, states={}, failed_steps=failed)


def each(night: SmallNight, step: Any, names: list[str]) -> None:
    for name in names:
        with suppress(FrameError, FrameLost):
            step.run(night.settings, night.group, [name])


def manifest_of(night: SmallNight) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(night.layout.manifest.read_text())
    return told


def fates(night: SmallNight) -> dict[str, str]:
    return {raw["name"]: raw["fate"] for raw in manifest_of(night)["raws"]}


def sha256(path: Any) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestDone:
    """Every frame is in the stack."""

    def test_it_says_so(self, night: SmallNight) -> None:
        assert go(night).startswith("2026-11-21/NGC5949/R is done: 3 frames are in the stack.")

    def test_the_manifest_holds_everything(self, night: SmallNight) -> None:
        go(night)
        manifest = manifest_of(night)
        assert (manifest["schema"], manifest["state"]) == (1, "done")
        assert manifest["group"] == {
            "key": "2026-11-21/NGC5949/R",
            "target": "NGC5949",
            "filter_name": "R",
            "night": "2026-11-21",
        }
        assert manifest["stack"] == "processed/NGC5949/R/2026-11-21/combined/combined.fits"
        assert (manifest["code"], manifest["run_id"], manifest["profile"]) == (
            __version__,
            "2026-11-21__NGC5949__R",
            "standard",
        )
        assert len(manifest["settings"]) == 64
        assert manifest["written"][:2] == "20"

    def test_every_input_stands_there_with_its_state_and_hash(self, night: SmallNight) -> None:
        go(night)
        manifest = manifest_of(night)
        calibs = night.root / "calibs"
        expected = {
            "master bias": calibs / "bias2x2.fits",
            "master flat": calibs / "Rflatnorm2x2.fits",
            "sidecar": night.sidecar,
        }
        entries = {entry["role"]: entry for entry in manifest["inputs"]} | {
            entry["name"]: entry for entry in manifest["raws"]
        }
        expected |= {name: night.raw(name) for name in night.names}
        assert entries.keys() == expected.keys()
        for role, path in expected.items():
            status = path.stat()
            entry = entries[role]
            assert entry["path"] == path.relative_to(night.root).as_posix()
            assert (entry["size"], entry["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
            assert entry["sha256"] == sha256(path)

    def test_another_setup_is_left_out_and_no_reason_to_be_red(self, night: SmallNight) -> None:
        night.write_raw(SECOND, EXPTIME=5.0)
        assert "2 frames are in the stack; left out: r0743054." in go(night)
        raws = {raw["name"]: raw for raw in manifest_of(night)["raws"]}
        assert raws[SECOND]["fate"] == "left out"
        assert raws[SECOND]["reason"] == "another setup (5 s, binning 2x2; this group is 60 s, binning 2x2)"

    def test_use_0_is_left_out_and_no_reason_to_be_red(self, night: SmallNight) -> None:
        night.write_sidecar(unused=[THIRD])
        assert "2 frames are in the stack; left out: r0743055." in go(night)
        assert fates(night) == {FIRST: "used", SECOND: "used", THIRD: "left out"}

    def test_a_copy_is_left_out(self, night: SmallNight) -> None:
        place = night.root / "processed" / "NGC5949" / "R" / "raws"
        place.mkdir(parents=True)
        shutil.copy(night.raw(SECOND), place)
        go(night)
        told = [(raw["path"], raw["fate"]) for raw in manifest_of(night)["raws"] if raw["name"] == SECOND]
        assert sorted(fate for _, fate in told) == ["left out", "used"]

    def test_a_second_verdict_says_the_same(self, night: SmallNight) -> None:
        go(night)
        before = manifest_of(night)
        verdict.run(night.settings, night.group, run_id="2026-11-21__NGC5949__R", states={})
        after = manifest_of(night)
        assert {**after, "written": ""} == {**before, "written": ""}

    def test_also_when_the_folders_before_the_stack_were_tidied_away(self, night: SmallNight) -> None:
        night = replace(night, tables={"products": {"keep": "stack"}})
        go(night)
        assert not list(night.layout.folder.glob("shifted/*.fits"))
        assert verdict.run(night.settings, night.group, run_id="again", states={}).startswith(
            "2026-11-21/NGC5949/R is done"
        )

    def test_read_manifest_gives_it_back(self, night: SmallNight) -> None:
        assert read_manifest(night.settings, night.group) is None
        go(night)
        assert read_manifest(night.settings, night.group) == manifest_of(night)


def drop_gain(night: SmallNight) -> None:
    night.write_raw(SECOND, EGAIN=None)


def drop_row(night: SmallNight) -> None:
    night.write_sidecar([FIRST, THIRD])


def no_sky(night: SmallNight) -> None:
    import numpy as np

    night.write_raw(SECOND, np.full(night.shape, np.nan, np.float32))


class TestPartial:
    """There is a stack, without some frame: red, and the sentence names it."""

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (drop_gain, "the header has no EGAIN"),
            (drop_row, "xy.csv has no row for it"),
            (no_sky, "its sky cannot be measured"),
        ],
    )
    def test_the_lost_frame_is_named_with_its_reason(
        self, night: SmallNight, fault: Callable[[SmallNight], None], reason: str
    ) -> None:
        fault(night)
        with pytest.raises(
            GroupError, match=rf"is partial: 2 of 3 frames are in the stack\. {SECOND} was lost: "
        ) as told:
            go(night)
        assert reason in str(told.value)
        assert fates(night) == {FIRST: "used", SECOND: "lost", THIRD: "used"}
        manifest = manifest_of(night)
        assert manifest["state"] == "partial"
        assert manifest["stack"] is not None
        assert reason in next(raw["reason"] for raw in manifest["raws"] if raw["name"] == SECOND)

    def test_a_frame_that_nobody_explains_is_lost_by_its_tasks_state(self, night: SmallNight) -> None:
        night.run_to("align")
        combine.run(night.settings, night.group, [FIRST, THIRD])
        states = {SECOND: {"isr": "success", "extinction": "failed", "align": "upstream_failed"}}
        with pytest.raises(GroupError, match="r0743054 was lost: extinction did not succeed; its log says why"):
            verdict.run(night.settings, night.group, run_id="x", states=states)

    def test_a_frame_that_is_in_no_stack_is_lost(self, night: SmallNight) -> None:
        night.run_to("align")
        combine.run(night.settings, night.group, [FIRST, THIRD])
        with pytest.raises(GroupError, match="r0743054 was lost: it is not in the stack"):
            verdict.run(night.settings, night.group, run_id="x", states={})

    def test_a_step_that_failed_is_told_though_every_frame_is_in_the_stack(self, night: SmallNight) -> None:
        go(night)
        with pytest.raises(GroupError, match=r"is partial: 3 of 3 frames are in the stack\. publish failed: no paint"):
            verdict.run(night.settings, night.group, run_id="x", states={}, failed_steps={"publish": "no paint."})
        assert manifest_of(night)["state"] == "partial"

    def test_mended_it_is_done(self, night: SmallNight) -> None:
        drop_gain(night)
        with pytest.raises(GroupError):
            go(night)
        night.write_raw(SECOND)
        for step in (isr, extinction, align):
            step.run(night.settings, night.group, [SECOND])
        combine.run(night.settings, night.group, night.names)
        assert "is done" in verdict.run(night.settings, night.group, run_id="x", states={})
        raws = {raw["name"]: raw for raw in manifest_of(night)["raws"]}
        assert raws[SECOND]["sha256"] == sha256(night.raw(SECOND))


class TestWaiting:
    """There are no positions: not red, unless a frame was lost besides."""

    def test_it_waits_and_says_for_which_file(self, night: SmallNight) -> None:
        night.sidecar.unlink()
        sentence = go(night)
        assert sentence == (
            "2026-11-21/NGC5949/R is waiting: it waits for positions in xys/NGC5949/R/2026-11-21/xy.csv."
        )
        assert set(fates(night).values()) == {"waiting"}
        manifest = manifest_of(night)
        assert (manifest["state"], manifest["stack"]) == ("waiting", None)

    def test_a_lost_frame_makes_it_red(self, night: SmallNight) -> None:
        night.sidecar.unlink()
        drop_gain(night)
        with pytest.raises(GroupError, match=f"is waiting: it waits for positions .* {SECOND} was lost: "):
            go(night)
        assert fates(night) == {FIRST: "waiting", SECOND: "lost", THIRD: "waiting"}

    @pytest.mark.parametrize("keep", ["all", "stack"])
    def test_the_others_of_a_red_batch_wait(self, night: SmallNight, keep: str) -> None:
        # `isr` is one square for all of them, red for the one that is bad.
        tables = {"products": {"keep": keep}, "batch": {"frames_per_task": "all"}}
        night = replace(night, tables=tables)
        night.sidecar.unlink()
        drop_gain(night)
        night.list_raws()
        with pytest.raises(FrameError):
            isr.run(night.settings, night.group, night.names)
        extinction.run(night.settings, night.group, night.names)
        states = {name: {"isr": "failed", "extinction": "success"} for name in night.names}
        with pytest.raises(GroupError, match=SECOND):
            verdict.run(night.settings, night.group, run_id="x", states=states)
        assert fates(night) == {FIRST: "waiting", SECOND: "lost", THIRD: "waiting"}


class TestFailed:
    """There is no stack."""

    def test_every_frame_is_lost(self, night: SmallNight) -> None:
        for name in night.names:
            night.write_raw(name, EGAIN=None)
        with pytest.raises(GroupError, match=r"is failed: .* r0743053 was lost: .* r0743055 was lost: "):
            go(night)
        assert set(fates(night).values()) == {"lost"}

    def test_a_master_is_missing(self, night: SmallNight) -> None:
        (night.root / "calibs" / "bias2x2.fits").unlink()
        with pytest.raises(
            GroupError, match="is failed: list_frames failed: 2026-11-21/NGC5949/R: no master bias"
        ) as told:
            go(night)
        assert str(told.value).endswith("Then clear this run."), "no frame is to blame"
        manifest = manifest_of(night)
        assert (manifest["state"], manifest["stack"]) == ("failed", None)
        assert [raw["fate"] for raw in manifest["raws"]] == ["lost"] * 3
        assert [entry["role"] for entry in manifest["inputs"]] == ["sidecar"]

    def test_a_wrong_sidecar(self, night: SmallNight) -> None:
        night.write_rows(["fname,x,y", f"{FIRST},one,2"])
        with pytest.raises(GroupError, match=r"is failed: xys/NGC5949/R/xy\.csv, line 2: x = 'one'"):
            go(night)

    def test_a_filter_without_settings(self, night: SmallNight) -> None:
        other = replace(night, filter_name="V")
        for name in night.names:
            night.write_raw(name, FILTER="V")
        with pytest.raises(GroupError, match=r"is failed: .*Filter 'V' of NGC5949 has no settings"):
            go(other)
        assert manifest_of(other)["settings"] is None

    def test_there_is_nothing_on_disk(self, night: SmallNight) -> None:
        for name in night.names:
            night.raw(name).unlink()
        failed = {"list_frames": "no science frame is on disk."}
        with pytest.raises(GroupError, match=r"is failed: list_frames failed: no science frame is on disk\."):
            verdict.run(night.settings, night.group, run_id="x", states={}, failed_steps=failed)
        assert manifest_of(night)["raws"] == []

    def test_a_raw_has_gone_since(self, night: SmallNight) -> None:
        go(night)
        night.raw(SECOND).unlink()
        with pytest.raises(GroupError, match=rf"{SECOND} was lost: its raw file is gone"):
            verdict.run(night.settings, night.group, run_id="x", states={})
        raw = next(raw for raw in manifest_of(night)["raws"] if raw["name"] == SECOND)
        assert (raw["fate"], raw["sha256"]) == ("lost", None)

    def test_a_stack_of_other_frames_does_not_count(self, night: SmallNight) -> None:
        """A trapped exception must not turn a lost product into a green task."""
        go(night)
        night.write_raw(SECOND, AIRMASS=1.9)
        with pytest.raises(GroupError, match="is failed"):
            verdict.run(night.settings, night.group, run_id="x", states={})


def test_the_message_is_one_paragraph_without_traceback(night: SmallNight) -> None:
    drop_gain(night)
    with pytest.raises(GroupError) as told:
        go(night)
    assert "\n" not in str(told.value)
    assert "Error" not in str(told.value)
    assert ".." not in str(told.value)
