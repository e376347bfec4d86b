"""The variance of a combined pixel, from that of the values that went into it."""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray

from nightdesk.science import compiled
from nightdesk.science.median import (
    INTEGRATED,
    many_median_power,
    median_variance_factor,
    median_variance_factors,
    unequal_median_variance,
)

NODES: Final = 4096
"""Steps of the table by which unequal noise is looked up."""

DEGREE: Final = 16
"""Of the polynomial that fills it from so many integrals and one: off by 1e-4 where one frame is 3 times as noisy."""

MANY: Final = 8
MILD: Final = 1.25
"""Of so many frames, none of which is by more than this noisier than another, a part is not integrated by itself."""

TINY: Final = 1e-9

Image = NDArray[np.float64]
Cube = NDArray[np.float64]
Mask = NDArray[np.bool_]


def sum_in_order(values: NDArray[np.float64]) -> float:
    """Add values one after the other, as the compiled loops do: ``sum`` of Python 3.12 makes up for lost digits.

    Parameters
    ----------
    values : ndarray, shape (n,)
        At least one.

    Returns
    -------
    float
        The same bits with any Python and numpy.
    """
    return float(np.add.accumulate(values)[-1])


def share_variance(variance: Image, sky_variance: Image, sigmas: NDArray[np.float64]) -> Cube:
    r"""Tell from one variance of a pixel what each frame's variance is there, by the noise of its sky.

    Parameters
    ----------
    variance : ndarray, shape (ny, nx)
        Variance of the pixel in some frame, or its mean over frames, in electrons squared.
    sky_variance : ndarray, shape (ny, nx)
        Variance of the sky in that frame, or its mean over those frames, in electrons squared.
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons.

    Returns
    -------
    ndarray, shape (n, ny, nx)
        Predicted variance of the pixel in each frame, in electrons squared.

    Notes
    -----
    A variance that was estimated from a pixel's own count is low where the count is low. Such figures
    must not decide between frames. What a pixel has above the sky is starlight :math:`s`, the same in
    each frame, so that

    .. math::

        v_i = V \, \frac{\sigma_i^2 + s}{V_{sky} + s}, \qquad s = \max(V - V_{sky}, 0)
    """
    squares = (sigmas**2).reshape(-1, *[1] * variance.ndim)
    starlight = np.maximum(variance - sky_variance, 0.0)
    total = sky_variance + starlight
    return np.asarray(variance * (squares + starlight) / np.where(total > 0, total, 1.0))


def median_variance(
    independent: Cube,
    shared: Cube,
    used: Mask,
    *,
    sigmas: NDArray[np.float64],
    offset_groups: NDArray[np.intp],
) -> Image:
    r"""Return the variance of the median of each pixel.

    Parameters
    ----------
    independent : ndarray, shape (n, ny, nx)
        Variance of each value that no other frame shares, in electrons squared.
    shared : ndarray, shape (n, ny, nx)
        Variance of each value that came from the masters, in electrons squared.
    used : ndarray of bool, shape (n, ny, nx)
        The values that were combined.
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons.
    offset_groups : ndarray of int, shape (n,)
        Equal for frames with the same masters at the same offset.

    Returns
    -------
    ndarray, shape (ny, nx)
        Variance of the median, in electrons squared; 0 where nothing was combined.

    Notes
    -----
    With `n` values in `m` equal groups of equal offset, `m` being :math:`n^2 / \sum n_g^2`, and :math:`V_1` the
    variance by :func:`~nightdesk.science.median.unequal_median_variance`, which is
    :math:`c_n \overline{v_i} / n` where all values are equally noisy:

    .. math::

        V = V_1
            + \frac{\overline{K}}{m} \left(1 + (c_n - 1) \frac{m - 1}{n - 1}\right)
    """
    count = np.count_nonzero(used, axis=0)
    some = np.maximum(count, 1)
    excess = median_variance_factors(len(used))[count]
    single = excess / some * _median_noise(independent, used, sigmas)

    groups = some**2 / np.maximum(_sum_of_squared_group_sizes(used, offset_groups), 1)
    spread = 1.0 + (excess - 1.0) * (groups - 1.0) / np.maximum(some - 1, 1)
    common = _mean(shared, used) / groups * spread
    return np.where(count > 0, single + common, 0.0)


