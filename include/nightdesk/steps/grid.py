"""The grid that a group's frames are aligned on: how each is moved, and whose WCS it carries."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from nightdesk.errors import FrameError, SetupError
from nightdesk.io.layout import EXTINCTION
from nightdesk.science.transform import Transform
from nightdesk.steps.motion import Motion, common_grid

if TYPE_CHECKING:
    from nightdesk.science.star import Stars
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
    `motions` are by name; in the notebook profile `shifts` has the sidecar's own differences instead. The frame
    `wcs_name` is the first good one: the others carry its WCS, and their stars are compared with its stars.
    """

    shape: tuple[int, ...]
    origin: tuple[int, int]
    shifts: dict[str, tuple[float, float]]
    motions: dict[str, Motion]
    frame_shape: tuple[int, ...]
    residual_limit: float
    notebook: bool
    wcs_name: str | None
    wcs_recipe: str | None

    @classmethod
    def of(cls, work: Work) -> Grid:
        """Return the grid of a group; without a sidecar nothing is shifted."""
        positions = work.positions
        shape = work.inputs.shape
        shifts: dict[str, tuple[float, float]]
        settings = work.settings.align
        if positions is None or not positions.rows:
            shifts = dict.fromkeys(work.inputs.frames, (0, 0))
            motions = dict.fromkeys(work.inputs.frames, Motion("integer", 0, 0))
        elif work.notebook:
            reference = positions.reference
            shifts, motions = {row.name: (reference.x - row.x, reference.y - row.y) for row in positions.used}, {}
        else:
            reference = positions.reference
            motions = {
                row.name: Motion.between(row, reference, resample=settings.resample, shape=shape)
                for row in positions.used
            }
            shifts = {name: motion.whole for name, motion in motions.items()}
        origin = (0, 0)
        if not work.notebook and len(shape) == 2 and motions:
            shapes = [(shape[0], shape[1])] * len(motions)
            try:
                shape, origin = common_grid(list(motions.values()), shapes, work.settings.combine.footprint)
            except ValueError as error:
                raise SetupError(f"{work.group.key}: [combine] footprint: {error}") from error
        name, recipe = (None, None) if work.notebook else _wcs_source(work, motions)
        return cls(
            shape, origin, shifts, motions, work.inputs.shape, settings.residual_limit, work.notebook, name, recipe
        )

    def to_grid(self, name: str) -> Transform:
        """Return where positions of a frame as it was taken go on the grid.

        Parameters
        ----------
        name : str
            The frame.

        Returns
        -------
        Transform
            0-based on both sides.
        """
        ny, nx = self.frame_shape
        moved = self.motions[name].whole_transform((ny, nx))
        return Transform(dx=-self.origin[0], dy=-self.origin[1]).after(moved)

    def moved_stars(self, name: str, stars: Stars) -> Stars:
        """Return the stars of a frame where they are on the grid.

        Parameters
        ----------
        name : str
            The frame.
        stars : Stars
            Its stars as it was taken.

        Returns
        -------
        Stars
            The same with other positions.
        """
        x, y = self.to_grid(name).apply(stars.positions).T
        return replace(stars, x=x, y=y)

    def placed(self, name: str) -> dict[str, Any]:
        """Return everything of the grid that decides a frame's aligned product."""
        if name not in self.shifts:
            raise FrameError(f"{name}: it has no row in the sidecar. Add one, or set use to 0 in it to leave it out.")
        return {
            "shift": list(self.shifts[name]),
            "motion": self.motions[name].to_json() if name in self.motions else None,
            "residual limit": self.residual_limit,
            "shape": list(self.shape),
            "origin": list(self.origin),
            "wcs": [self.wcs_name, self.wcs_recipe],
        }


def _wcs_source(work: Work, motions: dict[str, Motion]) -> tuple[str | None, str | None]:
    """Return the first good frame in the sidecar's order, whose WCS all carry, and its recipe.

    A frame that is turned cannot hand on its WCS, unless there is no other.
    """
    order = sorted(work.order, key=lambda name: name in motions and not motions[name].only_moves)
    good = next((name for name in order if work.is_current(EXTINCTION, name)), None)
    # None on disk: tidied away since, so that it is the first that was not lost.
    for name in [good] if good else [name for name in order if not work.loss(name)]:
        try:
            return name, work.recipe(EXTINCTION, name)
        except (FrameError, FileNotFoundError):
            continue
    return None, None


def place_wcs(header: fits.Header, source: fits.Header, *, shift: tuple[float, float], origin: tuple[int, int]) -> None:
    """Give an aligned frame the WCS of `source`, itself shifted by `shift` onto a grid that starts at `origin`.

    The reference frame has the shift (0, 0): its WCS is carried over unchanged where the grid is its own.

    Parameters
    ----------
    header : Header
        Of the aligned frame; changed in place.
    source : Header
        Of the frame whose WCS is carried over.
    shift : tuple of float
        How that frame is moved, in pixels ``(dx, dy)``.
    origin : tuple of int
        Pixel ``(x, y)`` of the reference frame that is the grid's first.
    """
    remove_wcs(header)
    for card in source.cards:
        if _is_wcs(card.keyword):
            header.append((card.keyword, card.value, card.comment), end=True)
    for axis in (0, 1):
        moved = shift[axis] - origin[axis]
        for keyword in [keyword for keyword in header if re.fullmatch(f"CRPIX{axis + 1}[A-Z]?", keyword)]:
            header[keyword] += moved
        if moved and f"LTV{axis + 1}" in header:
            header[f"LTV{axis + 1}"] += moved


def remove_wcs(header: fits.Header) -> None:
    """Take the WCS out of a header.

    Parameters
    ----------
    header : Header
        Changed in place.
    """
    for keyword in [keyword for keyword in header if _is_wcs(keyword)]:
        header.remove(keyword, remove_all=True, ignore_missing=True)


def _is_wcs(keyword: str) -> bool:
    return keyword in _WCS_KEYWORDS or keyword.startswith(_WCS_PREFIXES) or bool(_DISTORTION.match(keyword))
