"""A first configuration for a telescope, guessed from a handful of raws: a comment on each guess, UNKNOWN on gaps."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from nightdesk.errors import FrameError, SetupError
from nightdesk.group import clean_name
from nightdesk.instrument import SECTION, FrameTypes, Instrument
from nightdesk.io.frame import read_raw
from nightdesk.io.header import as_number
from nightdesk.io.raw import NotFitsError, image_header, is_image, open_headers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEYWORDS = {
    "target": ("OBJECT", "OBJNAME", "TARGNAME", "TARGET"),
    "filter": ("FILTER", "FILTERS", "FILTER1", "FILTNAM", "FILTERID", "INSFLNAM"),
    "date": ("DATE-OBS", "DATE_OBS", "DATEOBS", "UTDATE"),
    "time": ("UTSTART", "UTCSTART", "UTC-OBS", "TIME-OBS", "UT", "UTC", "UTSHUT"),
    "exposure": ("EXPTIME", "EXPOSURE", "ITIME", "EXPOSED", "INTTIME"),
    "airmass": ("AIRMASS", "SECZ", "AMSTART"),
    "gain": ("EGAIN", "AGAIN_01", "GAIN"),
    "read_noise": ("RDNOISE", "READNOIS", "ARDNS_01", "RON", "ENOISE"),
    "saturation": ("SATURATE", "SATLEVEL", "SATURAT"),
    "frame_type": ("IMAGETYP", "OBSTYPE", "IMGTYPE", "FRAMETYP", "PICTTYPE"),
    "binning_x": ("XBINNING", "CCDXBIN", "BINX", "XBIN"),
    "binning_y": ("YBINNING", "CCDYBIN", "BINY", "YBIN"),
    "readout_mode": ("READOUTM", "READMODE", "SPEED"),
    "temperature": ("CCD-TEMP", "DETTEMP", "CAMTEMP", "CCDTEMP", "SET-TEMP"),
    "ra": ("RA", "OBJCTRA", "TELRA", "CAT-RA"),
    "dec": ("DEC", "OBJCTDEC", "TELDEC", "CAT-DEC"),
}
NUMBERS = ("exposure", "airmass", "gain", "read_noise", "saturation", "binning_x", "binning_y", "temperature")
OPTIONAL = ("time", "saturation", "readout_mode", "temperature", "ra", "dec")
UNITS = {"exposure": "s", "gain": "e-/ADU", "read_noise": "e-", "saturation": "ADU", "temperature": "C"}
KINDS = ("science", "bias", "dark", "flat")
_KIND_WORDS = (
    ("flat", "flat"),
    ("bias", "bias"),
    ("zero", "bias"),
    ("dark", "dark"),
    ("light", "science"),
    ("obj", "science"),
    ("sci", "science"),
)


@dataclass(frozen=True)
class _Sample:
    """One file's header, and the kind of frame it seems to be."""

    path: Path
    header: fits.Header
    images: int
    kind: str = ""


def guess_configuration(files: Sequence[Path]) -> str:
    """Return a configuration as TOML; what no header tells is a comment that begins with UNKNOWN.

    Raises
    ------
    SetupError
        If none of the files can be read.
    """
    samples = [sample for path in files if (sample := _sample(path))]
    if not samples:
        raise SetupError("None of these files is a FITS image: give some raws of the telescope.")
    typed = _Types(samples)
    samples = [_Sample(one.path, one.header, one.images, typed.kind_of(one)) for one in samples]
    return "\n".join(
        [
            f"# A first configuration, guessed from {len(samples)} raws. Every line with UNKNOWN needs you:",
            "# remove the # at its beginning and fill in the value. Then: nightdesk config check, config explain.",
            "",
            *_site(samples),
            *_filters(samples),
            *_masters(samples),
            *_instrument(samples, typed),
            "",
        ]
    )


