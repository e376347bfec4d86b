"""An instrument's profile: how its headers read, and what its detector is like. The defaults are pt5m's."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

SECTION = re.compile(r"^\[\s*\d+\s*:\s*\d+\s*,\s*\d+\s*:\s*\d+\s*\]$")


class Table(BaseModel):
    """A table of the configuration: frozen, and no key but those it knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Given(Table):
    """A value written in the configuration, where a header has none."""

    value: str | int | float


class Measured(Table):
    """A value measured from the night's own raw frames: the read noise, from a pair of its biases."""

    measure: Literal["bias pairs"]


class FromName(Table):
    """A value taken from the file's name: the first group of a regular expression."""

    file: str


Source = str | Given | FromName | Measured


def _as_sources(value: Any) -> tuple[Source, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    if not items:
        raise ValueError("at least one header keyword or value")
    return tuple(_as_source(item) for item in items)


def _as_source(item: Any) -> Source:
    if isinstance(item, (Given, FromName, Measured)) or (isinstance(item, str) and item.strip()):
        return item
    if isinstance(item, (int, float)) and not isinstance(item, bool):
        return Given(value=item)
    if isinstance(item, dict) and item.keys() == {"value"} and isinstance(item["value"], (str, int, float)):
        return Given(value=item["value"])
    if isinstance(item, dict) and item.keys() == {"file"} and isinstance(item["file"], str):
        return FromName(file=_capturing(item["file"]))
    if item == {"measure": "bias pairs"}:
        return Measured(measure="bias pairs")
    raise ValueError("a header keyword, a number, {value = ...}, {file = 'regular expression'}, or a list of these")


def _capturing(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    if groups < 1:
        raise ValueError("a regular expression with one group in parentheses, which is the value")
    return text


Sources = Annotated[tuple[Source, ...], BeforeValidator(_as_sources)]


def _as_section_sources(value: Any) -> tuple[Source, ...]:
    """A text in brackets is the section itself, any other one a keyword that has it."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple(
        Given(value=item) if isinstance(item, str) and SECTION.match(item) else _as_section_source(item)
        for item in items
    )


def _as_section_source(item: Any) -> Source:
    if (isinstance(item, str) and re.fullmatch(r"[A-Za-z0-9_-]+", item)) or isinstance(item, Given):
        return item
    if isinstance(item, dict) and isinstance(item.get("value"), str) and SECTION.match(item["value"]):
        return Given(value=item["value"])
    raise ValueError("a section such as '[1:318,2:510]', a keyword that has one, or a list of these")


Sections = Annotated[tuple[Source, ...], BeforeValidator(_as_section_sources)]


def _keywords(*names: str | float) -> Any:
    return Field(default=tuple(name if isinstance(name, str) else Given(value=name) for name in names))


class Keywords(Table):
    """Where each fact of a frame stands: header keywords to try in order, a literal, or the file's name."""

    target: Sources = _keywords("OBJECT")
    filter_name: Sources = Field(default=("FILTER",), alias="filter")
    date: Sources = _keywords("DATE-OBS")
    time: Sources = _keywords("UTSTART", "UTCSTART", "UTC-OBS", "TIME-OBS", "UT", "UTC")
    exposure: Sources = _keywords("EXPTIME", "EXPOSURE")
    airmass: Sources = _keywords("AIRMASS")
    gain: Sources = _keywords("EGAIN")
    read_noise: Sources = _keywords("RDNOISE", "READNOIS", 7.0)
    saturation: Sources = _keywords("SATURATE")
    frame_type: Sources = Field(default=("IMAGETYP", "OBSTYPE", Given(value="object")))
    binning_x: Sources = _keywords("XBINNING", 2)
    binning_y: Sources = _keywords("YBINNING", 2)
    readout_mode: Sources = Field(default=("READOUTM", Given(value="")))
    temperature: Sources = _keywords("CCD-TEMP", "SET-TEMP")
    ra: Sources = _keywords("RA", "OBJCTRA")
    dec: Sources = _keywords("DEC", "OBJCTDEC")
    equinox: Sources = _keywords("EQUINOX", "EPOCH", 2000.0)
    zenith_distance: Sources = _keywords("ZD", "ZENDIST")
    altitude: Sources = _keywords("OBJCTALT", "CENTALT")


class FrameTypes(Table):
    """The words that headers use for each kind of frame; compared without case."""

    science: tuple[str, ...] = ("object", "science", "light", "light frame", "target")
    bias: tuple[str, ...] = ("bias", "zero", "bias frame")
    dark: tuple[str, ...] = ("dark", "dark frame")
    flat: tuple[str, ...] = (
        "flat",
        "flat field",
        "flat frame",
        "skyflat",
        "domeflat",
        "dome flat",
        "sky flat",
    )


class Overscan(Table):
    """Columns that saw no light, beside the rows that did: their level is taken off before the bias.

    One level for all rows (constant) may come from anywhere, also from rows above or below.
    """

    section: Sections
    method: Literal["constant", "row", "polynomial"] = "constant"
    order: int = Field(default=3, ge=0, le=20)
    clip_sigma: float = Field(default=3.0, gt=0)


class Amplifier(Table):
    """One of several amplifiers of a detector: the part it reads, its gain, its noise, its own overscan."""

    section: Sections
    gain: Sources
    read_noise: Sources
    saturation: Sources = ()
    overscan: Sections = ()


class Instrument(Table):
    """One camera: how its headers read, and what its detector can do."""

    match: dict[str, str] = {}
    keywords: Keywords = Keywords()
    frame_types: FrameTypes = FrameTypes()
    max_pixels: int = Field(default=120_000_000, gt=0)
    extension: int | str | None = None
    trim: Sections = ()
    overscan: Overscan | None = None
    amplifiers: tuple[Amplifier, ...] = ()
    bias: Literal["required", "none"] = "required"
    ra_unit: Literal["auto", "hours", "degrees"] = "auto"

    @field_validator("extension")
    @classmethod
    def _must_count(cls, extension: int | str | None) -> int | str | None:
        if isinstance(extension, bool) or (isinstance(extension, int) and extension < 0) or extension == "":
            raise ValueError("the number of an HDU (the primary is 0), or its EXTNAME")
        return extension

    @model_validator(mode="after")
    def _must_know_the_amplifiers_overscan_method(self) -> Instrument:
        if any(amplifier.overscan for amplifier in self.amplifiers) and self.overscan is None:
            raise ValueError("[overscan] with section and method, where amplifiers have an overscan of their own")
        return self
