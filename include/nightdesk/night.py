"""The night a moment belongs to: local date of the evening, noon to noon at the site."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo

NIGHT_PATTERN = r"^\d{4}-\d{2}-\d{2}$"

_ISO_DATE = re.compile(r"^(\d{4})-(\d{1,2})-(\d{1,2})$")
_PLAIN_DATE = re.compile(r"^((?:19|20)\d{2})(\d{2})(\d{2})$")
_HAS_DATE = re.compile(r"^\d{4}-\d{1,2}-\d{1,2}[T ]")
_OLD_DATE = re.compile(r"^(\d{1,2})/(\d{1,2})/(\d{2})$")
_UNIVERSAL = re.compile(r"\s*(UTC?|GMT)$", re.IGNORECASE)
_PLAIN_CLOCK = re.compile(r"^(\d{2})(\d{2})(\d{2}(?:[.,]\d*)?)$")
_CLOCK = re.compile(r"^(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:[.,]\d*)?))?(?:Z|\s*([+-])(\d{2})(?::?(\d{2}))?)?$")


def night_of(moment: datetime, zone: tzinfo) -> date:
    """Return the night of `moment` (aware): the local date twelve hours before, by the clock on the wall."""
    return (moment.astimezone(zone).replace(tzinfo=None) - timedelta(hours=12)).date()


def noon_of(night: date, zone: tzinfo) -> datetime:
    """Return the noon at which `night` begins."""
    return datetime.combine(night, time(12), tzinfo=zone)


def parse_night(text: str) -> date:
    """Return the night named by `text` (``2026-11-21``), or raise `ValueError`."""
    with suppress(ValueError):
        if re.match(NIGHT_PATTERN, text):
            return date.fromisoformat(text)
    raise ValueError(f"{text!r} is not a night; write it as 2026-11-21, the local date of its evening")


def parse_moment(day: str, clock: str | None = None) -> datetime:
    """Return the UTC moment of a header's date and, where the date has no time of its own, its clock.

    `day` is ``2026-11-21T22:04:05.5`` (a blank for the T, a decimal comma, and Z, UTC or an offset at the end, are
    understood), ``2026-11-21`` or, as in the last century, ``21/11/97``. `clock` is ``22:04:05.5``; if it has a date of
    its own, it alone is the moment. As in file names, ``20261121T220405`` is understood, too.

    Raises
    ------
    ValueError
        If the date cannot be read, or it has no time and no `clock` supplies one.
    """
    day = _UNIVERSAL.sub("", day.strip())
    head, _, tail = day.partition("T" if "T" in day else " ")
    midnight = datetime.combine(_calendar_date(head), time(0), tzinfo=UTC)
    if not (tail or clock):
        raise ValueError(f"{day!r} has no time of day")
    if not tail and clock and _HAS_DATE.match(clock.strip()):
        return parse_moment(clock)
    return midnight + _since_midnight((tail or clock or "").strip())


def _calendar_date(text: str) -> date:
    with suppress(ValueError):
        if match := _ISO_DATE.match(text) or _PLAIN_DATE.match(text):
            year, month, day = (int(part) for part in match.groups())
            return date(year, month, day)
        if match := _OLD_DATE.match(text):
            day, month, year = (int(part) for part in match.groups())
            return date(1900 + year, month, day)  # the FITS standard: two-digit years are of the last century
    raise ValueError(f"{text!r} is not a date (2026-11-21 or 21/11/97)")


def _since_midnight(clock: str) -> timedelta:
    match = _CLOCK.match(_PLAIN_CLOCK.sub(r"\1:\2:\3", _UNIVERSAL.sub("", clock)))
    parts = (match[1], match[2], (match[3] or "0").replace(",", ".")) if match else ("24", "0", "0")
    hours, minutes, seconds = (float(part) for part in parts)
    if match is None or hours > 23 or minutes > 59 or seconds >= 61:  # a minute may end in a leap second
        raise ValueError(f"{clock!r} is not a time of day (22:04:05.5)")
    ahead = timedelta(hours=int(match[5] or 0), minutes=int(match[6] or 0))
    return timedelta(hours=hours, minutes=minutes, seconds=seconds) + (ahead if match[4] == "-" else -ahead)
