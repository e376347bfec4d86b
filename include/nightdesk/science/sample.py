"""Rows that stand for a large image, where a figure of its sky is wanted and not its pixels."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

ENOUGH: Final = 2**18
"""Pixels that tell the level of the sky to a five-hundredth of its noise."""

STRIP: Final = 16
"""Rows that are taken together, so that objects are found in them as in the whole image."""


def sample_rows(shape: tuple[int, int]) -> list[slice]:
    """Choose strips of rows, spread evenly over an image.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the image.

    Returns
    -------
    list of slice
        From the bottom up; the whole image in one where it has less than twice as many pixels as are enough.

    Examples
    --------
    >>> sample_rows((512, 512))
    [slice(0, 512, None)]
    >>> sum(rows.stop - rows.start for rows in sample_rows((4096, 4096)))
    128
    """
    ny, nx = shape
    count = max(8, -(-ENOUGH // (STRIP * max(nx, 1))))
    if ny * nx <= 2 * ENOUGH or count * STRIP >= ny:
        return [slice(0, ny)]
    starts = np.rint((np.arange(count) + 0.5) * ny / count - STRIP / 2).astype(int)
    return [slice(start, start + STRIP) for start in starts.tolist()]


def join_rows(plane: NDArray[Any], rows: Sequence[slice]) -> NDArray[Any]:
    """Lay strips of rows one below the other.

    Parameters
    ----------
    plane : ndarray, shape (ny, ...)
        An image.
    rows : sequence of slice
        The strips, at least one.

    Returns
    -------
    ndarray, shape (rows of all strips, ...)
        A single one as it stands in the image.

    Examples
    --------
    >>> join_rows(np.arange(6), [slice(0, 2), slice(4, 5)])
    array([0, 1, 4])
    """
    return plane[rows[0]] if len(rows) == 1 else np.concatenate([plane[part] for part in rows])
