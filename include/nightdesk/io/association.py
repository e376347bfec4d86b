"""Which master fits a group's frames: the night's own, else the nearest within its window, and why others do not."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from nightdesk.errors import SetupError
from nightdesk.io.header import find_text
from nightdesk.io.inventory import hash_file
from nightdesk.io.master import MasterFacts, read_master_facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nightdesk.io.layout import Layout
    from nightdesk.manifest import Inputs
    from nightdesk.settings import Settings

KINDS = ("bias", "dark", "flat", "bad_pixels")
EXPOSURE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Wanted:
    """What frames need a master for; what is unknown (empty or None) is not compared."""

    night: date
    instrument: str | None
    binning: str
    filter_name: str = ""
    shape: tuple[int, ...] = ()
    exposure: float | None = None
    temperature: float | None = None
    readout_mode: str = ""
    camera: str = ""


@dataclass(frozen=True)
class Candidate:
    """One master of a kind: how far from the night it is in days (None: it has no night), and why it does not fit."""

    kind: str
    path: Path
    days: int | None
    failed: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return not self.failed

    @property
    def distance(self) -> str:
        """How far it is, in words."""
        return distance_words(self.days)


def distance_words(days: int | None) -> str:
    """Return in words how far from a night a master is."""
    if days is None:
        return "without a night"
    if days == 0:
        return "the night's own"
    return f"{abs(days)} day{'s' if abs(days) > 1 else ''} {'later' if days > 0 else 'earlier'}"


def list_candidates(settings: Settings, wanted: Wanted, kind: str, *, near: bool = False) -> Iterator[Candidate]:
    """Yield every master of a kind that there is for the instrument, in the order in which they would be taken.

    The night's own first, then by distance (of two as near, the earlier), then those without a night. Of the darks of
    one night that of the nearest exposure (by ratio) comes first, then that of the nearest temperature. With `near`
    those beyond the window are not looked for: of an archive's thousand nights few folders are opened.
    """
    files = _files(settings, wanted, kind, near=near)
    for path, night in sorted(files, key=lambda item: _order(settings, wanted, kind, *item)):
        days = None if night is None else (night - wanted.night).days
        yield Candidate(kind, path, days, tuple(_faults(settings, wanted, kind, path, days)))


def choose_master(settings: Settings, wanted: Wanted, kind: str) -> Candidate | None:
    """Return the master to take, or None when none fits."""
    candidates = list_candidates(settings, wanted, kind, near=True)
    return next((candidate for candidate in candidates if candidate.fits), None)


def explain_lack(settings: Settings, wanted: Wanted, kind: str) -> str:
    """Return every candidate with the criteria that it fails, or where one was looked for."""
    candidates = list(list_candidates(settings, wanted, kind))
    if not candidates:
        name = _pattern(settings, wanted, kind)
        place = "/".join(("calibs", *([wanted.instrument] if wanted.instrument else [])))
        return f"there is neither {place}/{wanted.night}/{name} nor {place}/{name}"
    root = settings.root
    told = (f"{one.path.relative_to(root).as_posix()} ({'; '.join(one.failed)})" for one in candidates)
    count = "the one that is there does not fit" if len(candidates) == 1 else f"none of {len(candidates)} fits"
    return f"{count}: {', '.join(told)}"


@dataclass(frozen=True)
class Masters:
    """The masters chosen for a group; None where there is none and none is needed.

    `distances` are days from the group's night, by role; None of a master without a night.
    """

    bias: Path | None
    dark: Path | None
    flat: Path | None
    bad_pixels: Path | None = None
    distances: dict[str, int | None] = field(default_factory=dict)

    @property
    def by_role(self) -> dict[str, Path]:
        """Those there are, by their role."""
        roles = {"bias": self.bias, "dark": self.dark, "flat": self.flat, "bad pixels": self.bad_pixels}
        return {role: path for role, path in roles.items() if path is not None}


def hash_masters(masters: Masters) -> dict[str, str]:
    """Return the sha256 of each master, by role."""
    return {role: hash_file(path) for role, path in masters.by_role.items()}


def wanted_of(layout: Layout, inputs: Inputs) -> Wanted:
    """Return what the frames of a group need masters for."""
    group = layout.group
    return Wanted(
        night=group.night,
        instrument=group.instrument,
        binning=inputs.binning,
        filter_name=group.filter_name,
        shape=inputs.shape,
        exposure=inputs.exposure,
        temperature=inputs.temperature,
        readout_mode=inputs.readout_mode,
        camera=inputs.camera,
    )


def find_masters(settings: Settings, layout: Layout, inputs: Inputs) -> Masters:
    """Choose a group's masters.

    Raises
    ------
    SetupError
        If one that is needed is missing: naming every candidate and what it fails, and what to do.
    """
    wanted = wanted_of(layout, inputs)
    notebook = settings.profile == "notebook"
    needs_bias = notebook or settings.instrument_of(layout.group).bias == "required"
    chosen = {
        "bias": choose_master(settings, wanted, "bias") if needs_bias else None,
        "dark": None if notebook else _dark(settings, layout, wanted),
        "flat": _flat(settings, layout, wanted, notebook=notebook),
        "bad pixels": None if notebook else _optional(settings, layout, wanted, "bad_pixels", "Mend or remove it."),
    }
    dark = chosen["dark"]
    if needs_bias and chosen["bias"] is None and not (dark and read_master_facts(dark.path).contains_bias):
        raise _missing(settings, layout, wanted, "bias", "Put the master bias there.")
    paths = {role: one.path if one else None for role, one in chosen.items()}
    distances = {role: one.days for role, one in chosen.items() if one}
    return Masters(paths["bias"], paths["dark"], paths["flat"], paths["bad pixels"], distances)


def unused_kinds(settings: Settings, layout: Layout) -> dict[str, str]:
    """Return the kinds of master that a group does without by its configuration, and by which setting."""
    if settings.profile == "notebook":
        return dict.fromkeys(("dark", "bad_pixels"), 'profile = "notebook"')
    group, chosen = layout.group, settings.filter_of(layout.group)
    name = group.instrument or next(iter(settings.instruments))
    told = {
        "bias": f'[instruments.{name}] bias = "none"' if settings.instrument_of(group).bias == "none" else "",
        "dark": f'[filters.{group.filter_name}] dark = "none"' if chosen.dark == "none" else "",
        "flat": f'[filters.{group.filter_name}] flat = "none"' if chosen.flat == "none" else "",
    }
    return {kind: setting for kind, setting in told.items() if setting}


def passed_over(settings: Settings, layout: Layout, inputs: Inputs, masters: Masters) -> list[str]:
    """Return a sentence for each master that could be had without, where there is one beyond its window."""
    wanted, unused = wanted_of(layout, inputs), unused_kinds(settings, layout)
    missing = {"dark": masters.dark is None, "bad_pixels": masters.bad_pixels is None}
    told = []
    for kind in (kind for kind, lacks in missing.items() if lacks and kind not in unused):
        if nearest := next(list_candidates(settings, wanted, kind), None):
            place = nearest.path.relative_to(settings.root).as_posix()
            told.append(f"No master {kind.replace('_', ' ')} was used: {place} is {'; '.join(nearest.failed)}.")
    return told


def _dark(settings: Settings, layout: Layout, wanted: Wanted) -> Candidate | None:
    how = settings.filter_of(layout.group).dark
    if how == "none":
        return None
    advice = (
        f'Put one there that fits, or, to do without a dark, write dark = "none" under [filters.{wanted.filter_name}] '
        "in the configuration."
    )
    return _optional(settings, layout, wanted, "dark", advice, needed=how == "required")


def _optional(
    settings: Settings, layout: Layout, wanted: Wanted, kind: str, advice: str, *, needed: bool = False
) -> Candidate | None:
    """Return a master that may be missing; one that is there and does not fit is not passed over in silence."""
    chosen = choose_master(settings, wanted, kind)
    if chosen:
        return chosen
    if needed or any(True for _ in list_candidates(settings, wanted, kind, near=True)):
        raise _missing(settings, layout, wanted, kind, advice)
    return None


def _flat(settings: Settings, layout: Layout, wanted: Wanted, *, notebook: bool) -> Candidate | None:
    name = wanted.filter_name
    if settings.filter_of(layout.group).flat == "none":
        if notebook:
            raise SetupError(f'[filters.{name}] flat = "none": the notebook profile always divides by a flat.')
        return None
    chosen = choose_master(settings, wanted, "flat")
    if chosen is None:
        advice = (
            f'Put the master flat there, or, to do without a flat, write flat = "none" under [filters.{name}] in the '
            "configuration."
        )
        raise _missing(settings, layout, wanted, "flat", advice)
    return chosen


def _missing(settings: Settings, layout: Layout, wanted: Wanted, kind: str, advice: str) -> SetupError:
    lack = explain_lack(settings, wanted, kind)
    name = kind.replace("_", " ")
    return SetupError(f"{layout.group.key}: no master {name}: {lack}. {advice} Then clear this run.")


def own_master(settings: Settings, wanted: Wanted, kind: str) -> Path:
    """Return the path of a night's own master of a kind."""
    place = _place(settings, wanted) / wanted.night.isoformat()
    return place / _pattern(settings, wanted, kind)