def _sample(path: Path) -> _Sample | None:
    try:
        headers = open_headers(path)
        header, _ = image_header(headers)
    except (NotFitsError, OSError):
        return None
    return _Sample(path, header, sum(is_image(one) for one in headers))


class _Types:
    """Which keyword, or part of the files' names, tells the kind of a frame."""

    def __init__(self, samples: Sequence[_Sample]) -> None:
        self.keyword = _keyword("frame_type", samples)
        self.pattern = ""
        if self.keyword is None and all(_kind(_leading_word(one)) for one in samples):
            self.pattern = r"^([A-Za-z]+)"

    def word_of(self, sample: _Sample) -> str:
        if self.keyword is not None:
            return str(sample.header.get(self.keyword, "")).strip()
        return _leading_word(sample) if self.pattern else "object"

    def kind_of(self, sample: _Sample) -> str:
        return _kind(self.word_of(sample))


def _leading_word(sample: _Sample) -> str:
    match = re.match(r"^([A-Za-z]+)", sample.path.name)
    return match[1] if match else ""


def _kind(word: str) -> str:
    lower = word.casefold()
    return next((kind for part, kind in _KIND_WORDS if part in lower), "")


def _keyword(setting: str, samples: Sequence[_Sample]) -> str | None:
    """Return the keyword that most of the samples have a usable value under."""
    best = max(KEYWORDS[setting], key=lambda keyword: _count(setting, keyword, samples))
    return best if _count(setting, best, samples) else None


def _count(setting: str, keyword: str, samples: Sequence[_Sample]) -> int:
    return sum(_usable(setting, keyword, one.header) for one in samples)


def _usable(setting: str, keyword: str, header: fits.Header) -> bool:
    value = header.get(keyword)
    if value is None or isinstance(value, fits.card.Undefined) or not str(value).strip():
        return False
    if setting == "gain" and keyword == "GAIN":
        # often a camera's setting: only a comment that names electrons makes it a gain
        comment = header.comments[keyword].casefold()
        return bool(as_number(value)) and ("e-" in comment or "electron" in comment)
    return setting not in NUMBERS or as_number(value) is not None


def _site(samples: Sequence[_Sample]) -> list[str]:
    header = samples[0].header
    lines = ["[site]"]
    place = next((str(header[key]).strip() for key in ("OBSERVAT", "TELESCOP") if str(header.get(key, "")).strip()), "")
    lines.append(f'name = "{_plain(place)}"' if place else '# UNKNOWN: name = ""')
    wanted = _can_compute_airmass(samples)
    lines.append('timezone = "UTC"   # UNKNOWN: the IANA name of the site\'s zone, such as "America/Phoenix"')
    for setting, keys in (
        ("latitude", ("SITELAT", "LATITUDE", "OBSLAT", "LAT-OBS")),
        ("longitude", ("SITELONG", "LONGITUD", "OBSLONG", "LONG-OBS")),
    ):
        key = next((key for key in keys if str(header.get(key, "")).strip()), None)
        if key:
            lines.append(f'{setting} = "{_plain(str(header[key]).strip())}"   # {key}; is the east positive?')
        else:
            need = "UNKNOWN: " if wanted else ""
            lines.append(
                f"# {need}{setting} =    # degrees: with RA and DEC, airmasses that no header has are computed"
            )
    lines.append('# extinction_curve = "kpno"   # for filters with a wavelength instead of extinction')
    return [*lines, ""]


def _can_compute_airmass(samples: Sequence[_Sample]) -> bool:
    """Tell whether airmasses must and can be computed, if only the site's place is known."""
    subject = [one for one in samples if one.kind in ("science", "")] or list(samples)
    return _keyword("airmass", subject) is None and None not in (_keyword("ra", subject), _keyword("dec", subject))


