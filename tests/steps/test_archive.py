"""`archive`: which archived nights are opened next."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from nightdesk.errors import SetupError
from nightdesk.readiness import watched_since
from nightdesk.steps import archive, report
from tests.small_night import SmallNight

NIGHTS = [date(2020, 1, day) for day in (3, 4, 7, 9)]


@pytest.fixture
def desk(tmp_path: Path) -> SmallNight:
    """A data root with four archived nights, one frame each."""
    first = SmallNight(tmp_path, offsets=((0, 0),), shape=(4, 4))
    for number, night in enumerate(NIGHTS):
        other = replace(first, night=night, first=number)
        other.write_raw(other.names[0])
    return first


def nights_of(desk: SmallNight, start: str | None = "2020-01-01", per_day: int = 5) -> list[date]:
    archived = {"nights_per_day": per_day} | ({"from": start} if start else {})
    return archive.next_nights(replace(desk, tables={"archive": archived}).settings)


def test_oldest_first_and_no_more_than_a_slice(desk: SmallNight) -> None:
    assert nights_of(desk) == NIGHTS
    assert nights_of(desk, per_day=3) == NIGHTS[:3]
    assert nights_of(desk, per_day=0) == []


def test_it_begins_where_the_settings_say(desk: SmallNight) -> None:
    assert nights_of(desk, start="2020-01-04") == NIGHTS[1:]
    assert nights_of(desk, start=None) == [], "no first night: nothing is opened"


def test_a_night_with_a_report_is_done(desk: SmallNight) -> None:
    report.run(desk.settings, NIGHTS[0])
    assert nights_of(desk, per_day=2) == NIGHTS[1:3]


def test_a_night_that_has_changed_since_is_opened_again_after_the_new_ones(desk: SmallNight) -> None:
    first = replace(desk, night=NIGHTS[0], first=0)
    with pytest.raises(SetupError):  # there are no masters
        first.list_raws()
    report.run(desk.settings, NIGHTS[0])
    assert nights_of(desk) == NIGHTS[1:]
    first.write_raw(first.names[0], AIRMASS=1.9)
    assert nights_of(desk) == [*NIGHTS[1:], NIGHTS[0]]


def test_a_night_that_is_being_copied_is_left_for_another_day(desk: SmallNight) -> None:
    first = replace(desk, night=NIGHTS[0], first=0)
    path = first.raw(first.names[0])
    path.write_bytes(path.read_bytes()[:-2880])
    os.utime(path, (1e9, 1e9))  # as a copy has it
    assert nights_of(desk) == NIGHTS[1:]
    stalled = replace(desk, tables={"watch": {"stalled_seconds": 0.001}, "archive": {"from": "2020-01-01"}})
    assert NIGHTS[0] in archive.next_nights(stalled.settings)


def test_nights_without_science_are_not_opened(desk: SmallNight) -> None:
    other = replace(desk, night=date(2020, 1, 5), first=50)
    other.write_raw(other.names[0], IMAGETYP="bias")
    assert date(2020, 1, 5) not in nights_of(desk)


def test_what_the_watcher_looks_at_is_not_archived(desk: SmallNight) -> None:
    since = watched_since(desk.settings)
    for number, night in enumerate((since - timedelta(days=1), since)):
        other = replace(desk, night=night, first=60 + number)
        other.write_raw(other.names[0])
    assert nights_of(desk) == [*NIGHTS, since - timedelta(days=1)]
