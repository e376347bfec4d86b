"""`report`: a night's every raw with its fate."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from nightdesk.errors import GroupError
from nightdesk.steps import reduce, report
from tests.small_night import NIGHT, SmallNight

SECOND = "r0743054"


def report_of(night: SmallNight, day: date = NIGHT) -> dict[str, Any]:
    path = night.root / report.run(night.settings, day)
    assert path == night.root / "processed" / "reports" / f"{day.isoformat()}.json"
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def fates(told: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {raw["path"].rpartition("/")[2]: (raw["fate"], raw["reason"]) for raw in told["raws"]}


def test_a_reduced_night(night: SmallNight) -> None:
    reduce.run(night.settings, night.group)
    told = report_of(night)
    assert (told["schema"], told["night"], told["counts"]) == (1, "2026-11-21", {"done": 1})
    (group,) = told["groups"]
    assert (group["group"], group["state"], group["out_of_date"]) == ("2026-11-21/NGC5949/R", "done", [])
    assert group["stack"] == "processed/NGC5949/R/2026-11-21/combined/combined.fits"
    assert fates(told) == {f"{name}.fits": ("used", "") for name in night.names}


def test_a_night_that_nobody_reduced(night: SmallNight) -> None:
    told = report_of(night)
    assert told["counts"] == {"not reduced": 1}
    assert {fate for fate, _ in fates(told).values()} == {"not reduced"}


def test_every_kind_of_raw_has_its_fate(night: SmallNight) -> None:
    more = replace(night, offsets=(*night.offsets, *[(0, 0)] * 6))
    bias, flat, focus, nameless, other, short = more.names[3:]
    more.write_raw(bias, IMAGETYP="bias")
    more.write_raw(flat, IMAGETYP="flat")
    more.write_raw(focus, IMAGETYP="focus")
    more.write_raw(nameless, OBJECT=None)
    more.write_raw(other, OBJECT="M31")
    more.write_raw(short, EXPTIME=1.0)
    night.write_raw(SECOND, EGAIN=None)
    with pytest.raises(GroupError):
        reduce.run(night.settings, night.group)
    told = report_of(night)
    by_name = {name.removesuffix(".fits"): fate for name, fate in fates(told).items()}
    assert len(by_name) == 9, "every raw frame of the night"
    assert by_name[bias] == ("calibration", "a bias frame")
    assert by_name[flat] == ("calibration", "a flat frame")
    assert by_name[focus][0] == "ignored"
    assert by_name[nameless] == ("rejected", "its header names no target (OBJECT is missing or blank)")
    assert by_name[other] == ("not reduced", "its group has not been reduced with it yet")
    assert by_name[short][0] == "left out"
    assert by_name[SECOND][0] == "lost"
    assert "has no EGAIN" in by_name[SECOND][1]
    assert by_name["r0743053"] == ("used", "")
    assert told["counts"] == {"not reduced": 1, "partial": 1}


def test_a_rejected_file_has_its_reason_beside_and_is_not_touched(night: SmallNight) -> None:
    path = night.write_raw(SECOND, OBJECT="   ")
    content = path.read_bytes()
    report_of(night)
    place = night.root / "rejected" / "2026-11-21" / f"{SECOND}.json"
    told = json.loads(place.read_text())
    assert (told["file"], told["size"]) == (f"raw/2026-11-21/{SECOND}.fits", len(content))
    assert "names no target" in told["reason"]
    assert path.read_bytes() == content
    night.write_raw(SECOND)
    report_of(night)
    assert not place.exists(), "mended, it is rejected no longer"


def test_a_frame_that_changed_since_is_not_called_used(night: SmallNight) -> None:
    reduce.run(night.settings, night.group)
    night.write_raw(SECOND, AIRMASS=1.9)
    told = report_of(night)
    assert fates(told)[f"{SECOND}.fits"][0] == "not reduced"
    assert told["groups"][0]["reason"].endswith("Its raws or sidecar have changed since.")


def test_a_changed_master_is_out_of_date(night: SmallNight) -> None:
    reduce.run(night.settings, night.group)
    night.write_master("bias2x2.fits", night.bias + 1)
    assert report_of(night)["groups"][0]["out_of_date"] == ["the master bias has changed"]


def test_a_changed_setting_is_out_of_date(night: SmallNight) -> None:
    reduce.run(night.settings, night.group)
    other = replace(night, tables={"filters": {"R": {"extinction": 0.2}}})
    assert report_of(other)["groups"][0]["out_of_date"] == ["the settings have changed"]


def test_a_folder_that_says_another_night_is_a_note(night: SmallNight) -> None:
    place = night.root / "raw" / "2026-11-30"
    place.mkdir()
    shutil.move(night.raw(SECOND), place)
    told = report_of(night)
    notes = {raw["path"]: raw["notes"] for raw in told["raws"]}
    assert notes[f"raw/2026-11-30/{SECOND}.fits"] == ["its folder says 2026-11-30, its header 2026-11-21"]
    assert fates(report_of(night, date(2026, 11, 30))) == {}


def test_a_file_without_a_date_belongs_to_its_folders_night_or_that_of_its_writing(night: SmallNight) -> None:
    night.write_raw(SECOND, DATE_OBS=None)
    loose = night.write_raw("r0743055", path=night.root / "raw" / "loose.fits", DATE_OBS=None)
    written = datetime(2026, 11, 22, 3, 0, tzinfo=UTC).timestamp()
    os.utime(loose, (written, written))
    told = fates(report_of(night))
    assert told[f"{SECOND}.fits"] == ("rejected", "its header has no DATE-OBS, so its night is unknown")
    assert told["loose.fits"][0] == "rejected"


def test_an_empty_night_is_told(night: SmallNight) -> None:
    told = report_of(night, date(2026, 1, 1))
    assert (told["groups"], told["raws"]) == ([], [])
    text = (night.root / "processed" / "reports" / "2026-01-01.txt").read_text()
    assert text.startswith("Night of 2026-01-01")
    assert len(text.split()) > 6, "why there is nothing"


def test_the_text_can_be_read(night: SmallNight) -> None:
    night.write_raw(SECOND, np.zeros((5, 5), np.uint16))
    with pytest.raises(GroupError):
        reduce.run(night.settings, night.group)
    report_of(night)
    text = (night.root / "processed" / "reports" / "2026-11-21.txt").read_text()
    assert text.isascii()
    assert "partial      2026-11-21/NGC5949/R: 2 of 3 frames are in the stack." in text
    assert f"lost         raw/2026-11-21/{SECOND}.fits: " in text
    assert "used         raw/2026-11-21/r0743053.fits\n" in text
