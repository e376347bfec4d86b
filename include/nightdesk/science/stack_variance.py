"""The variance of a combined pixel, from that of the values that went into it."""

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.median import median_variance_factors, unequal_noise_exponent

Image = NDArray[np.float64]
Cube = NDArray[np.float64]
Mask = NDArray[np.bool_]


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
    With `n` values in `m` equal groups of equal offset, `m` being :math:`n^2 / \sum n_g^2`, and the
    power mean of :func:`~nightdesk.science.median.unequal_noise_exponent`:

    .. math::

        V = \frac{c_n}{n} \left(\overline{v_i^{p/2}}\right)^{2/p}
            + \frac{\overline{K}}{m} \left(1 + (c_n - 1) \frac{m - 1}{n - 1}\right)
    """
    count = np.count_nonzero(used, axis=0)
    some = np.maximum(count, 1)
    excess = median_variance_factors(len(used))[count]
    single = excess / some * _median_noise(independent, used, count, sigmas)

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


def _median_noise(independent: Cube, used: Mask, count: NDArray[np.intp], sigmas: NDArray[np.float64]) -> Image:
    """Return the one variance that unequal values would have to share for the same median's noise."""
    mean = _mean(independent, used)
    if np.ptp(sigmas) == 0:
        return mean
    squares = (sigmas**2).reshape(-1, *[1] * mean.ndim)
    each = share_variance(mean, _mean(np.broadcast_to(squares, used.shape), used), sigmas)
    exponents = np.array([unequal_noise_exponent(max(n, 1)) for n in range(len(used) + 1)])
    power = exponents[count] / 2
    noisy = used & (each > 0)
    powers = np.where(noisy, np.where(noisy, each, 1.0) ** power, 0.0)
    mean_power = np.sum(powers, axis=0) / np.maximum(count, 1)
    return np.where(mean > 0, np.where(mean_power > 0, mean_power, 1.0) ** (1 / power), 0.0)


def _sum_of_squared_group_sizes(used: Mask, offset_groups: NDArray[np.intp]) -> NDArray[np.intp]:
    squares = np.zeros(used.shape[1:], dtype=np.intp)
    for group in np.unique(offset_groups):
        squares += np.count_nonzero(used[offset_groups == group], axis=0) ** 2
    return squares


def _mean(values: Cube, used: Mask) -> Image:
    count = np.count_nonzero(used, axis=0)
    mean: Image = np.sum(np.where(used, values, 0.0), axis=0) / np.maximum(count, 1)
    return mean
