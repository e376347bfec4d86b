"""`find_sidecar`: positions are there and right, or somebody is told which file to write."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nightdesk.errors import SetupError, Waiting
from nightdesk.steps import find_sidecar
from tests.small_night import SmallNight


def look(night: SmallNight) -> str:
    return find_sidecar.run(night.settings, night.group)


@pytest.fixture
def night(night: SmallNight) -> SmallNight:
    """The small night, listed."""
    night.list_raws()
    return night


def test_a_whole_sidecar_is_summed_up(night: SmallNight) -> None:
    assert look(night) == "xys/NGC5949/R/xy.csv: 3 of 3 frames, reference r0743053."


@pytest.mark.parametrize(
    ("origin", "count"), [(1, "as DS9 shows it, counting from 1"), (0, "counting from 0")], ids=["DS9", "arrays"]
)
def test_without_one_it_waits_and_says_which_file_to_write(night: SmallNight, origin: int, count: str) -> None:
    night.sidecar.unlink()
    with pytest.raises(Waiting) as caught:
        look(replace(night, tables={"sidecar": {"origin": origin}}))
    assert str(caught.value) == (
        "2026-11-21/NGC5949/R waits for positions: write xys/NGC5949/R/2026-11-21/xy.csv with one star's position in "
        f"each of its 3 frames ({count}). It begins:\nfname,x,y\nr0743053,(x),(y)\nr0743054,(x),(y)\nr0743055,(x),(y)"
    )


def test_what_it_asks_for_is_what_it_takes(night: SmallNight) -> None:
    night.sidecar.unlink()
    with pytest.raises(Waiting) as caught:
        look(night)
    lines = str(caught.value).splitlines()[1:]
    own = night.root / "xys" / "NGC5949" / "R" / "2026-11-21" / "xy.csv"
    own.parent.mkdir(parents=True)
    own.write_text("\n".join(line.replace("(x)", "10").replace("(y)", "12") for line in lines))
    assert "3 of 3 frames" in look(night)


def test_a_single_frame_needs_none(tmp_path: Path) -> None:
    night = SmallNight(tmp_path, offsets=((0, 0),)).write()
    night.list_raws()
    night.sidecar.unlink()
    assert look(night) == "A single frame needs no positions."
    night.write_rows(["fname,x,y", "r0000001,3,4"])
    assert look(night).startswith("A single frame needs no positions")


def test_a_nights_own_is_preferred(night: SmallNight) -> None:
    own = night.root / "xys" / "NGC5949" / "R" / "2026-11-21" / "xy.csv"
    own.parent.mkdir(parents=True)
    own.write_text("fname,x,y\nr0743055,10,12\nr0743054,11,12\n")
    assert look(night) == (
        "xys/NGC5949/R/2026-11-21/xy.csv: 2 of 3 frames, reference r0743055. Without a row, and so left out: r0743053."
    )


def test_rows_of_other_frames_are_only_noted(night: SmallNight) -> None:
    night.write_rows(["fname,x,y", "r0000001,-500,9999", "r0743054,10,12"])
    said = look(night)
    assert "reference r0743054" in said
    assert "Rows of frames that are not this group's: r0000001." in said


def test_a_sidecar_for_all_nights_without_rows_of_this_one_is_waited_for(night: SmallNight) -> None:
    night.write_rows(["fname,x,y", "r0000001,10,12"])
    with pytest.raises(Waiting, match=r"write xys/NGC5949/R/2026-11-21/xy\.csv"):
        look(night)


def test_a_nights_own_sidecar_without_rows_of_it_is_wrong(night: SmallNight) -> None:
    own = night.root / "xys" / "NGC5949" / "R" / "2026-11-21" / "xy.csv"
    own.parent.mkdir(parents=True)
    own.write_text("fname,x,y\nr0000001,10,12\n")
    with pytest.raises(
        SetupError, match=r"none of its rows is a frame of 2026-11-21/NGC5949/R \(r0743053, .*Add a row"
    ):
        look(night)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["fname,x"], r"line 1: the column y is missing"),
        (["fname,x,y", "r0743053,1,2", "r0743053,3,4"], r"line 3: r0743053 stands already on line 2"),
        (["fname,x,y", "r0743053,1,2", "r0743054,,4"], r"line 3: x of r0743054 is blank"),
        (["fname,x,y", "r0743053,1,2", "r0743054,3,four"], r"line 3: y = 'four' of r0743054 is not a number"),
        (["fname,x,y", "r0743053,33,2"], r"line 2: x = 33 of r0743053 lies outside the frame, which is 32 x 24"),
        (["fname,x,y,use", "r0743053,1,2,0"], r"line 2: use is 0 in this and every other row"),
    ],
    ids=["column", "twice", "blank", "no number", "outside", "nothing used"],
)
def test_an_error_names_the_file_and_the_line(night: SmallNight, lines: list[str], sentence: str) -> None:
    night.write_rows(lines)
    with pytest.raises(SetupError, match=r"xys/NGC5949/R/xy\.csv, " + sentence):
        look(night)


def test_a_sidecar_that_came_during_the_run_is_written_down_as_used(night: SmallNight) -> None:
    night.sidecar.unlink()
    night.list_raws()
    assert json.loads(night.layout.inputs.read_text())["sidecar"] is None
    night.write_sidecar()
    look(night)
    status = night.sidecar.stat()
    assert json.loads(night.layout.inputs.read_text())["sidecar"] == {
        "path": "xys/NGC5949/R/xy.csv",
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
