"""How the frames of a group lie on one another, told by their stars alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nightdesk.science.match import INLIER_PIXELS, Match, match_stars
from nightdesk.science.persistence import RADIUS, find_persistent
from nightdesk.science.star import Stars
from nightdesk.science.transform import Transform

FEWEST_STARS: Final = 5
STILL_PIXELS: Final = 1.5
"""A frame that moved by less has its stars where the hot pixels are."""

STILL_SHARE: Final = 0.8
MANY_MORE: Final = 1.5
STILL_WIDTH: Final = 0.8
ISOLATION_FWHM: Final = 6.0
EDGE_FWHM: Final = 3.0


@dataclass(frozen=True)
class Alignment:
    """Say how each frame lies on the reference frame.

    Attributes
    ----------
    reference : int
        Which frame is the reference.
    matches : tuple of Match
        One for each frame; that of the reference is the identity.
    """

    reference: int
    matches: tuple[Match, ...]

    @property
    def aligned(self) -> list[int]:
        """The frames that lie on the reference frame, itself included."""
        return [number for number, match in enumerate(self.matches) if match.accepted]


def align_frames(
    lists: Sequence[Stars], shape: tuple[int, int], *, reference: Literal["first", "best"] = "first"
) -> Alignment:
    """Match the stars of every frame with those of a reference frame.

    Parameters
    ----------
    lists : sequence of Stars
        The stars of each frame, in the order of the frames.
    shape : tuple of int
        Shape (ny, nx) of the frames.
    reference : {"first", "best"}
        The first frame, or the sharpest with the lowest sky. A frame with fewer than 5 stars, or on which
        fewer than half of the others lie while more lie on another, gives way to the next.

    Returns
    -------
    Alignment
        Accepted and refused matches.

    Raises
    ------
    ValueError
        If there is no frame.

    Notes
    -----
    What stays on the detector in most frames (see :mod:`nightdesk.science.persistence`) is left out of
    at least one of the two lists that are compared, so that hot pixels cannot match themselves. In a group
    that was guided well the stars themselves stay: a frame that then jumps or flips is compared with all
    of them, but what agrees must have moved. Only frames that were not moved are compared whole: then
    nearly all detections must agree, at less than 1.5 pixels, and those that persist must be as wide as
    the others.

    A frame that does not lie on the reference frame may lie on another that does.
    """
    if not lists:
        raise ValueError("There is no frame to align.")
    fixed = find_persistent(lists)
    moving = [stars.chosen(~mask) for stars, mask in zip(lists, fixed, strict=True)]
    best: Alignment | None = None
    for candidate in _candidates(lists, reference)[:3]:
        matches = tuple(
            _itself(lists[candidate]) if number == candidate else _match(lists, moving, fixed, number, candidate, shape)
            for number in range(len(lists))
        )
        found = Alignment(candidate, matches)
        if best is None or len(found.aligned) > len(best.aligned):
            best = found
        if 2 * len(best.aligned) > len(lists):
            break
    assert best is not None  # there is a frame, so there is a candidate
    return _chained(best, lists, moving, fixed, shape)


def _chained(
    found: Alignment,
    lists: Sequence[Stars],
    moving: Sequence[Stars],
    fixed: Sequence[NDArray[np.bool_]],
    shape: tuple[int, int],
) -> Alignment:
    """Lay refused frames on others that do lie on the reference frame: after a drift first and last share no star."""
    matches = list(found.matches)
    for number, refused in enumerate(found.matches):
        if refused.accepted:
            continue
        for other in found.aligned:
            if other == found.reference:
                continue
            link = _match(lists, moving, fixed, number, other, shape)
            if link.accepted:
                through = matches[other]
                whole = through.transform.after(link.transform)
                error = math.hypot(link.error, through.error)
                matches[number] = replace(link, transform=whole, scale=whole.scale, error=error)
                break
    return replace(found, matches=tuple(matches))


def _candidates(lists: Sequence[Stars], how: str) -> list[int]:
    """Return the frames in the order in which they may be the reference."""
    order = list(range(len(lists)))
    if how == "best":
        order.sort(key=lambda number: _badness(lists, number))
    able = [number for number in order if len(lists[number]) >= FEWEST_STARS]
    return able or order


def _badness(lists: Sequence[Stars], number: int) -> float:
    """Grow with the width of a frame's stars and, less, with its sky: as the noise under a star does."""
    stars = lists[number]
    if len(stars) < FEWEST_STARS:
        return math.inf
    return float(np.median(stars.width)) * math.sqrt(max(stars.sky, 1.0))


def _itself(stars: Stars) -> Match:
    return Match(Transform(), len(stars), 1.0, 0.0, 0.0, 1.0, -999.0, "")


