"""The pixels of a stack that need no care: every frame gives a good value, and no value can be an outlier."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightdesk.science import compiled
from nightdesk.science.clipping import deviation_noise
from nightdesk.science.flag import EXCLUDING
from nightdesk.science.median import middle_of_all

Cube = NDArray[np.float64]
Image = NDArray[np.float64]

SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Easy:
    """Hold what is the same for easy pixels by any method.

    Attributes
    ----------
    median : ndarray, shape (ny, nx)
        Of all values.
    independent : ndarray, shape (ny, nx)
        Mean over the frames of the variance that no other frame shares.
    common : ndarray, shape (ny, nx)
        Mean over the frames of the shared variance.
    joined : ndarray of uint16, shape (ny, nx)
        All flags.
    hard : ndarray of bool, shape (ny, nx)
        Where the pixel is not easy, and the other planes mean nothing.
    """

    median: Image
    independent: Image
    common: Image
    joined: NDArray[np.uint16]
    hard: NDArray[np.bool_]


def easy_pixels(
    values: Cube,
    variances: Cube,
    shared: Cube,
    flags: NDArray[np.uint16],
    *,
    clip_sigma: float | None,
    sigmas: NDArray[np.float64],
    level: float | None,
    tolerance: float,
) -> Easy:
    r"""Find the easy pixels of a block, and what any method needs of them.

    Parameters
    ----------
    values, variances, shared : ndarray, shape (n, ny, nx)
        Signal, whole and shared variance of each frame.
    flags : ndarray of uint16, shape (n, ny, nx)
        Flags of each frame.
    clip_sigma : float or None
        At how many standard deviations values are rejected; None where none is.
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons.
    level : float or None
        As for :func:`~nightdesk.science.clipping.reject_outliers`.
    tolerance : float
        The same.

    Returns
    -------
    Easy
        An easy pixel has the same bits as the plain functions would give it.

    Notes
    -----
    A value cannot be rejected if it is within what would be allowed to the least noisy frame with the
    least variance that the pixel has in any: the predicted variance :math:`V (\sigma_i^2 + s) / (\sigma_m^2 + s)`
    is nowhere below :math:`\min V \, (\min\sigma / \max\sigma)^2`. Where it is not, the compiled loop looks at every
    value as :func:`~nightdesk.science.clipping.reject_outliers` does, and calls the pixel easy if all stay.
    """
    if compiled.available():
        rule = clip_rule(sigmas, clip_sigma=clip_sigma, level=level, tolerance=tolerance)
        return Easy(*compiled.easy_pixels(values, variances, shared, flags, **rule))
    lower, upper = middle_of_all(values)
    median = 0.5 * (lower + upper)
    quiet = np.min(variances, axis=0)
    independent, common = np.zeros(median.shape), np.zeros(median.shape)
    spare = np.empty(median.shape)
    for whole, part in zip(variances, shared, strict=True):
        independent += np.maximum(np.subtract(whole, part, out=spare), 0.0, out=spare)
        common += part
    independent /= len(values)
    common /= len(values)
    joined: NDArray[np.uint16] = np.bitwise_or.reduce(flags, axis=0)
    least, most = np.min(values, axis=0), np.max(values, axis=0)
    hard = (joined & EXCLUDING) != 0
    hard |= (quiet < 0) | (np.min(shared, axis=0) < 0)
    for plane in (least, most, independent, common):
        hard |= ~np.isfinite(plane)
    if clip_sigma is not None:
        allowed = clip_sigma * np.sqrt(np.maximum(quiet * least_ratio(sigmas), 0.0))
        if level is not None:
            allowed += tolerance * np.maximum(lower - level, 0.0)
        hard |= ~((most - median <= allowed) & (median - least <= allowed))
    return Easy(median, independent, common, joined, hard)


def clip_rule(
    sigmas: NDArray[np.float64], *, clip_sigma: float | None, level: float | None, tolerance: float
) -> dict[str, Any]:
    """Return what tells the compiled loops which pixels are easy.

    Parameters
    ----------
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons.
    clip_sigma : float or None
        At how many standard deviations values are rejected; None where none is.
    level : float or None
        As for :func:`~nightdesk.science.clipping.reject_outliers`.
    tolerance : float
        The same.

    Returns
    -------
    dict
        These figures, `least_ratio`, and of each frame the variance of its sky (`skies`) and of its deviation from
        the median (`deviations`), in electrons squared; None where all are equally noisy.
    """
    equal = clip_sigma is None or np.ptp(sigmas) == 0
    return {
        "clip_sigma": clip_sigma,
        "least_ratio": least_ratio(sigmas),
        "level": level,
        "tolerance": tolerance,
        "skies": None if equal else sigmas**2,
        "deviations": None if equal else deviation_noise(sigmas) ** 2,
    }


def least_ratio(sigmas: NDArray[np.float64]) -> float:
    """Return by what the variance predicted for any frame's value can be below the least one of its pixel.

    Parameters
    ----------
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons.

    Returns
    -------
    float
        Above 0 and below 1.
    """
    largest = float(np.max(sigmas))
    return (float(np.min(sigmas)) / largest) ** 2 * (1 - SLACK) if largest > 0 else 1 - SLACK
