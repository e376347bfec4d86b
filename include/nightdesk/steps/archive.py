"""Which archived nights to reduce next."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import report_path
from nightdesk.readiness import watched_since

if TYPE_CHECKING:
    from nightdesk.settings import Settings


def next_nights(settings: Settings) -> list[date]:
    """Return the next slice of archived nights: with raws on disk, and without a report yet.

    Parameters
    ----------
    settings : Settings
        ``[archive] from`` is the first night (none: nothing is opened), ``nights_per_day`` the size of a slice.

    Returns
    -------
    list of date
        Oldest first; nights that the watcher still looks at are not among them.
    """
    first = settings.archive.from_night
    if first is None:
        return []
    last = watched_since(settings)
    nights = {
        date.fromisoformat(facts.night)
        for facts in take_inventory(settings).raws
        if facts.night and facts.kind == "science"
    }
    due = [night for night in sorted(nights) if first <= night < last and not report_path(settings, night).exists()]
    return due[: settings.archive.nights_per_day]
