"""A simulated night of pt5m: what the telescope would have written, and the truth beside it.

`simulate` fills a data root with raw frames, masters and sidecars as they lie on a real disk, and writes
under ``truth/`` what a perfect reduction would find. The same arguments write the same bytes.

`expose_slowly` copies a frame as a camera writes it, in place and bit by bit; `truncate`, `drop_keyword` and
`crop` break one.

The fields are invented, also those of real targets: each is placed so that it is up on the first night.
"""

from __future__ import annotations

import json
import math
import time as clock
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from nightdesk.errors import SetupError
from nightdesk.group import clean_name
from nightdesk.science.synthetic import Star, add_galaxy, add_star, draw_fluxes

Image = NDArray[np.float64]
Place = Literal["raw", "processed"]

SATURATION = 65535
READOUT = timedelta(seconds=12)
LATITUDE, LONGITUDE = 28.7606, -17.8792  # Roque de los Muchachos, degrees north and east
HOME_ZONE = "Atlantic/Canary"
MARKER = Path("truth", "simulation.json")
DATA_FOLDERS = ("raw", "processed", "calibs", "xys")


@dataclass(frozen=True)
class Band:
    """A filter: its sensitivity, its sky, its extinction and the look of stars and galaxies in it."""

    zero_point: float  # magnitude of one electron per second, above the atmosphere
    sky: float  # magnitudes per square arcsecond, moonless at the zenith
    extinction: float  # magnitudes per airmass
    colour: float = 0.0  # how much fainter a red star is, in units of its V - R
    arms: float = 0.3  # contrast of spiral arms


BANDS = {
    "B": Band(22.1, 22.7, 0.209, 2.0, 0.4),
    "V": Band(22.0, 21.9, 0.103, 1.0),
    "R": Band(22.2, 21.0, 0.0547),
    "I": Band(21.3, 20.0, 0.018, -1.0, 0.2),
    "H": Band(19.0, 21.0, 0.0541, 0.0, 0.8),  # H alpha: star-forming arms
}


@dataclass(frozen=True)
class Camera:
    """A CCD binned 2x2, of about pt5m's figures."""

    gain: float = 1.3  # electrons per ADU
    read_noise: float = 8.0  # electrons
    bias_level: float = 310.0  # ADU
    bias_structure: float = 2.0  # scatter of the columns, ADU
    pixel_scale: float = 0.56  # arcseconds per binned pixel
    pixel_response: float = 0.006  # scatter of the sensitivity from pixel to pixel
    vignetting: float = 0.15  # light lost in the corners
    dust: int = 5  # doughnuts in the flat
    dark_current: float = 0.0  # electrons per second and pixel
    hot_pixels: float = 3e-4  # fraction of the pixels
    flat_level: float = 20_000.0  # ADU in a raw flat


@dataclass(frozen=True)
class SimulatedFrame:
    """A raw science frame and what is true of it."""

    path: Path
    target: str
    filter_name: str
    night: date
    date_obs: datetime  # start of the exposure, UT
    exposure: float  # seconds
    airmass: float
    dx: float  # where the sky lies compared with the group's first frame, pixels
    dy: float
    sky: float  # electrons per pixel, as received, where the flat is 1
    x: float  # the sidecar's star, 0-based
    y: float

    @property
    def name(self) -> str:
        """The frame's name, as in a sidecar."""
        return self.path.stem


@dataclass(frozen=True)
class Simulation:
    """What `simulate` wrote, science frames in the order of their times."""

    root: Path
    frames: tuple[SimulatedFrame, ...]
    masters: tuple[Path, ...]
    calibrations: tuple[Path, ...]
    sidecars: tuple[Path, ...]

    @property
    def truth(self) -> Path:
        """The folder of the truth."""
        return self.root / "truth"

    def group(self, target: str, filter_name: str, night: date | None = None) -> tuple[SimulatedFrame, ...]:
        """Return the frames of one group (of all nights when none is given)."""
        return tuple(
            frame
            for frame in self.frames
            if (frame.target, frame.filter_name) == (target, filter_name) and night in (None, frame.night)
        )


@dataclass(frozen=True)
class _Plan:
    """One science exposure to make."""

    target: str
    filter_name: str
    night: date
    index: int
    start: datetime

    @property
    def folder(self) -> Path:
        return _folder(self.target, self.filter_name)


def _folder(target: str, filter_name: str) -> Path:
    return Path(clean_name(target), clean_name(filter_name))


