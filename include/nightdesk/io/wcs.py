"""What the WCS of two headers says of how one frame lies on another; no network, no catalogue."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from nightdesk.science.transform import Transform, fit_transform

if TYPE_CHECKING:
    from astropy.io import fits

GRID_POINTS = 5
MOST_DISTORTION = 1.0  # px


def transform_by_wcs(header: fits.Header, reference: fits.Header, shape: tuple[int, int]) -> Transform | None:
    """Return where positions of a frame go in the reference frame; None when the headers do not tell.

    The similarity through a grid of points, unless that misses one by more than a pixel.
    """
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            here, there = WCS(header, naxis=2), WCS(reference, naxis=2)
            if not (here.has_celestial and there.has_celestial):
                return None
            ny, nx = shape
            x, y = np.meshgrid(np.linspace(0, nx - 1, GRID_POINTS), np.linspace(0, ny - 1, GRID_POINTS))
            points = np.column_stack([x.ravel(), y.ravel()])
            sky = here.all_pix2world(points, 0)
            moved = there.all_world2pix(sky, 0, quiet=True)
        except (ValueError, KeyError, TypeError, RuntimeError, MemoryError, ArithmeticError):
            return None  # a WCS of somebody else's making that cannot be used
    if not np.isfinite(moved).all():
        return None
    transform = fit_transform(points, moved, free_scale=True)
    off = np.linalg.norm(transform.apply(points) - moved, axis=1).max()
    return transform if off < MOST_DISTORTION else None