def _place(settings: Settings, wanted: Wanted) -> Path:
    place = settings.root / "calibs"
    return place / wanted.instrument if wanted.instrument else place


def _pattern(settings: Settings, wanted: Wanted, kind: str) -> str:
    pattern: str = getattr(settings.calibs, kind)
    return pattern.format(binning=wanted.binning, filter=wanted.filter_name)


def _files(settings: Settings, wanted: Wanted, kind: str, *, near: bool) -> Iterator[tuple[Path, date | None]]:
    """Yield the files that bear the kind's name; darks of other exposures or temperatures have more behind it."""
    name = _pattern(settings, wanted, kind)
    stem, dot, extension = name.partition(".")
    more = r"(_[A-Za-z0-9.+-]+)*" if kind == "dark" else ""
    known = re.compile(re.escape(stem) + more + re.escape(dot + extension), re.IGNORECASE)
    window = getattr(settings.calibs.window, kind)
    for folder, night in _folders(_place(settings, wanted)):
        if near and night is not None and abs((night - wanted.night).days) > window:
            continue
        for path in _listed(folder):
            if known.fullmatch(path.name) and path.is_file():
                yield path, night


def _folders(place: Path) -> Iterator[tuple[Path, date | None]]:
    yield place, None
    for folder in _listed(place):
        try:
            night = date.fromisoformat(folder.name)
        except ValueError:
            continue
        yield folder, night


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _order(settings: Settings, wanted: Wanted, kind: str, path: Path, night: date | None) -> tuple[Any, ...]:
    days = 0 if night is None else (night - wanted.night).days
    near = abs(days) <= getattr(settings.calibs.window, kind)
    unlike = _unlikeness(wanted, path) if kind == "dark" and near else ()
    # The plain name is the most numerous set's: of a night's darks as like it is preferred.
    return night is None, abs(days), days > 0, unlike, len(path.name), path.name


