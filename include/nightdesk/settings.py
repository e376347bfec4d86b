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
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nightdesk.angle import has_hemisphere, parse_angle
from nightdesk.errors import SetupError
from nightdesk.explain import explain
from nightdesk.group import clean_name, colliding
from nightdesk.instrument import SECTION, FrameTypes, FromName, Given, Instrument, Keywords, Measured, Source
from nightdesk.instrument import Table as _Table

if TYPE_CHECKING:
    from nightdesk.group import Group

__all__ = [
    "FrameTypes",
    "FromName",
    "Given",
    "Instrument",
    "Keywords",
    "Measured",
    "Settings",
    "Source",
    "default_settings",
    "digest",
    "load_settings",
]

CURVES = ("lapalma", "kpno", "ctio", "mko", "paranal", "apo", "mtham")  # of science.extinction_curve, without numpy
CONFIG_VARIABLE = "NIGHTDESK_CONFIG"
DATA_VARIABLE = "NIGHTDESK_DATA"


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


class Filter(_Table):
    """One filter: its extinction, and whether its frames are flat-fielded.

    The coefficient (mag/airmass) is given, or follows from the site's curve at a wavelength (Angstrom); where the site
    has a k_V for the night, a filter with a wavelength takes that.
    """

    extinction: float | None = Field(default=None, ge=0, le=5)
    wavelength: float | None = Field(default=None, ge=3000, le=11000)
    extinction_sigma: float = Field(default=0.03, ge=0)
    flat: Literal["required", "none"] = "required"
    dark: Literal["optional", "required", "none"] = "optional"
    cosmic_rays: Literal["stack", "astroscrappy"] = "stack"

    @model_validator(mode="after")
    def _must_tell_the_extinction(self) -> Filter:
        if self.extinction is None and self.wavelength is None:
            raise ValueError("extinction (mag/airmass), or a wavelength (Angstrom) on the site's curve")
        return self


class Data(_Table):
    """Where the data root is."""

    root: Path = Path("data")


Angle = Annotated[float, BeforeValidator(parse_angle)]


class Site(_Table):
    """The observatory's place; its zone decides which night a frame belongs to.

    Latitude and longitude (degrees or sexagesimal) are for airmasses that no header has; `k_v` are extinctions measured
    in V, by night.
    """

    name: str = "La Palma"
    timezone: str = "Atlantic/Canary"
    latitude: Angle | None = Field(default=None, ge=-90, le=90)
    longitude: Angle | None = Field(default=None, ge=-360, le=360)
    longitude_positive: Literal["east", "west"] = "east"
    extinction_curve: str | None = None
    k_v: dict[date, Annotated[float, Field(ge=0, le=5)]] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _letter_tells_the_side(cls, values: Any) -> Any:
        """Take a longitude with its E or W as it is written, whatever side is positive without one."""
        if isinstance(values, dict) and has_hemisphere(values.get("longitude")):
            return {**values, "longitude_positive": "east"}
        return values

    @field_validator("timezone")
    @classmethod
    def _must_be_known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError("an IANA time zone such as Atlantic/Canary or Australia/Sydney")
        return name

    @field_validator("extinction_curve")
    @classmethod
    def _must_be_a_curve(cls, name: str | None) -> str | None:
        if name is not None and name not in CURVES:
            raise ValueError(f"one of the curves {', '.join(CURVES)}")
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.timezone)

    @property
    def east_longitude(self) -> float | None:
        """Longitude in degrees, positive to the east."""
        if self.longitude is None:
            return None
        return -self.longitude if self.longitude_positive == "west" else self.longitude


LA_PALMA = Site(latitude=28.7606, longitude=-17.8792, extinction_curve="lapalma")


class Files(_Table):
    """Which files are raws."""

    extensions: tuple[str, ...] = Field(min_length=1, default=(".fits", ".fit", ".fts", ".fits.fz", ".fits.gz"))
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

    targets: dict[str, Spelling] = Field(default={})
    filters: dict[str, Spelling] = Field(default={})

    @field_validator("targets", "filters")
    @classmethod
    def _each_once(cls, aliases: dict[str, str]) -> dict[str, str]:
        known: dict[str, str] = {}
        for alias, spelling in aliases.items():
            folded = " ".join(alias.split()).casefold()
            if known.setdefault(folded, spelling) != spelling:
                raise ValueError(f"{alias!r} once: it stands for {known[folded]!r} already")
        return aliases


class Window(_Table):
    """How far from its night a master may be, in days; the night's own comes first, then the nearest."""

    bias: int = Field(default=30, ge=0)
    dark: int = Field(default=30, ge=0)
    flat: int = Field(default=30, ge=0)
    bad_pixels: int = Field(default=365, ge=0)


