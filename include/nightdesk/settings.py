"""The settings of an observatory, from `observatory.toml`: checked when read, frozen afterwards.

Every default is that of pt5m, the telescope Nightdesk began with. Nothing else decides a number in a product: no Dag
parameter and no environment variable (`NIGHTDESK_DATA` only moves the data root, `NIGHTDESK_CONFIG` names the file).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from nightdesk.errors import SetupError
from nightdesk.explain import explain
from nightdesk.group import clean_name, colliding

if TYPE_CHECKING:
    from nightdesk.group import Group

CONFIG_VARIABLE = "NIGHTDESK_CONFIG"
DATA_VARIABLE = "NIGHTDESK_DATA"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


def _must_make_name(text: str) -> str:
    try:
        clean_name(text)
    except ValueError as error:
        raise ValueError(f"a name: {error}") from error
    return text


def _must_be_name(text: str) -> str:
    if clean_name(_must_make_name(text)) != text:
        raise ValueError(f"a name of ASCII letters, digits, '.', '+', '-' and '_', such as {clean_name(text)!r}")
    return text


Spelling = Annotated[str, AfterValidator(_must_make_name)]
Name = Annotated[str, AfterValidator(_must_be_name)]


class Given(_Table):
    """A value written in the configuration, where a header has none."""

    value: str | int | float


class Measured(_Table):
    """A value measured from the night's own raw frames: the read noise, from a pair of its biases."""

    measure: Literal["bias pairs"]


class FromName(_Table):
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


def _keywords(*names: str | float) -> Any:
    return Field(default=tuple(name if isinstance(name, str) else Given(value=name) for name in names))


class Keywords(_Table):
    """Where each fact of a frame stands: header keywords to try in order, a literal, or the file's name."""

    target: Sources = _keywords("OBJECT")
    filter_name: Sources = Field(default=("FILTER",), alias="filter")
    date: Sources = _keywords("DATE-OBS")
    time: Sources = _keywords("UTSTART", "UTC-OBS", "TIME-OBS", "UT")
    exposure: Sources = _keywords("EXPTIME", "EXPOSURE")
    airmass: Sources = _keywords("AIRMASS")
    gain: Sources = _keywords("EGAIN")
    read_noise: Sources = _keywords("RDNOISE", "READNOIS", 7.0)
    saturation: Sources = _keywords("SATURATE")
    frame_type: Sources = Field(default=("IMAGETYP", "OBSTYPE", Given(value="object")))
    binning_x: Sources = _keywords("XBINNING", 2)
    binning_y: Sources = _keywords("YBINNING", 2)
    readout_mode: Sources = Field(default=("READOUTM", Given(value="")))


class FrameTypes(_Table):
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


class Instrument(_Table):
    """One camera: how its headers read, and what its detector can do."""

    match: dict[str, str] = {}
    keywords: Keywords = Keywords()
    frame_types: FrameTypes = FrameTypes()
    max_pixels: int = Field(default=120_000_000, gt=0)
    extension: int | None = Field(default=None, ge=0)


class Filter(_Table):
    """One filter: its extinction, and whether its frames are flat-fielded."""

    extinction: float = Field(ge=0, le=5)
    extinction_sigma: float = Field(default=0.03, ge=0)
    flat: Literal["required", "none"] = "required"
    cosmic_rays: Literal["stack", "astroscrappy"] = "stack"


class Data(_Table):
    """Where the data root is."""

    root: Path = Path("data")


class Site(_Table):
    """The observatory's place; its zone decides which night a frame belongs to."""

    name: str = "La Palma"
    timezone: str = "Atlantic/Canary"

    @field_validator("timezone")
    @classmethod
    def _must_be_known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError("an IANA time zone such as Atlantic/Canary or Australia/Sydney")
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.timezone)


class Files(_Table):
    """Which files are raws."""

    extensions: tuple[str, ...] = (".fits", ".fit", ".fts", ".fits.fz", ".fits.gz")
    ignore: tuple[str, ...] = (
        ".*",
        "*.tmp",
        "*~",
        "._*",
        "*.part",
        "*.partial",
        "*.filepart",
        "*.crdownload",
    )


