"""When an exposure began, by its header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightdesk.io.header import find_text
from nightdesk.night import parse_moment

if TYPE_CHECKING:
    from datetime import datetime

    from astropy.io import fits

    from nightdesk.instrument import Keywords


def find_moment(header: fits.Header, file_name: str, keywords: Keywords) -> datetime | None:
    """Return the start of an exposure (UTC); None when the header does not tell."""
    day = find_text(header, file_name, keywords.date)
    try:
        return parse_moment(day, find_text(header, file_name, keywords.time)) if day else None
    except (ValueError, OverflowError):
        return None
