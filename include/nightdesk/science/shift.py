"""Whole-pixel shifts on to the grid of the reference frame; nothing wraps around."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from nightdesk.science.flag import NO_DATA
from nightdesk.science.planes import Planes

Footprint = Literal["first", "intersection", "union"]


def whole_pixels(difference: float) -> int:
    """Round a shift to whole pixels, halves upwards.

    Parameters
    ----------
    difference : float
        Position in the reference frame minus position in this frame, in pixels.

    Returns
    -------
    int
        ``floor(difference + 0.5)``, in pixels.

    Raises
    ------
    ValueError
        If the difference is not a finite number.

    Examples
    --------
    >>> whole_pixels(2.5), whole_pixels(-2.5), whole_pixels(-0.4)
    (3, -2, 0)
    """
    if not math.isfinite(difference):
        raise ValueError(f"A shift must be a number of pixels, but it is {difference}.")
    return math.floor(difference + 0.5)


def shift_planes(
    planes: Planes,
    dx: int,
    dy: int,
    shape: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Planes:
    """Lay a frame on a grid, moved by whole pixels.

    Parameters
    ----------
    planes : Planes
        The frame as it was taken, shape (ny, nx).
    dx, dy : int
        Shift to the reference frame, in pixels: a star at x here is at x + dx there.
    shape : tuple of int, optional
        Shape (ny, nx) of the grid; that of the frame if not given.
    origin : tuple of int
        Position (x, y) of the grid's first pixel in the reference frame, in pixels.

    Returns
    -------
    Planes
        The overlap is copied; the rest has value 0, variance 0 and the flag NO_DATA alone.

    Raises
    ------
    ValueError
        If the grid has no pixels.

    Examples
    --------
    >>> row = np.array([[1.0, 2.0, 3.0]])
    >>> planes = Planes(row, row, 0 * row, np.zeros(row.shape, np.uint16))
    >>> shifted = shift_planes(planes, 1, 0)
    >>> shifted.data, shifted.flags
    (array([[0., 1., 2.]]), array([[16,  0,  0]], dtype=uint16))
    """
    ny, nx = planes.shape if shape is None else shape
    if ny < 1 or nx < 1:
        raise ValueError(f"The grid must have at least one pixel, but its shape is {(ny, nx)}.")
    x0, y0 = origin
    rows_to, rows_from = _overlap(planes.shape[0], ny, dy - y0)
    columns_to, columns_from = _overlap(planes.shape[1], nx, dx - x0)
    there, here = (rows_to, columns_to), (rows_from, columns_from)

    data, variance, shared = (np.zeros((ny, nx)) for _ in range(3))
    flags = np.full((ny, nx), NO_DATA, dtype=np.uint16)
    data[there] = planes.data[here]
    variance[there] = planes.variance[here]
    shared[there] = planes.shared_variance[here]
    flags[there] = planes.flags[here]
    return Planes(data, variance, shared, flags)


def _overlap(length: int, grid_length: int, shift: int) -> tuple[slice, slice]:
    """Return where a line of pixels lands on the grid, and which of its pixels land there."""
    start = min(max(shift, 0), grid_length)
    stop = max(min(shift + length, grid_length), start)
    return slice(start, stop), slice(start - shift, stop - shift) if stop > start else slice(0, 0)


def footprint(
    shapes: Sequence[tuple[int, int]],
    offsets: Sequence[tuple[int, int]],
    how: Footprint = "first",
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the grid on which shifted frames are combined.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Shape (ny, nx) of each frame; the first is the reference frame.
    offsets : sequence of tuple of int
        Shift (dx, dy) of each frame to the reference frame, in pixels.
    how : {"first", "intersection", "union"}
        The reference frame's own grid, the pixels that all frames have, or those that any has.

    Returns
    -------
    shape : tuple of int
        Shape (ny, nx) of the grid.
    origin : tuple of int
        Position (x, y) of its first pixel in the reference frame, in pixels.

    Raises
    ------
    ValueError
        If there is no frame, the numbers of shapes and offsets differ, the frames have no pixel in
        common where `how` asks for it, or `how` is another word.

    Examples
    --------
    >>> footprint([(10, 20), (10, 20)], [(0, 0), (3, -2)], "intersection")
    ((8, 17), (3, 0))
    >>> footprint([(10, 20), (10, 20)], [(0, 0), (3, -2)], "union")
    ((12, 23), (0, -2))
    """
    if not shapes or len(shapes) != len(offsets):
        raise ValueError(f"There are {len(shapes)} shapes and {len(offsets)} offsets of frames.")
    if how == "first":
        return (shapes[0][0], shapes[0][1]), (0, 0)
    left = [dx for dx, _ in offsets]
    bottom = [dy for _, dy in offsets]
    right = [dx + nx for (dx, _), (_, nx) in zip(offsets, shapes, strict=True)]
    top = [dy + ny for (_, dy), (ny, _) in zip(offsets, shapes, strict=True)]
    if how == "union":
        origin = min(left), min(bottom)
        return (max(top) - origin[1], max(right) - origin[0]), origin
    if how != "intersection":
        raise ValueError(f"The footprint can be first, intersection or union, but not {how!r}.")
    origin = max(left), max(bottom)
    shape = min(top) - origin[1], min(right) - origin[0]
    if min(shape) < 1:
        raise ValueError("The frames have no pixel in common: check the positions, or combine their union.")
    return shape, origin
