"""The nights at a glance: one small file each, deletable at will, searched without opening a product."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from nightdesk.desk import night as nights
from nightdesk.desk import search
from nightdesk.desk.night import counts_of, last_raw, read_night
from nightdesk.desk.place import night_file, nights_folder
from nightdesk.desk.search import NightIndex, Wanted
from nightdesk.io.atomic import write_json
from nightdesk.io.layout import report_path
from nightdesk.settings import Settings
from nightdesk.steps import report
from tests.desk.conftest import NIGHT, Observed


def test_a_night_tells_of_each_group_what_became_of_it(observed_once: Observed) -> None:
    night = read_night(observed_once.settings, NIGHT)
    rows = {row["target"]: row for row in night["groups"].values()}
    assert {target: row["state"] for target, row in rows.items()} == {
        "M13": "done",
        "M51": "partial",
        "M57": "waiting",
    }
    assert (rows["M13"]["used"], rows["M13"]["frames"]) == (3, 3)
    assert (rows["M51"]["used"], rows["M51"]["frames"]) == (2, 3)
    assert rows["M51"]["quality"]["grade"] == "yellow"
    assert "cut short" in rows["M51"]["losses"][0]["reason"]
    assert "xy.csv" in rows["M57"]["reason"]
    assert rows["M13"]["fwhm"] > 1
    assert rows["M57"]["fwhm"] is None
    assert counts_of(night) == {"raws": 9, "groups": 3, "reduced": 2, "waiting": 1, "red": 1}


def test_files_that_were_deleted_are_made_again(observed: Observed) -> None:
    before = NightIndex(observed.settings).page(Wanted()).nights
    shutil.rmtree(nights_folder(observed.settings))
    after = NightIndex(observed.settings).page(Wanted()).nights
    assert _without_clock(after) == _without_clock(before)


def test_one_file_that_was_deleted_under_a_running_page_is_made_again(observed: Observed) -> None:
    index = NightIndex(observed.settings)
    before = index.page(Wanted()).nights
    night_file(observed.settings, NIGHT).unlink()
    assert _without_clock(index.page(Wanted()).nights) == _without_clock(before)


@pytest.mark.parametrize("content", ['{"schema": 1, "groups": {}}', "cut sho"], ids=["an older version's", "no JSON"])
def test_a_file_of_another_version_is_made_again_as_one_that_was_deleted(observed: Observed, content: str) -> None:
    before = NightIndex(observed.settings).page(Wanted()).nights
    night_file(observed.settings, NIGHT).write_text(content)
    assert _without_clock(NightIndex(observed.settings).page(Wanted()).nights) == _without_clock(before)
    assert nights.is_current(json.loads(night_file(observed.settings, NIGHT).read_text()))


def test_one_file_that_was_deleted_before_the_page_began_is_made_again(observed: Observed) -> None:
    before = NightIndex(observed.settings).page(Wanted()).nights
    night_file(observed.settings, NIGHT).unlink()
    assert _without_clock(NightIndex(observed.settings).page(Wanted()).nights) == _without_clock(before)


def test_many_deleted_nights_are_made_again_a_few_at_a_time_and_nobody_waits_for_the_lock(
    observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    for number in range(4):
        day = date(2026, 12, 1 + number)
        write_json(report_path(observed.settings, day), {"schema": 1, "groups": [], "raws": []})
    held: list[bool] = [False]

    @contextmanager
    def locked(path: Path) -> Iterator[None]:
        held[0] = True
        yield
        held[0] = False

    def gathered(settings: Settings, night: date) -> dict[str, Any]:
        assert not held[0]
        return make(settings, night)

    make = nights._gathered
    monkeypatch.setattr(nights, "locked", locked)
    monkeypatch.setattr(nights, "_gathered", gathered)
    monkeypatch.setattr(search, "PATIENCE", 0.0)
    index = NightIndex(observed.settings)
    pages = [index.page(Wanted()) for _ in range(5)]
    assert [page.gathering for page in pages] == [3, 2, 1, 0, 0]
    assert [page.total for page in pages] == [2, 3, 4, 5, 5]
    assert pages[0].nights[0]["night"] == "2026-12-04"


def test_a_folder_that_is_no_night_and_one_without_a_group_are_no_nights(observed: Observed) -> None:
    for name in ("2026-13-40", "notes", "2026-11-19"):
        (observed.root / "processed" / "M13" / "R" / name).mkdir()
    assert NightIndex(observed.settings).page(Wanted()).total == 1


def test_a_group_that_has_only_begun_comes_back_too(observed: Observed) -> None:
    served = observed.served("M13")
    served.layout.manifest.unlink()
    night_file(observed.settings, NIGHT).unlink()
    page = NightIndex(observed.settings).page(Wanted(target="M13"))
    assert page.nights[0]["groups"][0]["state"] == "started"


def _without_clock(found: list[dict]) -> list[dict]:
    return [{key: value for key, value in night.items() if key != "written"} for night in found]


def test_the_page_of_nights_opens_no_product(observed_once: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    from astropy.io import fits

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a product was opened")

    monkeypatch.setattr(fits, "open", refuse)
    assert NightIndex(observed_once.settings).page(Wanted()).total == 1


@pytest.mark.parametrize(
    ("wanted", "targets"),
    [
        (Wanted(), {"M13", "M51", "M57"}),
        (Wanted(target="m1"), {"M13"}),
        (Wanted(target="m 5"), {"M51", "M57"}),
        (Wanted(filter_name="r"), {"M13", "M51", "M57"}),
        (Wanted(filter_name="H"), set()),
        (Wanted(quality="yellow"), {"M51"}),
        (Wanted(quality="waiting"), {"M57"}),
        (Wanted(first=date(2026, 11, 21)), set()),
        (Wanted(last=date(2026, 11, 19)), set()),
        (Wanted(first=NIGHT, last=NIGHT, target="M57"), {"M57"}),
    ],
)
def test_groups_are_found_by_target_filter_quality_and_dates(
    observed_once: Observed, wanted: Wanted, targets: set[str]
) -> None:
    page = NightIndex(observed_once.settings).page(wanted)
    assert {row["target"] for night in page.nights for row in night["groups"]} == targets
    assert page.total == (1 if targets else 0)
    for night in page.nights:
        assert night["hidden"] == 3 - len(targets)


def test_nights_come_newest_first_and_a_page_at_a_time(tmp_path: Path) -> None:
    settings = _many_nights(tmp_path, 40)
    index = NightIndex(settings)
    first = index.page(Wanted(), 1, size=15)
    assert (first.pages, first.total, first.number) == (3, 40, 1)
    assert [night["night"] for night in first.nights][:2] == ["2026-02-09", "2026-02-08"]
    assert len(index.page(Wanted(), 3, size=15).nights) == 10
    assert index.page(Wanted(), 99, size=15).number == 3


def test_a_night_that_changes_is_seen(tmp_path: Path) -> None:
    settings = _many_nights(tmp_path, 3)
    index = NightIndex(settings)
    assert index.page(Wanted(quality="failed")).total == 0
    path = night_file(settings, date(2026, 1, 2))
    values = json.loads(path.read_text())
    for row in values["groups"].values():
        row["state"] = "failed"
    path.write_text(json.dumps(values))
    assert [night["night"] for night in index.page(Wanted(quality="failed")).nights] == ["2026-01-02"]


def _many_nights(root: Path, count: int) -> Settings:
    settings = Settings.model_validate({"data": {"root": root}})
    for number in range(count):
        night = date.fromordinal(date(2026, 1, 1).toordinal() + number)
        values = nights._empty(night)
        key = f"{night}/M1/R"
        values["groups"][key] = {
            "key": key,
            "target": "M1",
            "filter_name": "R",
            "quality": {"grade": "green", "reason": ""},
            "state": "done",
        }
        night_file(settings, night).parent.mkdir(parents=True, exist_ok=True)
        night_file(settings, night).write_text(json.dumps(values))
    return settings


def test_the_newest_raw_is_the_one_written_last(observed: Observed) -> None:
    import os

    found = last_raw(observed.settings)
    assert found is not None
    newest = observed.root / "raw" / "2026-11-22" / "r1.fits"
    newest.parent.mkdir()
    newest.write_bytes(b"")
    os.utime(newest, (found[0] + 100, found[0] + 100))
    (newest.parent / "notes.txt").write_text("no raw")
    assert last_raw(observed.settings) == (found[0] + 100, "raw/2026-11-22/r1.fits")


def test_a_night_without_raws_says_why_as_far_as_it_is_known(observed: Observed) -> None:
    report.run(observed.settings, date(2026, 11, 21))
    night = read_night(observed.settings, date(2026, 11, 21))
    assert "2026-11-20" in night["nothing"]
    shutil.rmtree(observed.root / "raw")
    report.run(observed.settings, date(2026, 11, 22))
    assert "mounted" in read_night(observed.settings, date(2026, 11, 22))["nothing"]


def test_before_there_is_anything_there_is_an_empty_page(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data": {"root": tmp_path}})
    assert NightIndex(settings).page(Wanted()).nights == []
    assert last_raw(settings) is None
