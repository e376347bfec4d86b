"""Stars measured again where they must be: in a small window each, which costs a hundredth of a search."""

from dataclasses import replace
from typing import Final

import numpy as np
import sep
from numpy.typing import NDArray

from nightdesk.science.flag import EXCLUDING, SATURATED
from nightdesk.science.sample import Look
from nightdesk.science.scatter import scatter_of_sorted
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

MOST_STAMPS: Final = 16
REACH: Final = 3.0
"""Half the width of a window, in FWHM."""

GAP: Final = 2.0
"""Between windows that are measured together, in FWHM: so far no aperture reaches from one into the next."""

LEAST_SIGNAL_TO_NOISE: Final = 10.0
RIM: Final = 2
"""Pixels at the edge of a window that tell its sky."""


def measure_stamps(look: Look, stars: Stars, shape: tuple[int, int]) -> tuple[Stars, int]:
    """Measure the brightest stars of one frame in another that lies on the same grid.

    Parameters
    ----------
    look : callable
        Returns data (electrons) and flags of square windows of the other frame, by their first rows and columns.
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
    if len(stars) == 0:
        return stars, 0
    reach = int(np.ceil(REACH * stars.fwhm)) + RIM
    column, row = (np.rint(centre).astype(np.intp) for centre in (stars.x, stars.y))
    inside = (reach <= column) & (column < shape[1] - reach) & (reach <= row) & (row < shape[0] - reach)
    left, bottom = ((centre - reach)[inside & ~stars.saturated] for centre in (column, row))
    windows, flags, used = np.zeros((0, 2 * reach + 1, 2 * reach + 1)), [], np.zeros(0, np.intp)
    tried = 0
    while len(used) < MOST_STAMPS and tried < len(left):
        wanted = np.arange(tried, min(tried + MOST_STAMPS - len(used), len(left)))
        data, bits = look(bottom[wanted], left[wanted], 2 * reach + 1)
        good = ~(bits & EXCLUDING).any(axis=(1, 2))
        windows, used = np.concatenate([windows, data[good]]), np.concatenate([used, wanted[good]])
        flags.append(bits[good])
        tried = int(wanted[-1]) + 1
    if not len(used):
        return stars.chosen(np.zeros(0, dtype=int)), 0
    found, seen = _measured(windows, stars)
    saturated = (np.concatenate(flags) & SATURATED).any(axis=(1, 2))
    found = replace(found, x=found.x + left[used], y=found.y + bottom[used])
    kept = np.flatnonzero(seen & ~saturated)
    return found.chosen(kept[np.argsort(found.flux[kept], kind="stable")[::-1]]), len(used)


def _measured(windows: NDArray[np.float64], stars: Stars) -> tuple[Stars, NDArray[np.bool_]]:
    """Return what stands in the middle of each window, by the window's own pixels, and whether it is a star."""
    fwhm, size = stars.fwhm, windows.shape[1]
    sides = (windows[:, :RIM], windows[:, -RIM:], windows[:, :, :RIM], windows[:, :, -RIM:])
    rims = np.sort(np.concatenate([side.reshape(len(windows), -1) for side in sides], axis=1), axis=1)
    sigma = np.array([scatter_of_sorted(rim) for rim in rims])
    sky = 0.5 * (rims[:, (rims.shape[1] - 1) // 2] + rims[:, rims.shape[1] // 2])
    apart = size + int(np.ceil(GAP * fwhm))
    clean = np.zeros((len(windows), apart, size), dtype=np.float32)  # one above the other, with nothing between
    clean[:, :size] = replace_hot_pixels(windows - sky[:, None, None], sigma)
    image = clean.reshape(-1, size)
    middle = (size - 1) / 2.0
    first = apart * np.arange(len(windows), dtype=np.float64)
    x, y, trouble = sep.winpos(
        image, np.full(len(windows), middle), first + middle, np.full(len(windows), fwhm * SIGMA_PER_FWHM)
    )
    near = np.maximum(np.abs(x - middle), np.abs(y - first - middle)) <= middle - fwhm
    seen = (np.asarray(trouble) == 0) & near
    x, y = np.where(seen, x, middle), np.where(seen, y, first + middle)
    light = np.asarray(sep.sum_circle(image, x, y, fwhm)[0])
    noise = np.sqrt(np.maximum(light, 0.0) + np.pi * fwhm**2 * sigma**2)
    seen &= (light >= LEAST_SIGNAL_TO_NOISE * noise) & (light > 0)
    radius = np.asarray(sep.flux_radius(image, x, y, np.full(len(windows), 2.5 * fwhm), 0.5, subpix=5)[0])
    seen &= (radius > SHARPEST * fwhm) & (radius < BLURREST * fwhm)
    error = np.hypot(CENTROID_ERROR * fwhm * noise / np.where(seen, light, 1.0), ERROR_FLOOR)
    none = np.zeros(len(windows), dtype=bool)
    return Stars(x, y - first, light, error, FWHM_PER_HALF_LIGHT_RADIUS * radius, none, fwhm, stars.sky), seen
