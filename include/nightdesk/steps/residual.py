"""The check after shifting: the stars of an aligned frame, measured again, against those of the reference frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightdesk.errors import FrameError

if TYPE_CHECKING:
    from nightdesk.science.planes import Planes
    from nightdesk.steps.grid import Grid
    from nightdesk.steps.recipe import Work

FIXED_PIXELS = 1.5


@dataclass(frozen=True)
class Residual:
    """How far the stars of an aligned frame are from those of the reference frame.

    `pixels` is the move that is left at the centre of the grid, told by `matches` stars; None when too few match.
    """

    pixels: float | None
    matches: int


def measure_residual(work: Work, grid: Grid, name: str, aligned: Planes) -> Residual:
    """Measure the stars of an aligned frame again.

    Parameters
    ----------
    work : Work
        The group.
    grid : Grid
        Its grid.
    name : str
        The frame.
    aligned : Planes
        The frame on the grid.

    Returns
    -------
    Residual
        Without a figure where it cannot be told: too few stars, or what matches is fixed on the detector.

    Raises
    ------
    FrameError
        If the residual is over the limit of the settings, with both figures.
    """
    from nightdesk.science.match import match_stars
    from nightdesk.science.star import find_stars

    if grid.wcs_name is None:
        return Residual(None, 0)
    if name == grid.wcs_name:
        return Residual(0.0, 0)
    there = grid.moved_stars(grid.wcs_name, work.stars(grid.wcs_name))
    stars = find_stars(aligned.data, aligned.flags)
    match = match_stars(stars, there, aligned.shape)
    if not match.accepted:
        return Residual(None, match.matches)
    ny, nx = aligned.shape
    dx, dy = match.transform.shift_at((nx - 1) / 2.0, (ny - 1) / 2.0)
    left = math.hypot(dx, dy)
    if _is_fixed(grid, name, dx, dy):
        return Residual(None, 0)
    if match.transform.is_flip:
        raise FrameError(
            f"{name}: it is turned by 180 degrees against {grid.wcs_name}, as {match.matches} of its stars show. "
            "Remove the sidecar, and the frame is turned back; or set use to 0 in it."
        )
    if left > grid.residual_limit:
        raise FrameError(
            f"{name}: after the shift its stars are still {left:.2f} px from those of {grid.wcs_name} ({match.matches} "
            f"stars; the limit is {grid.residual_limit:g} px, [align] residual_limit). Correct its position in the "
            "sidecar, or set use to 0 in it."
        )
    return Residual(left, match.matches)


def _is_fixed(grid: Grid, name: str, dx: float, dy: float) -> bool:
    """Tell whether what matched did not move on the detector, though the frame was moved."""
    motions = grid.motions
    if grid.wcs_name is None or motions[name].flipped != motions[grid.wcs_name].flipped:
        return False
    mine, theirs = motions[name].whole, motions[grid.wcs_name].whole
    x, y = mine[0] - theirs[0], mine[1] - theirs[1]
    return math.hypot(x, y) > FIXED_PIXELS and math.hypot(dx + x, dy + y) < FIXED_PIXELS
