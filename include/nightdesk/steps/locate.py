"""Locate: find out from the stars how the frames lie on one another, where no person has said it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nightdesk import __version__
from nightdesk.errors import FrameError, SetupError
from nightdesk.io.atomic import locked
from nightdesk.io.layout import EXTINCTION
from nightdesk.io.sidecar import Placement, write_own_sidecar
from nightdesk.io.wcs import transform_by_wcs
from nightdesk.location import Location, write_location
from nightdesk.science.transform import Transform
from nightdesk.settings import digest
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from astropy.io import fits

    from nightdesk.group import Group
    from nightdesk.science.alignment import Alignment
    from nightdesk.science.star import Stars
    from nightdesk.settings import Settings


def run(settings: Settings, group: Group) -> str:
    """Match the stars of a group's frames and write the sidecar that a person would, marked as Nightdesk's own.

    A person's sidecar is never touched; with ``[align] refine`` the centroids near its positions are measured.

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
            return _refine(work) if work.refines else f"{work.layout.relative(sidecar)} is a person's: used as it is."
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
                mode="json", include={"reference", "use_wcs", "refine", "refine_limit"}
            ),
            "origin": work.settings.sidecar.origin,
            "person": sidecar.read_bytes().hex() if sidecar and work.refines else None,
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


def _refine(work: Work) -> str:
    """Measure the centroid near each position that a person wrote."""
    names = _present(work)
    recipe = _recipe(work, names)
    known = work.location
    place = work.layout.relative(work.sidecar) if work.sidecar else ""
    if known is None or known.recipe != recipe:
        work.forget_location()
        known = _refined(work, recipe, names)
        write_location(work.layout, known)
    notes = " ".join(f"{name}: {note}." for name, note in sorted(known.notes.items()))
    return f"{place}: {len(known.refined)} of {len(names)} positions refined. {notes}".strip()


def _refined(work: Work, recipe: str, names: list[str]) -> Location:
    positions = work.positions
    rows = {row.name: row for row in positions.rows} if positions else {}
    limit, origin = work.settings.align.refine_limit, work.settings.sidecar.origin
    refined, notes, figures = {}, {}, {}
    for name in names:
        if name not in rows:
            continue
        one = _look(work, name)
        left, bottom = _trimmed(one.header)
        x, y = rows[name].x - origin - left, rows[name].y - origin - bottom
        figures[name] = _figures(one)
        try:
            dx, dy = _nearest(one, x, y, limit)
        except FrameError as error:
            notes[name] = str(error)
            continue
        refined[name] = (rows[name].x + dx, rows[name].y + dy)
        if math.hypot(dx, dy) > 1.0:
            notes[name] = f"its star is {math.hypot(dx, dy):.1f} px from the position given"
    return Location(recipe, {}, refined, notes, figures)


def _nearest(one: _Seen, x: float, y: float, limit: float) -> tuple[float, float]:
    if len(one.stars):
        apart = np.hypot(one.stars.x - x, one.stars.y - y)
        chosen = int(np.argmin(apart))
        if apart[chosen] <= limit:
            return float(one.stars.x[chosen] - x), float(one.stars.y[chosen] - y)
    raise FrameError(f"no star is within {limit:g} px of the position given, which is used as it is")
