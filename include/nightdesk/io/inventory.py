"""What lies on the disk, sorted: the groups, their frames, and the files that belong to none."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from nightdesk.group import Group, clean_name, colliding
from nightdesk.io.atomic import read_json, write_json
from nightdesk.io.raw import RawFacts, forbidden_facts, list_raw_files, read_facts
from nightdesk.settings import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightdesk.settings import Settings

EXPOSURE_TOLERANCE = 0.01


@dataclass
class FactsCache:
    """Header facts by (path, size, mtime_ns), in memory and, for the next process, in ``.nightdesk/facts``.

    The files may be deleted at will. They are kept a raw folder a file, under the hash of the settings that read them.
    """

    settings: Settings
    known: dict[tuple[str, int, int], RawFacts] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        reading = self.settings.model_dump(
            mode="json", include={"site", "files", "ignore", "aliases", "instruments", "repairs"}
        )
        self._version = digest({"reading": reading, "schema": 3})[:12]

    def facts(self, path: Path, size: int, mtime_ns: int) -> RawFacts:
        """Return the facts of a raw, from memory where it has not changed."""
        folder = str(path.parent)
        if folder not in self.loaded:
            self._load(folder)
        relative = path.relative_to(self.settings.root).as_posix()
        facts = self.known.get((relative, size, mtime_ns))
        if facts is None:
            facts = read_facts(self.settings, path, size=size, mtime_ns=mtime_ns)
            self.known[facts.identity] = facts
            self.fresh.add(folder)
        return facts

    def save(self, present: Iterable[RawFacts]) -> None:
        """Write what is new, and forget what is gone; a cache that cannot be written is done without."""
        by_folder = defaultdict(list)
        self.known = {facts.identity: facts for facts in present}
        for facts in self.known.values():
            by_folder[str(self.settings.root / Path(facts.path).parent)].append(facts.to_json())
        for folder in self.fresh:
            try:
                write_json(self._file(folder), by_folder[folder])
            except OSError:
                continue
        self.fresh.clear()

    def _load(self, folder: str) -> None:
        self.loaded.add(folder)
        try:
            for values in read_json(self._file(folder)) or []:
                facts = RawFacts.from_json(values)
                self.known[facts.identity] = facts
        except (TypeError, KeyError, OSError):
            return  # another version's cache; it is written anew

    def _file(self, folder: str) -> Path:
        name = hashlib.sha256(folder.encode()).hexdigest()[:16]
        return self.settings.root / ".nightdesk" / "facts" / f"{name}-{self._version}.json"


@dataclass(frozen=True)
class Inventory:
    """Every raw on the disk, with its facts; `closed` are the folders that may not be looked into."""

    settings: Settings
    raws: tuple[RawFacts, ...]
    closed: tuple[Path, ...] = ()

    @property
    def science(self) -> dict[Group, list[RawFacts]]:
        """The raws of each group, sorted by path; groups are the same when their names are, without case."""
        found: dict[str, Group] = {}
        members: dict[Group, list[RawFacts]] = defaultdict(list)
        for facts in self.raws:
            if facts.kind != "science":
                continue
            group = Group(date.fromisoformat(facts.night), facts.target, facts.filter_name, facts.instrument)
            members[found.setdefault(group.key.casefold(), group)].append(facts)
        return dict(sorted(members.items()))

    def of_group(self, group: Group) -> tuple[Group, list[RawFacts]]:
        """Return a group in the spelling its raws have, and its raws (none when there are none)."""
        for known, raws in self.science.items():
            if known.same_as(group):
                return known, raws
        return group, []

    def bias_pair(self, night: date, like: Iterable[RawFacts]) -> tuple[str, ...]:
        """Return the paths of two whole raw biases of a night with the setup of its frames; none when there are not."""
        frame = next(iter(like), None)
        biases = [
            facts
            for facts in self.raws
            if facts.kind == "bias" and facts.complete and frame is not None and facts.night == night.isoformat()
            if (facts.binning, facts.shape, facts.instrument) == (frame.binning, frame.shape, frame.instrument)
        ]
        return tuple(facts.path for facts in biases[:2]) if len(biases) > 1 else ()

    def groups_of(self, night: date) -> list[Group]:
        """Return the night's groups, sorted."""
        return [group for group in self.science if group.night == night]


def take_inventory(settings: Settings, cache: FactsCache | None = None) -> Inventory:
    """List the raw places and read what is new there.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    cache : FactsCache, optional
        Facts of earlier looks; by default those on the disk.

    Returns
    -------
    Inventory
        In the order of the places, sorted by path in each.
    """
    cache = cache or FactsCache(settings)
    raws, known = [], []
    closed: set[Path] = set()
    for path, size, mtime_ns in list_raw_files(settings, closed):
        try:
            known.append(cache.facts(path, size, mtime_ns))
        except FileNotFoundError:
            continue  # it went away while we looked
        except PermissionError:
            # not for the cache: giving permission leaves size and mtime as they are
            raws.append(forbidden_facts(settings, path, size=size, mtime_ns=mtime_ns))
        else:
            raws.append(known[-1])
    cache.save(known)
    return Inventory(settings, tuple(raws), tuple(sorted(closed)))


