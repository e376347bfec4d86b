"""Files that belong to no group: each has its reason written down; the file itself is never touched."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from nightdesk.io.atomic import read_json, write_json
from nightdesk.io.layout import rejection_path
from nightdesk.io.raw import folder_night
from nightdesk.night import night_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightdesk.io.raw import RawFacts
    from nightdesk.settings import Settings

LONGEST_FILE_NAME = 120


def night_of_raw(settings: Settings, facts: RawFacts) -> date:
    """Return the night a raw belongs to: by its header, else by its folder, else by when it was written."""
    if facts.night:
        return date.fromisoformat(facts.night)
    written = datetime.fromtimestamp(facts.mtime_ns / 1e9, UTC)
    return folder_night(facts.path) or night_of(written, settings.site.zone)


def write_rejections(settings: Settings, raws: Iterable[RawFacts]) -> None:
    """Write the reason of each rejected file, and remove the reason of those that have been mended."""
    for facts in raws:
        name = quote(facts.name, safe="+ ")[:LONGEST_FILE_NAME]
        path = rejection_path(settings, night_of_raw(settings, facts), name)
        known = read_json(path)
        if facts.kind == "rejected":
            values = {
                "file": facts.path,
                "reason": facts.reason,
                "size": facts.size,
                "mtime_ns": facts.mtime_ns,
            }
            if known != values:
                write_json(path, values)
        elif isinstance(known, dict) and known.get("file") == facts.path:
            path.unlink(missing_ok=True)
