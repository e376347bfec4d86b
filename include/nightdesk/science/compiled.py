"""The inner loops in C (compiled.c), where the set-up found a compiler; without them plain numpy does the same."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.network import middle_places, network

if TYPE_CHECKING:
    from collections.abc import Sequence

SWITCH = "NIGHTDESK_COMPILED"
"""Set to 0 in the environment, plain numpy is used. It decides no number: both give the same bits."""


VERSION = 6  # that of compiled.c


def _load() -> ctypes.CDLL | None:
    if os.environ.get(SWITCH) == "0" or sys.byteorder != "little":
        return None
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_compiled{suffix}")
        if path.is_file():
            try:
                library = ctypes.CDLL(str(path))
                return library if library.nd_version() == VERSION else None  # else it was built from other sources
            except (OSError, AttributeError):
                return None  # of another machine or system, or from before there were versions
    return None


_library = _load()


def available() -> bool:
    """Tell whether the compiled loops are used.

    Returns
    -------
    bool
        False where there are none, or the environment says ``NIGHTDESK_COMPILED=0``.
    """
    return _library is not None


def _at(array: Any) -> Any:
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def _size(number: int) -> Any:
    return ctypes.c_ssize_t(number)


def _real(number: float) -> Any:
    return ctypes.c_double(number)


def _with_solid_planes(cube: NDArray[Any]) -> NDArray[Any]:
    """Return a cube whose planes are contiguous, as those of a block of rows of a cube are already."""
    return cube if cube[0].flags.c_contiguous and cube.strides[0] > 0 else np.ascontiguousarray(cube)


def _steps(n: int, *, masked: bool) -> NDArray[np.int32]:
    lower, upper = middle_places(n)
    wanted = {lower, upper} | ({lower - 1} if masked and n % 2 and n > 1 else set())
    return network(n, frozenset(wanted))


def _call(name: str, *arguments: Any) -> None:
    function = getattr(_library, name)
    if function(*arguments):
        raise MemoryError(f"{name} got no memory for its values.")


def middle_values(
    values: NDArray[np.float64], used: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Do what :func:`nightdesk.science.median.middle_values` does.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        One value per frame, contiguous.
    used : ndarray of bool, shape (n, ...), or None
        Which values count; None for all.

    Returns
    -------
    lower, upper : ndarray, shape (...)
        The two middle values.
    """
    n, size = len(values), values[0].size
    steps = _steps(n, masked=used is not None)
    lower, upper = np.empty(values.shape[1:]), np.empty(values.shape[1:])
    counted = None if used is None else np.ascontiguousarray(used)
    solid = np.ascontiguousarray(values, dtype=np.float64)
    pointers = (_at(solid), _at(counted), _size(n), _size(size), _at(steps), _size(len(steps)))
    _call("nd_middle", *pointers, _at(lower), _at(upper))
    return lower, upper


