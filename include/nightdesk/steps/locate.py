"""Locate: find out from the stars how the frames lie on one another, where no person has said it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nightdesk import __version__
from nightdesk.errors import SetupError
from nightdesk.io.atomic import locked
from nightdesk.io.layout import EXTINCTION
from nightdesk.io.sidecar import Placement, write_own_sidecar
from nightdesk.io.wcs import transform_by_wcs
from nightdesk.location import Location, write_location
from nightdesk.science.transform import Transform
from nightdesk.settings import digest
from nightdesk.steps.motion import CORNER_PIXELS
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from astropy.io import fits
    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.io.sidecar import Position
    from nightdesk.science.alignment import Alignment
    from nightdesk.science.star import Stars
    from nightdesk.settings import Settings


SHARE_SEEN = 0.7
"""Part of the first frame's stars that a frame must show to be known as not turned."""

STAR_PIXELS = 2.0
"""How far a star may be from where the match of its frame has it."""


def run(settings: Settings, group: Group) -> str:
    """Match the stars of a group's frames and write the sidecar that a person would, marked as Nightdesk's own.

    A person's sidecar is never touched. Its frames' stars tell which of them are turned, and which is the best; with
    ``[align] refine`` the centroids near its positions are measured.

    Parameters
    ----------
    settings : Settings
        The observatory's settings; ``[align]`` says whether and how.
    group : Group
        The group.

    Returns
    -------
    str
        A sentence for the log: what was matched, and which frames were not and why.

    Raises
    ------
    StaleProduct
        If `list_frames` has not run.
    """
    from nightdesk.steps import fused

    if fused.applies(settings, group):
        return fused.find_positions(settings, group)
    return locate(Work.open(settings, group))


def locate(work: Work) -> str:
    """Do the same for a group that is open.

    Parameters
    ----------
    work : Work
        The group.

    Returns
    -------
    str
        A sentence for the log.
    """
    settings = work.settings
    if work.notebook:
        return "The notebook profile takes positions from a person's sidecar alone."
    if not work.needs_positions:
        return "A single frame needs no positions."
    with locked(work.layout.lock, shared=True):
        try:
            sidecar = work.sidecar
        except SetupError as error:
            return f"find_sidecar will refuse it: {error}"
        if sidecar is not None and sidecar == work.layout.person_sidecar:
            return _look_at_persons(work)
        if settings.align.mode != "auto":
            return f'No position is looked for: [align] mode = "{settings.align.mode}".'
        return _locate(work)


@dataclass(frozen=True)
class _Seen:
    """A frame with its header and stars."""

    name: str
    header: fits.Header
    stars: Stars


def _present(work: Work) -> list[str]:
    return [name for name in work.inputs.frames if not work.loss(name) and work.is_current(EXTINCTION, name)]


def _recipe(work: Work, names: list[str]) -> str:
    """Return what the outcome is made from: the frames as they are now, and the settings."""
    sidecar = work.layout.person_sidecar
    return digest(
        {
            "code": __version__,
            "frames": [[name, work.recipe(EXTINCTION, name)] for name in names],
            "align": work.settings.align.model_dump(
                mode="json", include={"reference", "use_wcs", "refine", "refine_limit", "resample"}
            ),
            "origin": work.settings.sidecar.origin,
            "person": sidecar.read_bytes().hex() if sidecar and sidecar == work.sidecar else None,
        }
    )


def _locate(work: Work) -> str:
    from nightdesk.science.alignment import align_frames

    names = _present(work)
    if not names:
        return "No frame has come so far."
    recipe = _recipe(work, names)
    known = work.location
    if (
        known is not None
        and known.recipe == recipe
        and (work.layout.own_sidecar or len(known.refused) >= len(names) - 1)
    ):
        return _summary(work, known, len(names))
    seen = [_look(work, name) for name in names]
    shape = (work.inputs.shape[0], work.inputs.shape[1])
    lists = [one.stars for one in seen]
    alignment = align_frames(lists, shape, reference=work.settings.align.reference)
    placed = _placements(work, seen, alignment, shape)
    reference = seen[alignment.reference].name
    refused = {
        one.name: f"its stars do not match those of {reference}: {match.refusal}"
        for one, match in zip(seen, alignment.matches, strict=True)
        if one.name not in placed
    }
    if len(placed) > 1 or len(names) == 1:
        _write(work, seen, alignment, placed, shape)
    elif (own := work.layout.own_sidecar) is not None:
        own.unlink()
    location = Location(recipe, refused, figures={one.name: _figures(one) for one in seen})
    write_location(work.layout, location)
    return _summary(work, location, len(names))


def _look(work: Work, name: str) -> _Seen:
    return _Seen(name, work.header(EXTINCTION, name), work.stars(name))


def _figures(one: _Seen) -> dict[str, Any]:
    fwhm = one.stars.fwhm
    return {"stars": len(one.stars), "fwhm": round(float(fwhm), 3) if math.isfinite(fwhm) else None}


