"""What a configuration makes of one raw's header: each setting, where it was read, its value and its unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightdesk.angle import parse_angle
from nightdesk.errors import FrameError
from nightdesk.instrument import FromName, Given, Measured
from nightdesk.io.airmass import find_airmass
from nightdesk.io.detector import find_parts
from nightdesk.io.header import as_number, find_value
from nightdesk.io.moment import find_moment
from nightdesk.io.raw import RawFacts, read_facts, read_raw_header

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.io import fits

    from nightdesk.instrument import Instrument, Source
    from nightdesk.settings import Settings

UNITS = {
    "target": "",
    "filter_name": "",
    "date": "UTC",
    "time": "UTC",
    "exposure": "s",
    "airmass": "",
    "gain": "e-/ADU",
    "read_noise": "e-",
    "saturation": "ADU",
    "frame_type": "",
    "binning_x": "px",
    "binning_y": "px",
    "readout_mode": "",
    "temperature": "C",
    "ra": "hours or degrees",
    "dec": "degrees",
    "equinox": "year",
    "zenith_distance": "degrees",
    "altitude": "degrees",
}
NUMBERS = (
    "exposure",
    "airmass",
    "gain",
    "read_noise",
    "saturation",
    "binning_x",
    "binning_y",
    "temperature",
    "equinox",
)
OF_AMPLIFIERS = ("gain", "read_noise", "saturation")
ANGLES = ("ra", "dec", "zenith_distance", "altitude")
BINNING = ("binning_x", "binning_y")
NEEDED = {
    "science": ("target", "filter_name", "date", "exposure", "gain", "read_noise", "frame_type", *BINNING),
    "flat": ("filter_name", "date", "exposure", "gain", "read_noise", "frame_type", *BINNING),
    "dark": ("date", "exposure", "gain", "frame_type", *BINNING),
    "bias": ("date", "frame_type", *BINNING),
}


@dataclass(frozen=True)
class Reading:
    """One setting of a profile, read from one file: `source` is '' where nothing was found."""

    setting: str
    source: str
    value: str
    unit: str
    missing: bool = False


def explain_raw(settings: Settings, path: Path) -> tuple[RawFacts, str, list[Reading]]:
    """Return what a raw is, the name of its instrument, and each setting as it was read from it.

    Raises
    ------
    FrameError
        If its header cannot be read, or no instrument matches it.
    """
    status = path.stat()
    facts = read_facts(settings, path, size=status.st_size, mtime_ns=status.st_mtime_ns)
    name, instrument, header, shape = read_raw_header(settings, path)
    needed = NEEDED.get(facts.kind, NEEDED["science"])
    if instrument.amplifiers:
        needed = tuple(setting for setting in needed if setting not in ("gain", "read_noise"))
    readings = [
        _folder(facts, setting) or _reading(header, path.name, instrument, setting, setting in needed)
        for setting in UNITS
        if not (instrument.amplifiers and setting in OF_AMPLIFIERS)
    ]
    readings += _amplifiers(header, path.name, instrument)
    chosen = "the first image" if instrument.extension is None else str(instrument.extension)
    readings.append(Reading("extension", "configuration" if instrument.extension is not None else "file", chosen, ""))
    readings += [_moment(header, path.name, instrument), *_sections(header, path.name, instrument, shape)]
    if facts.kind in ("science", "rejected"):
        readings.append(_airmass(settings, header, path.name, instrument))
    return facts, name, readings


def _folder(facts: RawFacts, setting: str) -> Reading | None:
    """Return what the folder says where it is the folder that names target and filter."""
    if not facts.named_by_folder or setting not in ("target", "filter_name"):
        return None
    text = facts.target_text if setting == "target" else facts.filter_text
    return Reading(setting.removesuffix("_name"), "folder", text, "")


def _amplifiers(header: fits.Header, file_name: str, instrument: Instrument) -> list[Reading]:
    return [
        _read_from(header, file_name, getattr(amplifier, setting), setting, f"amplifier {number}, {setting}", needed)
        for number, amplifier in enumerate(instrument.amplifiers, start=1)
        for setting, needed in (("gain", True), ("read_noise", True), ("saturation", False))
    ]


def _reading(header: fits.Header, file_name: str, instrument: Instrument, setting: str, needed: bool) -> Reading:
    shown = "filter" if setting == "filter_name" else setting
    return _read_from(header, file_name, getattr(instrument.keywords, setting), setting, shown, needed)


def _read_from(
    header: fits.Header, file_name: str, sources: tuple[Source, ...], setting: str, shown: str, needed: bool
) -> Reading:
    found = find_value(header, file_name, sources)
    if found is None:
        if any(isinstance(source, Measured) for source in sources):
            return Reading(shown, "a pair of the night's biases", "measured", UNITS[setting])
        return Reading(shown, "", f"none of {words_of(sources)} is there", UNITS[setting], missing=needed)
    value, source = found
    if (setting in NUMBERS and as_number(value) is None) or (setting in ANGLES and not _is_angle(value)):
        return Reading(shown, source, f"{value!r} is not a number", UNITS[setting], missing=needed)
    return Reading(shown, source, str(value).strip(), UNITS[setting])


def words_of(sources: tuple[Source, ...]) -> str:
    """Return sources as a person says them."""
    words = []
    for source in sources:
        if isinstance(source, Given):
            words.append(f"the value {source.value!r}")
        elif isinstance(source, FromName):
            words.append(f"the file's name by {source.file!r}")
        elif isinstance(source, str):
            words.append(source)
    return ", ".join(words) or "nothing"


def _is_angle(value: Any) -> bool:
    try:
        parse_angle(value)
    except ValueError:
        return False
    return True


def _moment(header: fits.Header, file_name: str, instrument: Instrument) -> Reading:
    moment = find_moment(header, file_name, instrument.keywords)
    if moment is None:
        return Reading("begin of exposure", "", "date and time cannot be read", "UTC", missing=True)
    return Reading("begin of exposure", "date, time", moment.replace(tzinfo=None).isoformat(), "UTC")


def _sections(header: fits.Header, file_name: str, instrument: Instrument, shape: tuple[int, ...]) -> list[Reading]:
    if len(shape) != 2:
        return [Reading("image", "file", "x".join(map(str, shape)) or "none", "px", missing=True)]
    size = Reading("image", "file", f"{shape[1]} x {shape[0]}", "px")
    try:
        parts = find_parts(header, file_name, instrument, shape)
    except ValueError as error:
        return [size, Reading("trim, overscan", "", str(error), "px", missing=True)]
    return [size] + [
        Reading("light" if number == 1 else f"light {number}", "trim" if instrument.trim else "whole image", text, "px")
        for number, text in enumerate((f"{part.light}, overscan {part.overscan or 'none'}" for part in parts), start=1)
    ]


def _airmass(settings: Settings, header: fits.Header, file_name: str, instrument: Instrument) -> Reading:
    try:
        airmass = find_airmass(settings, instrument, header, file_name)
    except FrameError as error:
        return Reading("airmass in use", "", str(error).removeprefix(f"{file_name}: "), "", missing=True)
    warning = f" (warning: {airmass.warning})" if airmass.warning else ""
    return Reading("airmass in use", airmass.source, f"{airmass.value:.4f}{warning}", "")
