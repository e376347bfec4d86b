"""The level and the noise of the sky in a frame."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.flag import EXCLUDING, SATURATED
from nightdesk.science.object_mask import find_objects
from nightdesk.science.sample import ENOUGH, join_rows, sample_rows
from nightdesk.science.scatter import scatter_of_sorted

CLIP_SIGMA = 3.0
LARGEST_OBJECT_SHARE = 0.7


def estimate_sky(image: ArrayLike, flags: ArrayLike | None = None) -> tuple[float, float]:
    r"""Estimate the level of the sky and its pixel-to-pixel scatter, outside objects.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Signal, in electrons.
    flags : array_like of uint16, shape (ny, nx), optional
        Excluded and saturated pixels are left out.

    Returns
    -------
    level, sigma : float
        Level and standard deviation of the sky, in electrons.

    Raises
    ------
    ValueError
        If the shapes differ or no pixel is left.

    Notes
    -----
    Values beyond three robust standard deviations of the median are left out until nothing changes;
    then objects are found in the smoothed image and left out too, and the level is the mean of what
    lies within three standard deviations. The mean, unlike the median, is not held to the steps in
    which a detector counts. Objects that cover most of the image cannot be told from the sky. Of a large
    image strips of rows are looked at (:func:`~nightdesk.science.sample.sample_rows`).

    Examples
    --------
    >>> image = np.random.default_rng(1).normal(200.0, 15.0, (64, 64))
    >>> image[20:24, 30:34] += 5000.0
    >>> level, sigma = estimate_sky(image)
    >>> round(level), round(sigma)
    (200, 15)
    """
    signal = np.asarray(image)
    bits = None if flags is None else np.asarray(flags)
    if bits is not None and bits.shape != signal.shape:
        raise ValueError(f"The image has the shape {signal.shape}, its flags {bits.shape}.")
    return sky_of_rows(
        lambda rows: (join_rows(signal, rows), None if bits is None else join_rows(bits, rows)), signal.shape
    )


Look = Callable[[Sequence[slice]], tuple[NDArray[Any], NDArray[Any] | None]]
"""Returns strips of rows of an image, one below the other, and of its flags."""


def sky_of_rows(look: Look, shape: tuple[int, ...]) -> tuple[float, float]:
    """Do what :func:`estimate_sky` does for an image that is made row by row.

    Parameters
    ----------
    look : callable
        Returns strips of rows of the image and of its flags.
    shape : tuple of int
        Shape (ny, nx) of the image.

    Returns
    -------
    level, sigma : float
        Level and standard deviation of the sky, in electrons.

    Raises
    ------
    ValueError
        If no pixel is left.
    """
    for rows in _looks(shape):
        part, sound, count = _sound_part(look, rows, EXCLUDING | SATURATED)
        if count >= ENOUGH // 8:
            break
    if not count:
        raise ValueError("The image has no pixel without a flag, so it has no sky to measure.")
    level, sigma = _clipped_level(_in_order(part, sound, count))
    blank = sound & ~find_objects(part, sound, level=level, sigma=sigma)
    left = int(np.count_nonzero(blank))
    if left < (1 - LARGEST_OBJECT_SHARE) * count:
        return level, sigma
    return _clipped_level(_in_order(part, blank, left))


def _sound_part(look: Look, rows: list[slice], left_out: int) -> tuple[NDArray[Any], NDArray[np.bool_], int]:
    """Return some rows, float32 or float64 as they are, which of their pixels count, and how many."""
    image, flags = look(rows)
    image = np.asarray(image, dtype=np.float32 if image.dtype.kind == "f" and image.itemsize == 4 else np.float64)
    sound = np.isfinite(image)
    if flags is not None:
        sound &= (np.asarray(flags, dtype=np.uint16) & left_out) == 0
    return image, sound, int(np.count_nonzero(sound))


def _in_order(image: NDArray[Any], chosen: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """Return the chosen pixels in rising order. float32 is sorted in half the time, and the order is the same."""
    ordered = np.where(chosen, image, image.dtype.type(np.inf)).ravel()
    ordered.sort()
    return ordered[:count].astype(np.float64)


def _looks(shape: tuple[int, ...]) -> list[list[slice]]:
    """Return the rows to look at: a sample, and all where that holds too little."""
    return [sample_rows((shape[0], shape[1])), [slice(0, shape[0])]] if len(shape) == 2 else [[slice(None)]]


def estimate_noise(variance: ArrayLike, flags: ArrayLike | None = None) -> float:
    """Return the noise that a frame predicts for its sky: one figure for the whole frame.

    Parameters
    ----------
    variance : array_like, shape (ny, nx)
        Variance, in electrons squared.
    flags : array_like of uint16, shape (ny, nx), optional
        Excluded pixels are left out.

    Returns
    -------
    float
        Square root of the median variance, in electrons; 0 if no pixel is left.

    Examples
    --------
    >>> estimate_noise(np.array([[225.0, 225.0, 9000.0]]))
    15.0
    """
    noise = np.asarray(variance)
    bits = None if flags is None else np.asarray(flags)
    return noise_of_rows(
        lambda rows: (join_rows(noise, rows), None if bits is None else join_rows(bits, rows)), noise.shape
    )


def noise_of_rows(look: Look, shape: tuple[int, ...]) -> float:
    """Do what :func:`estimate_noise` does for a variance that is made row by row.

    Parameters
    ----------
    look : callable
        Returns strips of rows of the variance and of the flags.
    shape : tuple of int
        Shape (ny, nx) of the image.

    Returns
    -------
    float
        In electrons; 0 if no pixel is left.
    """
    for rows in _looks(shape):
        part, sound, count = _sound_part(look, rows, EXCLUDING)
        if count >= ENOUGH // 8:
            break
    return math.sqrt(_median(part, sound, count)) if count else 0.0


def _median(image: NDArray[Any], chosen: NDArray[np.bool_], count: int) -> float:
    """Return the median of the chosen pixels; numpy's own looks for both middle values, which takes it five times."""
    values = np.where(chosen, image, image.dtype.type(np.inf)).ravel()
    upper = count // 2
    values.partition(upper)
    lower = values[upper] if count % 2 else values[:upper].max()
    return (float(lower) + float(values[upper])) / 2.0


def _clipped_level(ordered: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and robust scatter of what lies, of values in order, within three standard deviations of the median.

    What is kept is a slice.
    """
    kept = ordered
    for _ in range(20):
        centre = 0.5 * float(kept[(kept.size - 1) // 2] + kept[kept.size // 2])
        sigma = scatter_of_sorted(kept)
        first = int(np.searchsorted(ordered, centre - CLIP_SIGMA * sigma))
        last = int(np.searchsorted(ordered, centre + CLIP_SIGMA * sigma, "right"))
        if sigma == 0 or last - first == kept.size:
            break
        kept = ordered[first:last]
    return (float(np.mean(kept)) if sigma > 0 else centre), sigma
