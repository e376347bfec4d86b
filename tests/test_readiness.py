"""When a group is ready, and whether to start it: what the watcher sees, with a clock that the tests wind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightdesk import readiness
from nightdesk.errors import NightdeskError
from nightdesk.group import Group
from nightdesk.io.atomic import read_json
from nightdesk.io.layout import Layout
from nightdesk.readiness import (
    MOST_OBSERVED_FOLDERS,
    Watch,
    differs,
    groups_of_night,
    needs_run,
    out_of_date,
    tonight,
    unfinished_seconds,
    watched_since,
)
from nightdesk.settings import Settings
from nightdesk.steps import isr, reduce
from tests.small_night import SmallNight

WATCH = {"settle_seconds": 20, "stalled_seconds": 300, "readout_seconds": 10}
ONE, TWO, THREE = "r0743053", "r0743054", "r0743055"


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    """A night of three short exposures, the last one being made now."""
    return SmallNight(tmp_path, night=tonight(Settings()), exposure=2.0, tables={"watch": WATCH}).write()


@pytest.fixture
def watch(night: SmallNight) -> Watch:
    return Watch(night.settings)


def start(night: SmallNight) -> str:
    """Do what a run of the group does, to its end; return what it says."""
    try:
        return reduce.run(night.settings, night.group)
    except NightdeskError as error:
        return str(error)


# Settling


@pytest.mark.parametrize(
    ("exposure", "tables", "settle"),
    [
        pytest.param(2.0, {}, 20.0, id="settle_seconds"),
        pytest.param(60.0, {}, 100.0, id="one and a half exposures and the readout"),
        pytest.param(60.0, {"readout_seconds": 30}, 120.0, id="a slow readout"),
        pytest.param(2.0, {"settle_seconds": 5}, 13.0, id="a short settle time"),
        pytest.param(2.0, {"settle_seconds": 0, "readout_seconds": 0}, 3.0, id="none"),
    ],
)
def test_a_group_is_ready_when_nothing_has_changed_for_long_enough(
    night: SmallNight, exposure: float, tables: dict[str, float], settle: float
) -> None:
    night = replace(night, exposure=exposure, tables={"watch": WATCH | tables}).write()
    watch = Watch(night.settings)
    assert watch.look(1000.0) == []
    assert watch.due(1000.0) == pytest.approx(settle)
    assert watch.look(1000.0 + settle - 0.01) == []
    assert watch.look(1000.0 + settle) == [night.group]


def test_the_longest_exposure_counts(night: SmallNight, watch: Watch) -> None:
    night.write_raw(THREE, EXPTIME=40.0)
    watch.look(0.0)
    assert watch.look(69.9) == []
    assert watch.look(70.0) == [night.group]


def test_frames_without_an_exposure_settle_too(night: SmallNight, watch: Watch) -> None:
    for name in night.names:
        night.write_raw(name, EXPTIME=None)
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]


def test_what_the_watcher_saw_counts_not_the_files_own_times(night: SmallNight, watch: Watch) -> None:
    for name in night.names:
        os.utime(night.raw(name), (1e9, 1e9))
    assert watch.look(0.0) == []
    assert watch.look(20.0) == [night.group]


def touch(path: Path) -> None:
    os.utime(path, (2e9, 2e9))


CHANGES: list[Any] = [
    pytest.param(lambda night: night.write_raw(ONE, path=night.raw("late")), id="a frame lands"),
    pytest.param(lambda night: night.raw(ONE).unlink(), id="a frame is removed"),
    pytest.param(lambda night: night.raw(ONE).rename(night.raw("x")), id="a frame is renamed"),
    pytest.param(lambda night: night.write_raw(ONE, AIRMASS=1.9), id="a frame is written anew"),
    pytest.param(lambda night: touch(night.raw(ONE)), id="a frame is touched"),
    pytest.param(lambda night: touch(night.sidecar), id="the sidecar is touched"),
    pytest.param(lambda night: night.sidecar.unlink(), id="the sidecar is removed"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_begins_the_settling_anew(
    night: SmallNight, watch: Watch, change: Callable[[SmallNight], object]
) -> None:
    watch.look(0.0)
    change(night)
    assert watch.look(19.0) == []
    assert watch.look(38.0) == []
    assert watch.look(39.0) == [night.group]


def test_a_sidecar_that_arrives_settles_first(night: SmallNight, watch: Watch) -> None:
    night.sidecar.unlink()
    watch.look(0.0)
    night.write_sidecar()
    assert watch.look(19.0) == []
    assert watch.look(38.9) == []
    assert watch.look(39.0) == [night.group]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda night: night.write_raw(ONE, path=night.raw("b"), IMAGETYP="bias"), id="a bias lands"),
        pytest.param(
            lambda night: night.write_raw(ONE, path=night.raw("m"), OBJECT="M31"), id="another target's frame"
        ),
        pytest.param(lambda night: night.write_raw(ONE, path=night.raw("f"), OBJECT="focus"), id="an ignored frame"),
        pytest.param(lambda night: night.raw(".x").touch(), id="a temporary file"),
        pytest.param(lambda night: touch(night.root / "calibs/bias2x2.fits"), id="a master changes"),
    ],
)
def test_what_is_not_the_groups_does_not_hold_it(
    night: SmallNight, watch: Watch, change: Callable[[SmallNight], object]
) -> None:
    watch.look(0.0)
    change(night)
    assert night.group in watch.look(20.0)


def test_groups_settle_each_for_itself(night: SmallNight, watch: Watch) -> None:
    watch.look(0.0)
    other = replace(night, target="M31", first=800000)
    other.write_raw(other.names[0])
    assert watch.look(10.0) == []
    assert watch.due(10.0) == pytest.approx(10.0)
    assert watch.look(20.0) == [night.group]
    assert watch.due(20.0) == pytest.approx(10.0)
    assert watch.look(30.0) == sorted([night.group, other.group])


# Half-written and stalled files


@pytest.fixture
def halves(night: SmallNight) -> bytes:
    """The last frame's bytes, of which half are on the disk."""
    path = night.raw(THREE)
    content = path.read_bytes()
    path.write_bytes(content[:-2000])
    return content


