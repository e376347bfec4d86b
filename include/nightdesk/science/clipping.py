"""Rejection of single values that the predicted noise cannot explain."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nightdesk.science import compiled
from nightdesk.science.median import middle_values, unequal_median_variance
from nightdesk.science.stack_variance import share_variance

Cube = NDArray[np.float64]


def reject_outliers(
    values: Cube,
    variances: Cube,
    used: NDArray[np.bool_],
    *,
    sigmas: NDArray[np.float64],
    clip_sigma: float,
    level: float | None = None,
    tolerance: float = 0.5,
) -> NDArray[np.bool_]:
    r"""Find the values that are too far from the median of their pixel.

    Parameters
    ----------
    values : ndarray, shape (n, ny, nx)
        Signal of each frame on one grid and one sky level, in electrons.
    variances : ndarray, shape (n, ny, nx)
        Predicted variance of `values`, in electrons squared.
    used : ndarray of bool, shape (n, ny, nx)
        The values that may enter the stack.
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons.
    clip_sigma : float
        Rejected is what deviates by more than this many predicted standard deviations.
    level : float, optional
        Level of the sky, in electrons. With it the signal of stars is known, and `tolerance` applies.
    tolerance : float
        Part of a star's signal by which frames may differ on top of the noise: seeing and whole-pixel
        shifts change the light in a pixel by far more than its noise.

    Returns
    -------
    ndarray of bool, shape (n, ny, nx)
        The values to leave out; never all that a pixel has.

    Notes
    -----
    The scatter of a few values says little about their noise: a clip at three standard deviations of
    the values themselves can never trigger for ten values or fewer. The prediction does not depend on
    the outlier: it is made from the lower middle variance of the pixel and the noise of the frames' skies, and
    that of the median where it is more (:func:`deviation_noise`).

    Where every value is too far from the median, half of them are contaminated, and the median lies in
    the gap. Whatever falls on a detector adds light, so the values around the lower of the two middle
    ones are kept if `level` is known; without it a star in changing seeing looks the same, and all stay.
    """
    lower, upper = middle_values(values, used)
    allowed = clip_sigma * np.sqrt(_predict_variances(variances, used, sigmas))
    if level is not None:
        allowed = allowed + tolerance * np.maximum(lower - level, 0.0)
    rejected = used & (np.abs(values - 0.5 * (lower + upper)) > allowed)

    emptied = used.any(axis=0) & ~(used & ~rejected).any(axis=0)
    if emptied.any():
        if level is None:
            rejected[:, emptied] = False
        else:
            from_lower = np.abs(values[:, emptied] - lower[emptied])
            rejected[:, emptied] = used[:, emptied] & (from_lower > allowed[:, emptied])
    return rejected


def _predict_variances(variances: Cube, used: NDArray[np.bool_], sigmas: NDArray[np.float64]) -> Cube:
    """Predict each frame's variance from the lower middle one of the pixel, which no outlier has raised."""
    if np.ptp(sigmas) == 0:
        lower, _ = middle_values(variances, used)
        return np.broadcast_to(lower, used.shape)
    typical, place = _lower_middle(variances, used)
    return share_variance(typical, sigmas[place] ** 2, deviation_noise(sigmas))


def _lower_middle(variances: Cube, used: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the lower middle variance of each pixel, and which frame's it is."""
    if compiled.available():
        return compiled.lower_middle(variances, used)
    count = np.count_nonzero(used, axis=0)
    order = np.argsort(np.where(used, variances, np.inf), axis=0, kind="stable")
    place = np.take_along_axis(order, np.maximum(count - 1, 0)[None] // 2, axis=0)
    return np.take_along_axis(variances, place, axis=0)[0], place[0]


def deviation_noise(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the noise of each frame's deviation from the median, where that is more than the frame's own.

    Parameters
    ----------
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons, 0 or more.

    Returns
    -------
    ndarray, shape (n,)
        In electrons, nowhere less than `sigmas`, and the same where all are equal.

    Notes
    -----
    The median of a quiet frame and a noisy one is noisier than the quiet one. With the variance M of the median
    and the weight of about 1/n that a value has in it, :math:`\sigma_i^2 (1 - 2 / n) + M`.

    Examples
    --------
    >>> deviation_noise(np.array([10.0, 30.0])).round(1)
    array([15.8, 30. ])
    """
    if not (sigmas > 0).all():
        return sigmas
    of_median = _noise_of_median(sigmas.tobytes())
    return np.maximum(sigmas, np.sqrt(sigmas**2 * (1.0 - 2.0 / len(sigmas)) + of_median))


@lru_cache(maxsize=256)
def _noise_of_median(sigmas: bytes) -> float:
    """Integrate once for all blocks of a stack."""
    return float(unequal_median_variance(np.frombuffer(sigmas)[None]).item())
