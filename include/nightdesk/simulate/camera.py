"""The simulated CCD: its figures, its pattern, and how it turns light into raw pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nightdesk.simulate.seed import random_for

Image = NDArray[np.float64]

SATURATION = 65535


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
class Chip:
    """The camera's own pattern, the same on every night."""

    camera: Camera
    shape: tuple[int, int]
    seed: int

    @cached_property
    def bias(self) -> Image:
        """Bias level with its columns and a glow towards the amplifier, in ADU."""
        random = random_for(self.seed, "bias")
        ny, nx = self.shape
        columns = random.normal(0.0, self.camera.bias_structure, nx)
        columns[random.random(nx) < 0.005] += 12.0 * self.camera.bias_structure
        rows = 4.0 * self.camera.bias_structure * np.exp(-np.arange(ny) / (0.15 * ny))
        return self.camera.bias_level + columns[np.newaxis, :] + rows[:, np.newaxis]

    @cached_property
    def dark_rate(self) -> Image:
        """Electrons per second and pixel."""
        random = random_for(self.seed, "dark")
        hot = random.random(self.shape) < self.camera.hot_pixels
        return self.camera.dark_current + np.where(hot, random.lognormal(3.5, 1.0, self.shape), 0.0)

    @property
    def hot_pixels(self) -> list[list[int]]:
        """Positions (x, y) of the hot pixels, 0-based."""
        ys, xs = np.nonzero(self.dark_rate > self.camera.dark_current)
        return [[int(x), int(y)] for x, y in zip(xs, ys, strict=True)]

    def flat(self, filter_name: str) -> Image:
        """Return the relative sensitivity in a filter, of median 1."""
        random = random_for(self.seed, "pixels")
        flat = random.normal(1.0, self.camera.pixel_response, self.shape) * self._vignetting()
        for number in range(self.camera.dust):
            # Specks on the window are seen in every filter, those on the filter in one.
            speck = random_for(self.seed, "dust", str(number), filter_name if number % 2 else "")
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

    def read_out(self, light: Image | float, exposure: float, random: np.random.Generator) -> NDArray[np.uint16]:
        """Return the raw pixels of an exposure to `light` (electrons, already behind the flat)."""
        electrons = random.poisson(light + self.dark_rate * exposure)
        noise = random.normal(0.0, self.camera.read_noise, self.shape)
        counts = (electrons + noise) / self.camera.gain + self.bias
        return np.clip(np.floor(counts + 0.5), 0, SATURATION).astype(np.uint16)


def _edge(distance: Image, radius: float) -> Image:
    soft: Image = 0.5 * (1.0 - np.tanh((distance - radius) / (0.12 * radius)))
    return soft