def lower_middle(values: NDArray[np.float64], used: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the lower middle value of each pixel among those in use, and its place.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        One value per frame, none of which is NaN.
    used : ndarray of bool, shape (n, ...)
        Which values count.

    Returns
    -------
    middle : ndarray, shape (...)
        The value; that of the first frame where nothing is in use.
    place : ndarray of int, shape (...)
        Which frame's it is: of equal ones they count from the first frame on.
    """
    middle, place = np.empty(values.shape[1:]), np.empty(values.shape[1:], np.int64)
    solid, counted = np.ascontiguousarray(values, dtype=np.float64), np.ascontiguousarray(used)
    size = (_size(len(values)), _size(middle.size))
    _call("nd_lower_middle", _at(solid), _at(counted), *size, _at(middle), _at(place))
    return middle, place


class Camera(ctypes.Structure):
    """What is done to each pixel of a frame: gain, noise and extinction, then the scale and level of its sky."""

    _fields_ = (
        *((name, ctypes.c_double) for name in ("gain", "noise_squared", "saturation", "factor", "square")),
        *((name, ctypes.c_double) for name in ("zero", "scale", "sky")),
        ("single", ctypes.c_int32),
    )

    @classmethod
    def of(
        cls, gain: float, read_noise: float, saturation: float | None, factor: float = 1.0, *, single: bool = False
    ) -> Camera:
        """Return what is done to a frame by itself.

        Parameters
        ----------
        gain, read_noise : float
            In e-/ADU and e-.
        saturation : float or None
            In ADU.
        factor : float
            The correction for extinction.
        single : bool
            Round to float32 after each correction, as products on disk do.

        Returns
        -------
        Camera
            With stored numbers as they are, on its own scale and sky.
        """
        limit = np.inf if saturation is None else saturation
        return cls(gain, read_noise * read_noise, limit, factor, factor**2, 0.0, 1.0, 0.0, single)


class _Rule(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("clip_sigma", "least_ratio", "level", "tolerance", "least_deviation")),
        *((name, ctypes.c_void_p) for name in ("skies", "deviations")),
        ("clip", ctypes.c_int32),
        ("has_level", ctypes.c_int32),
    )


class _Source(ctypes.Structure):
    _fields_ = (
        ("stored", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        *((name, ctypes.c_ssize_t) for name in ("first", "count", "nx", "dx", "dy")),
        ("how", Camera),
    )


class _Plane(ctypes.Structure):
    _fields_ = (("pixels", ctypes.c_void_p), ("is_float", ctypes.c_int32))


class _Results(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("median", "independent", "common", "joined", "hard"))


Easies = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.uint16], NDArray[np.bool_]]


def _judged(
    name: str,
    shape: tuple[int, ...],
    arguments: Sequence[Any],
    n: int,
    *,
    clip_sigma: float | None,
    least_ratio: float,
    level: float | None,
    tolerance: float,
    skies: NDArray[np.float64] | None,
    deviations: NDArray[np.float64] | None,
) -> Easies:
    """Call a function that fills the planes of easy pixels."""
    steps = _steps(n, masked=False)
    median, independent, common = (np.empty(shape) for _ in range(3))
    planes = (median, independent, common, np.empty(shape, np.uint16), np.empty(shape, np.bool_))
    rule = _Rule(
        *(clip_sigma or 0.0, least_ratio, level or 0.0, tolerance),
        0.0 if deviations is None else float(deviations.min()),
        *(None if plane is None else plane.ctypes.data for plane in (skies, deviations)),
        *(clip_sigma is not None, level is not None),
    )
    results = _Results(*(plane.ctypes.data for plane in planes))
    _call(name, *arguments, _at(steps), _size(len(steps)), ctypes.byref(rule), ctypes.byref(results))
    return planes


def easy_pixels(
    values: NDArray[np.float64],
    variances: NDArray[np.float64],
    shared: NDArray[np.float64],
    flags: NDArray[np.uint16],
    **rule: Any,
) -> Easies:
    """Do what :func:`nightdesk.science.easy.easy_pixels` does.

    Parameters
    ----------
    values, variances, shared : ndarray, shape (n, ...)
        Of each frame.
    flags : ndarray of uint16, shape (n, ...)
        Of each frame.
    **rule : float, ndarray or None
        As :func:`nightdesk.science.easy.clip_rule` gives it.

    Returns
    -------
    median, independent, common, joined, hard : ndarray, shape (...)
        As there.
    """
    n, shape, size = len(values), values.shape[1:], values[0].size
    cubes = [_with_solid_planes(cube) for cube in (values, variances, shared, flags)]
    strided = (argument for cube in cubes for argument in (_at(cube), _size(cube.strides[0] // cube.itemsize)))
    return _judged("nd_easy", shape, (*strided, _size(n), _size(size)), n, **rule)


@dataclass(frozen=True)
class RowsOfMasters:
    """Where the rows of prepared masters stand in memory: an address a row and plane, and what keeps them there."""

    addresses: NDArray[np.uintp]
    kept: Sequence[Any]

    @classmethod
    def of(cls, planes: Sequence[NDArray[Any]]) -> RowsOfMasters:
        """Return the rows of prepared masters.

        Parameters
        ----------
        planes : sequence of ndarray, shape (rows, nx)
            As :class:`~nightdesk.science.isr.Prepared` has them.

        Returns
        -------
        RowsOfMasters
            From the bottom up.
        """
        rows = np.arange(len(planes[0]), dtype=np.uintp)
        return cls(np.stack([plane.ctypes.data + rows * plane.strides[0] for plane in planes], axis=1), planes)

    @classmethod
    def joined(cls, parts: Sequence[RowsOfMasters]) -> RowsOfMasters:
        """Return the rows of several, one after the other.

        Parameters
        ----------
        parts : sequence of RowsOfMasters
            From the bottom up.

        Returns
        -------
        RowsOfMasters
            All of them; none where there is no part.
        """
        none = np.empty((0, 7), np.uintp)
        return cls(np.concatenate([none, *(part.addresses for part in parts)]), parts)

    def part(self, first: int, last: int) -> RowsOfMasters:
        """Return some of the rows.

        Parameters
        ----------
        first, last : int
            As in a slice.

        Returns
        -------
        RowsOfMasters
            Those rows.
        """
        return RowsOfMasters(self.addresses[first:last], self.kept)


@dataclass(frozen=True)
class Laid:
    """Stored rows of a frame (big-endian int16) that lie on a grid, with the masters of these rows.

    `first` is the number of the first row at hand; the frame's first column and row lie at `dx`, `dy` of the grid.
    """

    stored: NDArray[Any]
    masters: RowsOfMasters
    first: int
    dx: int
    dy: int
    camera: Camera

    @property
    def _source(self) -> _Source:
        count, nx = self.stored.shape
        stored, rows = self.stored.ctypes.data, self.masters.addresses.ctypes.data
        return _Source(stored, rows, self.first, count, nx, self.dx, self.dy, self.camera)


def laid_easy_pixels(frames: Sequence[Laid], rows: slice, nx: int, **rule: Any) -> Easies:
    """Do what `calibrate` and `easy_pixels` do one after the other, for rows of a grid.

    Parameters
    ----------
    frames : sequence of Laid
        With what they have of these rows.
    rows : slice
        Rows of the grid.
    nx : int
        Its columns.
    **rule : float, ndarray or None
        As for `easy_pixels`.

    Returns
    -------
    median, independent, common, joined, hard : ndarray, shape (rows, nx)
        As there.
    """
    n, shape = len(frames), (rows.stop - rows.start, nx)
    sources = (_Source * n)(*(frame._source for frame in frames))
    return _judged("nd_stack", shape, (sources, *map(_size, (n, rows.start, *shape))), n, **rule)


def laid_columns(
    frames: Sequence[Laid], first: int, nx: int, places: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.uint16]]:
    """Return what frames have at some pixels.

    Parameters
    ----------
    frames : sequence of Laid
        With what they have of these rows.
    first : int
        The row of the grid from which `places` count.
    nx : int
        Columns of the grid.
    places : ndarray of int, shape (m,)
        Pixels, counted row by row.

    Returns
    -------
    values, variances, shared, flags : ndarray, shape (n, 1, m)
        On the grid's scale and sky.
    """
    assert _library is not None
    n, wanted = len(frames), np.ascontiguousarray(places, np.int64)
    values, variances, shared = (np.empty((n, 1, wanted.size)) for _ in range(3))
    flags = np.empty((n, 1, wanted.size), np.uint16)
    sources = (_Source * n)(*(frame._source for frame in frames))
    _library.nd_columns.restype = None
    _library.nd_columns(
        sources,
        *map(_size, (n, first, nx)),
        *(_at(wanted), _size(wanted.size)),
        *map(_at, (values, variances, shared, flags)),
    )
    return values, variances, shared, flags


def laid_rows(
    strips: Sequence[Laid], rows: Sequence[slice], nx: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.uint16]]:
    """Return what one frame has of some strips of rows, one after the other.

    Parameters
    ----------
    strips : sequence of Laid
        What it has of each.
    rows : sequence of slice
        Their rows of the grid.
    nx : int
        Columns of the grid.

    Returns
    -------
    data, variance : ndarray, shape (rows of all strips, nx)
        In float32 where the camera's figures are rounded to it.
    flags : ndarray of uint16, shape (rows of all strips, nx)
        Of each pixel.
    """
    assert _library is not None
    shape = (sum(part.stop - part.start for part in rows), nx)
    kind = np.float32 if strips[0].camera.single else np.float64
    data, variance, flags = np.empty(shape, kind), np.empty(shape, kind), np.empty(shape, np.uint16)
    sources = (_Source * len(strips))(*(strip._source for strip in strips))
    bounds = np.array([(part.start, part.stop) for part in rows], np.int64)
    _library.nd_sample.restype = None
    _library.nd_sample(sources, _size(len(strips)), _at(bounds), _size(nx), *map(_at, (data, variance, flags)))
    return data, variance, flags


def find_objects(
    image: NDArray[Any], sound: NDArray[np.bool_] | None, *, level: float, limit: float, growth: int
) -> NDArray[np.bool_]:
    """Do what :func:`nightdesk.science.object_mask.find_objects` does.

    Parameters
    ----------
    image : ndarray of float32 or float64, shape (ny, nx)
        Signal, contiguous.
    sound : ndarray of bool, shape (ny, nx), or None
        Pixels whose value is good; None for all.
    level, limit : float
        Of the sky, and by how much the mean around a pixel has to be above it.
    growth : int
        Steps up, down or aside.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        The objects.
    """
    objects = np.empty(image.shape, np.bool_)
    plane = _Plane(image.ctypes.data, image.dtype == np.float32)
    figures = (*map(_size, image.shape), _real(level), _real(limit), _size(growth))
    _call("nd_objects", ctypes.byref(plane), _at(sound), *figures, _at(objects))
    return objects


def smooth(image: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Do what :func:`nightdesk.science.smoothing.smooth` does, with the weights from the middle outwards.

    Parameters
    ----------
    image : ndarray of float32, shape (ny, nx)
        Contiguous.
    weights : ndarray, shape (reach + 1,)
        Of a pixel and of those on either side.

    Returns
    -------
    ndarray of float32, shape (ny, nx)
        The smoothed image.
    """
    smoothed = np.empty_like(image)
    sizes = (*map(_size, image.shape), _at(weights), _size(len(weights) - 1))
    _call("nd_smooth", _at(image), *sizes, _at(smoothed))
    return smoothed


def median_variance(
    independent: NDArray[np.float64],
    common: NDArray[np.float64],
    table: NDArray[np.float64] | None,
    *,
    sky: float,
    single: float,
    groups: float,
    spread: float,
) -> NDArray[np.float64]:
    """Do the last step of :func:`nightdesk.science.stack_variance.full_median_variance`.

    Parameters
    ----------
    independent, common : ndarray, shape (ny, nx)
        As there, contiguous.
    table : ndarray, shape (nodes + 1,), or None
        What unequal noise makes of a variance, by the share of the sky in it; None where all are equally noisy.
    sky : float
        Variance of the sky, in electrons squared.
    single, groups, spread : float
        Factor of the first variance, divisor of the other one, and what a median adds to that.

    Returns
    -------
    ndarray, shape (ny, nx)
        Variance of the median, in electrons squared.
    """
    assert _library is not None
    variance = np.empty(independent.shape)
    places = (_at(independent), _at(common), _size(variance.size), _at(table))
    figures = (_size(0 if table is None else len(table) - 1), *map(_real, (sky, single, groups, spread)))
    _library.nd_median_variance.restype = None
    _library.nd_median_variance(*places, *figures, _at(variance))
    return variance


def erf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the error function, that of ``math``.

    Parameters
    ----------
    values : ndarray of float64, shape (...)
        Any numbers.

    Returns
    -------
    ndarray, shape (...)
        From -1 to 1.
    """
    assert _library is not None
    solid = np.ascontiguousarray(values, dtype=np.float64)
    results = np.empty_like(solid)
    _library.nd_erf.restype = None
    _library.nd_erf(_at(solid), _size(solid.size), _at(results))
    return results


def notebook_rows(
    raws: Sequence[NDArray[Any]],
    rows: NDArray[np.int32],
    *,
    zero: float,
    bias: NDArray[Any],
    flat: NDArray[Any],
    gains: NDArray[np.float64],
    factors: NDArray[np.float64],
    dx: NDArray[np.int32],
    data: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Calibrate, roll and combine a block of rows as the notebook did.

    Parameters
    ----------
    raws : sequence of ndarray of big-endian int16, shape (rows, nx)
        Of each frame, as stored, the rows that roll into the block.
    rows : ndarray of int32, shape (n, rows)
        Their numbers in the frame.
    zero : float
        What the stored numbers lack (BZERO), in ADU.
    bias, flat : ndarray of float32 or both of float64, shape (ny, nx)
        The masters, contiguous.
    gains, factors : ndarray, shape (n,)
        Of each frame: e-/ADU, and the correction for extinction.
    dx : ndarray of int32, shape (n,)
        By how many columns each is rolled.
    data, variance : ndarray, shape (rows, nx)
        Filled with the medians, the second over the number of frames.

    Returns
    -------
    ndarray of bool, shape (rows, nx)
        Where a value is no finite number: to be done by numpy, which knows what a median of such is.
    """
    n, (height, nx) = len(raws), data.shape
    steps = _steps(n, masked=False)
    strange = np.empty(data.shape, np.bool_)
    places = (ctypes.c_void_p * n)(*(raw.ctypes.data for raw in raws))
    _call(
        "nd_notebook",
        places,
        _at(rows),
        *map(_size, (n, height, nx)),
        _real(zero),
        *(ctypes.byref(_Plane(each.ctypes.data, each.dtype == np.float32)) for each in (bias, flat)),
        *map(_at, (gains, factors, dx, steps)),
        _size(len(steps)),
        *map(_at, (data, variance, strange)),
    )
    return strange


def calibrate(
    counts: NDArray[np.float64], masters: Sequence[NDArray[Any]], camera: Camera, out: Sequence[NDArray[Any]]
) -> None:
    """Do what `remove_signature` and `correct_extinction` do, with prepared masters.

    Parameters
    ----------
    counts : ndarray, shape (rows, nx)
        In ADU, finite.
    masters : sequence of ndarray, shape (rows, nx)
        As :class:`~nightdesk.science.isr.Prepared` has them.
    camera : Camera
        Of the frame.
    out : sequence of ndarray, shape (rows, nx)
        Contiguous; filled with data, variance, shared variance and flags.
    """
    assert _library is not None
    addresses = np.array([plane.ctypes.data for plane in masters], np.uintp)
    _library.nd_calibrate.restype = None
    _library.nd_calibrate(_at(counts), _size(counts.size), _at(addresses), ctypes.byref(camera), *map(_at, out))