@dataclass(frozen=True)
class _Chip:
    """The camera's own pattern, the same on every night."""

    camera: Camera
    shape: tuple[int, int]
    seed: int

    @cached_property
    def bias(self) -> Image:
        """Bias level with its columns and a glow towards the amplifier, in ADU."""
        random = _random(self.seed, "bias")
        ny, nx = self.shape
        columns = random.normal(0.0, self.camera.bias_structure, nx)
        columns[random.random(nx) < 0.005] += 12.0 * self.camera.bias_structure
        rows = 4.0 * self.camera.bias_structure * np.exp(-np.arange(ny) / (0.15 * ny))
        return self.camera.bias_level + columns[np.newaxis, :] + rows[:, np.newaxis]

    @cached_property
    def dark_rate(self) -> Image:
        """Electrons per second and pixel."""
        random = _random(self.seed, "dark")
        hot = random.random(self.shape) < self.camera.hot_pixels
        return self.camera.dark_current + np.where(hot, random.lognormal(3.5, 1.0, self.shape), 0.0)

    @property
    def hot_pixels(self) -> list[list[int]]:
        """Positions (x, y) of the hot pixels, 0-based."""
        ys, xs = np.nonzero(self.dark_rate > self.camera.dark_current)
        return [[int(x), int(y)] for x, y in zip(xs, ys, strict=True)]

    def flat(self, filter_name: str) -> Image:
        """Return the relative sensitivity in a filter, of median 1."""
        random = _random(self.seed, "pixels")
        flat = random.normal(1.0, self.camera.pixel_response, self.shape) * self._vignetting()
        for number in range(self.camera.dust):
            # Specks on the window are seen in every filter, those on the filter in one.
            speck = _random(self.seed, "dust", str(number), filter_name if number % 2 else "")
            flat *= self._doughnut(speck)
        normalised: Image = flat / np.median(flat)
        return normalised

    def _vignetting(self) -> Image:
        ny, nx = self.shape
        y, x = np.ogrid[:ny, :nx]
        corner = ((nx - 1) / 2) ** 2 + ((ny - 1) / 2) ** 2
        from_centre = ((x - (nx - 1) / 2) ** 2 + (y - (ny - 1) / 2) ** 2) / max(corner, 1.0)
        shade: Image = 1.0 - self.camera.vignetting * from_centre**1.2
        return shade

    def _doughnut(self, random: np.random.Generator) -> Image:
        ny, nx = self.shape
        radius = min(nx, ny) * random.uniform(0.02, 0.05)
        y, x = np.ogrid[:ny, :nx]
        distance = np.hypot(x - random.uniform(0, nx), y - random.uniform(0, ny))
        # The shadow of the secondary makes the hole; the rims are soft.
        inside = _edge(distance, radius) * (1.0 - 0.8 * _edge(distance, 0.4 * radius))
        shade: Image = 1.0 - random.uniform(0.02, 0.07) * inside
        return shade

    def read_out(
        self, light: Image | float, exposure: float, random: np.random.Generator
    ) -> NDArray[np.uint16]:
        """Return the raw pixels of an exposure to `light` (electrons, already behind the flat)."""
        electrons = random.poisson(light + self.dark_rate * exposure)
        noise = random.normal(0.0, self.camera.read_noise, self.shape)
        counts = (electrons + noise) / self.camera.gain + self.bias
        return np.clip(np.floor(counts + 0.5), 0, SATURATION).astype(np.uint16)


def _edge(distance: Image, radius: float) -> Image:
    soft: Image = 0.5 * (1.0 - np.tanh((distance - radius) / (0.12 * radius)))
    return soft


