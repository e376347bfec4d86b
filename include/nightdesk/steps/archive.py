"""Which archived nights to reduce next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import report_path
from nightdesk.readiness import differs, unfinished_seconds, watched_since

if TYPE_CHECKING:
    from datetime import date

    from nightdesk.group import Group
    from nightdesk.settings import Settings


def next_nights(settings: Settings) -> list[date]:
    """Return the next slice of archived nights: those without a report yet, then those that have changed since.

    A night that is being copied is left for another day.

    Parameters
    ----------
    settings : Settings
        ``[archive] from`` is the first night (none: nothing is opened), ``nights_per_day`` the size of a slice.

    Returns
    -------
    list of date
        New ones first, each kind from the oldest; nights that the watcher still looks at are not among them.
    """
    first = settings.archive.from_night
    if first is None:
        return []
    last = watched_since(settings)
    inventory = take_inventory(settings)
    nights: dict[date, list[Group]] = {}
    for group in inventory.science:
        if first <= group.night < last:
            nights.setdefault(group.night, []).append(group)
    whole = [
        night
        for night, groups in nights.items()
        if not any(unfinished_seconds(settings, group, inventory) > 0 for group in groups)
    ]
    new = [night for night in whole if not report_path(settings, night).exists()]
    changed = [
        night
        for night in whole
        if night not in new and any(differs(settings, group, inventory) for group in nights[night])
    ]
    return [*new, *changed][: settings.archive.nights_per_day]
