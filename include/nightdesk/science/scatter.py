"""A robust standard deviation."""

import numpy as np
from numpy.typing import ArrayLike

_QUARTILES_OF_A_NORMAL = 2 * 0.6744897501960817


def robust_scatter(values: ArrayLike) -> float:
    r"""Return the standard deviation of the core of a distribution, untouched by its outliers.

    Parameters
    ----------
    values : array_like
        Values of any shape, in any unit, all finite.

    Returns
    -------
    float
        Scatter in the unit of the values; 0 for fewer than two values.

    Notes
    -----
    Half the distance between the quartiles over 0.6745. For a symmetric distribution that is the median
    absolute deviation from the median; but the quartiles are read from the distribution through the
    middle of its steps. Counts in whole ADU have a median absolute deviation in whole ADU: for a
    standard deviation of 3.5 it says 2.97 or 4.45. This says 3.51.

    Examples
    --------
    >>> counts = np.rint(np.random.default_rng(1).normal(0.0, 3.5, 100_000))
    >>> round(robust_scatter(counts), 1)
    3.5
    """
    steps, numbers = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    if numbers.sum() < 2:
        return 0.0
    share_below = (np.cumsum(numbers) - 0.5 * numbers) / numbers.sum()
    first, third = np.interp([0.25, 0.75], share_below, steps)
    return float((third - first) / _QUARTILES_OF_A_NORMAL)