@dataclass(frozen=True)
class _Field:
    """The sky around a target: positions on the reference frame, magnitudes in R."""

    shape: tuple[int, int]
    seed: int
    target: str
    pixel_scale: float
    seeing: float  # full width at half maximum, arcseconds
    margin: float  # sky beyond the frame's edge that a dither may bring in, pixels
    longest: float  # longest exposure, seconds
    saturated: int

    @cached_property
    def guide(self) -> tuple[int, int]:
        """Whole-pixel position of the star that a person would measure: bright, and in every frame."""
        ny, nx = self.shape
        random = _random(self.seed, self.target, "guide")
        return round(nx * random.uniform(0.3, 0.36)), round(ny * random.uniform(0.62, 0.68))

    @cached_property
    def catalogue(self) -> list[tuple[float, float, float, float]]:
        """Position, magnitude and colour of every star, the guide star first."""
        random = _random(self.seed, self.target, "stars")
        ny, nx = self.shape
        brightest = 13.0 + 2.5 * math.log10(max(self.longest, 1.0) / 60.0)  # its peak is far from saturation
        area = (nx + 2 * self.margin) * (ny + 2 * self.margin) * (self.pixel_scale / 60.0) ** 2
        number = 4 + round(2.5 * area)
        fainter = -2.5 * np.log10(draw_fluxes(random, number, faintest=1e-3, brightest=0.6))
        magnitudes = [brightest, *(brightest + fainter), *[brightest - 4.0] * self.saturated]
        xs = random.uniform(-self.margin, nx + self.margin, len(magnitudes))
        ys = random.uniform(-self.margin, ny + self.margin, len(magnitudes))
        xs[0], ys[0] = self.guide
        colours = random.normal(0.5, 0.2, len(magnitudes))
        crowded = np.hypot(xs - xs[0], ys - ys[0]) < 6.0  # nobody would measure a star with a neighbour
        crowded[0] = False
        rows = zip(xs[~crowded], ys[~crowded], np.array(magnitudes)[~crowded], colours[~crowded], strict=True)
        return [(float(x), float(y), float(m), float(c)) for x, y, m, c in rows]

    def stars(self, band: Band, exposure: float) -> list[Star]:
        """Return the stars with their electrons above the atmosphere."""
        return [
            Star(x, y, exposure * 10.0 ** (0.4 * (band.zero_point - magnitude - band.colour * colour)))
            for x, y, magnitude, colour in self.catalogue
        ]

    def light(self, band: Band, exposure: float, dx: float = 0.0, dy: float = 0.0) -> Image:
        """Return stars and galaxy above the atmosphere, moved by (dx, dy), in electrons."""
        image = np.zeros(self.shape)
        fwhm = self.seeing / self.pixel_scale
        for star in self.stars(band, exposure):
            add_star(image, Star(star.x + dx, star.y + dy, star.flux), fwhm=fwhm)
        ny, nx = self.shape
        random = _random(self.seed, self.target, "galaxy")
        central = exposure * 10.0 ** (0.4 * (band.zero_point - 19.8)) * self.pixel_scale**2
        add_galaxy(
            image,
            x=nx * random.uniform(0.5, 0.58) + dx,
            y=ny * random.uniform(0.42, 0.5) + dy,
            central=central,
            scale=max(min(nx, ny) * random.uniform(0.05, 0.075), 1.0),
            axis_ratio=random.uniform(0.35, 0.7),
            angle=random.uniform(0.0, math.pi),
            bulge=4.0,
            arms=band.arms,
            softening=fwhm / 2.35,
        )
        return image