def test_a_half_written_frame_holds_its_group_until_it_is_whole(night: SmallNight, watch: Watch, halves: bytes) -> None:
    watch.look(0.0)
    assert watch.look(100.0) == []
    night.raw(THREE).write_bytes(halves)
    assert watch.look(200.0) == []
    assert watch.look(219.9) == []
    assert watch.look(220.0) == [night.group]


def test_a_frame_that_has_not_grown_for_long_is_taken_as_it_is(night: SmallNight, watch: Watch, halves: bytes) -> None:
    watch.look(0.0)
    assert watch.look(299.9) == []
    assert watch.due(299.9) == pytest.approx(0.1)
    assert watch.look(300.0) == [night.group]


def test_a_frame_that_grows_has_not_stalled(night: SmallNight, watch: Watch, halves: bytes) -> None:
    for step in range(10):
        night.raw(THREE).write_bytes(halves[: -2000 + 50 * step])
        assert watch.look(200.0 * step) == []
    assert watch.look(2099.9) == []
    assert watch.look(2100.0) == [night.group]


def test_a_stalled_frame_that_goes_on_starts_its_group_once_more(
    night: SmallNight, watch: Watch, halves: bytes
) -> None:
    watch.look(0.0)
    assert watch.look(300.0) == [night.group]
    assert f"{THREE} was lost" in start(night)
    assert watch.look(400.0) == []
    night.raw(THREE).write_bytes(halves)
    assert watch.look(500.0) == []
    assert watch.look(520.0) == [night.group]
    assert " is done: 3 frames" in start(night)
    assert watch.look(600.0) == []


