"""Lay a frame on a grid by a fraction of a pixel or a rotation: one interpolation, flags carried along."""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nightdesk.science.flag import EXCLUDING, NO_DATA
from nightdesk.science.planes import Planes
from nightdesk.science.transform import Transform

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

ORDER: Final = 3
SPOILT_WEIGHT: Final = 0.1
"""A resampled pixel bears a flag if more than this part of it comes from flagged ones."""

REACH: Final = 8
"""How far a value is felt in a cubic spline, in pixels, to one part in forty thousand."""


def turn_planes(planes: Planes) -> Planes:
    """Turn a frame by 180 degrees, exactly: no pixel changes its value.

    Parameters
    ----------
    planes : Planes
        The frame, shape (ny, nx).

    Returns
    -------
    Planes
        Pixel (x, y) is where (nx - 1 - x, ny - 1 - y) was.

    Examples
    --------
    >>> row = np.array([[1.0, 2.0, 3.0]])
    >>> turn_planes(Planes(row, row, row, np.zeros(row.shape, np.uint16))).data
    array([[3., 2., 1.]])
    """
    return Planes(
        np.ascontiguousarray(planes.data[::-1, ::-1]),
        np.ascontiguousarray(planes.variance[::-1, ::-1]),
        np.ascontiguousarray(planes.shared_variance[::-1, ::-1]),
        np.ascontiguousarray(planes.flags[::-1, ::-1]),
    )


