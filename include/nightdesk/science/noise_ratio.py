"""The noise that an image has, over the noise that it claims."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.flag import EXCLUDING, SATURATED
from nightdesk.science.object_mask import find_objects
from nightdesk.science.sample import join_rows, sample_rows
from nightdesk.science.scatter import robust_scatter
from nightdesk.science.sky import sky_of_rows

FEWEST_PAIRS = 50
ENOUGH_PAIRS = 20_000  # they tell the ratio to half a per cent


def noise_ratio(data: ArrayLike, variance: ArrayLike, flags: ArrayLike, box: int = 1) -> float:
    r"""Measure the noise of the sky and divide it by the predicted one.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        Signal, in electrons.
    variance : array_like, shape (ny, nx)
        Predicted variance of `data`, in electrons squared.
    flags : array_like of uint16, shape (ny, nx)
        Excluded and saturated pixels are left out.
    box : int
        Width in pixels of square boxes that are averaged first, for images whose pixels were resampled:
        their noise is smoothed from pixel to pixel, but not from box to box.

    Returns
    -------
    float
        Dimensionless; 1 if the variance is right. NaN where fewer than 50 pairs of neighbouring sky
        pixels with a variance above 0 can be compared.

    Raises
    ------
    ValueError
        If the shapes differ or the box is below 1.

    Notes
    -----
    Neighbouring pixels see the same sky and nearly the same faint light, so their difference is noise.
    With stars masked, the ratio is the robust scatter of
    :math:`(S_a - S_b) / \sqrt{V_a + V_b}` over all neighbours in rows and columns: where the variance is
    the same everywhere, the scatter of the differences over :math:`\sqrt 2` and over the predicted
    standard deviation. Dividing pair by pair keeps it right where the coverage changes.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(0.0, 3.0, (200, 200))
    >>> flags = np.zeros(noise.shape, np.uint16)
    >>> round(noise_ratio(noise, np.full(noise.shape, 9.0), flags), 1)
    1.0
    """
    signal, noise, bits = np.asarray(data), np.asarray(variance), np.asarray(flags)
    if not signal.shape == noise.shape == bits.shape:
        raise ValueError(
            f"Data, variance and flags must have one shape, not {signal.shape}, {noise.shape}, {bits.shape}."
        )
    if box < 1:
        raise ValueError(f"The box must be 1 pixel or more, but it is {box}.")

    def _sound(rows: slice) -> NDArray[np.bool_]:
        good = (bits[rows] & (EXCLUDING | SATURATED)) == 0
        return np.asarray(good & np.isfinite(signal[rows]) & (noise[rows] > 0))

    try:
        level, sigma = sky_of_rows(
            lambda rows: (
                join_rows(signal, rows),
                np.where(np.concatenate([_sound(part) for part in rows]), 0, EXCLUDING),
            ),
            signal.shape,
        )
    except ValueError:
        return float("nan")  # not one pixel to look at
    for rows in (sample_rows((signal.shape[0], signal.shape[1])), [slice(0, signal.shape[0])]):
        looked = [(signal[part].astype(np.float64), noise[part].astype(np.float64), _sound(part)) for part in rows]
        pairs = np.concatenate([_pairs(*planes, level, sigma, box) for planes in looked])
        if pairs.size >= ENOUGH_PAIRS:
            break
    return robust_scatter(pairs) if pairs.size >= FEWEST_PAIRS else float("nan")


def _pairs(
    signal: NDArray[np.float64],
    noise: NDArray[np.float64],
    sound: NDArray[np.bool_],
    level: float,
    sigma: float,
    box: int,
) -> NDArray[np.float64]:
    """Return the differences of all neighbouring sky pixels (or boxes), over the predicted noise."""
    blank = sound & ~find_objects(signal, sound, level=level, sigma=sigma)
    signal, noise, blank = _in_boxes(signal, noise, blank, box)
    return np.concatenate([_normal_differences(signal, noise, blank, axis) for axis in (0, 1)])


def _normal_differences(
    signal: NDArray[np.float64], noise: NDArray[np.float64], blank: NDArray[np.bool_], axis: int
) -> NDArray[np.float64]:
    here: list[slice] = [slice(None)] * 2
    there = here.copy()
    here[axis], there[axis] = slice(None, -1), slice(1, None)
    a, b = tuple(here), tuple(there)
    both = blank[a] & blank[b]
    return np.asarray((signal[a] - signal[b])[both] / np.sqrt((noise[a] + noise[b])[both]))


def _in_boxes(
    signal: NDArray[np.float64], noise: NDArray[np.float64], blank: NDArray[np.bool_], box: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Average whole boxes; one that is not blank throughout does not count."""
    if box == 1:
        return signal, noise, blank
    ny, nx = (length // box for length in signal.shape)

    def boxes(plane: NDArray[np.generic]) -> NDArray[np.generic]:
        return plane[: ny * box, : nx * box].reshape(ny, box, nx, box)

    mean = np.asarray(boxes(signal).mean(axis=(1, 3)), dtype=np.float64)
    variance = np.asarray(boxes(noise).mean(axis=(1, 3)), dtype=np.float64) / box**2
    return mean, variance, np.asarray(boxes(blank).all(axis=(1, 3)), dtype=bool)