def test_a_file_without_a_whole_header_belongs_to_nobody_yet(night: SmallNight, watch: Watch, halves: bytes) -> None:
    night.raw(THREE).write_bytes(halves[:500])
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]
    start(night)
    night.raw(THREE).write_bytes(halves)
    assert watch.look(30.0) == []
    assert watch.look(50.0) == [night.group]


# Started once


def test_a_group_is_to_be_started_until_its_run_has_written_down_its_inputs(night: SmallNight, watch: Watch) -> None:
    watch.look(0.0)
    assert watch.look(20.0) == watch.look(21.0) == [night.group]
    night.list_raws()
    assert watch.look(22.0) == []


def remove_masters(night: SmallNight) -> None:
    shutil.rmtree(night.root / "calibs")


def collide(night: SmallNight) -> None:
    night.write_raw(ONE, OBJECT="NGC 5949")


def spoil_all(night: SmallNight) -> None:
    for name in night.names:
        night.write_raw(name, EGAIN=None)


def spoil_sidecar(night: SmallNight) -> None:
    night.write_rows(["fname,x,y", f"{ONE},,1"])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda night: None, id="it is done"),
        pytest.param(remove_masters, id="without masters"),
        pytest.param(collide, id="two header values that meet"),
        pytest.param(spoil_all, id="no frame is good"),
        pytest.param(spoil_sidecar, id="a wrong sidecar"),
        pytest.param(lambda night: night.sidecar.unlink(), id="without a sidecar"),
    ],
)
def test_a_group_is_started_once_for_the_same_inputs_whatever_became_of_it(
    night: SmallNight, watch: Watch, spoil: Callable[[SmallNight], object]
) -> None:
    spoil(night)
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]
    start(night)
    for settle_times in range(2, 13):
        assert watch.look(20.0 * settle_times) == []
    assert watch.due(240.0) is None
    assert not differs(night.settings, night.group)


def test_a_filter_without_settings_is_started_once(night: SmallNight) -> None:
    other = replace(night, filter_name="V", first=800000).write()
    watch = Watch(other.settings)
    watch.look(0.0)
    assert other.group in watch.look(20.0)
    assert "Filter 'V' of NGC5949 has no settings" in start(other)
    assert other.group not in watch.look(40.0)


def test_a_second_night_of_the_notebook_is_refused_once(night: SmallNight) -> None:
    notebook = replace(night, profile="notebook")
    earlier = replace(notebook, night=night.night - timedelta(days=1), first=700000)
    for name in earlier.names:
        earlier.write_raw(name)
    watch = Watch(notebook.settings)
    watch.look(0.0)
    assert watch.look(20.0) == [earlier.group, notebook.group]
    start(earlier)
    assert "keeps one night" in start(notebook)
    assert watch.look(40.0) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_it_was_reduced_starts_it_once_more(
    night: SmallNight, watch: Watch, change: Callable[[SmallNight], object]
) -> None:
    start(night)
    watch.look(0.0)
    assert watch.look(20.0) == []
    change(night)
    assert differs(night.settings, night.group)
    assert watch.look(30.0) == []
    assert watch.look(50.0) == [night.group]
    start(night)
    assert watch.look(70.0) == watch.look(500.0) == []


def test_a_sidecar_that_arrives_starts_a_waiting_group(night: SmallNight, watch: Watch) -> None:
    night.sidecar.unlink()
    night.list_raws()
    watch.look(0.0)
    assert watch.look(100.0) == []
    night.write_sidecar()
    assert watch.look(101.0) == []
    assert watch.look(121.0) == [night.group]


def test_a_nights_own_sidecar_takes_the_place_of_that_of_all_nights(night: SmallNight, watch: Watch) -> None:
    start(night)
    own = night.sidecar.parent / night.night.isoformat() / "xy.csv"
    own.parent.mkdir()
    shutil.copy(night.sidecar, own)
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]
    start(night)
    touch(night.sidecar)
    watch.look(30.0)
    assert watch.look(50.0) == []