@dataclass(frozen=True)
class _Night:
    """Everything that `simulate` was asked for."""

    root: Path
    targets: tuple[str, ...]
    filters: tuple[str, ...]
    nights: tuple[date, ...]
    frames: int
    shape: tuple[int, int]
    exposures: Mapping[str, float]
    seed: int
    dither: float
    decimal_dither: bool
    place: Place
    zone: ZoneInfo
    calibration_frames: int
    sky: float | None
    sky_drift: float
    seeing: float
    saturated_stars: int
    camera: Camera
    first_number: int
    raw_calibrations: bool

    @cached_property
    def chip(self) -> _Chip:
        return _Chip(self.camera, self.shape, self.seed)

    @cached_property
    def flats(self) -> dict[str, Image]:
        return {name: self.chip.flat(name) for name in self.filters}

    @cached_property
    def fields(self) -> dict[str, _Field]:
        return {
            target: _Field(
                shape=self.shape,
                seed=self.seed,
                target=target,
                pixel_scale=self.camera.pixel_scale,
                seeing=self.seeing,
                margin=self.dither + 20.0,
                longest=max(self.exposures.values()),
                saturated=self.saturated_stars,
            )
            for target in self.targets
        }

    @cached_property
    def plans(self) -> list[_Plan]:
        return [plan for night in self.nights for plan in _night_plan(self, night)]

    @cached_property
    def positions(self) -> dict[str, tuple[float, float]]:
        """Right ascension and declination of each target, in degrees: up when it is observed first."""
        places = {}
        for target in self.targets:
            times = [
                plan.start for plan in self.plans if (plan.target, plan.night) == (target, self.nights[0])
            ]
            random = _random(self.seed, target, "position")
            hour_angle = random.uniform(-30.0, 40.0)
            middle = times[len(times) // 2]
            declination = LATITUDE + random.uniform(-20.0, 35.0)
            places[target] = ((_sidereal_time(middle, self.longitude) - hour_angle) % 360.0, declination)
        return places

    @property
    def longitude(self) -> float:
        """Degrees east; for a zone other than La Palma's, the meridian its clocks follow."""
        if self.zone.key == HOME_ZONE:
            return LONGITUDE
        offset = datetime.combine(self.nights[0], time(12), self.zone).utcoffset() or timedelta(0)
        return float(offset / timedelta(hours=1) * 15.0)

    @cached_property
    def offsets(self) -> dict[tuple[str, str, date], list[tuple[float, float]]]:
        return {
            (target, name, night): self._dithers(target, name, night)
            for night in self.nights
            for target in self.targets
            for name in self.filters
        }

    def _dithers(self, target: str, filter_name: str, night: date) -> list[tuple[float, float]]:
        """Return where the sky lies in each frame: never twice at the same place, if there is room."""
        random = _random(self.seed, target, filter_name, night.isoformat(), "dither")
        reach = min(self.dither, min(self.shape) / 5.0)  # the guide star stays in the frame
        if self.decimal_dither:
            moves = random.uniform(-reach, reach, (self.frames, 2)).round(2)
            return [(0.0, 0.0), *((float(dx), float(dy)) for dx, dy in moves[1:])]
        steps = range(-int(reach), int(reach) + 1)
        cells = [(float(dx), float(dy)) for dx in steps for dy in steps if (dx, dy) != (0, 0)] or [(0.0, 0.0)]
        chosen = random.choice(len(cells), self.frames - 1, replace=self.frames - 1 > len(cells))
        return [(0.0, 0.0), *(cells[index] for index in chosen)]

    def airmass(self, plan: _Plan) -> float:
        middle = plan.start + timedelta(seconds=self.exposures[plan.filter_name] / 2)
        right_ascension, declination = self.positions[plan.target]
        return airmass_at(_altitude(middle, self.longitude, right_ascension, declination))

    def sky_level(self, plan: _Plan, airmass: float) -> float:
        """Electrons per pixel as received where the flat is 1."""
        drift = 1.0 + self.sky_drift * plan.index / max(self.frames - 1, 1)
        if self.sky is not None:
            return self.sky * drift
        band = _band(plan.filter_name)
        dark = 10.0 ** (0.4 * (band.zero_point - band.sky)) * self.camera.pixel_scale**2
        moonlight = _moonlight(plan.start, self.longitude)
        return float(self.exposures[plan.filter_name] * dark * airmass**0.6 * (1.0 + moonlight) * drift)

    def raw_folder(self, plan: _Plan) -> Path:
        if self.place == "raw":
            return self.root / "raw" / plan.night.isoformat()
        return self.root / "processed" / plan.folder / "raws"

    def sidecar(self, plan: _Plan) -> Path:
        night = plan.night.isoformat() if self.place == "raw" else ""
        return self.root / "xys" / plan.folder / night / "xy.csv"


def simulate(
    root: Path,
    *,
    targets: Sequence[str] = ("NGC5949",),
    filters: Sequence[str] = ("R",),
    nights: Sequence[date] = (date(2026, 11, 21),),
    frames: int = 3,
    size: tuple[int, int] = (512, 512),
    exposure: float | Mapping[str, float] = 60.0,
    seed: int = 1,
    masters: bool = True,
    raw_calibrations: bool = False,
    sidecars: bool = True,
    dither: float = 8.0,
    decimal_dither: bool = False,
    place: Place = "raw",
    zone: str = HOME_ZONE,
    calibration_frames: int = 15,
    dark_master: bool = False,
    sky: float | None = None,
    sky_drift: float = 0.0,
    seeing: float = 1.8,
    saturated_stars: int = 0,
    camera: Camera | None = None,
    first_number: int = 743053,
    progress: Callable[[int, int], None] | None = None,
) -> Simulation:
    """Write simulated nights under `root`, with masters, sidecars and the truth.

    Parameters
    ----------
    root : Path
        Data root; empty, or filled by an earlier simulation.
    targets, filters, nights : sequence
        Every target is observed in every filter on every night. A night is the local date of its evening.
    frames : int
        Frames of each group.
    size : tuple of int
        Width and height of a frame, in pixels.
    exposure : float or mapping
        Exposure time in seconds, of all frames or of each filter.
    seed : int
        Decides every random number.
    masters : bool
        Write ``calibs/bias2x2.fits`` and ``calibs/<filter>flatnorm2x2.fits``.
    raw_calibrations : bool
        Write raw bias, dark and flat frames of every night to ``raw/<night>/``.
    sidecars : bool
        Write an ``xy.csv`` for every group.
    dither : float
        Largest move of the sky along x and along y, in pixels; at most a fifth of the frame is used.
    decimal_dither : bool
        Move by fractions of a pixel too (then the stars of a group are sampled differently in each frame).
    place : str
        ``raw``: frames in ``raw/<night>/``, a sidecar for each night. ``processed``: frames in
        ``processed/<target>/<filter>/raws/``, one sidecar for all nights, where the notebook wants them.
    zone : str
        The site's time zone.
    calibration_frames : int
        How many frames each master is made of, or how many raw calibrations of each kind are written;
        0 makes masters without noise and without a VAR extension.
    dark_master : bool
        Write ``calibs/dark2x2.fits`` too (free of bias, EXPTIME of the longest exposure).
    sky : float or None
        Sky of every frame in electrons per pixel; None follows filter, airmass and moon.
    sky_drift : float
        Relative change of the sky from a group's first frame to its last, on top of the rest.
    seeing : float
        Full width at half maximum of a star, in arcseconds.
    saturated_stars : int
        Stars so bright that they saturate.
    camera : Camera or None
        Figures of the camera; None is pt5m.
    first_number : int
        Run number of the first science frame.
    progress : callable or None
        Called with the number of raw frames written and their total.

    Returns
    -------
    Simulation
        The frames with their truth, and the paths of everything else.

    Raises
    ------
    SetupError
        If the root holds data that no simulation wrote, or the night is too short for the frames.
    """
    if frames < 1 or min(size) < 16 or not targets or not filters or not nights:
        raise SetupError(
            "Nothing to simulate: it takes a target, a filter, a night, a frame and at least 16 x 16 pixels."
        )
    refuse_real_data(root)
    work = _Night(
        root=root,
        targets=tuple(targets),
        filters=tuple(filters),
        nights=tuple(sorted(nights)),
        frames=frames,
        shape=(size[1], size[0]),
        exposures={name: exposure[name] if isinstance(exposure, Mapping) else exposure for name in filters},
        seed=seed,
        dither=dither,
        decimal_dither=decimal_dither,
        place=place,
        zone=ZoneInfo(zone),
        calibration_frames=calibration_frames,
        sky=sky,
        sky_drift=sky_drift,
        seeing=seeing,
        saturated_stars=saturated_stars,
        camera=camera or Camera(),
        first_number=first_number,
        raw_calibrations=raw_calibrations,
    )
    return _write_all(work, masters=masters, dark_master=dark_master, sidecars=sidecars, progress=progress)


def refuse_real_data(root: Path) -> None:
    """Raise `SetupError` if a simulation under `root` could overwrite what a telescope wrote."""
    if (root / MARKER).exists():
        return
    for file in chain.from_iterable((root / name).rglob("*") for name in DATA_FOLDERS):
        if file.is_file():
            raise SetupError(
                f"{root} already holds data ({file.relative_to(root)}); simulate into an empty folder."
            )


def _write_all(
    work: _Night,
    *,
    masters: bool,
    dark_master: bool,
    sidecars: bool,
    progress: Callable[[int, int], None] | None,
) -> Simulation:
    _write_marker(work)
    written: list[SimulatedFrame] = []
    calibrations: list[Path] = []
    total = len(work.plans) + len(work.nights) * len(_calibration_plan(work))
    number = work.first_number - len(_calibration_plan(work))
    for night in work.nights:
        for path in _write_calibrations(work, night, number):
            calibrations.append(path)
            _tell(progress, len(written) + len(calibrations), total)
        number += len(_calibration_plan(work))
        for plan in (plan for plan in work.plans if plan.night == night):
            written.append(_write_frame(work, plan, number))
            number += 1
            _tell(progress, len(written) + len(calibrations), total)
    simulation = Simulation(
        root=work.root,
        frames=tuple(written),
        masters=tuple(_write_masters(work, dark_master)) if masters else (),
        calibrations=tuple(calibrations),
        sidecars=tuple(_write_sidecars(work, written)) if sidecars else (),
    )
    _write_truth(work, simulation)
    return simulation


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress:
        progress(done, total)


def _write_marker(work: _Night) -> None:
    """Mark the root as a simulated one, before anything else is in it."""
    path = work.root / MARKER
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"seed": work.seed, "camera": asdict(work.camera)}, indent=1) + "\n", encoding="utf-8"
    )