class Ignore(_Table):
    """Frames that are nobody's science: left alone, counted in the night's report. Patterns as in a shell."""

    files: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("focus*", "*pointing*", "test", "acquisition*")
    types: tuple[str, ...] = ("focus*", "pointing*", "acquisition*", "test")


class Aliases(_Table):
    """Other spellings of targets and filters: ``"Filter 2" = "R"``."""

    targets: dict[str, Spelling] = {}
    filters: dict[str, Spelling] = {}


class Calibs(_Table):
    """The masters' file names, and what a flat must be to be divided by."""

    bias: str = "bias{binning}.fits"
    flat: str = "{filter}flatnorm{binning}.fits"
    dark: str = "dark{binning}.fits"
    bad_pixels: str = "badpixels{binning}.fits"
    flat_limit: float = Field(default=0.2, ge=0, lt=1)

    @field_validator("bias", "flat", "dark", "bad_pixels")
    @classmethod
    def _must_be_file_name(cls, pattern: str) -> str:
        try:
            name = pattern.format(binning="2x2", filter="R")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("a file name in which {binning} and {filter} may stand") from error
        if "/" in name or name.startswith("."):
            raise ValueError("a file name without a folder")
        return pattern


class Sidecar(_Table):
    """How positions in `xy.csv` are counted: 1 as DS9 shows them, 0 as arrays are indexed."""

    origin: Literal[0, 1] = 1


class Combine(_Table):
    """How the frames of a group become one image (the standard profile)."""

    method: Literal["median", "clipped", "mean", "weighted"] = "median"
    clip_sigma: float = Field(default=4.0, gt=0)
    match_sky: bool = True
    scale: Literal["none", "exposure", "stars"] = "none"
    footprint: Literal["first", "intersection", "union"] = "first"
    map_rejections: bool = False


class Products(_Table):
    """How products are stored (the notebook profile always as float64), and for how long.

    `keep` is for the folders before the stack: all of them for ever, none once the stack is whole, or a number of days.
    """

    depth: Literal["float32", "float64"] = "float32"
    keep: Literal["all", "stack"] | Annotated[int, Field(ge=1)] = "all"