def _unlikeness(wanted: Wanted, path: Path) -> tuple[float, float]:
    """Return how far a dark's exposure (ratio, as a logarithm) and temperature (C) are; what is unknown comes last."""
    try:
        facts = read_master_facts(path)
    except SetupError:
        return math.inf, math.inf
    ratio = degrees = math.inf
    if wanted.exposure and facts.exposure and min(wanted.exposure, facts.exposure) > 0:
        ratio = round(abs(math.log(wanted.exposure / facts.exposure)), 2)  # exposures within 1 % are the same
    if wanted.temperature is not None and facts.temperature is not None:
        degrees = abs(wanted.temperature - facts.temperature)
    return ratio, degrees


def _faults(settings: Settings, wanted: Wanted, kind: str, path: Path, days: int | None) -> Iterator[str]:
    window = getattr(settings.calibs.window, kind)
    if days is not None and abs(days) > window:
        yield f"{abs(days)} days away, the window is {window}"
        return
    try:
        facts = read_master_facts(path)
    except SetupError as error:
        yield str(error)
        return
    yield from _misfits(settings, wanted, kind, facts)
    yield from _other_camera(settings, wanted, kind, facts)


def _misfits(settings: Settings, wanted: Wanted, kind: str, facts: MasterFacts) -> Iterator[str]:
    if wanted.shape and facts.shape != wanted.shape:
        yield f"it is {_size(facts.shape)} pixels, the frames are {_size(wanted.shape)}"
    if facts.binning and wanted.binning and facts.binning != wanted.binning:
        yield f"its binning is {facts.binning}, that of the frames {wanted.binning}"
    if kind == "flat" and facts.filter_name and facts.filter_name.casefold() != wanted.filter_name.casefold():
        yield f"its filter is {facts.filter_name}, that of the frames {wanted.filter_name}"
    if kind == "dark":
        yield from _dark_misfits(settings, wanted, facts)


def _other_camera(settings: Settings, wanted: Wanted, kind: str, facts: MasterFacts) -> Iterator[str]:
    """Yield what tells another camera or readout: a bias or dark is of one readout mode, a flat serves all."""
    instrument = settings.instruments[wanted.instrument or next(iter(settings.instruments))]
    camera = find_text(facts.header, "", ("INSTRUME",)) or ""
    pattern = instrument.match.get("INSTRUME", "").casefold()
    same = camera.casefold() == wanted.camera.casefold() or (pattern and fnmatchcase(camera.casefold(), pattern))
    if camera and wanted.camera and not same:
        yield f"its INSTRUME is {camera}, that of the frames {wanted.camera}"
    keywords = [source for source in instrument.keywords.readout_mode if isinstance(source, str)]
    mode = find_text(facts.header, "", keywords) or ""
    differ = mode.casefold() != wanted.readout_mode.casefold()
    if kind in ("bias", "dark") and mode and wanted.readout_mode and differ:
        yield f"its readout mode is {mode}, that of the frames {wanted.readout_mode}"


def _dark_misfits(settings: Settings, wanted: Wanted, facts: MasterFacts) -> Iterator[str]:
    tolerance = settings.calibs.temperature_tolerance
    there, here = facts.temperature, wanted.temperature
    if there is not None and here is not None and abs(there - here) > tolerance:
        yield f"its temperature is {there:g} C, that of the frames {here:g} C, the tolerance {tolerance:g} C"
    if not facts.contains_bias or wanted.exposure is None or facts.exposure is None:
        return
    if abs(facts.exposure - wanted.exposure) > EXPOSURE_TOLERANCE * facts.exposure:
        yield (
            f"it contains the bias (DARKBIAS = T), so it cannot be scaled from {facts.exposure:g} s to the "
            f"{wanted.exposure:g} s of the frames"
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(axis) for axis in reversed(shape))