# When what is exposed.


def _night_plan(work: _Night, night: date) -> Iterator[_Plan]:
    """Yield a night's exposures in time: target by target, filter by filter, around its middle."""
    steps = [timedelta(seconds=work.exposures[name]) + READOUT for name in work.filters]
    block = sum((step * work.frames for step in steps), timedelta(0))
    dark = max(timedelta(hours=8), block * len(work.targets))
    if dark > timedelta(hours=14):
        raise SetupError(
            f"The frames of one night take {dark / timedelta(hours=1):.1f} h; a night has room for 14. "
            "Ask for fewer frames, filters or targets, or for shorter exposures."
        )
    middle = datetime.combine(night + timedelta(days=1), time(1, 30), work.zone).astimezone(UTC)
    slot = dark / len(work.targets)
    for position, target in enumerate(work.targets):
        start = middle - dark / 2 + slot * position + (slot - block) / 2
        start = start.replace(microsecond=start.microsecond // 1000 * 1000)
        for filter_name, step in zip(work.filters, steps, strict=True):
            for index in range(work.frames):
                yield _Plan(target, filter_name, night, index, start)
                start += step


def _calibration_plan(work: _Night) -> list[tuple[str, str, float]]:
    """Return kind, filter and exposure time of the raw calibration frames of a night."""
    if not work.raw_calibrations:
        return []
    longest = max(work.exposures.values())
    kinds = [("bias", "", 0.0), ("dark", "", longest), *(("flat", name, 5.0) for name in work.filters)]
    return [kind for kind in kinds for _ in range(work.calibration_frames)]


# Where the target stands.


def airmass_at(altitude: float) -> float:
    """Return the airmass at an altitude in degrees, by Pickering (2002), to the four decimals of a header."""
    height = max(altitude, 3.0)
    return max(round(1.0 / math.sin(math.radians(height + 244.0 / (165.0 + 47.0 * height**1.1))), 4), 1.0)


def _days(moment: datetime) -> float:
    return (moment - datetime(2000, 1, 1, 12, tzinfo=UTC)) / timedelta(days=1)


def _sidereal_time(moment: datetime, longitude: float) -> float:
    """Return the local mean sidereal time in degrees (UT1 taken as UTC: 15 arcseconds at most)."""
    return (280.46061837 + 360.98564736629 * _days(moment) + longitude) % 360.0


def _altitude(moment: datetime, longitude: float, right_ascension: float, declination: float) -> float:
    hour_angle = math.radians(_sidereal_time(moment, longitude) - right_ascension)
    latitude, height = math.radians(LATITUDE), math.radians(declination)
    sine = math.sin(latitude) * math.sin(height) + math.cos(latitude) * math.cos(height) * math.cos(
        hour_angle
    )
    return math.degrees(math.asin(sine))


def _moonlight(moment: datetime, longitude: float) -> float:
    """Return how much the moon adds to the dark sky, from its age and its height (as if over the equator)."""
    age = (_days(moment) - 5.26) / 29.530588853 % 1.0  # new on 2000 January 6
    illuminated = (1.0 - math.cos(2.0 * math.pi * age)) / 2.0
    solar = (moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)) / timedelta(
        days=1
    ) + longitude / 360.0
    height = math.cos(2.0 * math.pi * (solar - 0.5 - age))
    return 6.0 * illuminated**2 * max(height, 0.0)


