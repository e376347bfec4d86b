"""Stars measured again where they must be: in a small window each, which costs a hundredth of a search."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import sep
from numpy.typing import NDArray

from nightdesk.science.flag import EXCLUDING, SATURATED
from nightdesk.science.scatter import robust_scatter
from nightdesk.science.star import (
    BLURREST,
    CENTROID_ERROR,
    ERROR_FLOOR,
    FWHM_PER_HALF_LIGHT_RADIUS,
    SHARPEST,
    SIGMA_PER_FWHM,
    Stars,
    replace_hot_pixels,
)

Look = Callable[[slice, slice], tuple[NDArray[Any], NDArray[np.uint16]]]

MOST_STAMPS: Final = 16
REACH: Final = 3.0
"""Half the width of a window, in FWHM."""

LEAST_SIGNAL_TO_NOISE: Final = 10.0
RIM: Final = 2
"""Pixels at the edge of a window that tell its sky."""


def measure_stamps(look: Look, stars: Stars, shape: tuple[int, int]) -> tuple[Stars, int]:
    """Measure the brightest stars of one frame in another that lies on the same grid.

    Parameters
    ----------
    look : callable
        Returns data (electrons) and flags of some rows and columns of the other frame.
    stars : Stars
        Of the first frame, on the grid.
    shape : tuple of int
        Shape (ny, nx) of the grid.

    Returns
    -------
    found : Stars
        Those that are seen there, without saturated ones, the brightest first.
    tried : int
        In how many windows one was looked for: no more than 16, all of them inside the frame.

    Notes
    -----
    The centroid is the windowed one of :func:`~nightdesk.science.star.find_stars`, so it is drawn to a star
    that lies off by less than the window's half width, some three FWHM.
    """
    found, tried = [], 0
    if len(stars) == 0:
        return stars, 0
    reach = int(np.ceil(REACH * stars.fwhm)) + RIM
    for number in np.flatnonzero(~stars.saturated):
        column, row = (int(np.rint(centre)) for centre in (stars.x[number], stars.y[number]))
        if not (reach <= column < shape[1] - reach and reach <= row < shape[0] - reach):
            continue
        data, flags = look(slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
        if (flags & EXCLUDING).any():
            continue
        tried += 1
        if (measured := _measured(data, flags, stars.fwhm)) is not None:
            found.append((measured[0] + column - reach, measured[1] + row - reach, *measured[2:]))
        if tried == MOST_STAMPS:
            break
    x, y, flux, error, width = np.array(found).reshape(-1, 5).T
    order = np.argsort(flux, kind="stable")[::-1]
    none = np.zeros(len(x), dtype=bool)
    return Stars(x, y, flux, error, width, none, stars.fwhm, stars.sky).chosen(order), tried


def _measured(
    data: NDArray[Any], flags: NDArray[np.uint16], fwhm: float
) -> tuple[float, float, float, float, float] | None:
    """Return a star's place in its window, its light, the error of its place and its width; None if there is none."""
    pixels = data.astype(np.float64)
    sides = (pixels[:RIM], pixels[-RIM:], pixels[:, :RIM], pixels[:, -RIM:])
    rim = np.concatenate([side.ravel() for side in sides])
    sigma = robust_scatter(rim)
    clean = np.ascontiguousarray(replace_hot_pixels(pixels - np.median(rim), sigma), dtype=np.float32)
    middle = np.array([(len(pixels) - 1) / 2.0])
    x, y, trouble = sep.winpos(clean, middle, middle, np.array([fwhm * SIGMA_PER_FWHM]))
    if trouble[0] or max(abs(x[0] - middle[0]), abs(y[0] - middle[0])) > middle[0] - fwhm:
        return None
    light = float(sep.sum_circle(clean, x, y, fwhm)[0][0])
    noise = float(np.sqrt(max(light, 0.0) + np.pi * fwhm**2 * sigma**2))
    if light < LEAST_SIGNAL_TO_NOISE * noise or (flags & SATURATED).any():
        return None
    radius = float(sep.flux_radius(clean, x, y, np.array([2.5 * fwhm]), 0.5, subpix=5)[0][0])
    if not SHARPEST * fwhm < radius < BLURREST * fwhm:
        return None
    error = float(np.hypot(CENTROID_ERROR * fwhm * noise / light, ERROR_FLOOR))
    return float(x[0]), float(y[0]), light, error, FWHM_PER_HALF_LIGHT_RADIUS * radius
