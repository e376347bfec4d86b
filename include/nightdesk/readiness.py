"""When a group is ready, and whether to start it: what lies on the disk against what its last run set out with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightdesk import __version__
from nightdesk.calibration_night import CalibrationNight
from nightdesk.errors import NightdeskError, SetupError
from nightdesk.io.association import distance_words, find_masters
from nightdesk.io.calibration_set import CALIBRATION_KINDS, calibration_frames, flat_filter
from nightdesk.io.frame import read_recipe
from nightdesk.io.inventory import FactsCache, Inventory, closed_words, take_inventory
from nightdesk.io.layout import Layout
from nightdesk.io.master_ledger import has_new_frames, nights_to_build
from nightdesk.io.raw import is_raw_name, raw_places
from nightdesk.io.rejection import write_rejections
from nightdesk.io.repair import repairs_hash
from nightdesk.manifest import FileState, read_inputs, read_manifest, sidecar_state, states_of
from nightdesk.night import night_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightdesk.group import Group
    from nightdesk.io.raw import RawFacts
    from nightdesk.manifest import Inputs
    from nightdesk.settings import Settings

MOST_OBSERVED_FOLDERS = 32
EXPOSURES_TO_WAIT = 1.5


def tonight(settings: Settings) -> date:
    """Return the night that is now, or, by day, the one that is over."""
    return night_of(datetime.now(UTC), settings.site.zone)


def watched_since(settings: Settings) -> date:
    """Return the oldest night that the watcher looks at."""
    return tonight(settings) - timedelta(days=settings.watch.watch_nights - 1)


def differs(settings: Settings, group: Group, inventory: Inventory | None = None) -> bool:
    """Tell whether a group's raws or its sidecar in force differ from what its last run set out with."""
    group, raws = (inventory or take_inventory(settings)).of_group(group)
    return bool(raws) and _differ(settings, group, raws)


def _differ(settings: Settings, group: Group, raws: Iterable[RawFacts]) -> bool:
    layout = Layout(settings, group)
    inputs = read_inputs(layout)
    return inputs is None or inputs.states != states_of(raws) or inputs.sidecar != sidecar_state(layout)


def unfinished_seconds(settings: Settings, group: Group, inventory: Inventory | None = None) -> float:
    """Return for how long a group must still be left alone: a file of it is not complete, and has changed of late.

    By the time when the file system last changed it: a copy keeps the modification time of what it copies.
    """
    _, raws = (inventory or take_inventory(settings)).of_group(group)
    waits = [_unfinished_seconds(settings, facts) for facts in raws if not facts.complete]
    return max(waits, default=0.0)


def _unfinished_seconds(settings: Settings, facts: RawFacts) -> float:
    try:
        age = time.time() - (settings.root / facts.path).stat().st_ctime
    except OSError:
        return 0.0
    return settings.watch.stalled_seconds - max(age, 0.0)


def groups_of_night(settings: Settings, night: date) -> list[Group]:
    """Return the groups that a night has on disk."""
    return take_inventory(settings).groups_of(night)


def needs_run(settings: Settings, group: Group) -> bool:
    """Tell whether a night must start a group: its inputs differ, it never ended, or it is out of date.

    So the flats of the dawn reach the frames of the night.
    """
    if read_manifest(settings, group) is None or differs(settings, group):
        return True
    return bool(out_of_date(settings, group))


def out_of_date(settings: Settings, group: Group) -> list[str]:
    """Return why a group's products are not what they would be today; empty when they are, or there are none.

    The watcher does not start a group for a better master or a changed setting: it is shown, and the night's own run
    or `nightdesk refresh` does it.
    """
    manifest = read_manifest(settings, group)
    if manifest is None:
        return []
    reasons = []
    if manifest["code"] != __version__:
        reasons.append(f"made by Nightdesk {manifest['code']}, this is {__version__}")
    try:
        if manifest["settings"] != _settings_hash(settings, group):
            reasons.append("the settings have changed")
    except SetupError as error:
        # a filter without settings: no news where the group failed for it
        reasons += [str(error)] if manifest["settings"] is not None else []
    layout = Layout(settings, group)
    inputs = read_inputs(layout)
    if inputs is None:
        return reasons
    if manifest.get("repairs") not in (None, repairs_hash(settings, group, inputs)):
        reasons.append("the header repairs have changed")
    return reasons + _changed_masters(settings, layout, inputs, manifest)