# Frames.


def _band(filter_name: str) -> Band:
    return BANDS.get(filter_name, BANDS["R"])


def extinction_factor(filter_name: str, airmass: float) -> float:
    """Return what brings a signal received at `airmass` back above the atmosphere."""
    return float(10.0 ** (_band(filter_name).extinction * airmass / 2.5))


def _write_frame(work: _Night, plan: _Plan, number: int) -> SimulatedFrame:
    dx, dy = work.offsets[plan.target, plan.filter_name, plan.night][plan.index]
    airmass = work.airmass(plan)
    sky_level = work.sky_level(plan, airmass)
    exposure = work.exposures[plan.filter_name]
    above = work.fields[plan.target].light(_band(plan.filter_name), exposure, dx, dy)
    received = (above / extinction_factor(plan.filter_name, airmass) + sky_level) * work.flats[
        plan.filter_name
    ]
    name = f"r{number:07d}"
    pixels = work.chip.read_out(received, exposure, _random(work.seed, plan.night.isoformat(), name))
    header = _header(work, "object", exposure, plan.start) + _pointing(work, plan, airmass, dx, dy)
    path = work.raw_folder(plan) / f"{name}.fits"
    _write_fits(path, pixels, header)
    x, y = work.fields[plan.target].guide
    return SimulatedFrame(
        path=path,
        target=plan.target,
        filter_name=plan.filter_name,
        night=plan.night,
        date_obs=plan.start,
        exposure=exposure,
        airmass=airmass,
        dx=dx,
        dy=dy,
        sky=sky_level,
        x=round(x + dx, 2),
        y=round(y + dy, 2),
    )


Card = tuple[str, str | int | float | bool, str]


def _header(work: _Night, kind: str, exposure: float, start: datetime) -> list[Card]:
    """Return the cards of every raw frame."""
    return [
        ("IMAGETYP", kind, "type of frame"),
        ("EXPTIME", exposure, "[s] exposure time"),
        ("DATE-OBS", start.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3], "start of exposure, UT"),
        ("TELESCOP", "pt5m", "simulated"),
        ("INSTRUME", "pt5m", "instrument"),
        ("XBINNING", 2, "binning along x"),
        ("YBINNING", 2, "binning along y"),
        ("EGAIN", work.camera.gain, "[electron/adu] gain"),
        ("RDNOISE", work.camera.read_noise, "[electron] read noise"),
        ("GAIN", 0, "gain setting of the camera"),
        ("READOUTM", "Normal", "readout mode"),
        ("SET-TEMP", -20.0, "[C] wanted temperature of the CCD"),
        ("CCD-TEMP", -20.0, "[C] temperature of the CCD"),
    ]