def mean_variance(
    independent: Cube,
    shared: Cube,
    used: Mask,
    *,
    weights: NDArray[np.float64],
    offset_groups: NDArray[np.intp],
) -> Image:
    r"""Return the variance of the weighted mean of each pixel.

    Parameters
    ----------
    independent : ndarray, shape (n, ny, nx)
        Variance of each value that no other frame shares, in electrons squared.
    shared : ndarray, shape (n, ny, nx)
        Variance of each value that came from the masters, in electrons squared.
    used : ndarray of bool, shape (n, ny, nx)
        The values that were combined.
    weights : ndarray, shape (n,)
        Weight of each frame, all equal for the plain mean.
    offset_groups : ndarray of int, shape (n,)
        Equal for frames with the same masters at the same offset.

    Returns
    -------
    ndarray, shape (ny, nx)
        Variance of the mean, in electrons squared; 0 where nothing was combined.

    Notes
    -----
    Within a group `g` of equal offset the shared errors are one and the same, between groups they are
    independent:

    .. math::

        V = \frac{\sum w_i^2 V_i + \sum_g \left(\sum_{i \in g} w_i \sqrt{K_i}\right)^2}{(\sum w_i)^2}
    """
    weight = np.where(used, weights.reshape(-1, *[1] * (used.ndim - 1)), 0.0)
    total = np.sum(weight, axis=0)
    variance = np.sum(weight**2 * independent, axis=0)
    amplitude = weight * np.sqrt(shared)
    for group in np.unique(offset_groups):
        variance += np.sum(amplitude[offset_groups == group], axis=0) ** 2
    return np.where(total > 0, variance / np.where(total > 0, total, 1.0) ** 2, 0.0)


def full_median_variance(
    independent: Image, common: Image, *, sigmas: NDArray[np.float64], offset_groups: NDArray[np.intp]
) -> Image:
    """Return what :func:`median_variance` does where every frame's value was combined, from means over the frames.

    Parameters
    ----------
    independent : ndarray, shape (ny, nx)
        Mean over the frames of the variance that no other frame shares, in electrons squared.
    common : ndarray, shape (ny, nx)
        Mean over the frames of the variance that came from the masters, in electrons squared.
    sigmas : ndarray, shape (n,)
        Noise of the sky in each frame, in electrons.
    offset_groups : ndarray of int, shape (n,)
        Equal for frames with the same masters at the same offset.

    Returns
    -------
    ndarray, shape (ny, nx)
        Variance of the median, in electrons squared.
    """
    n = len(sigmas)
    excess = median_variance_factor(n)
    sizes = np.unique_counts(offset_groups).counts
    groups = n**2 / int(np.sum(sizes**2))
    spread = 1.0 + (excess - 1.0) * (groups - 1.0) / max(n - 1, 1)
    equal = np.ptp(sigmas) == 0
    if compiled.available():
        sky, table = (0.0, None) if equal else _noise_table(sigmas.tobytes())
        planes = (np.ascontiguousarray(independent), np.ascontiguousarray(common), table)
        return compiled.median_variance(*planes, sky=sky, single=excess / n, groups=groups, spread=spread)
    noise = independent if equal else _noise_of_all(independent, sigmas)
    return excess / n * noise + common / groups * spread


def full_mean_variance(
    variances: Cube, shared: Cube, *, weights: NDArray[np.float64], offset_groups: NDArray[np.intp]
) -> Image:
    """Return what :func:`mean_variance` does where every frame's value was combined.

    Parameters
    ----------
    variances, shared : ndarray, shape (n, ny, nx)
        Whole variance of each value, and the part of it that came from the masters, in electrons squared.
    weights : ndarray, shape (n,)
        Weight of each frame.
    offset_groups : ndarray of int, shape (n,)
        Equal for frames with the same masters at the same offset.

    Returns
    -------
    ndarray, shape (ny, nx)
        Variance of the mean, in electrons squared.
    """
    total = sum_in_order(weights)
    variance = np.zeros(variances.shape[1:])
    for whole, part, weight in zip(variances, shared, weights, strict=True):
        variance += weight**2 * np.maximum(whole - part, 0.0)
    for group in np.unique(offset_groups):
        amplitude = np.zeros(variance.shape)
        for number in np.flatnonzero(offset_groups == group):
            amplitude += weights[number] * np.sqrt(shared[number])
        variance += amplitude**2
    return variance / (total if total > 0 else 1.0) ** 2


def _median_noise(independent: Cube, used: Mask, sigmas: NDArray[np.float64]) -> Image:
    """Return the one variance that unequal values would have to share for the same median's noise."""
    mean = _mean(independent, used)
    if np.ptp(sigmas) == 0:
        return mean
    if len(sigmas) >= MANY and sigmas.max() <= MILD * sigmas.min():
        return _mild_noise(mean, used, sigmas)
    noise, count = np.zeros(mean.shape), np.count_nonzero(used, axis=0)
    many = (count > INTEGRATED) & (count < len(used))  # hardly two pixels have the same choice of so many frames
    noise[many] = _noise_of_many(mean[many], used[:, many], sigmas)
    few = (count > 0) & ~many
    patterns, which = np.unique(used[:, few], axis=1, return_inverse=True)
    means, noises = mean[few], np.zeros(len(which))
    for number, pattern in enumerate(patterns.T):
        places = which == number
        noises[places] = _noise_of_all(means[places], sigmas[pattern])
    noise[few] = noises
    return noise


