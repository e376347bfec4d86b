"""The read noise of a detector, measured from its bias frames."""

import numpy as np
from numpy.typing import ArrayLike

from nightdesk.science.scatter import robust_scatter


def measure_read_noise(first: ArrayLike, second: ArrayLike) -> float:
    r"""Measure the read noise from two bias frames of one setup.

    Parameters
    ----------
    first, second : array_like, shape (ny, nx)
        Two bias exposures, in ADU.

    Returns
    -------
    float
        Read noise in ADU; times the gain it is in electrons.

    Raises
    ------
    ValueError
        If the shapes differ or fewer than 100 pixels have values in both.

    Notes
    -----
    The difference of two biases has no structure left but noise: its robust scatter over
    :math:`\sqrt 2`. Rounding to whole ADU does not add to it.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> pair = [np.rint(rng.normal(1000.0, 4.0, (200, 200))) for _ in range(2)]
    >>> round(measure_read_noise(*pair), 1)
    4.0
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"Two biases of one setup have one shape; these have {a.shape} and {b.shape}.")
    difference = (a - b)[np.isfinite(a) & np.isfinite(b)]
    if difference.size < 100:
        raise ValueError(f"{difference.size} pixels are too few to measure the read noise; 100 would do.")
    return robust_scatter(difference) / float(np.sqrt(2.0))
