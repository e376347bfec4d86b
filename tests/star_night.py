"""A small night whose frames show a field of stars, each moved and turned as one likes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from nightdesk.science.synthetic import Star, add_star
from nightdesk.science.transform import Transform, half_turn
from tests.small_night import BIAS_LEVEL, GAIN, READ_NOISE, SKY, SmallNight

Image = NDArray[Any]

SHAPE = (160, 180)
FLIP = half_turn(SHAPE)


@dataclass(frozen=True)
class StarNight(SmallNight):
    """`places` take positions of the sky (those of the first frame) to each frame; `empty` are frames in clouds, and
    `light` is what the air lets through."""

    places: tuple[Transform, ...] = (Transform(), Transform(dx=6.3, dy=-4.4), Transform(dx=-9.6, dy=7.2))
    shape: tuple[int, int] = SHAPE
    number: int = 24
    fwhm: float = 3.0
    empty: tuple[int, ...] = ()
    light: float = 1.0

    @property
    def names(self) -> list[str]:
        return [f"r{self.first + index:07d}" for index in range(len(self.places))]

    @property
    def bias(self) -> Image:
        return np.full(self.shape, BIAS_LEVEL, np.float32)

    @property
    def flat(self) -> Image:
        return np.ones(self.shape, np.float32)

    @property
    def sky(self) -> tuple[Image, Image]:
        """Positions and fluxes of the stars, some of them outside the first frame."""
        random = np.random.default_rng([self.seed, 99])
        ny, nx = self.shape
        positions = random.uniform(-20, 20, (self.number, 2)) + random.uniform(0, 1, (self.number, 2)) * (nx, ny)
        return positions, 10 ** random.uniform(4.2, 5.2, self.number)

    def pixels(self, name: str) -> Image:
        index = self.names.index(name)
        light = np.zeros(self.shape)
        if index not in self.empty:
            positions, fluxes = self.sky
            for (x, y), flux in zip(self.places[index].apply(positions), fluxes, strict=True):
                add_star(light, Star(float(x), float(y), float(flux) * self.light), fwhm=self.fwhm)
        random = np.random.default_rng([self.seed, index, self.night.toordinal()])
        electrons = random.poisson(light + SKY) + random.normal(0.0, READ_NOISE, self.shape)
        return np.clip(np.rint(electrons / GAIN + self.bias), 0, 65535).astype(np.uint16)

    def position(self, name: str) -> tuple[int, int]:
        """Where the brightest star inside all frames is, to the pixel."""
        x, y = self.places[self.names.index(name)].apply([self.guide])[0]
        return round(x), round(y)

    @property
    def guide(self) -> tuple[float, float]:
        """The brightest star that is well inside every frame, in the first frame; its centre if none is."""
        positions, fluxes = self.sky
        for index in np.argsort(fluxes)[::-1]:
            seen = np.array([place.apply([positions[index]])[0] for place in self.places])
            if (seen > 15).all() and (seen < np.array(self.shape[::-1]) - 16).all():
                return float(positions[index][0]), float(positions[index][1])
        return (self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2

    def header(self, name: str, **changes: Any) -> Any:
        moved = self.places[self.names.index(name)]
        wcs = {"CRPIX1": 90.5 + moved.dx, "CRPIX2": 80.5 + moved.dy}
        return SmallNight.header(_Plain(self), name, **(wcs | changes))  # type: ignore[arg-type]

    def true_shift(self, index: int) -> tuple[float, float]:
        """By how much the centre of a frame moves on to the first one, once it is turned back."""
        ny, nx = self.shape
        back = self.places[index].inverse()
        return back.shift_at((nx - 1) / 2, (ny - 1) / 2)


def chi_squares(stack: Path) -> tuple[float, float]:
    """Chi-square of a stack's empty sky: per pixel, and in boxes of 10 x 10 pixels with CORRFACT."""
    with fits.open(stack) as hdus:
        data, variance = (hdus[plane].data[20:-20, 20:-20].astype(float) for plane in ("SCI", "VAR"))
        factor = hdus[0].header["CORRFACT"]
    off = data - np.median(data)
    bright = ndimage.gaussian_filter(off, 2.0) > np.sqrt(np.median(variance))
    off[ndimage.binary_dilation(bright, iterations=12)] = np.nan
    off -= np.nanmean(off)
    ny, nx = (size // 10 for size in off.shape)
    boxed = off[: ny * 10, : nx * 10].reshape(ny, 10, nx, 10).mean(axis=(1, 3))
    pixel = float(np.nanmean(off**2 / variance))
    return pixel, float(np.nanmean(boxed**2) / (np.median(variance) / 100.0 * factor))


class _Plain:
    """A star night as `SmallNight.header` sees it: with an offset for each frame."""

    def __init__(self, night: StarNight) -> None:
        self._night = night
        self.offsets = ((0, 0),) * len(night.places)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._night, name)
