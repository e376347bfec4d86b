"""The master flat: the relative sensitivity of each pixel."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


def normalise_flat(
    flat: ArrayLike,
    variance: ArrayLike | None = None,
    region: tuple[slice, slice] | None = None,
    *,
    how: Literal["median", "mean"] = "median",
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, float]:
    r"""Scale a master flat so that its median (or mean) is 1.

    Parameters
    ----------
    flat : array_like, shape (ny, nx)
        Bias-free response to even light, in any unit.
    variance : array_like, shape (ny, nx), optional
        Variance of `flat`, in that unit squared.
    region : tuple of slice, optional
        Rows and columns (y, x) whose median counts; all of the flat if not given.
    how : {'median', 'mean'}
        What is divided out.

    Returns
    -------
    normalised : ndarray of float64, shape (ny, nx)
        Dimensionless flat of median 1.
    variance : ndarray of float64, shape (ny, nx), or None
        Its variance, dimensionless; None if none was given.
    level : float
        What was divided out, in the unit of `flat`.

    Raises
    ------
    ValueError
        If the flat is not two-dimensional, the variance has another shape, or the median of the
        region is not a number above 0.

    Notes
    -----
    :math:`F = f / m` and :math:`V_F = V_f / m^2` with `m` the median of the finite pixels; the noise of
    a median over thousands of pixels is left out.

    Examples
    --------
    >>> normalised, _, level = normalise_flat(np.array([[20000.0, 18000.0, 22000.0]]))
    >>> normalised, level
    (array([[1. , 0.9, 1.1]]), 20000.0)
    """
    level = flat_level(flat, region, how=how)
    response = np.asarray(flat, dtype=np.float64)
    if variance is None:
        return response / level, None, level
    noise = np.asarray(variance, dtype=np.float64)
    if noise.shape != response.shape:
        raise ValueError(f"The flat's variance has the shape {noise.shape}, the flat {response.shape}.")
    return response / level, noise / level**2, level


def flat_level(
    flat: ArrayLike, region: tuple[slice, slice] | None = None, *, how: Literal["median", "mean"] = "median"
) -> float:
    """Return what a master flat is to be divided by.

    Parameters
    ----------
    flat : array_like, shape (ny, nx)
        Bias-free response to even light, in any unit.
    region : tuple of slice, optional
        Rows and columns (y, x) that count; all of the flat if not given.
    how : {'median', 'mean'}
        Of the finite pixels.

    Returns
    -------
    float
        Above 0, in the unit of the flat.

    Raises
    ------
    ValueError
        If the flat is not two-dimensional, or its level is not a number above 0.
    """
    response = np.asarray(flat)  # in its own numbers: half the work
    if response.ndim != 2:
        raise ValueError(f"A flat has two dimensions (y, x); this one has {response.ndim}.")
    seen = response if region is None else response[region]
    sound = np.isfinite(seen)
    finite = seen.ravel() if sound.all() else seen[sound]
    level = _level_of(finite, how) if finite.size else 0.0
    if not level > 0:
        raise ValueError(f"The {how} of a flat must be above 0, but it is {level:g}: this is no flat.")
    return level


@dataclass(frozen=True, eq=False)
class Scaled:
    """A plane over a number, computed for the part that is wanted: no second copy of a master.

    Attributes
    ----------
    plane : ndarray, shape (ny, nx)
        As it stands on disk.
    divisor : float
        Not 0.
    """

    plane: NDArray[Any]
    divisor: float

    def __getitem__(self, place: Any) -> NDArray[np.float64]:
        """Return a part of it."""
        return np.asarray(self.plane[place], dtype=np.float64) / self.divisor

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it."""
        return np.asarray(self[:], dtype=dtype)


def _level_of(values: NDArray[Any], how: str) -> float:
    if how == "mean":
        return float(np.mean(values, dtype=np.float64))
    middle = [(values.size - 1) // 2, values.size // 2]
    lower, upper = np.partition(values, middle)[middle].astype(np.float64)
    return float(0.5 * (lower + upper))