def test_a_group_whose_raws_are_all_gone_is_not_started(night: SmallNight, watch: Watch) -> None:
    start(night)
    for name in night.names:
        night.raw(name).unlink()
    watch.look(0.0)
    assert watch.look(500.0) == []
    assert not differs(night.settings, night.group)
    assert night.layout.stack.exists()


def test_a_frame_that_was_mended_and_cleared_does_not_start_its_group_again(night: SmallNight, watch: Watch) -> None:
    night.write_raw(TWO, EGAIN=None)
    assert TWO in start(night)
    night.write_raw(TWO)
    assert differs(night.settings, night.group)
    isr.run(night.settings, night.group, [TWO])  # what clearing its red square does
    assert not differs(night.settings, night.group)
    watch.look(0.0)
    assert watch.look(20.0) == []


def test_a_changed_master_or_setting_makes_a_group_out_of_date_and_does_not_start_it(
    night: SmallNight, watch: Watch
) -> None:
    start(night)
    assert out_of_date(night.settings, night.group) == []
    night.write_master("bias2x2.fits", night.bias + 1)
    assert out_of_date(night.settings, night.group) == ["the master bias has changed"]
    changed = replace(night, tables={"watch": WATCH, "filters": {"R": {"extinction": 0.2}}}).settings
    assert "the settings have changed" in out_of_date(changed, night.group)
    for watching in (watch, Watch(changed)):
        watching.look(0.0)
        assert watching.look(20.0) == []


def test_what_is_there_at_the_start_is_found_and_what_is_done_is_left(night: SmallNight) -> None:
    other = replace(night, target="M31", first=800000).write()
    start(other)
    watch = Watch(night.settings)
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]


def test_the_notebooks_place_is_watched_as_well(night: SmallNight, watch: Watch) -> None:
    place = night.root / "processed/NGC5949/R/raws"
    place.mkdir(parents=True)
    watch.look(0.0)
    for name in night.names:
        night.raw(name).rename(place / f"{name}.fits")
    assert watch.look(10.0) == []
    assert watch.look(30.0) == [night.group]


# Nights


def test_only_the_last_nights_are_watched(night: SmallNight) -> None:
    for age in range(6):
        aged = replace(night, night=night.night - timedelta(days=age), first=900000 + 10 * age)
        aged.write_raw(aged.names[0])
    for nights, tables in ((3, {}), (1, {"watch_nights": 1}), (5, {"watch_nights": 5})):
        settings = replace(night, tables={"watch": WATCH | tables}).settings
        assert watched_since(settings) == night.night - timedelta(days=nights - 1)
        watch = Watch(settings)
        watch.look(0.0)
        found = {group.night for group in watch.look(20.0)}
        assert found == {night.night - timedelta(days=age) for age in range(nights)}


def test_an_old_night_has_its_groups_for_reduce_night(night: SmallNight) -> None:
    old = replace(night, night=night.night - timedelta(days=99))
    old.write_raw(ONE)
    assert groups_of_night(old.settings, old.night) == [old.group]
    assert groups_of_night(old.settings, old.night - timedelta(days=1)) == []


# What a night's operator asks


def test_a_night_runs_a_group_that_is_new_or_changed_or_out_of_date_and_no_other(night: SmallNight) -> None:
    assert needs_run(night.settings, night.group)
    start(night)
    assert not needs_run(night.settings, night.group)
    night.write_master("bias2x2.fits", night.bias + 1)
    assert needs_run(night.settings, night.group)
    start(night)
    assert not needs_run(night.settings, night.group)
    night.raw(THREE).unlink()
    assert needs_run(night.settings, night.group)


