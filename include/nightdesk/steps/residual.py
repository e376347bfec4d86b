"""The check after shifting: the stars of an aligned frame, measured again, against those of the reference frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nightdesk.errors import FrameError
from nightdesk.science.flag import NO_DATA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nightdesk.science.sample import Places
    from nightdesk.science.star import Stars
    from nightdesk.science.transform import Transform
    from nightdesk.steps.grid import Grid
    from nightdesk.steps.recipe import Work

FIXED_PIXELS = 1.5
PLENTY = 20
"""Stars of the reference frame of which a good frame shows enough to be matched."""


MOSTLY = 0.5
"""Part of the windows in which a star is seen again, below which the whole frame is searched."""


class OnGrid(Protocol):
    """A frame on the grid of which parts can be had."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the grid."""
        ...

    def image(self) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Return data (electrons) and flags."""
        ...

    def windows(self, rows: Places, columns: Places, size: int) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Return the same of square windows, shape (n, size, size), by their first rows and columns."""
        ...


@dataclass(frozen=True)
class Residual:
    """How far the stars of an aligned frame are from those of the reference frame.

    `pixels` is the largest move that is left at any of the reference's stars, told by `matches` stars; None when too
    few match, so that nothing is known.
    """

    pixels: float | None
    matches: int


def measure_residual(work: Work, grid: Grid, name: str, aligned: OnGrid) -> Residual:
    """Measure the stars of an aligned frame again.

    Parameters
    ----------
    work : Work
        The group.
    grid : Grid
        Its grid.
    name : str
        The frame.
    aligned : OnGrid
        The frame on the grid.

    Returns
    -------
    Residual
        Without a figure where it cannot be told: too few stars, or what matches is fixed on the detector.

    Raises
    ------
    FrameError
        If the residual is over the limit of the settings, with both figures; or if the reference frame shows plenty of
        stars here and this one does not show them.
    """
    from nightdesk.science.match import match_near, match_stars
    from nightdesk.science.stamp import measure_stamps
    from nightdesk.science.star import find_stars

    if grid.wcs_name is None:
        return Residual(None, 0)
    if name == grid.wcs_name:
        return Residual(0.0, 0)
    there = grid.moved_stars(grid.wcs_name, work.stars(grid.wcs_name))
    ny, nx = aligned.shape
    stars, tried = measure_stamps(aligned.windows, there, aligned.shape)
    match = match_near(stars, there, aligned.shape)
    flags = None
    if not match.accepted or match.matches < MOSTLY * tried:  # not where they belong: are they elsewhere?
        data, flags = aligned.image()
        stars = find_stars(data, flags)
        match = match_stars(stars, there, aligned.shape)
    if flags is not None and not match.accepted:
        expected = _count_on(flags, there)
        if expected >= PLENTY:
            raise FrameError(
                f"{name}: after the shift its stars do not match the {expected} of {grid.wcs_name} that should be in "
                f"it: {match.refusal}. Correct its position in the sidecar, or set use to 0 in it."
            )
        return Residual(None, match.matches)
    dx, dy = match.transform.shift_at((nx - 1) / 2.0, (ny - 1) / 2.0)
    if _is_fixed(grid, name, dx, dy):
        return Residual(None, 0)
    on_grid = there.chosen((there.x > 0) & (there.y > 0) & (there.x < nx - 1) & (there.y < ny - 1))
    left = Residual(largest_move(match.transform, on_grid), match.matches)
    if match.transform.is_flip:
        raise MisalignedError(
            f"{name}: it is turned by 180 degrees against {grid.wcs_name}, as {match.matches} of its stars show. "
            "Remove the sidecar, and the frame is turned back; or set use to 0 in it.",
            left,
        )
    if left.pixels is not None and left.pixels > grid.residual_limit:
        turned = math.hypot(dx, dy) <= grid.residual_limit
        advice = "Correct its position in the sidecar, or set use to 0 in it."
        if turned:
            advice = (
                f"It is turned by {match.transform.degrees:.2f} degrees, which whole pixels cannot mend: set [align] "
                'resample = "auto"; or set use to 0 in the sidecar.'
            )
        raise MisalignedError(
            f"{name}: after the shift its stars are still {left.pixels:.2f} px from those of {grid.wcs_name} "
            f"({left.matches} stars; the limit is {grid.residual_limit:g} px, [align] residual_limit). {advice}",
            left,
        )
    return left


class MisalignedError(FrameError):
    """A frame whose stars are not where they belong; it knows how far.

    Parameters
    ----------
    sentence : str
        What is wrong and what to do.
    residual : Residual
        How far its stars are off, in pixels, and how many told it.
    """

    def __init__(self, sentence: str, residual: Residual) -> None:
        super().__init__(sentence)
        self.figures = {"residual": residual.pixels, "matches": residual.matches}


def largest_move(transform: Transform, stars: Stars) -> float:
    """Return by how much a transform moves that one of some stars which it moves most.

    A rotation about the centre leaves the centre where it is: only stars at the edge tell it.

    Parameters
    ----------
    transform : Transform
        What is left between two frames.
    stars : Stars
        The stars of one of them; at least one.

    Returns
    -------
    float
        In pixels.
    """
    return float(np.linalg.norm(transform.apply(stars.positions) - stars.positions, axis=1).max())


def _count_on(flags: NDArray[np.uint16], stars: Stars) -> int:
    """Count the stars that lie where an aligned frame has data."""
    ny, nx = flags.shape
    x, y = np.rint(stars.positions).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < nx) & (y < ny)
    return int(np.count_nonzero((flags[y[inside], x[inside]] & NO_DATA) == 0))


def _is_fixed(grid: Grid, name: str, dx: float, dy: float) -> bool:
    """Tell whether what matched did not move on the detector, though the frame was moved."""
    motions = grid.motions
    if grid.wcs_name is None or motions[name].flipped != motions[grid.wcs_name].flipped:
        return False
    mine, theirs = motions[name].whole, motions[grid.wcs_name].whole
    x, y = mine[0] - theirs[0], mine[1] - theirs[1]
    return math.hypot(x, y) > FIXED_PIXELS and math.hypot(dx + x, dy + y) < FIXED_PIXELS