def _placements(
    work: Work, seen: list[_Seen], alignment: Alignment, shape: tuple[int, int]
) -> dict[str, tuple[Transform, Placement]]:
    """Return how each frame lies on the reference frame: by its stars, else by its WCS where the settings allow it."""
    reference = seen[alignment.reference]
    placed = {}
    for one, match in zip(seen, alignment.matches, strict=True):
        if match.accepted:
            placed[one.name] = (match.transform, _placement(match.transform, shape, match.matches, match.rms))
        elif work.settings.align.use_wcs:
            transform = transform_by_wcs(one.header, reference.header, shape)
            if transform is not None:
                placed[one.name] = (transform, _placement(transform, shape, 0, 0.0))
    return placed


def _placement(transform: Transform, shape: tuple[int, int], matches: int, rms: float) -> Placement:
    dx, dy = transform.shift_at((shape[1] - 1) / 2.0, (shape[0] - 1) / 2.0)
    return Placement(dx, dy, transform.degrees, transform.scale, matches, rms)


def _write(
    work: Work,
    seen: list[_Seen],
    alignment: Alignment,
    placed: dict[str, tuple[Transform, Placement]],
    shape: tuple[int, int],
) -> None:
    """Write the sidecar, the reference frame first, with the position of one star that every frame has."""
    from nightdesk.science.alignment import choose_star

    lists = [one.stars for one in seen]
    star = choose_star(lists, alignment, shape) or _common_point([transform for transform, _ in placed.values()], shape)
    reference = seen[alignment.reference].name
    rows = []
    for one in sorted(seen, key=lambda one: (one.name != reference, one.name)):
        if one.name in placed:
            transform, placement = placed[one.name]
            ((x, y),) = transform.inverse().apply([star])
            left, bottom = _trimmed(one.header)
            origin = work.settings.sidecar.origin
            rows.append((one.name, float(x) + left + origin, float(y) + bottom + origin, placement))
    write_own_sidecar(work.layout.sidecars[0], rows)


def _trimmed(header: fits.Header) -> tuple[float, float]:
    """Return how many columns and rows were trimmed off: positions in a sidecar are those of the raw."""
    return tuple(-float(header.get(f"LTV{axis}", 0.0)) for axis in (1, 2))  # type: ignore[return-value]


def _common_point(transforms: list[Transform], shape: tuple[int, int]) -> tuple[float, float]:
    """Return the point of the reference frame that is farthest inside all frames, where no star is in all."""
    ny, nx = shape
    x, y = np.meshgrid(np.linspace(0, nx - 1, 25), np.linspace(0, ny - 1, 25))
    points = np.column_stack([x.ravel(), y.ravel()])
    margin = np.full(len(points), np.inf)
    for transform in transforms:
        px, py = transform.inverse().apply(points).T
        margin = np.minimum(margin, np.min([px, py, nx - 1 - px, ny - 1 - py], axis=0))
    best = points[int(np.argmax(margin))]
    return float(best[0]), float(best[1])


def _summary(work: Work, location: Location, frames: int) -> str:
    refused = " ".join(f"{name}: {reason}." for name, reason in sorted(location.refused.items()))
    own = work.layout.own_sidecar
    if own is None:
        return f"The frames could not be laid on one another by their stars. {refused}".strip()
    matched = frames - len(location.refused)
    return f"{work.layout.relative(own)}: {matched} of {frames} frames by their stars. {refused}".strip()


def _look_at_persons(work: Work) -> str:
    """Look at the stars of the frames whose positions a person wrote: for what turns them, and near the positions."""
    names = _present(work)
    recipe = _recipe(work, names)
    known = work.location
    place = work.layout.relative(work.sidecar) if work.sidecar else ""
    if known is None or known.recipe != recipe:
        work.forget_location()
        known = _seen_in_persons(work, recipe, set(names))
        write_location(work.layout, known)
    notes = " ".join(f"{name}: {note}." for name, note in sorted(known.notes.items()))
    words = f"{len(known.refined)} of {len(names)} positions refined" if work.refines else "used as it is"
    return f"{place} is a person's: {words}. {notes}".strip()


def _seen_in_persons(work: Work, recipe: str, names: set[str]) -> Location:
    rows = [row for row in (work.positions.used if work.positions else ()) if row.name in names]
    if not rows or (_moves_alone(work) and _stand_upright(work, rows)):
        return Location(recipe)
    from nightdesk.science.alignment import align_frames

    seen = [_look(work, row.name) for row in rows]
    shape = (work.inputs.shape[0], work.inputs.shape[1])
    found = align_frames([one.stars for one in seen], shape, reference=work.settings.align.reference)
    base = found.reference if work.settings.align.reference == "best" else 0
    known = [number for number in found.aligned if base in found.aligned]
    back = found.matches[base].transform.inverse()
    onto = {number: back.after(found.matches[number].transform) for number in known}
    points = [_in_frame(work, one.header, row) for one, row in zip(seen, rows, strict=True)]
    refined, notes = _refined(work, seen, points, base, onto) if work.refines else ({}, {})
    placed = {}
    for number, transform in onto.items():
        if _is_turned(work, transform, shape):
            there = points[base] + refined.get(seen[base].name, (0.0, 0.0))
            here = points[number] + refined.get(seen[number].name, (0.0, 0.0))
            placed[seen[number].name] = _onto(transform, here, there, shape)
    moved = {
        row.name: (row.x + refined[row.name][0], row.y + refined[row.name][1]) for row in rows if row.name in refined
    }
    figures = {one.name: _figures(one) for one in seen}
    best = seen[base].name if work.settings.align.reference == "best" else None
    return Location(recipe, {}, moved, notes, figures, placed, best)


