"""The grid that a group's frames are aligned on: how far each is shifted, and whose WCS it carries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from nightdesk.errors import FrameError, SetupError
from nightdesk.io.layout import EXTINCTION
from nightdesk.science.shift import footprint, whole_pixels

if TYPE_CHECKING:
    from nightdesk.io.sidecar import Position
    from nightdesk.steps.recipe import Work

_WCS_PREFIXES = (
    "CTYPE",
    "CRVAL",
    "CRPIX",
    "CDELT",
    "CROTA",
    "CUNIT",
    "CD1_",
    "CD2_",
    "PC1_",
    "PC2_",
    "PV1_",
    "PV2_",
)
_WCS_KEYWORDS = ("WCSAXES", "RADESYS", "RADECSYS", "EQUINOX", "LONPOLE", "LATPOLE", "WCSNAME")
_DISTORTION = re.compile(r"^[AB]P?_(ORDER|DMAX|\d+_\d+)$")


@dataclass(frozen=True)
class Grid:
    """The common grid of a group.

    `shape` is ``(ny, nx)``; `origin` is the pixel ``(x, y)`` of the reference frame that becomes the grid's first.
    `shifts` are whole pixels ``(dx, dy)`` by name; in the notebook profile the sidecar's own differences.
    """

    shape: tuple[int, ...]
    origin: tuple[int, int]
    shifts: dict[str, tuple[float, float]]
    notebook: bool
    wcs_name: str | None
    wcs_recipe: str | None

    @classmethod
    def of(cls, work: Work) -> Grid:
        """Return the grid of a group; without a sidecar nothing is shifted."""
        positions = work.positions
        shape = work.inputs.shape
        if positions is None or not positions.rows:
            shifts: dict[str, tuple[float, float]] = dict.fromkeys(work.inputs.frames, (0, 0))
        else:
            reference = positions.reference
            shifts = {row.name: _shift(reference, row, whole=not work.notebook) for row in positions.used}
        origin = (0, 0)
        if not work.notebook and len(shape) == 2 and shifts:
            whole = [(int(dx), int(dy)) for dx, dy in shifts.values()]
            try:
                shape, origin = footprint([(shape[0], shape[1])] * len(whole), whole, work.settings.combine.footprint)
            except ValueError as error:
                raise SetupError(f"{work.group.key}: [combine] footprint: {error}") from error
        name, recipe = (None, None) if work.notebook else _wcs_source(work)
        return cls(shape, origin, shifts, work.notebook, name, recipe)

    def placed(self, name: str) -> dict[str, Any]:
        """Return everything of the grid that decides a frame's aligned product."""
        if name not in self.shifts:
            raise FrameError(f"{name}: it has no row in the sidecar. Add one, or set use to 0 in it to leave it out.")
        return {
            "shift": list(self.shifts[name]),
            "shape": list(self.shape),
            "origin": list(self.origin),
            "wcs": [self.wcs_name, self.wcs_recipe],
        }


def _shift(reference: Position, row: Position, *, whole: bool) -> tuple[float, float]:
    dx, dy = reference.x - row.x, reference.y - row.y
    return (whole_pixels(dx), whole_pixels(dy)) if whole else (dx, dy)


def _wcs_source(work: Work) -> tuple[str | None, str | None]:
    """Return the first good frame in the sidecar's order, whose WCS all carry, and its recipe."""
    good = next((name for name in work.order if work.is_current(EXTINCTION, name)), None)
    # None on disk: tidied away since, so that it is the first that was not lost.
    for name in [good] if good else [name for name in work.order if not work.loss(name)]:
        try:
            return name, work.recipe(EXTINCTION, name)
        except (FrameError, FileNotFoundError):
            continue
    return None, None


def place_wcs(header: fits.Header, source: fits.Header, *, shift: tuple[int, int], origin: tuple[int, int]) -> None:
    """Give an aligned frame the WCS of `source`, itself shifted by `shift` onto a grid that starts at `origin`.

    The reference frame has the shift (0, 0): its WCS is carried over unchanged where the grid is its own.
    """
    for keyword in [keyword for keyword in header if _is_wcs(keyword)]:
        header.remove(keyword, remove_all=True, ignore_missing=True)
    for card in source.cards:
        if _is_wcs(card.keyword):
            header.append((card.keyword, card.value, card.comment), end=True)
    for axis in (0, 1):
        moved = shift[axis] - origin[axis]
        for keyword in [keyword for keyword in header if re.fullmatch(f"CRPIX{axis + 1}[A-Z]?", keyword)]:
            header[keyword] += moved
        if moved and f"LTV{axis + 1}" in header:
            header[f"LTV{axis + 1}"] += moved


def _is_wcs(keyword: str) -> bool:
    return keyword in _WCS_KEYWORDS or keyword.startswith(_WCS_PREFIXES) or bool(_DISTORTION.match(keyword))
