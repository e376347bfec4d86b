"""Frames on one grid and one sky level become one image with its variance, flags and coverage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.clipping import reject_outliers
from nightdesk.science.easy import Easy, easy_pixels
from nightdesk.science.flag import NO_DATA
from nightdesk.science.median import median_variance_factor, middle_values
from nightdesk.science.selection import combine_flags, select_values
from nightdesk.science.stack_variance import (
    full_mean_variance,
    full_median_variance,
    mean_variance,
    median_variance,
    sum_in_order,
)

Method = Literal["median", "clipped", "mean", "weighted"]

VALUES_AT_ONCE: Final = 200_000
"""Rows are combined in blocks of about so many values, which a processor's cache holds."""

Cube = NDArray[np.float64]
Planewise = Sequence[ArrayLike] | NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Combined:
    """Hold a combined image.

    Attributes
    ----------
    data : ndarray of float64, shape (ny, nx)
        Signal, in electrons; 0 where no frame has data.
    variance : ndarray of float64, shape (ny, nx)
        Variance of `data`, in electrons squared.
    flags : ndarray of uint16, shape (ny, nx)
        All flags of the values that were used.
    coverage : ndarray of uint16, shape (ny, nx)
        How many values were used.
    rejected : ndarray of uint16, shape (ny, nx)
        How many values were clipped.
    rejected_by_frame : ndarray of int, shape (n,)
        How many values of each frame were clipped.
    shared_variance : ndarray of float64, shape (ny, nx)
        The part of `variance` that came from the masters, which stacks of other nights may share; as if
        every frame had been used at every pixel.
    rejection_map : ndarray of bool, shape (n, ny, nx), or None
        Which they were, if it was asked for.
    """

    data: NDArray[np.float64]
    variance: NDArray[np.float64]
    flags: NDArray[np.uint16]
    coverage: NDArray[np.uint16]
    rejected: NDArray[np.uint16]
    rejected_by_frame: NDArray[np.intp]
    shared_variance: NDArray[np.float64]
    rejection_map: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Recipe:
    """Say what is the same for every block of rows; `recipe_of` checks it."""

    method: Method
    clip_sigma: float | None
    sigmas: NDArray[np.float64]
    weights: NDArray[np.float64]
    offset_groups: NDArray[np.intp]
    level: float | None
    tolerance: float


def combine_frames(
    images: Planewise,
    variances: Planewise,
    shared_variances: Planewise,
    flags: Planewise,
    *,
    offset_groups: ArrayLike,
    sigmas: ArrayLike,
    method: Method = "median",
    clip_sigma: float | None = 4.0,
    weights: ArrayLike | None = None,
    level: float | None = None,
    tolerance: float = 0.5,
    map_rejections: bool = False,
) -> Combined:
    r"""Combine frames of one sky, pixel by pixel.

    Parameters
    ----------
    images : array_like, shape (n, ny, nx), or sequence of n arrays
        Signal of each frame, in electrons, already on one grid and one sky level.
    variances : array_like, shape (n, ny, nx), or sequence of n arrays
        Whole variance of each frame, in electrons squared.
    shared_variances : array_like, shape (n, ny, nx), or sequence of n arrays
        The part of `variances` that the masters caused.
    flags : array_like of uint16, shape (n, ny, nx), or sequence of n arrays
        Flags of each frame.
    offset_groups : array_like of int, shape (n,)
        Equal for frames with the same masters at the same offset: their shared errors are the same.
    sigmas : array_like, shape (n,)
        Noise of the sky in each frame, in electrons
        (:func:`~nightdesk.science.sky.estimate_noise`): one figure per frame.
    method : {"median", "clipped", "mean", "weighted"}
        The median; the mean of what was not clipped; the plain mean of everything; or the mean of what
        was not clipped with one weight per frame.
    clip_sigma : float or None
        Leave out values that deviate from the median by more than this many predicted standard
        deviations. None keeps all. The plain mean never clips.
    weights : array_like, shape (n,), optional
        For "weighted" alone: one weight per frame, above 0; ``1 / sigmas**2`` if not given.
    level : float, optional
        Level of the sky in `images`, in electrons. It tells starlight from sky, for `tolerance`.
    tolerance : float
        Part of a star's signal by which frames may differ before a value is clipped; 0 or more.
    map_rejections : bool
        Also return which values were clipped, frame by frame.

    Returns
    -------
    Combined
        The stack. No value is NaN, no variance is negative.

    Raises
    ------
    ValueError
        If there is no frame, the shapes or numbers of frames differ, a figure per frame is missing or
        out of range, or the method is unknown.

    Notes
    -----
    A pixel uses every value without an excluding flag; where there is none it uses the least bad ones
    and is flagged with all that is known (:mod:`~nightdesk.science.selection`). Values are never weighted
    by variances estimated from the pixels themselves: at 5 electrons that is 14 % too low. Each pixel
    is computed from its own values alone, so that any split into rows gives the same bits.

    Examples
    --------
    >>> images = np.array([[[10.0]], [[12.0]], [[500.0]]])
    >>> noise, flags = np.full((3, 1, 1), 9.0), np.zeros((3, 1, 1), np.uint16)
    >>> stack = combine_frames(images, noise, 0 * noise, flags, offset_groups=[0, 1, 2], sigmas=[3, 3, 3])
    >>> stack.data, stack.variance, stack.rejected_by_frame
    (array([[11.]]), array([[4.5]]), array([0, 0, 1]))
    """
    shape = _checked_shape(images, variances, shared_variances, flags)
    recipe = recipe_of(
        len(images),
        offset_groups=offset_groups,
        sigmas=sigmas,
        method=method,
        clip_sigma=clip_sigma,
        weights=weights,
        level=level,
        tolerance=tolerance,
    )
    ny, nx = shape
    parts = []
    for rows in _blocks(ny, nx * len(images)):
        cubes = (_rows(images, rows), _rows(variances, rows), _rows(shared_variances, rows), _flag_rows(flags, rows))
        parts.append(combine_block(Cubes(*cubes), recipe, map_rejections=map_rejections))
    if len(parts) == 1:
        return parts[0]
    maps = [part.rejection_map for part in parts if part.rejection_map is not None]
    return Combined(
        data=np.concatenate([part.data for part in parts]),
        variance=np.concatenate([part.variance for part in parts]),
        flags=np.concatenate([part.flags for part in parts]),
        coverage=np.concatenate([part.coverage for part in parts]),
        rejected=np.concatenate([part.rejected for part in parts]),
        rejected_by_frame=np.sum([part.rejected_by_frame for part in parts], axis=0),
        shared_variance=np.concatenate([part.shared_variance for part in parts]),
        rejection_map=np.concatenate(maps, axis=1) if maps else None,
    )