def test_a_run_that_left_no_manifest_is_run_again(night: SmallNight) -> None:
    night.list_raws()
    assert needs_run(night.settings, night.group)


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        pytest.param(remove_masters, lambda night: night.write(), id="without masters"),
        pytest.param(spoil_all, lambda night: night.write(), id="no frame is good"),
        pytest.param(spoil_sidecar, lambda night: night.write_sidecar(), id="a wrong sidecar"),
        pytest.param(lambda night: night.sidecar.unlink(), lambda night: night.write_sidecar(), id="without a sidecar"),
    ],
)
def test_a_group_that_failed_is_run_again_when_what_it_failed_for_has_changed(
    night: SmallNight, spoil: Callable[[SmallNight], object], mend: Callable[[SmallNight], object]
) -> None:
    spoil(night)
    start(night)
    assert not needs_run(night.settings, night.group)
    mend(night)
    assert needs_run(night.settings, night.group)
    assert " is done: 3 frames" in start(night)
    assert not needs_run(night.settings, night.group)


def test_a_filter_that_lacks_settings_is_not_run_again_until_it_has_them(night: SmallNight) -> None:
    other = replace(night, filter_name="V", first=800000).write()
    start(other)
    assert not needs_run(other.settings, other.group)
    tables = {"watch": WATCH, "filters": {"V": {"extinction": 0.1}}}
    assert needs_run(replace(other, tables=tables).settings, other.group)


# Rejected files


def rejected(night: SmallNight) -> dict[str, Any]:
    return {path.stem: read_json(path) for path in (night.root / "rejected").rglob("*.json")}


def test_a_file_of_no_group_gets_its_reason_when_it_has_settled(night: SmallNight, watch: Watch) -> None:
    path = night.write_raw(THREE, OBJECT=None)
    watch.look(0.0)
    watch.look(19.9)
    assert rejected(night) == {}
    watch.look(20.0)
    assert "names no target" in rejected(night)[THREE]["reason"]
    assert path.exists()
    night.write_raw(THREE)
    watch.look(30.0)
    watch.look(50.0)
    assert rejected(night) == {}


def test_half_a_header_is_rejected_only_when_it_has_stalled(night: SmallNight, watch: Watch) -> None:
    night.raw(THREE).write_bytes(night.raw(THREE).read_bytes()[:300])
    watch.look(0.0)
    watch.look(299.0)
    assert rejected(night) == {}
    watch.look(300.0)
    assert "cut short" in rejected(night)[THREE]["reason"]


# What to observe


def test_raw_and_sidecar_places_are_observed_and_no_products(night: SmallNight, watch: Watch) -> None:
    night.write_raw(ONE, path=night.root / f"processed/M31/R/raws/{ONE}.fits")
    start(night)
    assert sorted(watch.paths()) == [night.root / "processed/M31/R/raws", night.root / "raw", night.root / "xys"]


def test_places_that_are_not_there_are_not_observed(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data": {"root": tmp_path}})
    assert Watch(settings).paths() == []
    (tmp_path / "xys").mkdir()
    assert Watch(settings).paths() == [tmp_path / "xys"]


def test_of_very_many_places_some_are_left_to_the_regular_look(night: SmallNight, watch: Watch) -> None:
    for number in range(MOST_OBSERVED_FOLDERS + 5):
        (night.root / f"processed/T{number:03d}/R/raws").mkdir(parents=True)
    paths = watch.paths()
    assert len(paths) == MOST_OBSERVED_FOLDERS + 1
    assert night.root / "raw" in paths
    assert night.root / "xys" in paths
    last = replace(night, target="T036", first=800000)
    last.write_raw(ONE.replace("743053", "800000"), path=night.root / "processed/T036/R/raws/r0800000.fits")
    watch.look(0.0)
    assert last.group in watch.look(20.0)


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("raw/2026-11-21/r1.fits", True),
        ("raw/2026-11-21/r1.FIT.gz", False),
        ("raw/2026-11-21/r1.fits.fz", True),
        ("xys/NGC5949/R/xy.csv", True),
        ("xys/NGC5949/R/.xy.csv.swp", False),
        ("xys/NGC5949/R/notes.txt", False),
        ("raw/2026-11-21/.r1.fits.AbCd12", False),
        ("raw/2026-11-21/r1.fits.tmp", False),
        ("raw/2026-11-21/._r1.fits", False),
    ],
)
def test_an_event_matters_by_its_name(night: SmallNight, watch: Watch, name: str, matters: bool) -> None:
    assert watch.concerns(str(night.root / name)) is matters


