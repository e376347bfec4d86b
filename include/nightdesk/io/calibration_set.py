"""A night's raw calibration frames, sorted into the sets that each make one master."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nightdesk.group import clean_name
from nightdesk.io.association import Wanted, own_master
from nightdesk.io.inventory import most_frequent, typical_temperature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date
    from pathlib import Path

    from nightdesk.io.inventory import Inventory
    from nightdesk.io.raw import RawFacts
    from nightdesk.settings import Settings

CALIBRATION_KINDS = ("bias", "dark", "flat")
EXPOSURE_TOLERANCE = 0.01


@dataclass
class CalibrationSet:
    """The frames of one master: its kind, what it is for, where it is written, and frames left out with the reason."""

    kind: str
    wanted: Wanted
    path: Path
    frames: list[RawFacts]
    left_out: dict[str, str] = field(default_factory=dict)


def calibration_frames(inventory: Inventory, night: date) -> list[RawFacts]:
    """Return a night's raw bias, dark and flat frames, sorted by path."""
    return [facts for facts in inventory.raws if facts.kind in CALIBRATION_KINDS and facts.night == night.isoformat()]


def sort_calibrations(settings: Settings, inventory: Inventory, night: date) -> list[CalibrationSet]:
    """Sort a night's calibration frames into sets: biases first, then darks, then flats, in which order they are made.

    Frames that share a master's name but not its setup cannot be in it: the most numerous setup makes it, the others
    are left out. Darks of other exposures and temperatures make masters of their own, under longer names.
    """
    frames = calibration_frames(inventory, night)
    made = []
    for kind in CALIBRATION_KINDS:
        named: dict[tuple[Any, ...], list[RawFacts]] = {}
        for facts in frames:
            if facts.kind == kind:
                named.setdefault(_name_key(facts), []).append(facts)
        for _, members in sorted(named.items(), key=lambda item: str(item[0])):
            made += _sets_of(settings, kind, night, members)
    return made


def _name_key(facts: RawFacts) -> tuple[Any, ...]:
    filter_name = flat_filter(facts).casefold() if facts.kind == "flat" else ""
    return (facts.instrument or "", facts.binning, filter_name)


def flat_filter(facts: RawFacts) -> str:
    """Return the name of a flat's filter; '' when its header has none."""
    try:
        return clean_name(facts.filter_text)
    except ValueError:
        return ""


def _sets_of(settings: Settings, kind: str, night: date, frames: list[RawFacts]) -> list[CalibrationSet]:
    whole = [facts for facts in frames if facts.complete]
    clusters = _clusters(whole, lambda one, other: (one.shape, one.readout_mode) == (other.shape, other.readout_mode))
    if not clusters:
        clusters = [[frames[0]]]
    left_out = {facts.path: "it is cut short" for facts in frames if not facts.complete}
    for other in clusters[1:]:
        left_out |= {facts.path: "another size or readout mode than the most of this night" for facts in other}
    main = [facts for facts in clusters[0] if facts.complete]
    if kind == "flat" and not flat_filter(frames[0]):
        left_out |= {facts.path: "its header names no filter" for facts in main}
        main = []
    if kind != "dark":
        return [_set(settings, kind, night, frames[0], main, left_out)]
    tolerance = settings.calibs.temperature_tolerance
    sets = _clusters(main, lambda one, other: _same_dark(one, other, tolerance)) or [[]]
    made = [_set(settings, kind, night, frames[0], sets[0], left_out)]
    for more in sets[1:]:
        extra = _set(settings, kind, night, frames[0], more, {})
        extra.path = _with_suffix(extra.path, more)
        made.append(extra)
    return made


def _clusters(frames: list[RawFacts], same: Callable[[RawFacts, RawFacts], bool]) -> list[list[RawFacts]]:
    """Return the frames in clusters, the most numerous first, then by path."""
    clusters: list[list[RawFacts]] = []
    for facts in frames:
        for cluster in clusters:
            if same(cluster[0], facts):
                cluster.append(facts)
                break
        else:
            clusters.append([facts])
    return sorted(clusters, key=lambda cluster: -len(cluster))


def _same_dark(one: RawFacts, other: RawFacts, tolerance: float) -> bool:
    a, b = one.exposure or 0.0, other.exposure or 0.0
    if abs(a - b) > EXPOSURE_TOLERANCE * max(a, b):
        return False
    warm, cold = one.temperature, other.temperature
    return warm is None or cold is None or abs(warm - cold) <= tolerance


def _set(
    settings: Settings,
    kind: str,
    night: date,
    first: RawFacts,
    members: Iterable[RawFacts],
    left_out: dict[str, str],
) -> CalibrationSet:
    frames = list(members)
    wanted = Wanted(
        night=night,
        instrument=first.instrument,
        binning=first.binning,
        filter_name=flat_filter(first) if kind == "flat" else "",
        shape=most_frequent(facts.shape for facts in frames),
        exposure=next((facts.exposure for facts in frames if facts.exposure is not None), None),
        temperature=typical_temperature(frames),
        readout_mode=frames[0].readout_mode if frames else first.readout_mode,
        camera=first.camera,
    )
    return CalibrationSet(kind, wanted, own_master(settings, wanted, kind), frames, left_out)


def _with_suffix(path: Path, frames: list[RawFacts]) -> Path:
    stem, dot, extension = path.name.partition(".")
    exposure, temperature = frames[0].exposure or 0.0, typical_temperature(frames)
    words = [f"{exposure:g}s", *([] if temperature is None else [f"{temperature:.0f}C"])]
    return path.with_name("_".join([stem, *words]) + dot + extension)
