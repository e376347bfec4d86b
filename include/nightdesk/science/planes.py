"""The planes of a frame: data, variance, shared variance and flags, of one shape."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.flag import NO_DATA
from nightdesk.science.sample import Places, window_places


@dataclass(frozen=True, eq=False)
class Planes:
    """Hold the pixels of one frame together.

    Attributes
    ----------
    data : ndarray of float64, shape (ny, nx)
        Signal, in electrons.
    variance : ndarray of float64, shape (ny, nx)
        Whole variance of `data` (independent and shared), in electrons squared.
    shared_variance : ndarray of float64, shape (ny, nx)
        The part of `variance` that comes from the masters, in electrons squared. Every frame reduced
        with the same masters at the same offset has the same error, so it does not average down.
    flags : ndarray of uint16, shape (ny, nx)
        Bits of :mod:`nightdesk.science.flag`.

    Raises
    ------
    ValueError
        If a plane is not two-dimensional, the shapes differ, or the flags are not uint16.
    """

    data: NDArray[np.float64]
    variance: NDArray[np.float64]
    shared_variance: NDArray[np.float64]
    flags: NDArray[np.uint16]

    def __post_init__(self) -> None:
        """Refuse planes that do not belong together."""
        shapes = {
            "data": self.data.shape,
            "variance": self.variance.shape,
            "shared variance": self.shared_variance.shape,
            "flags": self.flags.shape,
        }
        if self.data.ndim != 2:
            raise ValueError(f"A frame has two dimensions (y, x); this one has {self.data.ndim}.")
        if len(set(shapes.values())) > 1:
            raise ValueError(f"The planes of a frame must have one shape; these have {shapes}.")
        if self.flags.dtype != np.uint16:
            raise ValueError(f"Flags must be uint16, not {self.flags.dtype}.")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of every plane, (ny, nx)."""
        ny, nx = self.data.shape
        return ny, nx

    def image(self) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        """Return signal and flags."""
        return self.data, self.flags

    def windows(self, rows: Places, columns: Places, size: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
        """Return signal and flags of square windows, shape (n, size, size), by their first rows and columns."""
        places = window_places(rows, columns, size)
        return self.data[places], self.flags[places]

    def scaled(self, factor: float) -> Self:
        """Multiply the signal by `factor` and both variances by its square.

        Parameters
        ----------
        factor : float
            Dimensionless, finite and above 0.

        Returns
        -------
        Planes
            New planes with the same flags.

        Raises
        ------
        ValueError
            If the factor is not finite or not above 0.
        """
        if not (np.isfinite(factor) and factor > 0):
            raise ValueError(f"A frame can be scaled by a number above 0 only, not by {factor}.")
        return replace(
            self,
            data=self.data * factor,
            variance=self.variance * factor**2,
            shared_variance=self.shared_variance * factor**2,
        )

    def without_level(self, level: float) -> Self:
        """Subtract a constant from the signal of every pixel that has data.

        Parameters
        ----------
        level : float
            In electrons; what a frame's sky has more than the reference's. It carries no pixel noise.

        Returns
        -------
        Planes
            New planes; the value of a NO_DATA pixel stays 0.
        """
        return replace(self, data=np.where(self.flags & NO_DATA, self.data, self.data - level))