class Quality(_Table):
    """Between which figures a stack is good; beyond them its quality is orange."""

    noise_ratio: tuple[float, float] = (0.9, 1.1)

    @field_validator("noise_ratio")
    @classmethod
    def _must_rise(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= limits[0] < limits[1]:
            raise ValueError("two numbers, the lower first, such as [0.9, 1.1]")
        return limits


class Watch(_Table):
    """When files count as complete and groups as ready; times in seconds."""

    observer: Literal["inotify", "polling"] = "inotify"
    settle_seconds: float = Field(default=20, ge=0)
    stalled_seconds: float = Field(default=300, gt=0)
    readout_seconds: float = Field(default=10, ge=0)
    rescan_seconds: float = Field(default=60, gt=0)
    watch_nights: int = Field(default=3, ge=1)


class Archive(_Table):
    """Which archived nights `reduce_archive` opens, and how many a day."""

    from_night: date | None = Field(default=None, alias="from")
    nights_per_day: int = Field(default=5, ge=0)


class Batch(_Table):
    """How many frames one mapped task takes."""

    frames_per_task: int = Field(default=1, ge=1)


class Settings(_Table):
    """An observatory's settings, as `observatory.toml` has them."""

    profile: Literal["standard", "notebook"] = "standard"
    data: Data = Data()
    site: Site = Site()
    files: Files = Files()
    ignore: Ignore = Ignore()
    aliases: Aliases = Aliases()
    calibs: Calibs = Calibs()
    sidecar: Sidecar = Sidecar()
    combine: Combine = Combine()
    products: Products = Products()
    quality: Quality = Quality()
    watch: Watch = Watch()
    archive: Archive = Archive()
    batch: Batch = Batch()
    filters: dict[Name, Filter] = {"R": Filter(extinction=0.0547), "H": Filter(extinction=0.0541)}
    instruments: dict[Name, Instrument] = {"pt5m": Instrument()}

    @field_validator("filters", "instruments")
    @classmethod
    def _must_differ(cls, table: dict[str, Any]) -> dict[str, Any]:
        for first, second in colliding(table):
            raise ValueError(f"names that differ by more than case, as {first} and {second} do not")
        return table

    @field_validator("instruments")
    @classmethod
    def _must_tell_apart(cls, instruments: dict[str, Instrument]) -> dict[str, Instrument]:
        if not instruments:
            raise ValueError("at least one instrument")
        silent = [name for name, instrument in instruments.items() if not instrument.match]
        if len(instruments) > 1 and silent:
            raise ValueError(
                f"a table match = {{KEYWORD = 'pattern'}} for each of several instruments; {silent[0]} has none"
            )
        return instruments

    @property
    def root(self) -> Path:
        """The data root."""
        return self.data.root

    @property
    def depth(self) -> str:
        """The products' number type."""
        return "float64" if self.profile == "notebook" else self.products.depth

    def group_instrument(self, name: str | None) -> str | None:
        """Return the instrument as it stands in a group's key: None with one configured, else its name."""
        if len(self.instruments) == 1:
            if name is not None and name.casefold() != next(iter(self.instruments)).casefold():
                raise ValueError(f"no instrument {name!r} is configured, only {next(iter(self.instruments))!r}")
            return None
        known = {key.casefold(): key for key in self.instruments}
        if name is None or name.casefold() not in known:
            raise ValueError(f"the instrument must be one of {', '.join(self.instruments)}, not {name!r}")
        return known[name.casefold()]

    def instrument_of(self, group: Group) -> Instrument:
        """Return the settings of the group's instrument."""
        return self.instruments[group.instrument or next(iter(self.instruments))]

    def filter_of(self, group: Group) -> Filter:
        """Return the settings of the group's filter; `SetupError` when it has none."""
        for name, chosen in self.filters.items():
            if name.casefold() == group.filter_name.casefold():
                return chosen
        raise SetupError(
            f"Filter {group.filter_name!r} of {group.target} has no settings: add [filters.{group.filter_name}] with "
            "extinction = (mag/airmass) to the configuration, or an alias in [aliases.filters] if it is another's name."
        )

    def numbers_of(self, group: Group) -> dict[str, Any]:
        """Return the settings that touch this group's numbers, as plain values."""
        return {
            "profile": self.profile,
            "instrument": self.instrument_of(group).model_dump(mode="json"),
            "filter": self.filter_of(group).model_dump(mode="json"),
            "calibs": self.calibs.model_dump(mode="json"),
            "sidecar": self.sidecar.model_dump(mode="json"),
            "combine": self.combine.model_dump(mode="json"),
            "depth": self.depth,
        }


def digest(values: Any) -> str:
    """Return the sha256 of plain values in canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def default_settings(root: Path) -> Settings:
    """Return pt5m's settings for a data root."""
    return Settings(data=Data(root=root.resolve()))


def load_settings(path: Path | None = None) -> Settings:
    """Read and check a configuration file: `path`, else the one that ``NIGHTDESK_CONFIG`` names.

    Raises
    ------
    SetupError
        Naming file, line, key and what was expected.
    """
    if path is None:
        named = os.environ.get(CONFIG_VARIABLE)
        if not named:
            raise SetupError(f"No configuration: set {CONFIG_VARIABLE} to your observatory.toml.")
        path = Path(named)
    text = _read(path)
    try:
        settings = Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{path}: not TOML: {error}.") from error
    except ValidationError as error:
        raise SetupError(explain(path, text, error, Settings)) from error
    elsewhere = os.environ.get(DATA_VARIABLE)
    root = Path(elsewhere) if elsewhere else path.resolve().parent / settings.data.root.expanduser()
    return settings.model_copy(update={"data": Data(root=root.expanduser().resolve())})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path}: the configuration cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SetupError(f"{path}, line {line}: the configuration is not UTF-8 text. Save it as UTF-8.") from error
