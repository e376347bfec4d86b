"""Files that belong to no group: each has its reason written down; the file itself is never touched."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nightdesk.io.atomic import read_json, write_json
from nightdesk.io.layout import rejection_path
from nightdesk.io.raw import folder_night
from nightdesk.night import night_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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
    """Write the reason of each rejected file, and remove the reasons of those that were mended, renamed or removed."""
    written = _written(settings)
    places: dict[str, set[Path]] = {}
    for path, values in written.items():
        places.setdefault(values["file"], set()).add(path)
    for facts in raws:
        here = _write(settings, facts, written) if facts.kind == "rejected" else None
        for path in places.get(facts.path, set()) - {here}:
            path.unlink(missing_ok=True)
    for file, paths in places.items():
        if not (settings.root / file).is_file():
            for path in paths:
                path.unlink(missing_ok=True)


def _written(settings: Settings) -> dict[Path, dict[str, Any]]:
    found = {path: read_json(path) for path in sorted((settings.root / "rejected").glob("*/*.json"))}
    return {path: values for path, values in found.items() if isinstance(values, dict) and "file" in values}


def _write(settings: Settings, facts: RawFacts, written: dict[Path, dict[str, Any]]) -> Path:
    """Write a file's reason under its name, made its own where another file of that name was first; return where."""
    night, name = night_of_raw(settings, facts), quote(facts.name, safe="+ ")[:LONGEST_FILE_NAME]
    path = rejection_path(settings, night, name)
    if written.get(path, {"file": facts.path})["file"] != facts.path:
        path = rejection_path(settings, night, f"{name}-{hashlib.sha256(facts.path.encode()).hexdigest()[:8]}")
    values = {"file": facts.path, "reason": facts.reason, "size": facts.size, "mtime_ns": facts.mtime_ns}
    if written.get(path) != values:
        write_json(path, values)
    written[path] = values
    return path