def _filters(samples: Sequence[_Sample]) -> list[str]:
    keyword = _keyword("filter", samples)
    lit = [one for one in samples if one.kind in ("science", "flat", "")] or list(samples)
    found = Counter(str(one.header.get(keyword, "")).strip() for one in lit) if keyword else Counter[str]()
    names = sorted({name for value in found if value and (name := _name(value))}) or ["clear"]
    lines = ["[aliases.filters]", "# other spellings of a filter: " + _alias_example(found), ""]
    # without a keyword all frames get the one name that `filter` is given below
    flats = {_name(str(one.header.get(keyword, ""))) if keyword else names[0] for one in samples if one.kind == "flat"}
    for name in names:
        need = "required" if name in flats else "none"
        why = ""
        if name not in flats and "" in flats:
            why = f'   # UNKNOWN: {keyword} does not say of which filter the flats are; "required" if of this'
        elif name not in flats:
            why = '   # no flat of it among these files; "required" when there is one'
        lines += [
            f"[filters.{name}]" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'[filters."{name}"]',
            "# UNKNOWN: extinction =    # mag/airmass; or wavelength = (Angstrom) on the site's curve",
            f'flat = "{need}"{why}',
            "",
        ]
    return lines


def _name(value: str) -> str:
    try:
        return clean_name(value)
    except ValueError:
        return ""


def _alias_example(found: Counter[str]) -> str:
    value = next((value for value in sorted(found) if value), "Filter 2")
    return f'"{_plain(value)}" = "R"'


def _masters(samples: Sequence[_Sample]) -> list[str]:
    counts = Counter(one.kind for one in samples)
    lines = ["[masters]"]
    for kind, usual in (("bias", 5), ("dark", 3)):
        if 0 < counts[kind] < usual:
            lines.append(f"minimum_{kind} = {counts[kind]}   # so few are among these files; {usual} is better")
    keyword = _keyword("filter", samples)
    flats = [one for one in samples if one.kind == "flat"]
    if flats:
        fewest = min(Counter(str(one.header.get(keyword or "", "")).strip() for one in flats).values())
        if fewest < 3:
            lines.append(f"minimum_flat = {fewest}   # so few are among these files; 3 is better")
        if levels := _levels(samples, flats):
            lines.append(levels)
    return [*lines, ""]


def _levels(samples: Sequence[_Sample], flats: Sequence[_Sample]) -> str:
    """Return limits of flats where those among the samples are outside the usual ones."""
    pedestals = [level for one in samples if one.kind == "bias" and (level := _median(one)) is not None]
    pedestal = min(pedestals) if pedestals else 0.0
    found = [level - pedestal for one in flats if (level := _median(one)) is not None]
    if not found or (min(found) >= 2000 and max(found) <= 55000):
        return ""
    faintest, brightest = max(min(found) / 2, 1), max(max(found) * 2, 55000)
    return f"flat_levels = [{faintest:.0f}.0, {brightest:.0f}.0]   # these have {min(found):.0f} ADU and more"


def _median(sample: _Sample) -> float | None:
    try:
        pixels, _ = read_raw(sample.path, Instrument(extension=_extension(sample)))
    except FrameError:
        return None
    return float(np.median(pixels))


def _extension(sample: _Sample) -> int | None:
    if sample.images < 2:
        return None
    return next(number for number, header in enumerate(open_headers(sample.path)) if is_image(header))


