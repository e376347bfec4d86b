"""What is observed when: the programme of the simulated nights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from nightdesk.errors import SetupError
from nightdesk.group import clean_name
from nightdesk.simulate.camera import Camera, Chip
from nightdesk.simulate.ephemeris import (
    LATITUDE,
    LONGITUDE,
    airmass_at,
    altitude_of,
    moonlight_at,
    sidereal_time,
)
from nightdesk.simulate.field import Field, band_of
from nightdesk.simulate.seed import random_for

Image = NDArray[np.float64]
Place = Literal["raw", "processed"]

HOME_ZONE = "Atlantic/Canary"
READOUT = timedelta(seconds=12)


@dataclass(frozen=True)
class Plan:
    """One science exposure to make."""

    target: str
    filter_name: str
    night: date
    index: int
    start: datetime

    @property
    def folder(self) -> Path:
        """Where the group's files lie."""
        return folder_of(self.target, self.filter_name)


def folder_of(target: str, filter_name: str) -> Path:
    """Return the folder of a target and filter, relative to ``processed``, ``xys`` or ``truth``."""
    return Path(clean_name(target), clean_name(filter_name))


@dataclass(frozen=True)
class Programme:
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
    def chip(self) -> Chip:
        """The CCD, the same on every night."""
        return Chip(self.camera, self.shape, self.seed)

    @cached_property
    def flats(self) -> dict[str, Image]:
        """The sensitivity in each filter."""
        return {name: self.chip.flat(name) for name in self.filters}

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The sky around each target."""
        return {
            target: Field(
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
    def plans(self) -> list[Plan]:
        """Every science exposure, in time."""
        return [plan for night in self.nights for plan in plan_night(self, night)]

    @cached_property
    def positions(self) -> dict[str, tuple[float, float]]:
        """Right ascension and declination of each target, in degrees: up when it is observed first."""
        places = {}
        for target in self.targets:
            first = (target, self.nights[0])
            times = [plan.start for plan in self.plans if (plan.target, plan.night) == first]
            random = random_for(self.seed, target, "position")
            hour_angle = random.uniform(-30.0, 40.0)
            middle = times[len(times) // 2]
            declination = LATITUDE + random.uniform(-20.0, 35.0)
            places[target] = ((sidereal_time(middle, self.longitude) - hour_angle) % 360.0, declination)
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
        """The dithers (dx, dy) of each target, filter and night."""
        return {
            (target, name, night): self._dithers(target, name, night)
            for night in self.nights
            for target in self.targets
            for name in self.filters
        }

    def _dithers(self, target: str, filter_name: str, night: date) -> list[tuple[float, float]]:
        """Return where the sky lies in each frame: never twice at the same place, if there is room."""
        random = random_for(self.seed, target, filter_name, night.isoformat(), "dither")
        reach = min(self.dither, min(self.shape) / 5.0)  # the guide star stays in the frame
        if self.decimal_dither:
            moves = random.uniform(-reach, reach, (self.frames, 2)).round(2)
            return [(0.0, 0.0), *((float(dx), float(dy)) for dx, dy in moves[1:])]
        steps = range(-int(reach), int(reach) + 1)
        cells = [(float(dx), float(dy)) for dx in steps for dy in steps if (dx, dy) != (0, 0)] or [(0.0, 0.0)]
        order = random.permutation(len(cells))
        return [(0.0, 0.0), *(cells[order[index % len(cells)]] for index in range(self.frames - 1))]

    def airmass(self, plan: Plan) -> float:
        """Return the airmass in the middle of an exposure."""
        middle = plan.start + timedelta(seconds=self.exposures[plan.filter_name] / 2)
        right_ascension, declination = self.positions[plan.target]
        return airmass_at(altitude_of(middle, self.longitude, right_ascension, declination))

    def sky_level(self, plan: Plan, airmass: float) -> float:
        """Return the sky in electrons per pixel, as received where the flat is 1."""
        drift = 1.0 + self.sky_drift * plan.index / max(self.frames - 1, 1)
        if self.sky is not None:
            return self.sky * drift
        band = band_of(plan.filter_name)
        dark = 10.0 ** (0.4 * (band.zero_point - band.sky)) * self.camera.pixel_scale**2
        moonlight = moonlight_at(plan.start, self.longitude)
        return float(self.exposures[plan.filter_name] * dark * airmass**0.6 * (1.0 + moonlight) * drift)

    def raw_folder(self, plan: Plan) -> Path:
        """Return the folder that the camera writes to."""
        if self.place == "raw":
            return self.root / "raw" / plan.night.isoformat()
        return self.root / "processed" / plan.folder / "raws"

    def sidecar(self, plan: Plan) -> Path:
        """Return the path of the group's sidecar."""
        night = plan.night.isoformat() if self.place == "raw" else ""
        return self.root / "xys" / plan.folder / night / "xy.csv"


def plan_night(programme: Programme, night: date) -> Iterator[Plan]:
    """Yield a night's exposures in time: target by target, filter by filter, around its middle."""
    steps = [timedelta(seconds=programme.exposures[name]) + READOUT for name in programme.filters]
    block = sum((step * programme.frames for step in steps), timedelta(0))
    dark = max(timedelta(hours=8), block * len(programme.targets))
    if dark > timedelta(hours=14):
        raise SetupError(
            f"The frames of one night take {dark / timedelta(hours=1):.1f} h; a night has room for 14. "
            "Ask for fewer frames, filters or targets, or for shorter exposures."
        )
    middle = datetime.combine(night + timedelta(days=1), time(1, 30), programme.zone).astimezone(UTC)
    slot = dark / len(programme.targets)
    for position, target in enumerate(programme.targets):
        start = middle - dark / 2 + slot * position + (slot - block) / 2
        start = start.replace(microsecond=start.microsecond // 1000 * 1000)
        for filter_name, step in zip(programme.filters, steps, strict=True):
            for index in range(programme.frames):
                yield Plan(target, filter_name, night, index, start)
                start += step


def plan_calibrations(programme: Programme) -> list[tuple[str, str, float]]:
    """Return kind, filter and exposure time of the raw calibration frames of a night."""
    if not programme.raw_calibrations:
        return []
    longest = max(programme.exposures.values())
    kinds = [("bias", "", 0.0), ("dark", "", longest), *(("flat", name, 5.0) for name in programme.filters)]
    return [kind for kind in kinds for _ in range(programme.calibration_frames)]