def closed_folders(settings: Settings) -> list[str]:
    """Return a sentence for each raw folder that this process may not look into."""
    closed: set[Path] = set()
    for _ in list_raw_files(settings, closed):
        pass
    return closed_words(settings, sorted(closed))


def closed_words(settings: Settings, closed: Iterable[Path]) -> list[str]:
    """Return a sentence for each of these closed folders."""
    return [
        f"{path.relative_to(settings.root).as_posix()}: this folder may not be looked into, so its frames are not "
        "seen. Give it read permission (chmod a+rx)."
        for path in closed
    ]


def name_collisions(group: Group, raws: Iterable[RawFacts]) -> list[str]:
    """Return a sentence for each pair of header values that would meet in a group's name without an alias.

    `raws` are all that is on the disk: other nights and filters have their part in the same folders and sidecars.
    """
    listed = [facts for facts in raws if facts.kind == "science" and facts.instrument == group.instrument]
    target, filter_name = group.target.casefold(), group.filter_name.casefold()
    sentences = []
    for what, texts in (
        ("targets", [(facts, facts.target_text) for facts in listed if facts.target.casefold() == target]),
        ("filters", [(facts, facts.filter_text) for facts in listed if facts.filter_name.casefold() == filter_name]),
    ):
        headers = {text for facts, text in texts if not facts.named_by_folder}
        # A folder is no other value than the header's whose name it bears.
        folders = {text for facts, text in texts if facts.named_by_folder} - {clean_name(text) for text in headers}
        for first, second in colliding(headers | folders):
            sentences.append(
                f"The header values {first!r} and {second!r} would share one name; if they are the same, say so in the "
                f'configuration: [aliases.{what}] "{second}" = "{first}".'
            )
    return sentences


@dataclass(frozen=True)
class Selection:
    """Which raws of a group are reduced: frames by name, and the names of another setup with the reason."""

    frames: dict[str, RawFacts]
    left_out: dict[str, str]


def select_frames(raws: Iterable[RawFacts], *, any_exposure: bool = False) -> Selection:
    """Choose a group's frames: copies count once, the most numerous setup is reduced, the rest is left out.

    With `any_exposure` frames of different exposure times share a setup: they will be scaled.

    Frames whose shape alone differs stay: they claim the same setup, so they are bad frames, not another programme's.
    So do those without an exposure time, or with one of nothing.
    """
    frames: dict[str, RawFacts] = {}
    for facts in sorted(raws, key=lambda facts: (facts.name, facts.path)):
        frames.setdefault(facts.name, facts)
    setups = _setups([facts for facts in frames.values() if (facts.exposure or 0.0) > 0.0], any_exposure=any_exposure)
    left_out = {
        facts.name: f"another setup ({_setup_words(facts)}; this group is {_setup_words(setups[0][0])})"
        for other in setups[1:]
        for facts in other
    }
    return Selection({name: facts for name, facts in frames.items() if name not in left_out}, left_out)


def common_shape(frames: Iterable[RawFacts]) -> tuple[int, ...]:
    """Return the most frequent shape of two axes, the first of equals; empty when there is none."""
    return most_frequent(facts.shape for facts in frames)


def most_frequent(found: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the most frequent of the shapes with two axes, the first of equals; empty when there is none."""
    shapes = Counter(shape for shape in found if len(shape) == 2)
    return shapes.most_common(1)[0][0] if shapes else ()


def typical_temperature(frames: Iterable[RawFacts]) -> float | None:
    """Return the median temperature of the detector in these frames, C; None when no header tells."""
    known = [facts.temperature for facts in frames if facts.temperature is not None]
    return round(median(known), 2) if known else None


def _setups(raws: list[RawFacts], *, any_exposure: bool) -> list[list[RawFacts]]:
    """Cluster by binning, readout mode and exposure (1 %); most numerous first, then first by name."""
    clusters: list[list[RawFacts]] = []
    for facts in raws:
        for cluster in clusters:
            if _same_setup(cluster[0], facts, any_exposure=any_exposure):
                cluster.append(facts)
                break
        else:
            clusters.append([facts])
    return sorted(clusters, key=len, reverse=True)


def _same_setup(one: RawFacts, other: RawFacts, *, any_exposure: bool) -> bool:
    if (one.binning, one.readout_mode) != (other.binning, other.readout_mode):
        return False
    if any_exposure:
        return True
    a, b = one.exposure or 0.0, other.exposure or 0.0
    return abs(a - b) <= EXPOSURE_TOLERANCE * max(abs(a), abs(b))


def _setup_words(facts: RawFacts) -> str:
    words = [f"{facts.exposure:g} s", f"binning {facts.binning}"]
    return ", ".join(words + ([f"readout {facts.readout_mode}"] if facts.readout_mode else []))


_hashes: dict[tuple[str, int, int], str] = {}


def hash_file(path: Path) -> str:
    """Return a file's sha256; within a process it is read again only when size or mtime differ."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        with path.open("rb") as stream:
            _hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _hashes[key]