def _instrument(samples: Sequence[_Sample], typed: _Types) -> list[str]:
    header = samples[0].header
    given = next((str(header[key]).strip() for key in ("INSTRUME", "DETECTOR", "CAMERA") if header.get(key)), "")
    name = re.sub(r"[^A-Za-z0-9_-]", "-", _name(given) or "camera").strip("-_")
    lines = [f"[instruments.{name}]"]
    if given and "INSTRUME" in header:
        lines.append(f'# match = {{ INSTRUME = "{_plain(given)}" }}   # needed where there are several instruments')
    several = max(one.images for one in samples)
    if several > 1:
        number = next(number for one in samples if (number := _extension(one)) is not None)
        lines.append(f"extension = {number}   # of {several} images in a file: the first; or its EXTNAME")
    lines += _sections(header)
    if not any(one.kind == "bias" for one in samples):
        dark = any(one.kind == "dark" for one in samples)
        what = "a dark that contains the bias will do" if dark else "nothing is subtracted"
        lines.append(f'bias = "{"required" if dark else "none"}"   # no bias among these files: {what}')
    lines += ["", f"[instruments.{name}.keywords]"]
    lines += [_line(setting, samples) for setting in KEYWORDS if setting != "frame_type"]
    return [*lines, _type_line(samples, typed), "", f"[instruments.{name}.frame_types]", *_word_lines(samples, typed)]


def _sections(header: fits.Header) -> list[str]:
    lines = []
    for setting, keys in (("trim", ("TRIMSEC", "DATASEC")), ("overscan", ("BIASSEC",))):
        key = next((key for key in keys if SECTION.match(str(header.get(key, "")).strip())), None)
        if key is None:
            continue
        text = f'"{key}"' if setting == "trim" else f'{{ section = "{key}", method = "constant" }}'
        lines.append(f"{setting} = {text}   # {str(header[key]).strip()}")
    return lines


def _line(setting: str, samples: Sequence[_Sample]) -> str:
    subject = [one for one in samples if one.kind in ("science", "")] or list(samples)
    keyword = _keyword(setting, subject)
    unit = f", {UNITS[setting]}" if setting in UNITS else ""
    if keyword is not None:
        have = _count(setting, keyword, subject)
        value = next(one.header[keyword] for one in subject if _usable(setting, keyword, one.header))
        partly = "" if have == len(subject) else f", in {have} of {len(subject)} files only"
        return f'{setting} = "{keyword}"   # {_plain(str(value).strip())!r}{unit}{partly}'
    tried = ", ".join(KEYWORDS[setting])
    if setting in OPTIONAL:
        return f"# {setting} =    # none of {tried} is there{unit}"
    if setting == "airmass" and _can_compute_airmass(samples):
        return "# airmass =    # none of " + tried + " is there; computed from RA, DEC, time and the site's place"
    if setting == "target":
        return f'target = {{ value = "target" }}   # UNKNOWN: the target has no name in {tried}; give one here'
    if setting == "filter":
        return f'filter = {{ value = "clear" }}   # UNKNOWN: the filter has no name in {tried}; give one here'
    if setting.startswith("binning"):
        return f"{setting} = 1   # a guess: none of {tried} is there"
    return f"# UNKNOWN: {setting} =    # none of {tried} is there{unit}"


def _type_line(samples: Sequence[_Sample], typed: _Types) -> str:
    if typed.keyword is not None:
        words = ", ".join(sorted({typed.word_of(one) for one in samples}))
        return f'frame_type = "{typed.keyword}"   # {_plain(words)}'
    if typed.pattern:
        return f"frame_type = {{ file = '{typed.pattern}' }}   # the first word of the file's name"
    return 'frame_type = { value = "object" }   # UNKNOWN: no header tells it; all files count as science'


def _word_lines(samples: Sequence[_Sample], typed: _Types) -> list[str]:
    usual = FrameTypes()
    lines = []
    for kind in KINDS:
        known: tuple[str, ...] = getattr(usual, kind)
        words = {typed.word_of(one) for one in samples if one.kind == kind and typed.word_of(one)}
        new = sorted(word for word in words if word.casefold() not in known)
        listed = ", ".join(f'"{_plain(word)}"' for word in (*known, *new))
        lines.append(f"{kind} = [{listed}]")
    strange = sorted({typed.word_of(one) for one in samples if not one.kind})
    if strange:
        lines.append(f"# UNKNOWN: which of these are {', '.join(repr(_plain(word)) for word in strange)}?")
    return lines


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