def unmade_masters(settings: Settings, group: Group, inventory: Inventory) -> dict[date, str]:
    """Return the nights of which raw frames could make masters as near to a reduced group as its own, and a sentence.

    They have landed, or the settings of masters have changed, since masters were last made of them.
    """
    manifest = read_manifest(settings, group)
    if manifest is None:
        return {}
    used = {entry["role"].removeprefix("master "): entry for entry in manifest["inputs"]}
    told = {}
    for night in nights_to_build(settings, inventory, group.night):
        kinds = sorted({facts.kind for facts in calibration_frames(inventory, night) if _serves(facts, group)})
        if serving := [kind for kind in kinds if _could_be_nearer(settings, group, night, used.get(kind))]:
            told[night] = f"raw {' and '.join(serving)} frames of {night} are still to be made into masters"
    return told


def _serves(facts: RawFacts, group: Group) -> bool:
    same = facts.kind != "flat" or flat_filter(facts).casefold() == group.filter_name.casefold()
    return same and facts.instrument == group.instrument


def _could_be_nearer(settings: Settings, group: Group, night: date, entry: dict[str, Any] | None) -> bool:
    """Tell whether a master of a night would be taken rather than the one used; a person's of that night stays."""
    if entry is None or entry.get("days") is None:
        return True
    away, days = (night - group.night).days, entry["days"]
    path = settings.root / entry["path"]
    if days == away and path.is_file():
        return read_recipe(path) is not None
    return (abs(away), away > 0) < (abs(days), days > 0)


def _settings_hash(settings: Settings, group: Group) -> str:
    from nightdesk.settings import digest

    return digest(settings.numbers_of(group))


def _changed_masters(settings: Settings, layout: Layout, inputs: Inputs, manifest: dict[str, Any]) -> list[str]:
    then = {entry["role"]: entry for entry in manifest["inputs"] if entry["role"].startswith("master ")}
    try:
        masters = find_masters(settings, layout, inputs)
    except NightdeskError as error:
        return [str(error)] if then else []
    now = {f"master {role}": path for role, path in masters.by_role.items()}
    days = {f"master {role}": away for role, away in masters.distances.items()}
    reasons = []
    for role in sorted(then.keys() | now.keys()):
        old, path = then.get(role), now.get(role)
        if old is None and path is not None:
            reasons.append(f"there is a {role} now: {_place(layout, path, days[role])}")
        elif old is not None and path is None:
            reasons.append(f"the {role} is gone")
        elif old is not None and path is not None and old["path"] != layout.relative(path):
            was = f"{old['path']} ({distance_words(old.get('days'))})"
            reasons.append(f"a better {role} is there: {_place(layout, path, days[role])} instead of {was}")
        elif old is not None and path is not None and FileState.of(layout, path) != _state_of(old):
            reasons.append(f"the {role} has changed")
    return reasons


def _place(layout: Layout, path: Path, days: int | None) -> str:
    return f"{layout.relative(path)} ({distance_words(days)})"


def _state_of(entry: dict[str, Any]) -> FileState:
    return FileState(entry["path"], entry["size"], entry["mtime_ns"])


@dataclass
class _Seen:
    """A file's state, and when the watcher first saw it so."""

    size: int
    mtime_ns: int
    since: float


