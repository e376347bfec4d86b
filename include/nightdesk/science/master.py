"""Master bias, dark and flat from raw calibration frames, with the variance that is left in them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from nightdesk.science.flag import BAD_PIXEL
from nightdesk.science.median import median_variance_factor
from nightdesk.science.read_noise import measure_read_noise
from nightdesk.science.scatter import robust_scatter

Image = NDArray[np.float64]
_Model = Callable[[Image], Image]  # predicts the variances of rows of a cube

VALUES_AT_ONCE = 8_000_000
SAMPLE = 400_000
NEIGHBOURS = 5
BLOCKS = 16


@dataclass(frozen=True)
class MasterPlanes:
    """A master's image, its variance and its flags, all of the shape (ny, nx).

    Attributes
    ----------
    data : ndarray of float64
        In ADU (bias), in ADU per second (dark) or dimensionless (flat).
    variance : ndarray of float64, or None
        Variance of `data`; None where one frame alone says nothing of its noise.
    flags : ndarray of uint16
        Pixels that are no use.
    """

    data: Image
    variance: Image | None
    flags: NDArray[np.uint16]


def combine_bias(frames: Sequence[ArrayLike], *, clip_sigma: float = 4.0) -> MasterPlanes:
    r"""Average bias frames, without what cosmic rays have left in them.

    Parameters
    ----------
    frames : sequence of array_like, shape (ny, nx)
        Bias exposures, in ADU, at least one.
    clip_sigma : float
        Left out is what is farther from the median of its pixel than so many standard deviations; above 0.

    Returns
    -------
    MasterPlanes
        The bias in ADU.

    Raises
    ------
    ValueError
        If there is no frame or their shapes differ.

    Notes
    -----
    :math:`V = \sigma^2 / n`, with n the count at the pixel and :math:`\sigma` the noise of one frame, measured from
    the differences of frames: of a few values at one pixel the scatter says little. Only where it is more than
    chance allows (a noisy pixel, one in 10,000 by chance) it is taken from the pixel itself.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> master = combine_bias(rng.normal(300.0, 4.0, (10, 50, 50)))
    >>> round(float(np.median(master.variance)), 1)
    1.6
    """
    cube = _same_shapes(frames)
    noise = np.full(len(cube), pair_noise(cube) ** 2 if len(cube) > 1 else 0.0)
    return _combine_rows(cube, lambda rows: np.broadcast_to(noise[:, None, None], rows.shape), clip_sigma)


def combine_dark(
    frames: Sequence[ArrayLike],
    *,
    exposures: Sequence[float],
    gain: float,
    bias: ArrayLike | None = None,
    bias_variance: ArrayLike | None = None,
    clip_sigma: float = 4.0,
) -> MasterPlanes:
    r"""Average dark frames, per second where the bias is taken off.

    Parameters
    ----------
    frames : sequence of array_like, shape (ny, nx)
        Dark exposures, in ADU, at least one.
    exposures : sequence of float
        Their exposure times, in seconds, above 0.
    gain : float
        Electrons per ADU, above 0.
    bias : array_like, shape (ny, nx), optional
        Master bias, in ADU. Without it the bias stays in the dark, which is then not divided by the time.
    bias_variance : array_like, shape (ny, nx), optional
        Variance of the master bias, in ADU squared; it is common to all frames.
    clip_sigma : float
        Left out is what is farther from the median of its pixel than so many standard deviations; above 0.

    Returns
    -------
    MasterPlanes
        The dark in ADU per second; with the bias in it, in ADU.

    Raises
    ------
    ValueError
        If there is no frame, their shapes differ, or an exposure time or the gain is not above 0.

    Notes
    -----
    A frame's variance is that of its typical pixel, measured from differences of frames, and the shot noise of what
    a pixel has above the typical one, where that is more than three standard deviations of the median: half of what
    is less is only noise that looks like light.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> frames = 300.0 + rng.poisson(200.0, (10, 50, 50)) / 2.0
    >>> master = combine_dark(frames, exposures=[100.0] * 10, gain=2.0, bias=np.full((50, 50), 300.0))
    >>> round(float(np.median(master.data)), 2)
    1.0
    """
    times = np.asarray(exposures, dtype=np.float64)
    if len(times) != len(frames) or not (times > 0).all() or not gain > 0:
        raise ValueError("Each dark needs an exposure time above 0, and the gain must be above 0.")
    counts = _same_shapes(frames)
    if bias is None:
        times = np.ones(len(counts))
    else:
        counts -= np.asarray(bias, dtype=np.float32)
    noise = pair_noise(counts) ** 2 if len(counts) > 1 else 0.0
    typical = float(np.median(_sample(counts[0])))
    seconds = times[:, None, None]
    chance = 3.0 * np.sqrt(median_variance_factor(len(counts)) * noise / len(counts))

    def _variances(rows: Image) -> Image:
        above = np.median(rows * seconds, axis=0) - typical
        shot = np.where(above > chance, above, 0.0) / gain
        return np.asarray((noise + shot) / seconds**2)

    made = _combine_rows(_divided(counts, times), _variances, clip_sigma)
    if made.variance is None or bias is None or bias_variance is None:
        return made
    common = np.asarray(bias_variance, dtype=np.float64) * np.mean(1.0 / times) ** 2
    return MasterPlanes(made.data, made.variance + common, made.flags)


def combine_flat(
    frames: Sequence[ArrayLike],
    *,
    levels: Sequence[float],
    gain: float,
    read_noise: float,
    bias_variance: ArrayLike | None = None,
    clip_sigma: float = 4.0,
    bad_ratio: float = 0.5,
) -> MasterPlanes:
    r"""Combine flat frames, each scaled by its own level, without the stars of twilight.

    Parameters
    ----------
    frames : sequence of array_like, shape (ny, nx)
        Flat exposures without bias and dark, in ADU, at least one.
    levels : sequence of float
        The level of each frame, in ADU, above 0.
    gain : float
        Electrons per ADU, above 0.
    read_noise : float
        Of one frame, in electrons, 0 or more.
    bias_variance : array_like, shape (ny, nx), optional
        Variance of the master bias that was taken off, in ADU squared; it is common to all frames.
    clip_sigma : float
        Left out is what is farther from the median of its pixel than so many standard deviations; above 0.
    bad_ratio : float
        A pixel whose response differs from its neighbours' median by more than this part is flagged.

    Returns
    -------
    MasterPlanes
        Relative response, dimensionless, of about 1 where the level was measured.

    Raises
    ------
    ValueError
        If there is no frame, their shapes differ, or a level or the gain is not above 0.

    Notes
    -----
    A frame counts by its level, as if all light had been collected in one exposure. Of a frame with level L the
    variance at response F is :math:`F L / g + R^2 / g^2` in ADU squared, with F the median of all frames, not the
    pixel's own count. Where frames differ by more (a gradient of the twilight), the clip is as much wider.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> frames = [rng.poisson(level, (50, 50)) / 1.0 for level in (10_000.0, 20_000.0)]
    >>> master = combine_flat(frames, levels=[10_000.0, 20_000.0], gain=1.0, read_noise=5.0)
    >>> round(float(np.median(master.variance)) * 30_000, 2)
    1.0
    """
    light = np.asarray(levels, dtype=np.float64)
    if len(light) != len(frames) or not (light > 0).all() or not gain > 0:
        raise ValueError("Each flat needs a level above 0, and the gain must be above 0.")
    cube = _divided(_same_shapes(frames), light)

    def _variances(rows: Image) -> Image:
        response = np.maximum(np.median(rows, axis=0), 0.0)[None]
        column = light[:, None, None]
        spread: Image = response / (gain * column) + (read_noise / (gain * column)) ** 2
        return spread

    made = _combine_rows(cube, _variances, clip_sigma, weights=light, widen=True)
    variance = made.variance if len(cube) > 1 else _variances(cube.astype(np.float64))[0]
    if variance is not None and bias_variance is not None:
        variance = variance + np.asarray(bias_variance, dtype=np.float64) * (len(light) / light.sum()) ** 2
    return MasterPlanes(made.data, variance, made.flags | _dead_pixels(made.data, bad_ratio))


def pair_noise(frames: Sequence[ArrayLike] | NDArray[Any]) -> float:
    """Measure the noise of one frame from the differences of frames that follow each other.

    Parameters
    ----------
    frames : sequence of array_like, shape (ny, nx)
        At least two frames of the same kind, in ADU.

    Returns
    -------
    float
        Standard deviation of a pixel's value in one frame, in ADU.

    Raises
    ------
    ValueError
        If there are fewer than two frames or too few pixels.
    """
    if len(frames) < 2:
        raise ValueError("The noise shows only in the difference of two frames.")
    sampled = [_sample(frame) for frame in frames]
    squares = [measure_read_noise(one, other) ** 2 for one, other in pairwise(sampled)]
    return float(np.sqrt(np.median(squares)))


def compare_levels(frame: ArrayLike, master: ArrayLike) -> tuple[float, float]:
    """Compare a bias or dark frame with a master of its kind.

    Parameters
    ----------
    frame : array_like, shape (ny, nx)
        The frame, in ADU.
    master : array_like, shape (ny, nx)
        The master, in ADU.

    Returns
    -------
    offset : float
        Median of the difference, in ADU.
    scatter : float
        Robust scatter of the difference, in ADU.

    Raises
    ------
    ValueError
        If their shapes differ.
    """
    one, other = np.asarray(frame, dtype=np.float64), np.asarray(master, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"The frame has the shape {one.shape}, the master {other.shape}.")
    difference = _sample(one - other)
    return float(np.median(difference)), robust_scatter(difference)


def compare_responses(frame: ArrayLike, master: ArrayLike) -> float:
    """Tell by how much the light on a flat frame is spread otherwise than on a master flat.

    Parameters
    ----------
    frame : array_like, shape (ny, nx)
        The frame without bias, in any unit.
    master : array_like, shape (ny, nx)
        The master flat.

    Returns
    -------
    float
        The deviation from their common ratio that 5 % of the detector's parts (16 x 16 of them) exceed.

    Raises
    ------
    ValueError
        If their shapes differ, or the master has no light.

    Examples
    --------
    >>> even = np.ones((64, 64))
    >>> compare_responses(20_000.0 * even, even), round(compare_responses(even + np.linspace(0, 0.2, 64), even), 1)
    (0.0, 0.1)
    """
    one, other = np.asarray(frame, dtype=np.float64), np.asarray(master, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"The frame has the shape {one.shape}, the master {other.shape}.")
    lit = np.isfinite(other) & (other > 0)
    if not lit.any():
        raise ValueError("The master flat has no light.")
    ratio = np.where(lit, one / np.where(lit, other, 1.0), np.nan)
    parts = [
        part[np.isfinite(part)]
        for rows in np.array_split(ratio, min(BLOCKS, len(ratio)))
        for part in np.array_split(rows, min(BLOCKS, ratio.shape[1]), axis=1)
    ]
    medians = np.array([np.median(part) for part in parts if part.size])
    return float(np.quantile(np.abs(medians / np.median(medians) - 1.0), 0.95))


def _same_shapes(frames: Sequence[ArrayLike]) -> NDArray[Any]:
    planes = [np.asarray(frame, dtype=np.float32) for frame in frames]
    shapes = {plane.shape for plane in planes}
    if len(shapes) != 1 or planes[0].ndim != 2:
        raise ValueError(f"The frames of a master have one shape (ny, nx), not {sorted(shapes) or 'none at all'}.")
    return np.stack(planes)


def _divided(cube: NDArray[Any], by: Image) -> NDArray[Any]:
    return cube / by[:, None, None].astype(np.float32)


def _sample(frame: ArrayLike) -> Image:
    """Return a frame, thinned out where it has more pixels than a robust figure needs."""
    values = np.asarray(frame, dtype=np.float64).ravel()
    return values[:: max(1, values.size // SAMPLE)]


def _combine_rows(
    cube: NDArray[Any],
    variances: _Model,
    clip_sigma: float,
    *,
    weights: Image | None = None,
    widen: bool = False,
) -> MasterPlanes:
    """Average a cube in blocks of rows: a clip by the predicted noise, then the (weighted) mean."""
    if not clip_sigma > 0:
        raise ValueError(f"The clip must be above 0 standard deviations, but it is {clip_sigma}.")
    n = len(cube)
    shares = np.ones(n) if weights is None else weights
    wider = _excess(cube, variances) if widen and n > 2 else np.ones(n)
    data, noise = np.empty(cube.shape[1:]), np.empty(cube.shape[1:])
    flags = np.zeros(cube.shape[1:], dtype=np.uint16)
    for rows in _blocks(cube.shape):
        block = cube[:, rows].astype(np.float64)
        predicted = variances(block)
        used = _near_median(block, predicted * wider[:, None, None] ** 2, clip_sigma)
        data[rows], noise[rows] = _mean(block, predicted, used, shares)
        flags[rows] = np.where(np.isfinite(data[rows]), 0, BAD_PIXEL)
    return MasterPlanes(data, noise if n > 1 else None, flags)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    n, ny, nx = shape
    step = max(1, VALUES_AT_ONCE // (n * nx))
    for first in range(0, ny, step):
        yield slice(first, min(first + step, ny))


def _excess(cube: NDArray[Any], variances: _Model) -> Image:
    """Return by how much each frame scatters more about the median than is predicted, 1 at least."""
    rows = cube[:, :: max(1, cube.shape[1] // 64)].astype(np.float64)
    deviation = (rows - np.median(rows, axis=0)) / np.sqrt(np.maximum(variances(rows), 1e-30))
    return np.array([max(1.0, robust_scatter(_sample(one[np.isfinite(one)]))) for one in deviation])


def _near_median(block: Image, predicted: Image, clip_sigma: float) -> NDArray[np.bool_]:
    finite = np.isfinite(block)
    if len(block) < 3:
        return finite
    middle = np.median(block, axis=0)
    near = finite & (np.abs(block - middle) <= clip_sigma * np.sqrt(predicted))
    return np.where(near.any(axis=0), near, finite)


def _mean(block: Image, predicted: Image, used: NDArray[np.bool_], shares: Image) -> tuple[Image, Image]:
    weight = np.where(used, shares[:, None, None], 0.0)
    total = weight.sum(axis=0)
    total = np.where(total > 0, total, np.nan)
    mean = np.sum(np.where(used, block, 0.0) * weight, axis=0) / total
    variance = np.sum(weight**2 * predicted, axis=0) / total**2
    return mean, np.where(np.isfinite(variance), _or_own(block, predicted, used, mean, variance), 0.0)


def _or_own(block: Image, predicted: Image, used: NDArray[np.bool_], mean: Image, variance: Image) -> Image:
    """Raise the variance of pixels that are noisier than chance allows to what they show themselves."""
    count = np.count_nonzero(used, axis=0)
    if len(block) < 5:
        return variance
    from scipy.stats import chi2

    limits = np.array([np.inf if n < 5 else chi2.isf(1e-4, n - 1) for n in range(len(block) + 1)])
    squares = np.sum(np.where(used, (block - mean) ** 2 / np.maximum(predicted, 1e-30), 0.0), axis=0)
    noisy = squares > limits[count]
    return np.where(noisy, variance * squares / np.maximum(count - 1, 1), variance)


def _dead_pixels(response: Image, bad_ratio: float) -> NDArray[np.uint16]:
    finite = np.isfinite(response)
    around = ndimage.median_filter(np.where(finite, response, 0.0), size=NEIGHBOURS, mode="nearest")
    bad = ~finite | ((around > 0) & (np.abs(response - around) > bad_ratio * around))
    return np.where(bad, BAD_PIXEL, 0).astype(np.uint16)
