"""Looking through the nights: which have a group of this target, filter or quality, a page at a time."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from nightdesk.desk.night import counts_of, is_current, nights_on_disk, read_night, restore_night
from nightdesk.desk.place import nights_folder
from nightdesk.io.atomic import read_json

if TYPE_CHECKING:
    from nightdesk.settings import Settings

NIGHTS_A_PAGE: Final = 14
PATIENCE: Final = 0.5
"""Seconds that one page may spend on making files of nights anew."""


@dataclass(frozen=True)
class Wanted:
    """What a person looks for; an empty text is no condition. Texts are compared without case, targets by a part."""

    target: str = ""
    filter_name: str = ""
    quality: str = ""
    first: date | None = None
    last: date | None = None

    @property
    def of_groups(self) -> bool:
        """Whether there is a condition that a group must meet."""
        return bool(self.target or self.filter_name or self.quality)

    def takes_night(self, night: date) -> bool:
        """Tell whether a night is within the dates."""
        return (self.first is None or night >= self.first) and (self.last is None or night <= self.last)

    def takes(self, target: str, filter_name: str, quality: str, state: str) -> bool:
        """Tell whether a group is looked for; a quality may also be a state (waiting, failed, partial, done)."""
        wanted = self.target.replace(" ", "").casefold()
        return (
            wanted in target.casefold()
            and self.filter_name.casefold() in ("", filter_name.casefold())
            and self.quality in ("", quality, state)
        )


@dataclass(frozen=True)
class Page:
    """One page of nights, newest first, each with the groups that are looked for."""

    nights: list[dict[str, Any]]
    number: int
    pages: int
    total: int
    targets: list[str]
    filters: list[str]
    gathering: int
    """How many nights were deleted and are not made anew yet."""


_Brief = tuple[str, str, str, str]
_Known = dict[str, tuple[int, tuple[_Brief, ...] | None]]


@dataclass
class NightIndex:
    """All nights of an observatory, remembered in brief as long as their files do not change."""

    settings: Settings
    _known: _Known = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def page(self, wanted: Wanted, number: int = 1, size: int = NIGHTS_A_PAGE) -> Page:
        """Return a page of the nights that are looked for."""
        briefs = self._look()
        missing = nights_on_disk(self.settings) - briefs.keys() - self._silent
        gathering = self._gather(missing)
        if missing:
            briefs = self._look()
        names = sorted((name for name in briefs if wanted.takes_night(date.fromisoformat(name))), reverse=True)
        if wanted.of_groups:
            names = [name for name in names if any(wanted.takes(*brief) for brief in briefs[name])]
        pages = max(1, -(-len(names) // size))
        number = min(max(1, number), pages)
        shown = names[(number - 1) * size : number * size]
        groups = [brief for night in briefs.values() for brief in night]
        return Page(
            [self._night(name, wanted) for name in shown],
            number,
            pages,
            len(names),
            sorted({brief[0] for brief in groups}, key=str.casefold),
            sorted({brief[1] for brief in groups}, key=str.casefold),
            gathering,
        )

    def _gather(self, missing: set[str]) -> int:
        """Make the files of nights that are gone, the newest first, while a person waits; return how many are left."""
        until = time.monotonic() + PATIENCE
        for number, name in enumerate(sorted(missing, reverse=True)):
            if number and time.monotonic() > until:
                return len(missing) - number
            if not restore_night(self.settings, date.fromisoformat(name)):
                self._silent.add(name)
        return 0

    def _night(self, name: str, wanted: Wanted) -> dict[str, Any]:
        night = read_night(self.settings, date.fromisoformat(name))
        rows = sorted(night["groups"].values(), key=lambda row: (row["target"].casefold(), row["filter_name"]))
        shown = [row for row in rows if wanted.takes(*_brief(row))]
        return {**night, "counts": counts_of(night), "groups": shown, "hidden": len(rows) - len(shown)}

    def _look(self) -> dict[str, tuple[_Brief, ...]]:
        with self._lock:
            present: _Known = {}
            folder = nights_folder(self.settings)
            for entry in os.scandir(folder) if folder.is_dir() else ():
                name, _, extension = entry.name.partition(".")
                if extension != "json" or len(name) != 10:
                    continue
                changed = entry.stat().st_mtime_ns
                known = self._known.get(name)
                if known is None or known[0] != changed:
                    known = (changed, _briefs(read_json(folder / entry.name)))
                present[name] = known
            self._known = present
            return {name: briefs for name, (_, briefs) in present.items() if briefs is not None}


def _briefs(values: Any) -> tuple[_Brief, ...] | None:
    return tuple(_brief(row) for row in values["groups"].values()) if is_current(values) else None


def _brief(row: dict[str, Any]) -> _Brief:
    return row["target"], row["filter_name"], (row["quality"] or {}).get("grade", ""), row["state"]
