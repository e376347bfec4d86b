"""The overscan: what the amplifier adds to each row of a frame, read from columns that no light reaches."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.scatter import robust_scatter

Method = Literal["constant", "row", "polynomial"]
MOST_ROUNDS = 20


def clipped_mean(values: ArrayLike, clip_sigma: float = 3.0) -> float:
    """Average values without those that are far from their mean.

    Parameters
    ----------
    values : array_like
        Values of any shape, in any unit; those that are not finite do not count.
    clip_sigma : float
        Left out is, round by round, what is more standard deviations from the mean than this; above 0.

    Returns
    -------
    float
        The mean of what is left, in the unit of the values.

    Raises
    ------
    ValueError
        If there is no finite value, or `clip_sigma` is not above 0.

    Examples
    --------
    >>> clipped_mean([*[500.0, 502.0] * 10, 9000.0])
    501.0
    """
    if not clip_sigma > 0:
        raise ValueError(f"The clip must be above 0 standard deviations, but it is {clip_sigma}.")
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    if not kept.size:
        raise ValueError("There is no value to average.")
    for _ in range(MOST_ROUNDS):
        near = np.abs(kept - kept.mean()) <= clip_sigma * kept.std()
        if near.all() or not near.any():
            break
        kept = kept[near]
    return float(kept.mean())


def measure_overscan(
    strip: ArrayLike, *, method: Method = "constant", order: int = 3, clip_sigma: float = 3.0
) -> NDArray[np.float64]:
    r"""Measure the level of each row from the overscan columns beside it.

    Parameters
    ----------
    strip : array_like, shape (ny, n)
        The overscan section, in ADU: as many rows as are wanted, and the columns that saw no light.
    method : {'constant', 'row', 'polynomial'}
        One level for all rows, one for each row, or a polynomial through those of the rows.
    order : int
        Degree of the polynomial, 0 or more.
    clip_sigma : float
        Values farther from the mean than so many standard deviations are left out (cosmic rays, a star's trail);
        above 0.

    Returns
    -------
    ndarray of float64, shape (ny,)
        Level of each row, in ADU.

    Raises
    ------
    ValueError
        If the strip is not two-dimensional or empty, has no finite value, or has too few rows for the polynomial.

    Notes
    -----
    The one level is the clipped mean of the rows' means, as IRAF's ccdproc fits it. The mean of n columns has the
    variance :math:`R^2 / n` for a read noise `R`. By `row` every pixel of a row gets that noise in common:
    `overscan_noise_factor` says by how much it adds to the read noise.

    Examples
    --------
    >>> measure_overscan([[500.0, 502.0], [504.0, 506.0]], method="row")
    array([501., 505.])
    >>> measure_overscan([[500.0, 502.0], [504.0, 506.0]])
    array([503., 503.])
    """
    counts = np.asarray(strip, dtype=np.float64)
    if counts.ndim != 2 or not counts.size:
        raise ValueError(f"The overscan must have rows and columns, but its shape is {counts.shape}.")
    if method == "constant":
        finite = np.isfinite(counts).all(axis=1)
        return np.full(len(counts), clipped_mean(counts[finite].mean(axis=1), clip_sigma))
    rows = np.array([_row_level(row, clip_sigma) for row in counts])
    if not np.isfinite(rows).any():
        raise ValueError("The overscan holds no value that is a number.")
    if method == "row":
        return np.where(np.isfinite(rows), rows, np.nanmedian(rows))
    return _fit(rows, order, clip_sigma)


def overscan_noise_factor(columns: int, method: Method) -> float:
    """Return by what the read noise grows when the overscan is taken off.

    Parameters
    ----------
    columns : int
        Number of overscan columns, at least 1.
    method : {'constant', 'row', 'polynomial'}
        How the level was measured.

    Returns
    -------
    float
        Factor of at least 1; 1 where thousands of values make the level.

    Examples
    --------
    >>> round(overscan_noise_factor(16, "row"), 4), overscan_noise_factor(16, "constant")
    (1.0308, 1.0)
    """
    return float(np.sqrt(1.0 + 1.0 / columns)) if method == "row" else 1.0


def _row_level(row: NDArray[np.float64], clip_sigma: float) -> float:
    return clipped_mean(row, clip_sigma) if np.isfinite(row).any() else float("nan")


def _fit(rows: NDArray[np.float64], order: int, clip_sigma: float) -> NDArray[np.float64]:
    place = np.linspace(-1.0, 1.0, len(rows))
    used = np.isfinite(rows)
    fitted = rows
    for _ in range(MOST_ROUNDS):
        if np.count_nonzero(used) <= order:
            raise ValueError(
                f"{np.count_nonzero(used)} rows of overscan are too few for a polynomial of order {order}."
            )
        fitted = np.polynomial.Polynomial.fit(place[used], rows[used], order, domain=[-1.0, 1.0])(place)
        scatter = robust_scatter((rows - fitted)[used])
        near = np.isfinite(rows) & (np.abs(rows - fitted) <= max(clip_sigma * scatter, 1e-12))
        if scatter == 0 or (near == used).all() or np.count_nonzero(near) <= order:
            break
        used = near
    return np.asarray(fitted, dtype=np.float64)