def _pointing(work: _Night, plan: _Plan, airmass: float, dx: float, dy: float) -> list[Card]:
    """Return the cards of a science frame that say where it looks, through which filter."""
    right_ascension, declination = work.positions[plan.target]
    ny, nx = work.shape
    degrees = work.camera.pixel_scale / 3600.0
    return [
        ("OBJECT", plan.target, "name of target"),
        ("FILTER", plan.filter_name, "name of filter"),
        ("AIRMASS", airmass, "airmass in the middle of the exposure"),
        ("RA", _sexagesimal(right_ascension / 15.0, 2), "right ascension of target, J2000"),
        ("DEC", _sexagesimal(declination, 1, sign=True), "declination of target, J2000"),
        ("CTYPE1", "RA---TAN", "projection"),
        ("CTYPE2", "DEC--TAN", "projection"),
        ("CRVAL1", right_ascension, "[deg]"),
        ("CRVAL2", declination, "[deg]"),
        ("CRPIX1", (nx + 1) / 2 + dx, "reference pixel"),
        ("CRPIX2", (ny + 1) / 2 + dy, "reference pixel"),
        ("CD1_1", -degrees, "[deg/pixel] east is left"),
        ("CD1_2", 0.0, "[deg/pixel]"),
        ("CD2_1", 0.0, "[deg/pixel]"),
        ("CD2_2", degrees, "[deg/pixel] north is up"),
    ]


def _sexagesimal(value: float, decimals: int, *, sign: bool = False) -> str:
    units = 10**decimals
    total = round(abs(value) * 3600 * units)
    seconds, minutes, whole = (
        total % (60 * units) / units,
        total // (60 * units) % 60,
        total // (3600 * units),
    )
    lead = ("-" if value < 0 else "+") if sign else ""
    return f"{lead}{whole:02d}:{minutes:02d}:{seconds:0{3 + decimals}.{decimals}f}"


def _write_calibrations(work: _Night, night: date, number: int) -> Iterator[Path]:
    """Write the raw calibration frames of a night, exposed in its afternoon, and yield their paths."""
    start = datetime.combine(night, time(13), work.zone).astimezone(UTC)
    for offset, (kind, filter_name, exposure) in enumerate(_calibration_plan(work)):
        name = f"r{number + offset:07d}"
        level = work.camera.flat_level * work.camera.gain
        light = work.flats[filter_name] * level if kind == "flat" else 0.0
        pixels = work.chip.read_out(light, exposure, _random(work.seed, night.isoformat(), name))
        header = [*_header(work, kind, exposure, start), ("OBJECT", kind, "name of target")]
        if filter_name:
            header.append(("FILTER", filter_name, "name of filter"))
        path = work.root / "raw" / night.isoformat() / f"{name}.fits"
        _write_fits(path, pixels, header)
        start += timedelta(seconds=exposure) + READOUT
        yield path


def _write_fits(
    path: Path, pixels: NDArray[Any], cards: Sequence[Card], variance: Image | None = None
) -> None:
    header = fits.Header()
    for key, value, comment in cards:
        header[key] = (value, comment)
    hdus = fits.HDUList([fits.PrimaryHDU(pixels, header)])
    if variance is not None:
        hdus.append(fits.ImageHDU(variance.astype(np.float32), name="VAR"))
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus.writeto(path, overwrite=True)


# Masters: each pixel is the mean of so many calibration frames.


def _write_masters(work: _Night, dark_master: bool) -> Iterator[Path]:
    folder = work.root / "calibs"
    noise = (work.camera.read_noise / work.camera.gain) ** 2 + 1.0 / 12.0  # of one bias frame, ADU squared
    yield _write_master(work, folder / "bias2x2.fits", work.chip.bias, np.full(work.shape, noise), "bias")
    if dark_master:
        longest = max(work.exposures.values())
        dark = work.chip.dark_rate * longest / work.camera.gain
        cards: list[Card] = [("EXPTIME", longest, "[s] exposure time"), ("DARKBIAS", False, "free of bias")]
        # The dark frames' own noise and that of the bias taken off them.
        variance = dark / work.camera.gain + 2.0 * noise
        yield _write_master(work, folder / "dark2x2.fits", dark, variance, "dark", cards)
    for name, flat in work.flats.items():
        level = work.camera.flat_level
        variance = flat / (level * work.camera.gain) + noise / level**2
        filter_card: Card = ("FILTER", name, "name of filter")
        yield _write_master(
            work, folder / f"{clean_name(name)}flatnorm2x2.fits", flat, variance, "flat", [filter_card]
        )