def _moves_alone(work: Work) -> bool:
    """Whether nothing but a flip could be learned from the stars of a person's frames."""
    align = work.settings.align
    return not work.refines and align.reference == "first" and align.resample in ("integer", "subpixel")


def _stand_upright(work: Work, rows: list[Position]) -> bool:
    """Tell whether every frame shows the first one's stars where the positions put them, so that none is turned.

    Small windows tell that in a twentieth of the time of a search for all stars.
    """
    from nightdesk.science.match import FEWEST_MATCHES
    from nightdesk.science.stamp import measure_stamps

    stars, shape = work.stars(rows[0].name), (work.inputs.shape[0], work.inputs.shape[1])
    first = _in_frame(work, work.header(EXTINCTION, rows[0].name), rows[0])

    def _seen(row: Position) -> bool:
        dx, dy = _in_frame(work, work.header(EXTINCTION, row.name), row) - first
        there = replace(stars, x=stars.x + dx, y=stars.y + dy)
        found, tried = measure_stamps(work.look(EXTINCTION, row.name), there, shape)
        return tried >= FEWEST_MATCHES and len(found) > SHARE_SEEN * tried

    return all(map(_seen, rows[1:]))  # threads would mostly wait for Python


def _in_frame(work: Work, header: fits.Header, row: Position) -> NDArray[np.float64]:
    """Return a row's position as the frame's own pixels count."""
    return np.array([row.x, row.y]) - work.settings.sidecar.origin - _trimmed(header)


def _is_turned(work: Work, transform: Transform, shape: tuple[int, int]) -> bool:
    """Tell whether a move alone does not lay a frame on the reference: after a flip, or where turns are resampled."""
    off = 0.5 * math.hypot(*shape) * math.hypot(math.remainder(transform.rotation, math.pi), transform.scale - 1.0)
    return transform.is_flip or (work.settings.align.resample in ("auto", "similarity") and off > CORNER_PIXELS)


def _onto(
    transform: Transform, here: NDArray[np.float64], there: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return how a frame lies on the reference, turned as its stars say and moved as a person's positions do."""
    (where,) = transform.apply([here])
    dx, dy = transform.shift_at((shape[1] - 1) / 2.0, (shape[0] - 1) / 2.0) + (there - where)
    return float(dx), float(dy), transform.degrees, transform.scale


_Offsets = dict[str, tuple[float, float]]


def _refined(
    work: Work, seen: list[_Seen], points: list[NDArray[np.float64]], base: int, onto: dict[int, Transform]
) -> tuple[_Offsets, dict[str, str]]:
    """Return by how far each position is from the star that is meant, and what is to be said of it.

    It is the star of the reference frame, in a crowd the brightest, that is near the positions of most frames; in a
    frame whose stars do not match, the brightest one near its position.
    """
    limit = work.settings.align.refine_limit
    stars = seen[base].stars
    near = np.zeros((len(seen), len(stars)), dtype=bool)
    for number, transform in onto.items():
        near[number] = np.linalg.norm(transform.inverse().apply(stars.positions) - points[number], axis=1) <= limit
    near &= near[base]
    votes = near.sum(axis=0)
    meant = (
        stars.positions[int(np.argmax(votes))] if votes.any() else None
    )  # the brightest of equals: they are in order
    offsets, notes = {}, {}
    for number, (one, point) in enumerate(zip(seen, points, strict=True)):
        star = point
        if meant is not None and number in onto:
            (star,) = onto[number].inverse().apply([meant])
        offset = _offset(one.stars, star, STAR_PIXELS if star is not point else limit, point)
        if offset is None or math.hypot(*offset) > limit:
            notes[one.name] = f"no star is within {limit:g} px of the position given, which is used as it is"
            continue
        offsets[one.name] = offset
        if math.hypot(*offset) > 1.0:
            notes[one.name] = f"its star is {math.hypot(*offset):.1f} px from the position given"
    return offsets, notes


def _offset(
    stars: Stars, place: NDArray[np.float64], reach: float, point: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Return how far the brightest star within reach of a place is from the point that a person gave."""
    apart = np.linalg.norm(stars.positions - place, axis=1)
    if not (apart <= reach).any():
        return None
    dx, dy = stars.positions[int(np.argmax(apart <= reach))] - point
    return float(dx), float(dy)
