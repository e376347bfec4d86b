"""Factors that bring frames of different exposure or transparency to the reference frame's scale."""

from collections.abc import Sequence

import numpy as np
import sep
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.flag import EXCLUDING, SATURATED
from nightdesk.science.sky import estimate_sky
from nightdesk.science.star import FIRST_FWHM, find_stars

DETECTION_SIGMA = 10.0
MOST_STARS = 100
APERTURE_FWHM = 3.0


def exposure_scales(exposures: ArrayLike) -> NDArray[np.float64]:
    """Return the factors that bring frames to the exposure time of the first.

    Parameters
    ----------
    exposures : array_like, shape (n,)
        Exposure times, in seconds, above 0; the first is the reference frame's.

    Returns
    -------
    ndarray, shape (n,)
        Dimensionless factors for the signal, 1 for the first frame; variances scale by their squares.

    Raises
    ------
    ValueError
        If there is no exposure time, or one that is not a number above 0.

    Examples
    --------
    >>> exposure_scales([60.0, 120.0, 30.0])
    array([1. , 0.5, 2. ])
    """
    times = np.asarray(exposures, dtype=np.float64)
    if times.ndim != 1 or times.size == 0 or not (np.isfinite(times) & (times > 0)).all():
        raise ValueError("To scale frames by exposure each needs an exposure time above 0 s.")
    return np.asarray(times[0] / times)


def star_scales(
    images: Sequence[ArrayLike],
    flags: Sequence[ArrayLike],
    *,
    radius: float | None = None,
    fewest_stars: int = 3,
) -> NDArray[np.float64]:
    r"""Measure the factors that give the stars of each frame the brightness they have in the first.

    Parameters
    ----------
    images : sequence of array_like, shape (ny, nx)
        Signal of each frame on one grid, in electrons; the first is the reference frame.
    flags : sequence of array_like of uint16, shape (ny, nx)
        Flags of each frame.
    radius : float, optional
        Radius of the aperture, in pixels: wide enough that seeing does not matter. Three times the full
        width at half maximum of the widest frame's stars if not given: of a Moffat profile of exponent 3
        that has 99.1 % of the light.
    fewest_stars : int
        So many stars must be measurable in all frames, at least 1.

    Returns
    -------
    ndarray, shape (n,)
        Dimensionless factors for the signal, 1 for the first frame; variances scale by their squares.

    Raises
    ------
    ValueError
        If the numbers of images and flags differ or too few stars are measurable in all frames.

    Notes
    -----
    Stars are found in the first frame at 10 times its sky noise. Those whose aperture is free of excluded
    and saturated pixels in every frame are summed above each frame's own sky; the factor is the median
    over the stars of the ratio of fluxes, so that a variable star does not matter.
    """
    if not images or len(images) != len(flags):
        raise ValueError(f"There are {len(images)} images and {len(flags)} planes of flags.")
    frames = [np.ascontiguousarray(image, dtype=np.float64) for image in images]
    if radius is None:
        radius = _aperture(frames, flags)
    spoilt = np.zeros(frames[0].shape, dtype=bool)
    for plane in flags:
        spoilt |= (np.asarray(plane) & (EXCLUDING | SATURATED)) != 0
    skies = [estimate_sky(frame, plane) for frame, plane in zip(frames, flags, strict=True)]
    x, y = _stars(frames[0] - skies[0][0], skies[0][1], spoilt, radius)
    fluxes = np.array(
        [sep.sum_circle(frame - level, x, y, radius)[0] for frame, (level, _) in zip(frames, skies, strict=True)]
    ).reshape(len(frames), -1)
    measured = fluxes[:, (fluxes > 0).all(axis=0)]
    if measured.shape[1] < fewest_stars:
        raise ValueError(
            f"{measured.shape[1]} stars are measurable in all frames, but scaling by stars needs "
            f"{fewest_stars}: scale by exposure, or not at all."
        )
    return np.asarray(np.median(measured[0] / measured, axis=1))


def _aperture(frames: Sequence[NDArray[np.float64]], flags: Sequence[ArrayLike]) -> float:
    widths = [find_stars(frame, plane).fwhm for frame, plane in zip(frames, flags, strict=True)]
    return APERTURE_FWHM * max([width for width in widths if np.isfinite(width)], default=FIRST_FWHM)


def _stars(
    signal: NDArray[np.float64], sigma: float, spoilt: NDArray[np.bool_], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions of the brightest stars whose apertures are whole and unspoilt."""
    if sigma == 0:
        return np.zeros(0), np.zeros(0)
    found = sep.extract(signal, DETECTION_SIGMA, err=sigma, mask=spoilt)
    found = found[np.argsort(found["flux"])[::-1]]
    x, y = found["x"], found["y"]
    ny, nx = signal.shape
    inside = (x >= radius) & (y >= radius) & (x <= nx - 1 - radius) & (y <= ny - 1 - radius)
    clean = sep.sum_circle(spoilt.astype(np.float64), x, y, radius)[0] == 0
    chosen = np.flatnonzero(inside & clean)[:MOST_STARS]
    return x[chosen], y[chosen]