def test_an_empty_root_is_looked_at_in_peace(tmp_path: Path) -> None:
    watch = Watch(Settings.model_validate({"data": {"root": tmp_path / "nothing"}}))
    assert watch.look(0.0) == []
    assert watch.due(0.0) is None


def test_a_broken_file_does_not_end_the_look(night: SmallNight, watch: Watch) -> None:
    night.raw("x").write_bytes(b"SIMPLE  =                    T" + b"\xff" * 9000)
    night.write_raw(ONE, np.zeros((3, 3), np.uint16), path=night.raw("y"), DATE_OBS="0001-01-01T00:00:00")
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]


def test_groups_are_told_in_order(night: SmallNight, watch: Watch) -> None:
    others = [replace(night, target=target, first=800000 + 10 * number) for number, target in enumerate(("M3", "M1"))]
    for other in others:
        other.write_raw(other.names[0])
    watch.look(0.0)
    assert watch.look(20.0) == [
        Group(night.night, "M1", "R"),
        Group(night.night, "M3", "R"),
        Group(night.night, "NGC5949", "R"),
    ]


# Trouble of one group, or of one folder, is not the others'


def test_the_ledger_of_an_older_build_holds_up_nobody(night: SmallNight, watch: Watch) -> None:
    start(night)
    values = json.loads(night.layout.inputs.read_text())
    del values["raw_shape"]
    night.layout.inputs.write_text(json.dumps(values))
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]


def test_a_ledger_that_cannot_be_read_holds_up_its_own_group_alone(
    night: SmallNight, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(night, target="M31", first=1).write()
    real = readiness.read_inputs

    def read_inputs(layout: Layout) -> Any:
        if layout.group.target == "M31":
            raise PermissionError("inputs.json")
        return real(layout)

    monkeypatch.setattr(readiness, "read_inputs", read_inputs)
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]
    assert watch.troubles == [f"{other.group.key} cannot be looked at: inputs.json."]


def test_a_closed_folder_is_told_and_the_rest_of_the_night_goes_on(
    night: SmallNight, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = night.root / "raw" / "closed"
    closed.mkdir()
    opened = os.scandir

    def scandir(folder: Path) -> Any:
        if folder == closed:
            raise PermissionError(folder)
        return opened(folder)

    monkeypatch.setattr(os, "scandir", scandir)  # root, who may run these tests, looks into everything
    watch.look(0.0)
    assert watch.look(20.0) == [night.group]
    assert watch.closed == {closed}
    (sentence,) = watch.troubles
    assert sentence.startswith("raw/closed: this folder may not be looked into")


def test_a_group_is_not_reduced_without_the_frames_that_a_closed_folder_hides(
    night: SmallNight, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = night.raw(THREE).parent / "more"
    place.mkdir()
    night.raw(THREE).rename(place / f"{THREE}.fits")
    start(night)
    watch.look(0.0)
    opened = os.scandir

    def scandir(folder: Path) -> Any:
        if folder == place:
            raise PermissionError(folder)
        return opened(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        assert watch.look(30.0) == watch.look(60.0) == []
    assert watch.look(90.0) == watch.look(120.0) == []


def test_a_file_that_is_being_copied_is_left_alone_until_it_is_whole(night: SmallNight) -> None:
    assert unfinished_seconds(night.settings, night.group) == 0
    path = night.raw(TWO)
    path.write_bytes(path.read_bytes()[:-2880])
    os.utime(path, (1e9, 1e9))  # as a copy has it
    assert 290 < unfinished_seconds(night.settings, night.group) <= 300
    patient = replace(night, tables={"watch": WATCH | {"stalled_seconds": 20}})
    assert unfinished_seconds(patient.settings, night.group) <= 20
    night.write_raw(TWO)
    assert unfinished_seconds(night.settings, night.group) == 0
