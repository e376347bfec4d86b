"""Files that belong to no group: each has its reason on disk for as long as it is true."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from nightdesk.io.atomic import read_json
from nightdesk.io.inventory import take_inventory
from nightdesk.io.rejection import night_of_raw, write_rejections
from tests.small_night import SmallNight

FRAME = "r0743053"


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return SmallNight(tmp_path, shape=(16, 20))


def reject(night: SmallNight) -> dict[str, Any]:
    """Write the reasons of the raws on disk; return all that are written, by place."""
    raws = take_inventory(night.settings).raws
    write_rejections(night.settings, raws)
    place = night.root / "rejected"
    return {path.relative_to(place).as_posix(): read_json(path) for path in sorted(place.rglob("*")) if path.is_file()}


def test_a_rejected_file_has_its_reason_and_stays_where_it_is(night: SmallNight) -> None:
    path = night.write_raw(FRAME, OBJECT=None)
    content, status = path.read_bytes(), path.stat()
    assert reject(night) == {
        f"2026-11-21/{FRAME}.json": {
            "file": f"raw/2026-11-21/{FRAME}.fits",
            "reason": "its header names no target (OBJECT is missing or blank)",
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
    }
    assert path.read_bytes() == content


def test_good_frames_calibrations_and_ignored_ones_have_none(night: SmallNight) -> None:
    night.write_raw(FRAME)
    night.write_raw(FRAME, path=night.root / "raw/b.fits", IMAGETYP="bias")
    night.write_raw(FRAME, path=night.root / "raw/f.fits", OBJECT="focus")
    assert reject(night) == {}


def test_a_reason_is_written_once(night: SmallNight) -> None:
    night.write_raw(FRAME, OBJECT=None)
    reject(night)
    (path,) = (night.root / "rejected").rglob("*.json")
    before = path.stat().st_ino
    reject(night)
    assert path.stat().st_ino == before
    night.write_raw(FRAME, OBJECT=None, FILTER=None, EXPTIME=None)
    os.utime(night.raw(FRAME), ns=(0, 1))
    assert reject(night)[f"2026-11-21/{FRAME}.json"]["mtime_ns"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"OBJECT": None}, id="mended in its night"),
        pytest.param({"DATE_OBS": None}, id="mended, and now of another night"),
    ],
)
def test_a_mended_file_loses_its_reason(night: SmallNight, changes: dict[str, Any]) -> None:
    path = night.root / "processed/NGC5949/R/raws" / f"{FRAME}.fits"
    if "OBJECT" in changes:
        path = night.raw(FRAME)
    night.write_raw(FRAME, path=path, **changes)
    assert len(reject(night)) == 1
    night.write_raw(FRAME, path=path)
    assert reject(night) == {}


def test_a_file_that_is_gone_or_was_renamed_loses_its_reason(night: SmallNight) -> None:
    path = night.write_raw(FRAME, path=night.root / "raw/2026-11-21/M31\xe9.fits")
    (rejection,) = reject(night).values()
    assert "rename it" in rejection["reason"]
    path.rename(path.with_name("M31.fits"))
    assert reject(night) == {}


def test_two_rejected_files_of_one_name_keep_a_reason_each(night: SmallNight) -> None:
    for file in ("a/x.fits", "a/x.fit", "b/x.fits"):
        night.write_raw(FRAME, path=night.root / "raw" / file, OBJECT=None)
    first = reject(night)
    assert sorted(values["file"] for values in first.values()) == ["raw/a/x.fit", "raw/a/x.fits", "raw/b/x.fits"]
    assert "2026-11-21/x.json" in first
    inodes = {path: path.stat().st_ino for path in (night.root / "rejected").rglob("*.json")}
    assert reject(night) == first
    assert {path: path.stat().st_ino for path in inodes} == inodes
    night.write_raw(FRAME, path=night.root / "raw/a/x.fit")
    assert len(reject(night)) == 2


@pytest.mark.parametrize("name", ["é" * 60, "a\nb", "%2e", "x" * 180, "M 31 + 32"])
def test_any_file_name_makes_a_safe_one(night: SmallNight, name: str) -> None:
    night.write_raw(FRAME, path=night.root / "raw" / f"{name}.fits", OBJECT=None)
    (written,) = reject(night)
    assert written.isascii()
    assert written.isprintable()
    assert written.count("/") == 1
    assert len(written) < 150


def test_the_night_of_a_file_without_a_date_is_its_folders_else_when_it_was_written(night: SmallNight) -> None:
    written = datetime(2026, 11, 23, 3, 0, tzinfo=UTC).timestamp()
    for file, expected in (
        ("raw/2026-11-21/x.fits", date(2026, 11, 21)),
        ("raw/x.fits", date(2026, 11, 22)),
        ("processed/20201010/R/raws/x.fits", date(2026, 11, 22)),
    ):
        path = night.write_raw(FRAME, path=night.root / file, DATE_OBS=None)
        os.utime(path, (written, written))
        (facts,) = take_inventory(night.settings).raws
        assert night_of_raw(night.settings, facts) == expected
        path.unlink()


def test_what_others_put_beside_the_reasons_is_left_alone(night: SmallNight) -> None:
    place = night.root / "rejected/2026-11-21"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("ours")
    (place / "list.json").write_text("[1]")
    night.write_raw(FRAME)
    assert sorted(reject(night)) == ["2026-11-21/list.json", "2026-11-21/notes.txt"]