class Calibs(_Table):
    """The masters' file names, which of them fit a frame, and how a flat is scaled and divided by."""

    bias: str = "bias{binning}.fits"
    flat: str = "{filter}flatnorm{binning}.fits"
    dark: str = "dark{binning}.fits"
    bad_pixels: str = "badpixels{binning}.fits"
    window: Window = Window()
    temperature_tolerance: float = Field(default=2.0, ge=0)
    flat_limit: float = Field(default=0.2, gt=0, lt=1)
    flat_level: Literal["median", "mean"] = "median"
    flat_region: str | None = Field(default=None, pattern=SECTION.pattern)

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


class Masters(_Table):
    """How masters are made of a night's raw calibration frames, and which frames are no good for it.

    `flat_levels` are ADU above the bias; the tolerances say how far a frame may be from the last good master: ADU of
    a bias, ADU per second of a dark, a part of the light of a flat.
    """

    minimum_bias: int = Field(default=5, ge=1)
    minimum_dark: int = Field(default=3, ge=1)
    minimum_flat: int = Field(default=3, ge=1)
    clip_sigma: float = Field(default=4.0, gt=0)
    flat_levels: tuple[float, float] = (2000.0, 55000.0)
    bias_tolerance: float = Field(default=20.0, gt=0)
    dark_tolerance: float = Field(default=1.0, gt=0)
    flat_tolerance: float = Field(default=0.05, gt=0)
    bad_ratio: float = Field(default=0.5, gt=0)

    @field_validator("flat_levels")
    @classmethod
    def _must_rise(cls, levels: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= levels[0] < levels[1]:
            raise ValueError("two levels in ADU, the lower first, such as [2000.0, 55000.0]")
        return levels


_NO_VALUE = re.compile(
    r"^(END|HISTORY|COMMENT|CONTINUE|HIERARCH|SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO)$", re.I
)


class Repair(_Table):
    """A header value put right in memory: the raw stays as it is, the product says so."""

    night: date | None = None
    files: str | None = None
    instrument: str | None = None
    keyword: str = Field(min_length=1, max_length=8, pattern=r"^[A-Za-z0-9_\-]+$")
    value: bool | int | float | str
    reason: str = Field(min_length=1)
    who: str = Field(min_length=1)

    @field_validator("keyword")
    @classmethod
    def _must_hold_a_value(cls, keyword: str) -> str:
        if _NO_VALUE.match(keyword):
            raise ValueError("a keyword that holds a value, and not one of the file's own structure")
        return keyword

    @field_validator("value", "reason", "who")
    @classmethod
    def _must_fit_into_a_header(cls, text: Any, info: ValidationInfo) -> Any:
        if isinstance(text, str) and not text.isprintable():
            raise ValueError("one line of text")
        if info.field_name == "value" and not str(text).isascii():
            raise ValueError("text in ASCII, for a FITS header holds no other")
        return text

    @model_validator(mode="after")
    def _must_name_its_frames(self) -> Repair:
        if self.night is None and self.files is None:
            raise ValueError("night = 2026-11-21 or files = 'r07430*', or both: which frames to repair")
        return self


class Sidecar(_Table):
    """How positions in `xy.csv` are counted: 1 as DS9 shows them, 0 as arrays are indexed."""

    origin: Literal[0, 1] = 1


class Align(_Table):
    """How the frames of a group are laid on one another (the standard profile).

    Limits are in pixels. With `refine = false` a person's sidecar means what it says. `use_wcs` serves frames whose
    stars cannot be matched.
    """

    mode: Literal["auto", "wait", "require"] = "auto"
    refine: bool = False
    refine_limit: float = Field(default=5.0, gt=0)
    reference: Literal["first", "best"] = "first"
    resample: Literal["integer", "subpixel", "similarity", "auto"] = "integer"
    residual_limit: float = Field(default=1.5, gt=0)
    use_wcs: bool = False
    solve: Literal["auto", "never"] = "auto"


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


def _must_rise(steps: tuple[float, ...]) -> tuple[float, ...]:
    if list(steps) != sorted(set(steps)):
        raise ValueError("numbers that rise, the limits to yellow, orange and red, such as [4, 6, 8]")
    return steps


def _must_fall(steps: tuple[float, ...]) -> tuple[float, ...]:
    if list(steps) != sorted(set(steps), reverse=True):
        raise ValueError("numbers that fall, the limits to yellow, orange and red, such as [20, 10, 3]")
    return steps


Rising = Annotated[tuple[float, ...], Field(min_length=1, max_length=3), AfterValidator(_must_rise)]
Falling = Annotated[tuple[float, ...], Field(min_length=1, max_length=3), AfterValidator(_must_fall)]


class Limits(_Table):
    """Beyond which figures an image in a filter is yellow, orange, red; None: it is not judged by that figure.

    `fwhm` is in pixels, `sky` in e-/s a pixel, `depth` in magnitudes on the scale of `zero_point`, the magnitude of
    one electron per second.
    """

    fwhm: Rising | None = None
    ellipticity: Rising | None = (0.2, 0.35, 0.5)
    sky: Rising | None = None
    stars: Falling | None = None
    depth: Falling | None = None
    zero_point: float = 0.0


class Quality(_Table):
    """Between which figures a stack is good; `filters` says more for each filter."""

    noise_ratio: tuple[float, float] = (0.9, 1.1)
    filters: dict[Name, Limits] = Field(default={})

    @field_validator("noise_ratio")
    @classmethod
    def _must_enclose(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= limits[0] < limits[1]:
            raise ValueError("two numbers, the lower first, such as [0.9, 1.1]")
        return limits

    def of_filter(self, filter_name: str) -> Limits:
        """Return the limits of a filter."""
        wanted = filter_name.casefold()
        return next((limits for name, limits in self.filters.items() if name.casefold() == wanted), Limits())


class Notify(_Table):
    """Who is told of a night, and of a group that failed, and by which of Airflow's connections.

    `mail_to` is sent the night's report through `mail_connection` (SMTP); `webhook_connection` (HTTP) is posted a short
    text as JSON, under the key that the receiver reads. Neither: nobody is told.
    """

    mail_to: tuple[str, ...] = ()
    mail_from: str | None = None
    mail_connection: str = "smtp_default"
    webhook_connection: str | None = None
    webhook_path: str = ""
    webhook_key: str = "text"
    failures: bool = True


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


BATCHES_OF_A_GROUP = 65  # of three tasks each, and five more for the group: 200


class Batch(_Table):
    """How many frames one mapped task takes: a number, all of the group, or so many that it has about 200 tasks.

    `archive` is for the nights of the archive that `[archive] from` opens.
    """

    frames_per_task: Annotated[int, Field(ge=1)] | Literal["auto", "all"] = 1
    archive: Annotated[int, Field(ge=1)] | Literal["auto", "all"] = "all"

    def size(self, frames: int, *, archived: bool = False) -> int:
        """Return how many frames of a group of so many one task takes."""
        wanted = self.archive if archived else self.frames_per_task
        if wanted == "all":
            return max(frames, 1)
        if wanted == "auto":
            return max(1, -(-frames // BATCHES_OF_A_GROUP))
        return max(wanted, -(-frames // LONGEST_MAP))


LONGEST_MAP = 1024  # batches of one step; Airflow's own limit ([core] max_map_length)


class Machine(_Table):
    """What a task may take of the computer: threads (0: one a processor), and memory for pixels in MB."""

    threads: int = Field(default=0, ge=0)
    memory: int = Field(default=64, ge=1)

    @property
    def workers(self) -> int:
        """How many threads compute."""
        return self.threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)

    def blocks(self, rows: int, bytes_of_a_row: int, *, most: int | None = None) -> list[slice]:
        """Return blocks of rows, `most` or fewer each, so large that those in work fit into the memory."""
        step = max(1, min(most or rows, rows, int(self.memory * 1e6) // (bytes_of_a_row * self.workers)))
        return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


class Settings(_Table):
    """An observatory's settings, as `observatory.toml` has them."""

    profile: Literal["standard", "notebook"] = "standard"
    data: Data = Data()
    site: Site = LA_PALMA
    files: Files = Files()
    ignore: Ignore = Ignore()
    aliases: Aliases = Aliases()
    calibs: Calibs = Calibs()
    masters: Masters = Masters()
    repairs: tuple[Repair, ...] = ()
    sidecar: Sidecar = Sidecar()
    align: Align = Align()
    combine: Combine = Combine()
    products: Products = Products()
    quality: Quality = Quality()
    notify: Notify = Notify()
    watch: Watch = Watch()
    archive: Archive = Archive()
    batch: Batch = Batch()
    machine: Machine = Machine()
    filters: dict[Name, Filter] = Field(default={"R": Filter(extinction=0.0547), "H": Filter(extinction=0.0541)})
    instruments: dict[Name, Instrument] = Field(default={"pt5m": Instrument()})

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
            "calibs": self.calibs.model_dump(mode="json", exclude={"window", "temperature_tolerance"}),
            "site": self.numbers_of_site(group),
            "sidecar": self.sidecar.model_dump(mode="json"),
            "align": self.align.model_dump(mode="json", exclude={"mode", "solve"}),
            "combine": self.combine.model_dump(mode="json"),
            "depth": self.depth,
        }

    def numbers_of_site(self, group: Group) -> dict[str, Any]:
        """Return what the site has to do with a group's numbers: where it is, and its air on that night."""
        site = self.site
        return {
            "place": [site.latitude, site.east_longitude],
            "extinction": [site.extinction_curve, site.k_v.get(group.night)],
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