def _noise_of_many(mean: NDArray[np.float64], used: Mask, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Do that for pixels with a choice of many frames each, by the formula that fills the tables of so many."""
    squares, count = sigmas**2, np.count_nonzero(used, axis=0)
    sky, total = np.zeros(mean.shape), np.zeros(mean.shape)
    for square, there in zip(squares.tolist(), used, strict=True):
        sky += square * there
    sky = np.maximum(sky / count, TINY)
    share = sky / (sky + np.maximum(mean - sky, 0.0))
    power = many_median_power(count) / 2.0
    for square, there in zip(squares.tolist(), used, strict=True):
        total += np.maximum(1.0 + (square / sky - 1.0) * share, TINY) ** power * there
    return np.asarray(mean * (total / count) ** (1.0 / power))


def _mild_noise(mean: Image, used: Mask, sigmas: NDArray[np.float64]) -> Image:
    """Do that for many frames of much the same noise, of which there are too many choices to integrate each.

    What unequal noise takes from the variance goes with the square of its spread, and hardly with anything else.
    """
    squares = sigmas**2
    count = np.count_nonzero(used, axis=0)
    sky, second = np.zeros(mean.shape), np.zeros(mean.shape)
    for square, there in zip(squares.tolist(), used, strict=True):
        sky += square * there
        second += square**2 * there
    some = np.maximum(count, 1)
    sky = np.where(count > 0, sky / some, 1.0)  # a pixel that no frame is used for has no noise either
    spread = np.maximum(second / some / sky**2 - 1.0, 0.0) / float(np.var(squares) / np.mean(squares) ** 2)
    noise = mean * (1.0 + (_share_of_mean(mean, sky, sigmas) - 1.0) * spread)
    return np.where(count == len(used), _noise_of_all(mean, sigmas), noise)


def _noise_of_all(mean: Image, sigmas: NDArray[np.float64]) -> Image:
    r"""Return the same where all frames are used, by a table.

    With :math:`t = V_{sky} / (V_{sky} + s)` it is the mean variance times a function of t alone: that of frames
    with the variances :math:`1 + (\sigma_i^2 / V_{sky} - 1) t`.
    """
    return np.asarray(mean * _share_of_mean(mean, _noise_table(sigmas.tobytes())[0], sigmas))


def _share_of_mean(mean: Image, sky: float | Image, sigmas: NDArray[np.float64]) -> Image:
    place = sky / (sky + np.maximum(mean - sky, 0.0)) * NODES
    table = _noise_table(sigmas.tobytes())[1]
    node = np.clip(place.astype(np.intp), 0, NODES - 1)
    low = table[node]
    return np.asarray(low + (place - node) * (table[node + 1] - low))


@lru_cache(maxsize=256)
def _noise_table(sigmas: bytes) -> tuple[float, NDArray[np.float64]]:
    """Integrate at a few places between starlight alone and sky alone; a polynomial fills the table."""
    squares = np.frombuffer(sigmas) ** 2
    n, sky = len(squares), float(np.mean(squares))
    if np.ptp(squares) == 0:
        return max(sky, TINY), np.ones(NODES + 1)

    def _share(t: NDArray[np.float64]) -> NDArray[np.float64]:
        each = np.sqrt(np.maximum(1.0 + (squares / sky - 1.0) * t[:, None], TINY))
        return unequal_median_variance(each) * n / median_variance_factor(n)

    table = Chebyshev.interpolate(_share, DEGREE, [0.0, 1.0])(np.arange(NODES + 1) / NODES)
    table.flags.writeable = False
    return sky, table


def _sum_of_squared_group_sizes(used: Mask, offset_groups: NDArray[np.intp]) -> NDArray[np.intp]:
    squares = np.zeros(used.shape[1:], dtype=np.intp)
    for group in np.unique(offset_groups):
        squares += np.count_nonzero(used[offset_groups == group], axis=0) ** 2
    return squares


def _mean(values: Cube, used: Mask) -> Image:
    count = np.count_nonzero(used, axis=0)
    mean: Image = np.sum(np.where(used, values, 0.0), axis=0) / np.maximum(count, 1)
    return mean