def _match(
    lists: Sequence[Stars],
    moving: Sequence[Stars],
    fixed: Sequence[NDArray[np.bool_]],
    number: int,
    reference: int,
    shape: tuple[int, int],
) -> Match:
    """Match one frame, with what persists left out of both lists; of one, or of none, where that tells more."""
    first = match_stars(moving[number], moving[reference], shape)
    if not (fixed[number].any() or fixed[reference].any()):
        return first
    pairs = (moving[number], lists[reference]), (lists[number], moving[reference])
    mixed = [match for match in (match_stars(*pair, shape) for pair in pairs) if match.accepted]
    whole = match_stars(lists[number], lists[reference], shape)
    still = [whole] if _is_still(whole, lists, fixed, number, reference, shape) else []
    moved = [match for match in mixed if _moved(match, shape)]
    told = first if first.accepted else max(moved, key=_matches, default=None)
    if told is None:
        return still[0] if still else first
    # In a guided group only faint stars are not fixed; where the others lie as these do, they know better.
    better = [one for one in (*mixed, *still) if one.matches > MANY_MORE * told.matches and _agree(one, told, shape)]
    return max(better, key=_matches, default=told)


def _matches(match: Match) -> int:
    return match.matches


def _agree(one: Match, other: Match, shape: tuple[int, int]) -> bool:
    centre = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    (dx, dy), (ex, ey) = one.transform.shift_at(*centre), other.transform.shift_at(*centre)
    return math.hypot(dx - ex, dy - ey) < STILL_PIXELS and one.transform.is_flip == other.transform.is_flip


def _moved(match: Match, shape: tuple[int, int]) -> bool:
    """Tell whether what agrees lies elsewhere on the detector, as no hot pixel does."""
    return match.transform.is_flip or _move(match, shape) > RADIUS


def _move(match: Match, shape: tuple[int, int]) -> float:
    return math.hypot(*match.transform.shift_at((shape[1] - 1) / 2, (shape[0] - 1) / 2))


def _is_still(
    match: Match,
    lists: Sequence[Stars],
    fixed: Sequence[NDArray[np.bool_]],
    number: int,
    reference: int,
    shape: tuple[int, int],
) -> bool:
    """Tell whether two whole frames agree because the sky did not move, and not by their hot pixels alone."""
    if not match.accepted or _move(match, shape) > STILL_PIXELS or match.share < STILL_SHARE:
        return False
    for which in (number, reference):
        width, persists = lists[which].width, fixed[which]
        mixed = persists.any() and not persists.all()
        if mixed and np.median(width[persists]) < STILL_WIDTH * np.median(width[~persists]):
            return False
    return True


def choose_star(lists: Sequence[Stars], alignment: Alignment, shape: tuple[int, int]) -> tuple[float, float] | None:
    """Choose the star whose position a person would write down: bright, alone, and inside every aligned frame.

    Parameters
    ----------
    lists : sequence of Stars
        The stars of each frame.
    alignment : Alignment
        How they lie on the reference frame.
    shape : tuple of int
        Shape (ny, nx) of the frames.

    Returns
    -------
    tuple of float or None
        Its position (x, y) in the reference frame, 0-based, in pixels; None if no star is in every frame.

    Notes
    -----
    In every frame something must stand where the star belongs, which hot pixels do not when the sky moves;
    saturated in one frame is saturated.
    """
    stars = lists[alignment.reference]
    if len(stars) == 0:
        return None
    ny, nx = shape
    margin = EDGE_FWHM * stars.fwhm
    inside, seen, saturated = np.ones(len(stars), bool), np.ones(len(stars), bool), stars.saturated.copy()
    for number in alignment.aligned:
        x, y = (places := alignment.matches[number].transform.inverse().apply(stars.positions)).T
        inside &= (x >= margin) & (y >= margin) & (x <= nx - 1 - margin) & (y <= ny - 1 - margin)
        distance, which = cKDTree(lists[number].positions).query(places)
        there = distance <= INLIER_PIXELS
        seen &= there
        saturated |= there & lists[number].saturated[which]
    sound = inside & seen & ~saturated & (np.abs(stars.width / np.median(stars.width) - 1.0) < 0.3)
    for wanted in (sound & _isolated(stars), sound, inside & seen):
        if wanted.any():
            chosen = int(np.flatnonzero(wanted)[0])  # the brightest: they are in order
            return float(stars.x[chosen]), float(stars.y[chosen])
    return None


def _isolated(stars: Stars) -> NDArray[np.bool_]:
    """Tell which stars have no neighbour of a tenth of their light nearby."""
    apart = np.hypot(stars.x[:, None] - stars.x[None, :], stars.y[:, None] - stars.y[None, :])
    disturbing = (apart < ISOLATION_FWHM * stars.fwhm) & (stars.flux[None, :] > 0.1 * stars.flux[:, None])
    np.fill_diagonal(disturbing, val=False)
    return np.asarray(~disturbing.any(axis=1))
