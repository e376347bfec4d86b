"""Parts of a large image: rows that stand for it where a figure of its sky is wanted, and small windows."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]

Look = Callable[[Places, Places, int], tuple[NDArray[Any], NDArray[np.uint16]]]
"""Returns data (electrons) and flags of square windows, shape (n, size, size), by their first rows and columns."""

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


def window_places(rows: Places, columns: Places, size: int) -> tuple[Places, Places]:
    """Return which pixels square windows have.

    Parameters
    ----------
    rows, columns : ndarray of int, shape (n,)
        The first of each window.
    size : int
        Pixels along a side.

    Returns
    -------
    y : ndarray of int, shape (n, size, 1)
        Rows of the windows' pixels.
    x : ndarray of int, shape (n, 1, size)
        Their columns; an image indexed with both has the shape (n, size, size).

    Examples
    --------
    >>> image = np.arange(12).reshape(3, 4)
    >>> image[window_places(np.array([1]), np.array([2]), 2)]
    array([[[ 6,  7],
            [10, 11]]])
    """
    side = np.arange(size)
    return (rows[:, None] + side)[:, :, None], (columns[:, None] + side)[:, None, :]


def look_at_each(window: Callable[[slice, slice], tuple[NDArray[Any], NDArray[np.uint16]]]) -> Look:
    """Return what gives several windows of what gives one.

    Parameters
    ----------
    window : callable
        Returns data (electrons) and flags of some rows and columns.

    Returns
    -------
    callable
        The same of one window after the other.
    """

    def _look(rows: Places, columns: Places, size: int) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        corners = zip(rows.tolist(), columns.tolist(), strict=True)
        parts = [window(slice(row, row + size), slice(column, column + size)) for row, column in corners]
        return np.stack([data for data, _ in parts]), np.stack([flags for _, flags in parts])

    return _look
