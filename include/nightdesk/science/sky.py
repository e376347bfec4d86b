"""The level and the noise of the sky in a frame."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.flag import EXCLUDING, SATURATED
from nightdesk.science.object_mask import find_objects
from nightdesk.science.scatter import robust_scatter

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
    which a detector counts. Objects that cover most of the image cannot be told from the sky.

    Examples
    --------
    >>> image = np.random.default_rng(1).normal(200.0, 15.0, (64, 64))
    >>> image[20:24, 30:34] += 5000.0
    >>> level, sigma = estimate_sky(image)
    >>> round(level), round(sigma)
    (200, 15)
    """
    signal = np.asarray(image, dtype=np.float64)
    sound = np.isfinite(signal)
    if flags is not None:
        bits = np.asarray(flags)
        if bits.shape != signal.shape:
            raise ValueError(f"The image has the shape {signal.shape}, its flags {bits.shape}.")
        sound &= (bits & (EXCLUDING | SATURATED)) == 0
    if not sound.any():
        raise ValueError("The image has no pixel without a flag, so it has no sky to measure.")
    level, sigma = _clipped_level(signal[sound])
    blank = sound & ~find_objects(signal, sound, level=level, sigma=sigma)
    if np.count_nonzero(blank) < (1 - LARGEST_OBJECT_SHARE) * np.count_nonzero(sound):
        return level, sigma
    return _clipped_level(signal[blank])


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
    noise = np.asarray(variance, dtype=np.float64)
    sound = np.isfinite(noise)
    if flags is not None:
        sound &= (np.asarray(flags) & EXCLUDING) == 0
    return float(np.sqrt(np.median(noise[sound]))) if sound.any() else 0.0


def _clipped_level(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and robust scatter of what lies within three standard deviations of the median."""
    kept = values
    for _ in range(20):
        centre, sigma = float(np.median(kept)), robust_scatter(kept)
        near = np.abs(values - centre) <= CLIP_SIGMA * sigma
        if sigma == 0 or np.count_nonzero(near) == kept.size:
            break
        kept = values[near]
    return (float(np.mean(kept)) if sigma > 0 else centre), sigma
