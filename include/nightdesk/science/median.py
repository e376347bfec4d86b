r"""The median of a pixel's values, and how much noisier it is than their mean."""

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science import compiled
from nightdesk.science.network import middle_places, network, run_network

LONGEST_NETWORK: Final = 14
"""Of more values than this plain numpy sorts each pixel's; of fewer a network of minima and maxima is faster."""

PIXELS_AT_ONCE: Final = 4096

TABULATED: Final = 101
"""Counts up to this one are integrated; beyond it the factor goes as 1 / n to its limit of pi / 2."""

_ERF = np.frompyfunc(math.erf, 1, 1)
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)

INTEGRATED: Final = 31
"""Up to so many values of unequal noise the variance of their median is integrated."""

_FEW_NODES, _FEW_WEIGHTS = np.polynomial.legendre.leggauss(24)


def middle_values(
    values: NDArray[np.float64], used: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the two middle values of each pixel among those in use; their mean is the median.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        One value per frame, finite where `used`.
    used : ndarray of bool, shape (n, ...), or None
        Which values count; None for all.

    Returns
    -------
    lower, upper : ndarray, shape (...)
        The two middle values, the same one twice where the count is odd; 0 where nothing is in use.

    Examples
    --------
    >>> values = np.array([[5.0], [1.0], [9.0], [2.0]])
    >>> middle_values(values, values < 9)
    (array([2.]), array([2.]))
    """
    if compiled.available():
        return compiled.middle_values(values, None if used is None or used.all() else used)
    if used is None or used.all():
        return middle_of_all(values)
    count = np.count_nonzero(used, axis=0)
    ordered = np.sort(np.moveaxis(np.where(used, values, np.inf), 0, -1), axis=-1)
    lower = np.take_along_axis(ordered, np.maximum(count - 1, 0)[..., None] // 2, axis=-1)[..., 0]
    upper = np.take_along_axis(ordered, np.minimum(count // 2, len(values) - 1)[..., None], axis=-1)[..., 0]
    return np.where(count > 0, lower, 0.0), np.where(count > 0, upper, 0.0)


def middle_of_all(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the two middle values of each pixel where all count, by plain numpy.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        One finite value per frame.

    Returns
    -------
    lower, upper : ndarray, shape (...)
        The two middle values, the same one twice where `n` is odd.

    Examples
    --------
    >>> middle_of_all(np.array([[5.0], [1.0], [9.0], [2.0]]))
    (array([2.]), array([5.]))
    """
    n = len(values)
    flat = values.reshape(n, -1)
    lower, upper = np.empty(flat.shape[1]), np.empty(flat.shape[1])
    first, second = middle_places(n)
    for start in range(0, flat.shape[1], PIXELS_AT_ONCE):
        part = slice(start, start + PIXELS_AT_ONCE)
        if n <= LONGEST_NETWORK:
            planes = list(np.array(flat[:, part]))
            run_network(planes, network(n, frozenset({first, second})))
            lower[part], upper[part] = planes[first], planes[second]
        else:
            ordered = np.array(flat[:, part].T, order="C")
            ordered.sort(axis=1)
            lower[part], upper[part] = ordered[:, first], ordered[:, second]
    return lower.reshape(values.shape[1:]), upper.reshape(values.shape[1:])


def median_variance_factor(n: int) -> float:
    r"""Return c_n: the variance of a median of `n` equal Gaussian values over that of their mean.

    Parameters
    ----------
    n : int
        How many values, at least 1.

    Returns
    -------
    float
        The factor, from 1 to pi / 2.

    Raises
    ------
    ValueError
        If `n` is below 1.

    Notes
    -----
    :math:`V(median) = c_n \sigma^2 / n`. The second moment of the middle order statistic (`n` odd) or of
    the mean of the two middle ones (`n` even) is integrated over their density, which is a product of
    powers of the normal distribution and its density; see H. A. David and H. N. Nagaraja, "Order
    Statistics", chapter 2. The median of an even number is quieter than that of its odd neighbours.

    Examples
    --------
    >>> [round(median_variance_factor(n), 4) for n in (1, 2, 3, 4, 5)]
    [1.0, 1.0, 1.346, 1.1928, 1.4342]
    """
    if n < 1:
        raise ValueError(f"A median needs at least one value, not {n}.")
    if n <= 2:
        return 1.0
    if n > TABULATED:
        last = TABULATED - (n + TABULATED) % 2
        return math.pi / 2 - (math.pi / 2 - median_variance_factor(last)) * last / n
    return _odd_factor(n) if n % 2 else _even_factor(n)


def median_variance_factors(largest: int) -> NDArray[np.float64]:
    """Return c_n for every count up to `largest`, to be indexed by the count; that of 0 is 0.

    Parameters
    ----------
    largest : int
        The largest count, at least 0.

    Returns
    -------
    ndarray, shape (largest + 1,)
        The factors.

    Examples
    --------
    >>> median_variance_factors(3).round(3)
    array([0.   , 1.   , 1.   , 1.346])
    """
    return np.array([0.0] + [median_variance_factor(n) for n in range(1, largest + 1)])


def unequal_median_variance(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the variance of the median of independent Gaussian values of unequal noise.

    Parameters
    ----------
    sigmas : ndarray, shape (k, n)
        Standard deviations above 0 of the `n` values of each of `k` sets, at least one value.

    Returns
    -------
    ndarray, shape (k,)
        Variance of the median of each set, in the square of their unit.

    Raises
    ------
    ValueError
        If there is no value.

    Notes
    -----
    Up to 31 values it is integrated. Let :math:`N_x` be the number of values below x; its distribution is
    multiplied up value by value. With :math:`n = 2 h + 1`

    .. math::

        V = \int_0^\infty 4 x \, P(N_x \le h) \, dx

    With :math:`n = 2 h` the median is the mean of two middle values A < B, and
    :math:`V = E(B^2) - E((B - A)^2) / 4`, where

    .. math::

        E(B^2) = \int_0^\infty 2 x \, (P(N_x \le h) + P(N_x < h)) \, dx, \qquad
        E((B - A)^2) = 4 \int_0^\infty \int_0^\infty P(A < m - w / 2, B > m + w / 2) \, dm \, dw

    Of more values the density at the centre counts, which is the mean of :math:`1/\sigma`:
    :math:`V = (c_n / n) (\overline{\sigma^p})^{2/p}` with :math:`p = -1 + 1.75 / n`, within a few per cent.
    docs/decisions/0005-unequal-noise.md compares both.

    Examples
    --------
    >>> unequal_median_variance(np.array([[1.0, 3.0], [2.0, 2.0]])).round(6)
    array([2.5, 2. ])
    """
    n = sigmas.shape[1]
    if n < 1:
        raise ValueError("A median needs at least one value, not 0.")
    if n > INTEGRATED:
        power = float(many_median_power(n))
        return np.asarray(median_variance_factor(n) / n * np.mean(sigmas**power, axis=1) ** (2.0 / power))
    h = n // 2
    start = n / np.sum(1.0 / sigmas, axis=1, keepdims=True)  # the noise at the centre, which the nodes resolve
    stretch = np.arcsinh(8.0 * np.max(sigmas, axis=1, keepdims=True) / start)
    u, weight = (_FEW_NODES + 1.0) / 2.0, _FEW_WEIGHTS / 2.0
    x, dx = start * np.sinh(stretch * u), start * stretch * np.cosh(stretch * u) * weight
    counts = _counts_below(sigmas, x, x, h)
    fewer = np.sum(counts[:h], axis=0)
    if n % 2:
        return np.asarray(np.sum(4.0 * x * (fewer + counts[h]) * dx, axis=1))
    of_ends = np.sum(2.0 * x * (2.0 * fewer + counts[h]) * dx, axis=1)
    middle, gap = x[:, :, None], x[:, None, :]
    apart = _counts_below(sigmas, middle - gap / 2.0, middle + gap / 2.0, h)[h]
    return np.asarray(of_ends - np.sum(apart * dx[:, :, None] * dx[:, None, :], axis=(1, 2)))


def many_median_power(n: ArrayLike) -> NDArray[np.float64]:
    """Return the power p by whose mean the noise of many values tells that of their median.

    Parameters
    ----------
    n : array_like of int
        How many values, more than 31.

    Returns
    -------
    ndarray
        See :func:`unequal_median_variance`.
    """
    return -1.0 + 1.75 / np.asarray(n)


def _counts_below(
    sigmas: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], most: int
) -> NDArray[np.float64]:
    """Return the chance that 0, 1, ... `most` values are below `low` and all others above `high`."""
    counts = np.zeros((most + 1, *low.shape))
    counts[0] = 1.0
    for column in sigmas.T:
        sigma = column.reshape(-1, *[1] * (low.ndim - 1))
        more = counts[:-1] * _below(low / sigma)
        counts *= _below(-high / sigma)
        counts[1:] += more
    return counts


def _normal(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _below(x: NDArray[np.float64]) -> NDArray[np.float64]:
    erf = compiled.erf if compiled.available() else _ERF
    return 0.5 + 0.5 * np.asarray(erf(x / math.sqrt(2)), dtype=np.float64)


@cache
def _odd_factor(n: int) -> float:
    """Integrate x^2 over the density of the middle one of n = 2 h + 1 values."""
    h = n // 2
    reach = 8 / math.sqrt(n)
    x, dx = _NODES * reach, _NODE_WEIGHTS * reach
    density = (_below(x) * _below(-x)) ** h * _normal(x)
    return float(n * np.sum(x * x * density * dx) / np.sum(density * dx))


@cache
def _even_factor(n: int) -> float:
    """Integrate s^2 over the density of the two middle ones, s - t and s + t, of n = 2 h values."""
    h = n // 2
    reach, gap = 8 / math.sqrt(n), 10 / n**0.75
    s, ds = (_NODES * reach)[:, None], _NODE_WEIGHTS[:, None]
    t, dt = ((_NODES + 1) * gap / 2)[None, :], _NODE_WEIGHTS[None, :]
    density = (_below(s - t) * _below(-s - t)) ** (h - 1) * _normal(s - t) * _normal(s + t)
    return float(n * np.sum(s * s * density * ds * dt) / np.sum(density * ds * dt))