def resample_planes(
    planes: Planes,
    transform: Transform,
    shape: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Planes:
    r"""Lay a frame on a grid by a transform that moves it by fractions of a pixel, turns or scales it.

    Parameters
    ----------
    planes : Planes
        The frame as it was taken, shape (ny, nx).
    transform : Transform
        From positions in the frame to positions in the reference frame.
    shape : tuple of int, optional
        Shape (ny, nx) of the grid; that of the frame if not given.
    origin : tuple of int
        Position (x, y) of the grid's first pixel in the reference frame, in pixels.

    Returns
    -------
    Planes
        Flux is kept. The variance is that of the single pixel; neighbours are no longer independent
        (see `correlation_factor`). Where there was no data: value 0, variance 0 and NO_DATA alone.

    Raises
    ------
    ValueError
        If the grid has no pixels.

    Notes
    -----
    One cubic spline through the pixels (``scipy.ndimage.affine_transform``, order 3). A flagged pixel
    would spoil all around it, so those with an excluding flag are first filled with the median of their
    good neighbours; each flag is carried by linear interpolation and set where its weight exceeds 0.1.
    At a fraction (u, v) of a pixel the value is :math:`\sum c_i(u) c_j(v) S_{ij}` with the cardinal spline
    `c`, so its variance is :math:`V \sum c_i^2(u) \sum c_j^2(v)` with the variance `V` interpolated linearly.

    Examples
    --------
    >>> image = np.zeros((16, 16))
    >>> image[8, 8] = 100.0
    >>> planes = Planes(image, image, 0 * image, np.zeros(image.shape, np.uint16))
    >>> moved = resample_planes(planes, Transform(dx=0.5))
    >>> float(moved.data.sum().round(3)), moved.data[8, 8:10].round(1)
    (100.0, array([60., 60.]))
    """
    ny, nx = planes.shape if shape is None else shape
    if ny < 1 or nx < 1:
        raise ValueError(f"The grid must have at least one pixel, but its shape is {(ny, nx)}.")
    matrix, offset = _to_frame(transform, origin)
    area = transform.scale**-2.0  # of a grid pixel, in pixels of the frame

    sampled = partial(_sampled, matrix=matrix, offset=offset, shape=(ny, nx))
    spoilt = (planes.flags & EXCLUDING) != 0
    outside = sampled(np.ones(planes.shape), 1) < 1.0 - SPOILT_WEIGHT
    smoothing = area**2 * _smoothing((ny, nx), matrix, offset)
    data = area * sampled(_filled(planes.data, spoilt), ORDER)
    variance = smoothing * sampled(_filled(planes.variance, spoilt), 1)
    shared = smoothing * sampled(_filled(planes.shared_variance, spoilt), 1)
    flags = _carried(planes.flags, sampled)
    empty = outside | ((flags & NO_DATA) != 0)
    flags[empty] = NO_DATA
    for plane in (data, variance, shared):
        plane[empty] = 0.0
    return Planes(data, variance, shared, flags)


def _sampled(plane: Image, order: int, *, matrix: Image, offset: Image, shape: tuple[int, int]) -> Image:
    """Return a plane on the grid; 0 where it does not reach."""
    result: Image = ndimage.affine_transform(
        plane, matrix, offset, output_shape=shape, order=order, mode="constant", cval=0.0
    )
    return result


def _to_frame(transform: Transform, origin: tuple[int, int]) -> tuple[Image, Image]:
    """Return matrix and offset, in the order (y, x), that take a grid pixel to the frame."""
    back = transform.after(Transform()).inverse()
    matrix = back.matrix[::-1, ::-1]
    x0, y0 = origin
    offset = matrix @ np.array([y0, x0], dtype=np.float64) + (back.dy, back.dx)
    return matrix, offset


def _filled(plane: Image, spoilt: Mask) -> Image:
    """Return a plane with its spoilt pixels filled by good neighbours, from near to far."""
    if not spoilt.any():
        return np.asarray(plane, dtype=np.float64)
    filled = np.where(spoilt, 0.0, plane)
    missing = spoilt.copy()
    for width in (3, 5, 9):
        good = ~missing
        rows, columns = np.nonzero(missing)
        if len(rows) == 0:
            return filled
        values, some = _medians(filled, good, rows, columns, width // 2)
        filled[rows[some], columns[some]] = values[some]
        missing[rows[some], columns[some]] = False
    filled[missing] = np.median(plane[~spoilt]) if (~spoilt).any() else 0.0
    return filled


def _medians(
    image: Image, good: Mask, rows: NDArray[np.intp], columns: NDArray[np.intp], reach: int
) -> tuple[Image, Mask]:
    """Return the median of the good pixels around each of some pixels, and whether there are any."""
    ny, nx = image.shape
    steps = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    values = np.empty((len(steps), len(rows)))
    for number, (dy, dx) in enumerate(steps):
        y, x = np.clip(rows + dy, 0, ny - 1), np.clip(columns + dx, 0, nx - 1)
        values[number] = np.where(good[y, x], image[y, x], np.nan)
    some = np.asarray(np.isfinite(values).any(axis=0))
    medians = np.zeros(len(rows))
    medians[some] = np.nanmedian(values[:, some], axis=0)
    return medians, some


def _carried(flags: NDArray[np.uint16], sampled: Callable[[Image, int], Image]) -> NDArray[np.uint16]:
    """Return the flags on the grid, bit by bit."""
    present = int(np.bitwise_or.reduce(flags, axis=None)) if flags.size else 0
    carried = None
    for bit in (1 << number for number in range(16)):
        if not present & bit:
            continue
        weight = sampled(((flags & bit) != 0).astype(np.float64), 1)
        plane = np.where(weight > SPOILT_WEIGHT, np.uint16(bit), np.uint16(0))
        carried = plane if carried is None else carried | plane
    if carried is None:
        carried = np.zeros(sampled(np.zeros(flags.shape), 1).shape, dtype=np.uint16)
    return np.asarray(carried, dtype=np.uint16)


def _cardinal_weights(fraction: Image) -> Image:
    """Return the weights of the pixels around a point, at a fraction of a pixel: shape (2 * REACH, n)."""
    pole = np.sqrt(3.0) - 2.0
    near = np.arange(-REACH - 2, REACH + 3)
    direct = -6.0 * pole / (1.0 - pole**2) * pole ** np.abs(near)  # coefficients of an impulse
    steps = np.arange(1 - REACH, REACH + 1)
    weights = np.zeros((len(steps), len(fraction)))
    for k, step in enumerate(steps):
        distance = fraction[None, :] - step - near[:, None]
        weights[k] = direct @ _cubic(np.abs(distance))
    return weights


def _cubic(t: Image) -> Image:
    """Return the cubic B-spline."""
    inner = 2.0 / 3.0 - t**2 * (1.0 - t / 2.0)
    outer = np.maximum(2.0 - t, 0.0) ** 3 / 6.0
    return np.asarray(np.where(t < 1.0, inner, outer))


def spline_smoothing(fraction: float) -> float:
    """Return by how much a cubic spline lowers the variance of white noise along one axis.

    Parameters
    ----------
    fraction : float
        Part of a pixel by which it is moved, from 0 to 1.

    Returns
    -------
    float
        1 for whole pixels, less between them.

    Examples
    --------
    >>> round(spline_smoothing(0.0), 3), round(spline_smoothing(0.5), 3)
    (1.0, 0.756)
    """
    return float(np.sum(_cardinal_weights(np.array([fraction])) ** 2))


_FRACTIONS = np.linspace(0.0, 1.0, 101)
_SMOOTHING = np.sum(_cardinal_weights(_FRACTIONS) ** 2, axis=0)


def _smoothing(shape: tuple[int, int], matrix: Image, offset: Image) -> Image:
    """Return the sum of the squared weights with which each grid pixel is made."""
    y, x = np.indices(shape, sparse=True)
    rows = matrix[0, 0] * y + matrix[0, 1] * x + offset[0]
    columns = matrix[1, 0] * y + matrix[1, 1] * x + offset[1]
    return np.asarray(
        np.interp(rows - np.floor(rows), _FRACTIONS, _SMOOTHING)
        * np.interp(columns - np.floor(columns), _FRACTIONS, _SMOOTHING)
    )


def correlation_factor(
    transform: Transform, shape: tuple[int, int] | None = None, origin: tuple[int, int] = (0, 0)
) -> float:
    """Return by what the variance of a large area exceeds the sum of its pixels' variances.

    Parameters
    ----------
    transform : Transform
        By which a frame was resampled.
    shape : tuple of int, optional
        Shape (ny, nx) of the grid; without it the frame is taken as only moved.
    origin : tuple of int
        Position (x, y) of the grid's first pixel in the reference frame, in pixels.

    Returns
    -------
    float
        1 for whole pixels, up to 1.75: interpolation moves noise between neighbours and loses none.

    Examples
    --------
    >>> round(correlation_factor(Transform(dx=0.5, dy=0.5)), 2), round(correlation_factor(Transform(dx=3.0)), 2)
    (1.75, 1.0)
    """
    matrix, offset = _to_frame(transform, origin)
    ny, nx = shape or (1, 1)
    coarse = (np.arange(0, ny, max(1, ny // 64)), np.arange(0, nx, max(1, nx // 64)))
    y, x = np.meshgrid(*coarse, indexing="ij")
    rows = matrix[0, 0] * y + matrix[0, 1] * x + offset[0]
    columns = matrix[1, 0] * y + matrix[1, 1] * x + offset[1]
    factors = np.interp(rows % 1.0, _FRACTIONS, _SMOOTHING) * np.interp(columns % 1.0, _FRACTIONS, _SMOOTHING)
    return float(1.0 / np.mean(factors))