def _write_master(
    work: _Night, path: Path, perfect: Image, variance: Image, kind: str, cards: Sequence[Card] = ()
) -> Path:
    """Write a master from its perfect self and the variance of one of the frames it is made of."""
    count = work.calibration_frames
    header: list[Card] = [
        ("IMAGETYP", kind, "type of frame"),
        ("INSTRUME", "pt5m", "instrument"),
        ("XBINNING", 2, "binning along x"),
        ("YBINNING", 2, "binning along y"),
        ("BUNIT", "" if kind == "flat" else "adu", "unit"),
        ("NCOMBINE", count, "frames it is the mean of; 0: free of noise"),
        *cards,
    ]
    master, master_variance = perfect, None
    if count:
        master_variance = variance / count
        master = perfect + _random(work.seed, path.name).normal(0.0, np.sqrt(master_variance))
    if kind == "flat":
        master = master / np.median(master)
    _write_fits(path, master.astype(np.float32), header, master_variance)
    return path


# Sidecars and truth.


def _write_sidecars(work: _Night, frames: Sequence[SimulatedFrame]) -> Iterator[Path]:
    rows: dict[Path, list[str]] = {}
    for frame, plan in zip(frames, work.plans, strict=True):
        rows.setdefault(work.sidecar(plan), ["fname,x,y"]).append(
            f"{frame.name},{_position(frame.x)},{_position(frame.y)}"
        )
    for path, lines in rows.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield path


def _position(pixel: float) -> str:
    """Return a 0-based position as DS9 shows it: counted from 1."""
    return f"{round(pixel + 1.0, 2):g}"


def _write_truth(work: _Night, simulation: Simulation) -> None:
    for target, filter_name, night in work.offsets:
        frames = simulation.group(target, filter_name, night)
        band, reference, exposure = _band(filter_name), frames[0], work.exposures[filter_name]
        field = work.fields[target]
        above = extinction_factor(filter_name, reference.airmass)
        sky_level = reference.sky * above
        cards: list[Card] = [
            ("BUNIT", "electron", "in one exposure, above the atmosphere"),
            ("SKYLEVEL", sky_level, "[electron] of it, sky"),
            ("EXPTIME", exposure, "[s] exposure time"),
        ]
        stem = simulation.truth / _folder(target, filter_name) / night.isoformat()
        _write_fits(
            stem.with_suffix(".fits"), (field.light(band, exposure) + sky_level).astype(np.float32), cards
        )
        facts = {
            "target": target,
            "filter": filter_name,
            "night": night.isoformat(),
            "reference": reference.name,
            "extinction": band.extinction,
            "sky_above_atmosphere": sky_level,
            "fwhm": work.seeing / work.camera.pixel_scale,
            "frames": [_frame_facts(work, frame) for frame in frames],
            "stars": [asdict(star) for star in field.stars(band, exposure)],
            "hot_pixels": work.chip.hot_pixels,
        }
        stem.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _frame_facts(work: _Night, frame: SimulatedFrame) -> dict[str, Any]:
    path = frame.path.relative_to(work.root).as_posix()
    moment = frame.date_obs.isoformat(timespec="milliseconds")
    facts = {"name": frame.name} | asdict(frame) | {"path": path, "date_obs": moment}
    return {key: value for key, value in facts.items() if key not in ("target", "filter_name", "night")}


def _random(seed: int, *words: str) -> np.random.Generator:
    """Return the random numbers of one thing, whatever else is simulated: a frame more changes no other."""
    return np.random.default_rng([seed, *(zlib.crc32(word.encode()) for word in words)])


# A camera at work, and what goes wrong with frames.


def expose_slowly(
    source: Path,
    destination: Path,
    *,
    seconds: float = 3.0,
    chunks: int = 8,
    pause: Callable[[float], None] = clock.sleep,
) -> Path:
    """Write a copy of a frame in place as a camera does: the header first, then its rows, with pauses."""
    content = source.read_bytes()
    with fits.open(source, lazy_load_hdus=True) as hdus:
        start = int(hdus[0].fileinfo()["datLoc"])
    ends = [start + (len(content) - start) * part // chunks for part in range(chunks + 1)]
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.open("wb", buffering=0) as file:
        for begin, end in zip([0, *ends], ends, strict=False):
            file.write(content[begin:end])
            if end < len(content):
                pause(seconds / chunks)
    return destination


def truncate(path: Path, keep: float = 0.5) -> Path:
    """Cut a file after a fraction of its length, as an interrupted copy leaves it."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * keep))
    return path


def drop_keyword(path: Path, keyword: str) -> Path:
    """Take a keyword out of a frame's header."""
    pixels, header = fits.getdata(path, header=True)
    del header[keyword]
    fits.writeto(path, pixels, header, overwrite=True)
    return path


def crop(path: Path, columns: int = 4, rows: int = 0) -> Path:
    """Take columns and rows off a frame, so that it fits no master."""
    pixels, header = fits.getdata(path, header=True)
    ny, nx = pixels.shape
    fits.writeto(path, pixels[: ny - rows, : nx - columns], header, overwrite=True)
    return path