Columns = tuple[Cube, Cube, Cube, NDArray[np.uint16]]


class Block(Protocol):
    """Some rows of all frames, on one grid and one sky level."""

    @property
    def n(self) -> int:
        """Number of frames."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the block."""
        ...

    def easy(self, recipe: Recipe, clip_sigma: float | None) -> Easy:
        """Return the easy pixels."""
        ...

    def mean(self, recipe: Recipe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weighted mean of all values of each pixel, and its variance."""
        ...

    def columns(self, places: NDArray[np.intp]) -> Columns:
        """Return the values of some pixels, counted row by row, shape (n, 1, pixels)."""
        ...


@dataclass(frozen=True, eq=False)
class Cubes:
    """Hold a block in memory: values, whole and shared variances and flags, each of shape (n, ny, nx)."""

    values: Cube
    variances: Cube
    shared: Cube
    flags: NDArray[np.uint16]

    @property
    def n(self) -> int:
        """Number of frames."""
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the block."""
        return self.values.shape[1], self.values.shape[2]

    def easy(self, recipe: Recipe, clip_sigma: float | None) -> Easy:
        """Return the easy pixels."""
        return easy_pixels(
            *(self.values, self.variances, self.shared, self.flags),
            clip_sigma=clip_sigma,
            sigmas=recipe.sigmas,
            level=recipe.level,
            tolerance=recipe.tolerance,
        )

    def mean(self, recipe: Recipe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weighted mean of all values of each pixel, and its variance."""
        mean = np.zeros(self.shape)
        for value, weight in zip(self.values, recipe.weights, strict=True):
            mean += weight * value
        total = sum_in_order(recipe.weights)
        return mean / (total if total > 0 else 1.0), full_mean_variance(
            self.variances, self.shared, weights=recipe.weights, offset_groups=recipe.offset_groups
        )

    def columns(self, places: NDArray[np.intp]) -> Columns:
        """Return the values of some pixels, counted row by row, shape (n, 1, pixels)."""
        return (
            _columns(self.values, places),
            _columns(self.variances, places),
            _columns(self.shared, places),
            _columns(self.flags, places),
        )


def combine_block(block: Block, recipe: Recipe, *, map_rejections: bool = False) -> Combined:
    """Combine some rows of all frames.

    Parameters
    ----------
    block : Block
        The rows.
    recipe : Recipe
        How.
    map_rejections : bool
        Also return which values were clipped, frame by frame.

    Returns
    -------
    Combined
        The rows of the stack.

    Notes
    -----
    Nearly all pixels are easy: no value is excluded, none can be clipped. Those are done together, the others by the
    plain functions.
    """
    clips = recipe.clip_sigma is not None and recipe.method != "mean" and block.n > 1
    with np.errstate(all="ignore"):  # values that are no numbers make a pixel hard
        easy = block.easy(recipe, recipe.clip_sigma if clips else None)
        if recipe.method == "median":
            data, variance = (
                easy.median,
                full_median_variance(
                    easy.independent, easy.common, sigmas=recipe.sigmas, offset_groups=recipe.offset_groups
                ),
            )
        else:
            data, variance = block.mean(recipe)
    coverage, rejected = np.full(block.shape, block.n, np.uint16), np.zeros(block.shape, np.uint16)
    by_frame = np.zeros(block.n, np.intp)
    rejection_map = np.zeros((block.n, *block.shape), bool) if map_rejections else None
    places = np.flatnonzero(easy.hard)
    if places.size:
        # a reduction over a single column would add in another order than one over many
        asked = places if places.size > 1 else np.repeat(places, 2)
        hard = _combine_hard(*_without_nonsense(*block.columns(asked)), recipe)
        planes: tuple[NDArray[Any], ...] = (data, variance, easy.joined, coverage, rejected)
        results: tuple[NDArray[Any], ...] = hard
        for plane, figures in zip(planes, results, strict=False):
            plane.flat[places] = figures[0, : places.size]
        clipped = hard[5][:, 0, : places.size]
        by_frame += np.count_nonzero(clipped, axis=1)
        if rejection_map is not None:
            rejection_map.reshape(block.n, -1)[:, places] = clipped
    with np.errstate(invalid="ignore"):
        shared = np.minimum(easy.common * _shared_factor(recipe), variance)
    return Combined(data, variance, easy.joined, coverage, rejected, by_frame, shared, rejection_map)


def _shared_factor(recipe: Recipe) -> float:
    """Return what makes of the frames' mean shared variance that of the stack.

    It is one over the number of different offsets, times what a median adds.
    """
    n = len(recipe.sigmas)
    sizes = np.unique_counts(recipe.offset_groups).counts
    groups = n**2 / int(np.sum(sizes**2))
    spread = 1.0
    if recipe.method == "median" and n > 1:
        spread += (median_variance_factor(n) - 1.0) * (groups - 1.0) / (n - 1)
    return spread / groups


_Number = TypeVar("_Number", bound=np.generic)


def _columns(cube: NDArray[_Number], columns: NDArray[np.intp]) -> NDArray[_Number]:
    """Return some pixels of all frames, shape (n, 1, pixels)."""
    flat = cube.reshape(len(cube), -1)
    return np.stack([plane[columns] for plane in flat])[:, None]


def _combine_hard(
    values: Cube, variances: Cube, shared: Cube, flags: NDArray[np.uint16], recipe: Recipe
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.uint16],
    NDArray[np.intp],
    NDArray[np.intp],
    NDArray[np.bool_],
]:
    """Return data, variance, flags, coverage and rejected of any pixels, and the values clipped."""
    used, doubtful = select_values(flags)
    clipped = np.zeros(used.shape, dtype=bool)
    if recipe.clip_sigma is not None and recipe.method != "mean" and len(values) > 1:
        clipped = reject_outliers(
            values,
            variances,
            used & ~doubtful,
            sigmas=recipe.sigmas,
            clip_sigma=recipe.clip_sigma,
            level=recipe.level,
            tolerance=recipe.tolerance,
        )
        used &= ~clipped
    joined = combine_flags(flags, used, doubtful)
    independent = np.maximum(variances - shared, 0.0)
    if recipe.method == "median":
        lower, upper = middle_values(values, used)
        data = 0.5 * (lower + upper)
        variance = median_variance(independent, shared, used, sigmas=recipe.sigmas, offset_groups=recipe.offset_groups)
    else:
        data = _weighted_mean(values, used, recipe.weights)
        variance = mean_variance(independent, shared, used, weights=recipe.weights, offset_groups=recipe.offset_groups)
    return data, variance, joined, np.count_nonzero(used, axis=0), np.count_nonzero(clipped, axis=0), clipped


def _weighted_mean(values: Cube, used: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    weight = np.where(used, weights[:, None, None], 0.0)
    total = np.sum(weight, axis=0)
    mean: NDArray[np.float64] = np.sum(weight * values, axis=0) / np.where(total > 0, total, 1.0)
    return mean


def _without_nonsense(
    values: Cube, variances: Cube, shared: Cube, flags: NDArray[np.uint16]
) -> tuple[Cube, Cube, Cube, NDArray[np.uint16]]:
    """Flag what is not a number as NO_DATA, so that one such value cannot spoil a pixel."""
    sound = np.isfinite(values) & np.isfinite(variances) & np.isfinite(shared)
    if not sound.all():
        flags = np.where(sound, flags, flags | NO_DATA).astype(np.uint16)
        values, variances, shared = (np.where(sound, cube, 0.0) for cube in (values, variances, shared))
    return values, np.maximum(variances, 0.0), np.maximum(shared, 0.0), flags


def _blocks(ny: int, values_per_row: int) -> Iterator[slice]:
    step = max(1, VALUES_AT_ONCE // max(values_per_row, 1))
    for start in range(0, ny, step):
        yield slice(start, min(start + step, ny))


def _rows(planes: Planewise, rows: slice) -> Cube:
    if isinstance(planes, np.ndarray):
        return np.asarray(planes[:, rows], dtype=np.float64)
    return np.stack([np.asarray(plane)[rows] for plane in planes], dtype=np.float64, casting="unsafe")


def _flag_rows(planes: Planewise, rows: slice) -> NDArray[np.uint16]:
    if isinstance(planes, np.ndarray):
        return np.asarray(planes[:, rows], dtype=np.uint16)
    return np.stack([np.asarray(plane)[rows] for plane in planes], dtype=np.uint16, casting="unsafe")


def _checked_shape(*cubes: Planewise) -> tuple[int, int]:
    numbers = {len(cube) for cube in cubes}
    if numbers == {0}:
        raise ValueError("There is no frame to combine.")
    if len(numbers) > 1:
        raise ValueError("Each frame needs an image, a variance, a shared variance and flags.")
    shapes = {np.shape(plane) for cube in cubes for plane in cube}
    if len(shapes) > 1:
        raise ValueError(f"Frames must be on one grid before they are combined; these have {sorted(shapes)}.")
    (shape,) = shapes
    if len(shape) != 2:
        raise ValueError(f"Each frame must have two dimensions (y, x), but these have {len(shape)}.")
    return shape[0], shape[1]


def recipe_of(
    n: int,
    *,
    offset_groups: ArrayLike,
    sigmas: ArrayLike,
    method: Method = "median",
    clip_sigma: float | None = 4.0,
    weights: ArrayLike | None = None,
    level: float | None = None,
    tolerance: float = 0.5,
) -> Recipe:
    """Check how frames are to be combined.

    Parameters
    ----------
    n : int
        Number of frames.
    offset_groups, sigmas : array_like, shape (n,)
        As for :func:`combine_frames`.
    method : {"median", "clipped", "mean", "weighted"}
        The same.
    clip_sigma : float or None
        The same.
    weights : array_like, shape (n,), optional
        The same.
    level : float, optional
        The same.
    tolerance : float
        The same.

    Returns
    -------
    Recipe
        For every block of rows.

    Raises
    ------
    ValueError
        If a figure per frame is missing or out of range, or the method is unknown.
    """
    if method not in get_args(Method):
        raise ValueError(f"The method can be {', '.join(get_args(Method))}, but not {method!r}.")
    if clip_sigma is not None and not clip_sigma > 0:
        raise ValueError(f"The clip must be above 0 standard deviations, but it is {clip_sigma}.")
    if method == "clipped" and clip_sigma is None:
        raise ValueError("A clipped mean needs the number of standard deviations at which to clip.")
    if not tolerance >= 0:
        raise ValueError(f"The tolerance must be 0 or more, but it is {tolerance}.")
    if weights is not None and method != "weighted":
        raise ValueError(f"Weights are for the weighted mean; the method is {method!r}.")
    noise = _per_frame(sigmas, n, "sigma")
    if not (np.isfinite(noise).all() and (noise >= 0).all()):
        raise ValueError("The sigma of each frame must be a number of 0 or more.")
    return Recipe(
        method,
        clip_sigma,
        noise,
        _weights(n, noise, weights) if method == "weighted" else np.ones(n),
        _per_frame(offset_groups, n, "offset group").astype(np.intp),
        level,
        tolerance,
    )


def _weights(n: int, sigmas: NDArray[np.float64], weights: ArrayLike | None) -> NDArray[np.float64]:
    if weights is None:
        if not (sigmas > 0).all():
            raise ValueError("Without weights the sigma of each frame must be above 0.")
        return np.asarray((sigmas.min() / sigmas) ** 2)
    given = _per_frame(weights, n, "weight")
    if not (np.isfinite(given).all() and (given > 0).all()):
        raise ValueError("The weight of each frame must be a number above 0.")
    return given


def _per_frame(figures: ArrayLike, n: int, name: str) -> NDArray[np.float64]:
    array = np.asarray(figures, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"There must be one {name} for each of the {n} frames; the shape is {array.shape}.")
    return array
