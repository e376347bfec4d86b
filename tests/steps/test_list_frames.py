"""`list_frames`: which raws are a group's, what is written down first, and what stops a run before it begins."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from nightdesk.errors import FrameError, GroupError, NightdeskError, SetupError
from nightdesk.group import Group
from nightdesk.steps import isr, list_frames
from tests.small_night import SmallNight


def inputs_of(night: SmallNight) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(night.layout.inputs.read_text())
    return told


def test_frames_are_sorted_and_one_a_batch(night: SmallNight) -> None:
    assert night.list_raws() == [["r0743053"], ["r0743054"], ["r0743055"]]


@pytest.mark.parametrize(
    ("size", "batches"),
    [
        (2, [["r0743053", "r0743054"], ["r0743055"]]),
        (3, [["r0743053", "r0743054", "r0743055"]]),
        (10, [["r0743053", "r0743054", "r0743055"]]),
    ],
)
def test_batches_are_as_long_as_the_settings_say(night: SmallNight, size: int, batches: list[list[str]]) -> None:
    assert replace(night, tables={"batch": {"frames_per_task": size}}).list_raws() == batches


def test_inputs_say_what_the_run_set_out_with(night: SmallNight) -> None:
    list_frames.run(night.settings, night.group, run_id="2026-11-21__NGC5949__R")
    inputs = inputs_of(night)
    assert (inputs["schema"], inputs["group"], inputs["run_id"]) == (
        1,
        "2026-11-21/NGC5949/R",
        "2026-11-21__NGC5949__R",
    )
    assert inputs["frames"] == night.names
    for name in night.names:
        status = night.raw(name).stat()
        assert inputs["raws"][f"raw/2026-11-21/{name}.fits"] == {
            "name": name,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
    status = night.sidecar.stat()
    assert inputs["sidecar"] == {
        "path": "xys/NGC5949/R/xy.csv",
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def test_a_group_without_sidecar_has_none_in_its_inputs(night: SmallNight) -> None:
    night.sidecar.unlink()
    night.list_raws()
    assert inputs_of(night)["sidecar"] is None


def test_no_pixel_is_opened(night: SmallNight) -> None:
    raw = night.raw("r0743054")
    with raw.open("r+b") as stream:
        stream.truncate(2880)  # the header alone
    assert night.list_raws() == [["r0743053"], ["r0743054"], ["r0743055"]]


def test_no_frame_on_disk_is_told_with_advice(night: SmallNight) -> None:
    nobody = Group(night.night, "M31", "R")
    with pytest.raises(GroupError, match=r"2026-11-21/M31/R: no science frame .* on disk\. Check the names"):
        list_frames.run(night.settings, nobody, run_id="test")


def missing(file: str) -> Any:
    return lambda night: (night.root / "calibs" / file).unlink()


def other_filter(night: SmallNight) -> None:
    for name in night.names:
        night.write_raw(name, FILTER="V")


def two_spellings(night: SmallNight) -> None:
    night.write_raw("r0743054", OBJECT="NGC 5949")


@pytest.mark.parametrize(
    ("fault", "filter_name", "sentence"),
    [
        pytest.param(
            missing("bias2x2.fits"),
            "R",
            r"no master bias: there is neither calibs/2026-11-21/bias2x2\.fits nor calibs/bias2x2\.fits\. "
            r"Put the master bias there\. Then clear this run\.",
            id="no bias",
        ),
        pytest.param(
            missing("Rflatnorm2x2.fits"),
            "R",
            r"no master flat: there is neither calibs/2026-11-21/Rflatnorm2x2\.fits nor calibs/Rflatnorm2x2\.fits\. "
            r'Put the master flat there, or, .* write flat = "none" under \[filters\.R\]',
            id="no flat",
        ),
        pytest.param(
            other_filter, "V", r"Filter 'V' .* add \[filters\.V\] with extinction", id="filter not configured"
        ),
        pytest.param(
            two_spellings,
            "R",
            r"'NGC 5949' and 'NGC5949' would share one name.*\[aliases\.targets\]",
            id="two spellings without alias",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_to_do_after_inputs_are_written(
    night: SmallNight, fault: Any, filter_name: str, sentence: str
) -> None:
    fault(night)
    other = replace(night, filter_name=filter_name)
    with pytest.raises(SetupError, match=sentence):
        other.list_raws()
    assert inputs_of(other)["frames"] == night.names, "else the watcher would start the group for ever"


def test_an_alias_joins_two_spellings(night: SmallNight) -> None:
    two_spellings(night)
    joined = replace(night, tables={"aliases": {"targets": {"NGC 5949": "NGC5949"}}})
    assert joined.list_raws() == [[name] for name in night.names]


def test_no_flat_is_needed_where_the_configuration_says_so_by_name(night: SmallNight) -> None:
    missing("Rflatnorm2x2.fits")(night)
    without = {"filters": {"R": {"extinction": 0.0547, "flat": "none"}}}
    assert len(replace(night, tables=without).list_raws()) == 3
    with pytest.raises(SetupError, match="the notebook profile always divides by a flat"):
        replace(night, tables=without, profile="notebook").list_raws()


@pytest.mark.parametrize("contains", [True, False])
def test_a_bias_is_needed_unless_the_dark_contains_it(night: SmallNight, contains: bool) -> None:
    missing("bias2x2.fits")(night)
    night.write_master("dark2x2.fits", night.bias, EXPTIME=60.0, DARKBIAS=contains)
    if contains:
        assert len(night.list_raws()) == 3
    else:
        with pytest.raises(SetupError, match="no master bias"):
            night.list_raws()


def test_a_nights_own_master_is_enough(night: SmallNight) -> None:
    calibs = night.root / "calibs"
    (calibs / "2026-11-21").mkdir()
    (calibs / "bias2x2.fits").rename(calibs / "2026-11-21" / "bias2x2.fits")
    assert len(night.list_raws()) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"EXPTIME": 30.0}, "another setup (30 s, binning 2x2; this group is 60 s, binning 2x2)"),
        ({"XBINNING": 1, "YBINNING": 1}, "another setup (60 s, binning 1x1; this group is 60 s, binning 2x2)"),
        ({"READOUTM": "fast"}, "another setup (60 s, binning 2x2, readout fast; this group is 60 s, binning 2x2)"),
    ],
    ids=["exposure", "binning", "readout mode"],
)
def test_the_most_numerous_setup_is_reduced(night: SmallNight, changes: dict[str, Any], reason: str) -> None:
    night.write_raw("r0743053", **changes)
    assert night.list_raws() == [["r0743054"], ["r0743055"]]
    assert inputs_of(night)["left_out"] == {"r0743053": reason}


def test_exposures_within_one_per_cent_are_one_setup(night: SmallNight) -> None:
    night.write_raw("r0743054", EXPTIME=60.5)
    assert len(night.list_raws()) == 3
    night.write_raw("r0743054", EXPTIME=60.7)
    assert night.list_raws() == [["r0743053"], ["r0743055"]]


def test_of_two_setups_of_one_size_the_first_by_name_is_reduced(tmp_path: Any) -> None:
    night = SmallNight(tmp_path, offsets=((0, 0), (1, 1))).write()
    night.write_raw("r0743054", EXPTIME=30.0)
    assert night.list_raws() == [["r0743053"]]


def test_a_copy_counts_once_and_both_are_inputs(night: SmallNight) -> None:
    place = night.root / "processed" / "NGC5949" / "R" / "raws"
    place.mkdir(parents=True)
    shutil.copy(night.raw("r0743054"), place)
    assert night.list_raws() == [[name] for name in night.names]
    assert len(inputs_of(night)["raws"]) == 4


def test_two_different_files_of_one_name_are_refused_by_name(night: SmallNight) -> None:
    place = night.root / "processed" / "NGC5949" / "R" / "raws"
    place.mkdir(parents=True)
    night.write_raw("r0743054", path=place / "r0743054.fits", AIRMASS=1.9)
    night.list_raws()
    with pytest.raises(FrameError, match=r"two different files have this name: raw/.* and processed/") as caught:
        isr.run(night.settings, night.group, night.names)
    assert "Remove or rename one" in str(caught.value)
    assert night.product("postISR", "r0743053").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"OBJECT": "M31"},
        {"FILTER": "H"},
        {"DATE_OBS": "2026-11-20T22:00:00"},
        {"IMAGETYP": "bias"},
        {"IMAGETYP": "flat"},
        {"IMAGETYP": "focus"},
        {"OBJECT": None},
    ],
    ids=["target", "filter", "night", "bias", "flat", "focus", "nameless"],
)
def test_what_is_not_of_the_group_is_not_listed(night: SmallNight, changes: dict[str, Any]) -> None:
    night.write_raw("r0743054", **changes)
    assert night.list_raws() == [["r0743053"], ["r0743055"]]


@pytest.mark.parametrize("file", ["r0743056.fits.tmp", ".r0743056.fits.Ab12Cd", "._r0743056.fits", "r0743056.txt"])
def test_temporary_and_foreign_files_are_not_listed(night: SmallNight, file: str) -> None:
    shutil.copy(night.raw("r0743053"), night.raw("r0743053").with_name(file))
    assert len(night.list_raws()) == 3


def test_a_group_in_another_case_is_refused_with_its_own_name(night: SmallNight) -> None:
    group = Group.from_params(night.settings, target="ngc 5949", filter_name="r", night="2026-11-21")
    with pytest.raises(SetupError, match=r"its raws spell it 2026-11-21/NGC5949/R\. Start it by that name"):
        list_frames.run(night.settings, group, run_id="test")
    assert not (night.root / "processed" / "ngc5949").exists()


class TestNotebookProfile:
    """The notebook has no folder for the night: one night of a target and filter at a time."""

    @pytest.fixture
    def first(self, night: SmallNight) -> SmallNight:
        return replace(night, profile="notebook").run_to("align")

    @pytest.fixture
    def second(self, first: SmallNight) -> SmallNight:
        second = replace(first, night=first.night + timedelta(days=1), first=743100)
        for name in second.names:
            second.write_raw(name)
        return second

    def test_another_night_is_refused_and_the_first_keeps_its_ledger(
        self, first: SmallNight, second: SmallNight
    ) -> None:
        with pytest.raises(SetupError, match="holds 2026-11-21/NGC5949/R, and the notebook profile keeps one night"):
            second.list_raws()
        assert inputs_of(first)["group"] == "2026-11-21/NGC5949/R"

    def test_its_refusal_is_written_down_so_that_it_is_not_started_for_ever(
        self, first: SmallNight, second: SmallNight
    ) -> None:
        from nightdesk.readiness import differs

        with pytest.raises(SetupError):
            second.list_raws()
        assert not differs(second.settings, second.group)
        assert not differs(first.settings, first.group)

    def test_its_verdict_leaves_that_of_the_first_alone(self, first: SmallNight, second: SmallNight) -> None:
        from nightdesk.manifest import read_manifest
        from nightdesk.steps import reduce

        reduce.run(first.settings, first.group)
        with pytest.raises(NightdeskError, match="keeps one night"):
            reduce.run(second.settings, second.group)
        done, failed = read_manifest(first.settings, first.group), read_manifest(second.settings, second.group)
        assert done is not None
        assert failed is not None
        assert (done["state"], failed["state"]) == ("done", "failed")
        assert "keeps one night" in failed["reason"]

    def test_once_the_folder_is_moved_away_it_can_be_reduced(self, first: SmallNight, second: SmallNight) -> None:
        with pytest.raises(SetupError):
            second.list_raws()
        (first.layout.folder / "combined").rename(first.root / "kept")
        assert len(second.list_raws()) == 3


def test_the_night_is_that_of_the_evening(night: SmallNight) -> None:
    night.write_raw("r0743054", DATE_OBS="2026-11-22T05:59:00")
    night.write_raw("r0743055", DATE_OBS="2026-11-22T12:30:00")
    assert night.list_raws() == [["r0743053"], ["r0743054"]]
    assert Group(date(2026, 11, 22), "NGC5949", "R").key == "2026-11-22/NGC5949/R"
