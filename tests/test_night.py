"""The night: the local date of its evening, noon to noon at the site."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from nightdesk.night import night_of, noon_of, parse_moment, parse_night


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "moment", "night"),
    [
        pytest.param("Atlantic/Canary", "2026-11-21T12:00", "2026-11-21", id="noon begins a night"),
        pytest.param("Atlantic/Canary", "2026-11-21T11:59:59", "2026-11-20", id="before noon"),
        pytest.param("Atlantic/Canary", "2026-11-21T23:59:59", "2026-11-21", id="evening"),
        pytest.param("Atlantic/Canary", "2026-11-22T05:00", "2026-11-21", id="small hours"),
        pytest.param("Atlantic/Canary", "2026-07-01T10:59:59", "2026-06-30", id="summer time, before noon"),
        pytest.param("Atlantic/Canary", "2026-07-01T11:00", "2026-07-01", id="summer time, noon"),
        pytest.param("America/Santiago", "2026-11-22T01:00", "2026-11-21", id="the UT date is tomorrow's"),
        pytest.param("Pacific/Tongatapu", "2026-11-21T08:00", "2026-11-21", id="UTC+13, evening"),
        pytest.param("Pacific/Tongatapu", "2026-11-20T22:59", "2026-11-20", id="UTC+13, before noon"),
        pytest.param("Pacific/Tongatapu", "2026-11-20T23:00", "2026-11-21", id="UTC+13, noon: the UT date is before"),
        pytest.param("Pacific/Auckland", "2027-01-01T10:30", "2027-01-01", id="UTC+13 by summer time"),
        pytest.param("Pacific/Honolulu", "2026-11-22T06:00", "2026-11-21", id="UTC-10"),
        pytest.param("Asia/Kolkata", "2026-11-21T06:29", "2026-11-20", id="half an hour, before noon"),
        pytest.param("Asia/Kolkata", "2026-11-21T06:30", "2026-11-21", id="half an hour, noon"),
    ],
)
def test_a_night_runs_from_noon_to_noon_at_the_site(zone: str, moment: str, night: str) -> None:
    assert night_of(utc(moment), ZoneInfo(zone)) == date.fromisoformat(night)


@pytest.mark.parametrize(
    ("evening", "hours"),
    [
        pytest.param(date(2026, 4, 4), 25, id="clocks go back: the night has 25 hours"),
        pytest.param(date(2026, 10, 3), 23, id="clocks go forward: it has 23"),
        pytest.param(date(2026, 6, 20), 24, id="any other night"),
    ],
)
def test_a_southern_night_across_a_clock_change_is_one_night(evening: date, hours: int) -> None:
    sydney = ZoneInfo("Australia/Sydney")
    first, last = noon_of(evening, sydney), noon_of(evening + timedelta(days=1), sydney)
    assert last.timestamp() - first.timestamp() == hours * 3600
    moment = first.astimezone(UTC)
    while moment < last:
        assert night_of(moment, sydney) == evening
        moment += timedelta(minutes=10)
    assert night_of(last - timedelta(seconds=1), sydney) == evening
    assert night_of(last, sydney) == evening + timedelta(days=1)


@pytest.mark.parametrize(
    ("day", "clock", "moment"),
    [
        pytest.param("2026-11-21T22:04:05", None, "2026-11-21T22:04:05", id="date and time"),
        pytest.param("2026-11-21T22:04:05.125", None, "2026-11-21T22:04:05.125", id="with a fraction"),
        pytest.param(" 2026-11-21T22:04:05Z ", None, "2026-11-21T22:04:05", id="with a Z"),
        pytest.param("2026-11-21T22:04:05+02:00", None, "2026-11-21T20:04:05", id="with an offset"),
        pytest.param("2026-11-21 22:04:05", None, "2026-11-21T22:04:05", id="with a blank for the T"),
        pytest.param("2026-11-21T22:04:05", "03:00:00", "2026-11-21T22:04:05", id="its own time before the clock's"),
        pytest.param("2026-11-21", "22:04:05.5", "2026-11-21T22:04:05.5", id="date only, and a time keyword"),
        pytest.param("2026-11-21", " 2:04:05 ", "2026-11-21T02:04:05", id="an hour of one digit"),
        pytest.param("2026-1-2", "22:04:05", "2026-01-02T22:04:05", id="a month of one digit"),
        pytest.param("21/11/97", "22:04:05", "1997-11-21T22:04:05", id="dd/mm/yy is of the last century"),
        pytest.param("01/09/87", "00:00:00", "1987-09-01T00:00:00", id="day before month"),
        pytest.param("2026-11-21T22:04", None, "2026-11-21T22:04:00", id="without seconds"),
        pytest.param("2026-11-21T22:04:05-0330", None, "2026-11-22T01:34:05", id="with an offset west"),
        pytest.param("2026-11-21T22:04:05+02", None, "2026-11-21T20:04:05", id="with an offset in hours"),
        pytest.param("2026-11-21T22:04:05 +0000", None, "2026-11-21T22:04:05", id="with a blank before the offset"),
        pytest.param("2026-11-21 22:04:05 +0200", None, "2026-11-21T20:04:05", id="blanks everywhere"),
        pytest.param("2026-11-21", "22:04:05,5", "2026-11-21T22:04:05.5", id="with a decimal comma"),
        pytest.param("2026-11-21", "2026-11-22T01:04:05", "2026-11-22T01:04:05", id="a clock with a date of its own"),
        pytest.param("20261121T220405", None, "2026-11-21T22:04:05", id="as in file names"),
        pytest.param("20261121", "220405.5", "2026-11-21T22:04:05.5", id="as in file names, apart"),
        pytest.param("31/12/99", "23:59:60", "2000-01-01T00:00:00", id="a leap second"),
    ],
)
def test_a_moment_is_read_from_date_and_clock(day: str, clock: str | None, moment: str) -> None:
    assert parse_moment(day, clock) == utc(moment)
    assert parse_moment(day, clock).tzinfo is UTC


@pytest.mark.parametrize(
    ("day", "clock", "told"),
    [
        pytest.param("2026-11-21", None, "'2026-11-21' has no time of day", id="date only, no clock"),
        pytest.param("21/11/97", None, "has no time of day", id="old date, no clock"),
        pytest.param("2026-11-21", "25:00:00", "'25:00:00' is not a time of day", id="hour 25"),
        pytest.param("2026-11-21", "22h04", "'22h04' is not a time of day", id="not a clock"),
        pytest.param("21/11/2026", "22:04:05", "'21/11/2026' is not a date", id="four digits of a year behind"),
        pytest.param("21-11-2026T22:04:05", None, "'21-11-2026' is not a date", id="day first"),
        pytest.param("yesterday", "22:04:05", "is not a date", id="words"),
        pytest.param("2026-02-30T22:04:05", None, "2026-02-30", id="not in the calendar"),
        pytest.param("31/02/97", "22:04:05", "31/02/97", id="old date not in the calendar"),
        pytest.param("0000-00-00T00:00:00", None, "0000-00-00", id="a clock that was never set"),
        pytest.param("2026-11-21T25:00:00", None, "25:00:00", id="hour 25 in the date"),
        pytest.param("2026-11-21T", None, "has no time of day", id="T and nothing"),
    ],
)
def test_a_moment_that_cannot_be_read_is_told_by_its_text(day: str, clock: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_moment(day, clock)


def test_a_leap_second_in_the_date_is_read_as_in_a_clock() -> None:
    assert parse_moment("2016-12-31T23:59:60") == parse_moment("2016-12-31", "23:59:60") == utc("2017-01-01T00:00")


def test_a_night_is_written_one_way() -> None:
    assert parse_night("2026-11-21") == date(2026, 11, 21)
    for wrong in ("20261121", "2026-11-21 ", "2026-11-21\n", "21/11/26", "2026-W47-6", "2026-13-01", "2026-02-30", ""):
        with pytest.raises(ValueError, match=r"is not a night"):
            parse_night(wrong)
