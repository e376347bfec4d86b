"""Pixel values as 16-bit numbers: fine about the sky, coarse where stars are bright.

A viewer looks each number up in a table of 65,536 colours, so a change of stretch touches no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS: Final = 2600
"""Numbers per unit of asinh: a step about the sky is 1/2600 of its noise, on a bright star 0.04 % of the value."""

LOWEST: Final = -8.0
"""asinh of the smallest value: 1,490 times the noise below the sky. The largest is 12 million times above it."""

NO_VALUE: Final = 0


@dataclass(frozen=True)
class Coding:
    """How the values of one image are coded: number = 1 + 2600 (asinh((value - sky) / noise) + 8), 0 for no value."""

    sky: float
    noise: float

    @classmethod
    def of(cls, sky: float, noise: float) -> Coding:
        """Return the coding for a sky and its noise; an image without noise is coded in units."""
        good = np.isfinite(sky) and np.isfinite(noise) and noise > 0
        return cls(float(sky), float(noise)) if good else cls(float(sky) if np.isfinite(sky) else 0.0, 1.0)

    @classmethod
    def guess(cls, sample: NDArray[Any]) -> Coding:
        """Return a coding from a sample of an image's values."""
        values = np.asarray(sample, dtype=np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            return cls(0.0, 1.0)
        low, middle, high = np.percentile(values, (25, 50, 75))
        return cls.of(float(middle), float(high - low) / 1.349)

    def encode(self, values: NDArray[Any]) -> NDArray[np.uint16]:
        """Return the numbers of values; what is not a number becomes 0."""
        scaled = np.arcsinh((values.astype(np.float32, copy=False) - np.float32(self.sky)) / np.float32(self.noise))
        numbers = np.rint((scaled - np.float32(LOWEST)) * np.float32(STEPS)) + 1.0
        return np.where(np.isfinite(numbers), np.clip(numbers, 1, 65535), NO_VALUE).astype(np.uint16)

    def decode(self, numbers: NDArray[Any]) -> NDArray[np.float64]:
        """Return the values of numbers; 0 becomes NaN."""
        numbers = np.asarray(numbers, dtype=np.float64)
        values = self.sky + self.noise * np.sinh((numbers - 1.0) / STEPS + LOWEST)
        return np.asarray(np.where(numbers == NO_VALUE, np.nan, values))

    def to_json(self) -> dict[str, float]:
        """Return plain values for a viewer."""
        return {"sky": self.sky, "noise": self.noise, "steps": STEPS, "lowest": LOWEST}