@dataclass
class Watch:
    """What the watcher has seen of the disk, and since when.

    Times are those of `now`, a clock of the caller's that never goes back: copies keep old modification times, so only
    what the watcher saw itself counts. One watch serves one thread at a time.
    """

    settings: Settings
    _cache: FactsCache = field(init=False)
    _files: dict[str, _Seen] = field(default_factory=dict)
    _members: dict[Group, frozenset[str]] = field(default_factory=dict)
    _changed: dict[Group, float] = field(default_factory=dict)
    _due: float | None = None
    _inventory: Inventory | None = None
    closed: frozenset[Path] = frozenset()
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cache = FactsCache(self.settings)

    def look(self, now: float) -> list[Group]:
        """Look at the disk once and return the groups to start: ready, and different from their last run's inputs.

        Files that belong to no group get their reason written once they have settled.
        """
        inventory = self._inventory = take_inventory(self.settings, self._cache)
        for facts in inventory.raws:
            self._see(facts.path, facts.size, facts.mtime_ns, now)
        groups = {
            group: raws for group, raws in inventory.science.items() if group.night >= watched_since(self.settings)
        }
        self._see_members(groups, now)
        self._forget_gone({facts.path for facts in inventory.raws})
        write_rejections(self.settings, [facts for facts in inventory.raws if self._is_settled(facts, now)])
        self.closed, self.troubles = frozenset(inventory.closed), closed_words(self.settings, inventory.closed)
        waits = {group: self._wait(group, raws, now) for group, raws in groups.items() if self._is_due(group, raws)}
        waiting = [wait for wait in waits.values() if wait > 0]
        self._due = now + min(waiting) if waiting else None
        return [group for group, wait in waits.items() if wait <= 0]

    def _is_due(self, group: Group, raws: list[RawFacts]) -> bool:
        """Tell whether a group is to be started; one whose ledger cannot be read does not hold up the others."""
        try:
            return _differ(self.settings, group, raws) and not self._is_hidden(group)
        except OSError as error:
            self.troubles.append(f"{group.key} cannot be looked at: {error}.")
            return False

    def _is_hidden(self, group: Group) -> bool:
        """Tell whether frames of a group's last run lie in a closed folder: they are not gone, only not seen."""
        inputs = read_inputs(Layout(self.settings, group)) if self.closed else None
        paths = [self.settings.root / path for path in inputs.raws] if inputs else []
        return any(folder in path.parents for path in paths for folder in self.closed)

    def calibrations(self, now: float) -> list[CalibrationNight]:
        """Return the nights, as of the last look, whose calibration frames are ready and not yet made into masters."""
        inventory = self._inventory
        if inventory is None:
            return []
        ready = []
        frames: dict[date, list[RawFacts]] = {}
        for facts in inventory.raws:
            if facts.kind in CALIBRATION_KINDS and (night := date.fromisoformat(facts.night)) not in frames:
                frames[night] = calibration_frames(inventory, night)
        for night, raws in sorted(frames.items()):
            if night < watched_since(self.settings) or not has_new_frames(self.settings, inventory, night):
                continue
            wait = self._wait_for(raws, max(self._files[facts.path].since for facts in raws), now)
            if wait <= 0:
                ready.append(CalibrationNight(night))
            else:
                self._due = min(self._due or now + wait, now + wait)
        return ready

    def due(self, now: float) -> float | None:
        """Return in how many seconds a group that settles could become ready; None when none does."""
        return None if self._due is None else max(self._due - now, 0.0)

    def paths(self) -> list[Path]:
        """Return the folders to observe, with all that is below them: raws and sidecars, never products.

        There may be many of the notebook's places; those beyond a few are left to the regular look at everything.
        """
        places = [*raw_places(self.settings), self.settings.root / "xys"]
        present = [path for path in places if path.is_dir()]
        return present[-1:] + present[:-1][:MOST_OBSERVED_FOLDERS]

    def concerns(self, path: str) -> bool:
        """Tell whether something that happened to this path is worth a look; no disk access."""
        name = Path(path).name
        return name == "xy.csv" or is_raw_name(self.settings, name)

    def _see(self, path: str, size: int, mtime_ns: int, now: float) -> float:
        """Return since when a file is as it is."""
        seen = self._files.get(path)
        if seen is None or (seen.size, seen.mtime_ns) != (size, mtime_ns):
            seen = self._files[path] = _Seen(size, mtime_ns, now)
        return seen.since

    def _see_members(self, groups: dict[Group, list[RawFacts]], now: float) -> None:
        for group, raws in groups.items():
            members = frozenset(facts.path for facts in raws)
            try:
                sidecar = sidecar_state(Layout(self.settings, group))
            except OSError:
                continue  # told of below
            if sidecar is not None:
                members |= {f"{sidecar.path} {sidecar.size} {sidecar.mtime_ns}"}
            if self._members.get(group) != members:
                self._members[group] = members
                self._changed[group] = now

    def _forget_gone(self, present: set[str]) -> None:
        self._files = {path: seen for path, seen in self._files.items() if path in present}

    def _is_settled(self, facts: RawFacts, now: float) -> bool:
        age = now - self._files[facts.path].since
        return age >= (self.settings.watch.settle_seconds if facts.complete else self.settings.watch.stalled_seconds)

    def _wait(self, group: Group, raws: list[RawFacts], now: float) -> float:
        """Return how many seconds a group must still stay unchanged before it is ready."""
        changed = max(self._changed.get(group, now), *(self._files[facts.path].since for facts in raws))
        return self._wait_for(raws, changed, now)

    def _wait_for(self, raws: list[RawFacts], changed: float, now: float) -> float:
        watch = self.settings.watch
        longest = max((facts.exposure or 0.0 for facts in raws), default=0.0)
        settle = max(watch.settle_seconds, EXPOSURES_TO_WAIT * longest + watch.readout_seconds)
        waits = [settle - (now - changed)]
        waits += [watch.stalled_seconds - (now - self._files[facts.path].since) for facts in raws if not facts.complete]
        return max(waits)
