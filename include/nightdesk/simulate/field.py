"""The simulated sky: filters, and the stars and the galaxy around a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.synthetic import Star, add_galaxy, add_star, draw_fluxes
from nightdesk.simulate.seed import random_for

Image = NDArray[np.float64]


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


def band_of(filter_name: str) -> Band:
    """Return the figures of a filter; one that is not known behaves as R."""
    return BANDS.get(filter_name, BANDS["R"])


def extinction_factor(filter_name: str, airmass: float) -> float:
    """Return what brings a signal received at `airmass` back above the atmosphere."""
    return float(10.0 ** (band_of(filter_name).extinction * airmass / 2.5))


@dataclass(frozen=True)
class Field:
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
        random = random_for(self.seed, self.target, "guide")
        return round(nx * random.uniform(0.3, 0.36)), round(ny * random.uniform(0.62, 0.68))

    @cached_property
    def catalogue(self) -> list[tuple[float, float, float, float]]:
        """Position, magnitude and colour of every star, the guide star first."""
        random = random_for(self.seed, self.target, "stars")
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
        """Return the light of stars and galaxy above the atmosphere, moved by (dx, dy), in electrons."""
        image = np.zeros(self.shape)
        fwhm = self.seeing / self.pixel_scale
        for star in self.stars(band, exposure):
            add_star(image, Star(star.x + dx, star.y + dy, star.flux), fwhm=fwhm)
        ny, nx = self.shape
        random = random_for(self.seed, self.target, "galaxy")
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
