"""Laws of nights: they part all of time, noon to noon, in every zone of the world."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import assume, given
from hypothesis import strategies as st

from nightdesk.night import night_of, noon_of, parse_moment, parse_night

DAY = timedelta(days=1)
# A zone that crosses the date line skips a whole day, which then is the date of no evening.
ZONES = st.sampled_from(sorted(name for name in available_timezones() if "/" in name)).map(ZoneInfo)
EARLIEST, LATEST = datetime(1975, 1, 1), datetime(2060, 1, 1)  # noqa: DTZ001 - the strategy adds the zone
MOMENTS = st.datetimes(EARLIEST, LATEST, timezones=st.just(UTC))
NIGHTS = st.dates(date(1996, 1, 1), date(2060, 1, 1))


@given(MOMENTS, ZONES)
def test_a_moment_lies_between_the_noons_of_its_night(moment: datetime, zone: ZoneInfo) -> None:
    night = night_of(moment, zone)
    following = noon_of(night + DAY, zone)
    assume(night_of(following, zone) == night + DAY)  # not where the date line was crossed at noon
    assert noon_of(night, zone) <= moment < following


@given(NIGHTS, ZONES)
def test_a_night_begins_at_its_noon(night: date, zone: ZoneInfo) -> None:
    noon = noon_of(night, zone)
    assume(noon.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == noon.replace(tzinfo=None))  # it was struck
    assert night_of(noon, zone) == night
    assert night_of(noon.astimezone(UTC) - timedelta(microseconds=1), zone) == night - DAY


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=3)), ZONES)
def test_later_is_never_an_earlier_night(moment: datetime, later: timedelta, zone: ZoneInfo) -> None:
    assert night_of(moment + later + timedelta(hours=3), zone) >= night_of(moment, zone)


@given(MOMENTS, st.timezones(), ZONES)
def test_the_zone_a_moment_is_written_in_does_not_matter(moment: datetime, written: ZoneInfo, zone: ZoneInfo) -> None:
    assert night_of(moment.astimezone(written), zone) == night_of(moment, zone)


@given(st.datetimes(EARLIEST, LATEST))
def test_a_moment_is_read_back_however_it_is_written(moment: datetime) -> None:
    expected = moment.replace(tzinfo=UTC)
    day, clock = moment.date().isoformat(), moment.time().isoformat()
    assert parse_moment(moment.isoformat()) == expected
    assert parse_moment(f"{day} {clock}") == expected
    assert parse_moment(day, clock) == expected


@given(st.dates(date(1900, 1, 1), date(1999, 12, 31)))
def test_old_dates_are_of_the_last_century(day: date) -> None:
    assert parse_moment(day.strftime("%d/%m/%y"), "12:00:00").date() == day


@given(st.text(max_size=30), st.none() | st.text(max_size=12))
def test_no_text_raises_anything_but_a_value_error(day: str, clock: str | None) -> None:
    try:
        moment = parse_moment(day, clock)
    except (ValueError, OverflowError):
        return
    assert moment.tzinfo is UTC


@given(st.dates(date(1000, 1, 1)))
def test_a_night_is_read_as_it_is_written(night: date) -> None:
    assert parse_night(night.isoformat()) == night
