"""How one frame is laid on the reference frame: turned, moved, by whole pixels or by interpolation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nightdesk.science.shift import footprint, shift_planes, whole_pixels
from nightdesk.science.transform import Transform, half_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightdesk.io.sidecar import Position
    from nightdesk.science.planes import Planes
    from nightdesk.science.shift import Footprint

Way = Literal["integer", "subpixel", "similarity"]

CORNER_PIXELS = 0.5
WHOLE = 1e-6
SPOILT_WEIGHT = 0.1


@dataclass(frozen=True)
class Motion:
    """The motion of a frame on to the reference frame.

    A `flipped` frame is first turned by 180 degrees, exactly. Then its centre moves by `dx`, `dy` pixels, and, with the
    way ``similarity``, it turns about its centre by `rotation` degrees and grows by `scale`.
    """

    way: Way
    dx: float
    dy: float
    rotation: float = 0.0
    scale: float = 1.0
    flipped: bool = False

    @classmethod
    def between(cls, row: Position, reference: Position, *, resample: str, shape: tuple[int, ...]) -> Motion:
        """Return the motion of a sidecar's row on to its reference.

        Parameters
        ----------
        row, reference : Position
            Of the frame and of the reference frame.
        resample : {"integer", "subpixel", "similarity", "auto"}
            What the settings ask for.
        shape : tuple of int
            Shape ``(ny, nx)`` of the frames.

        Returns
        -------
        Motion
            Whole pixels, halves rounded up, where the way is ``integer``.
        """
        placement = row.placement
        if placement is None:
            dx, dy, rotation, scale, flipped = reference.x - row.x, reference.y - row.y, 0.0, 1.0, False
        else:
            flipped = abs(placement.rotation) > 90.0
            rotation = math.remainder(placement.rotation - 180.0, 360.0) if flipped else placement.rotation
            dx, dy, scale = placement.dx, placement.dy, placement.scale
        way = _way(resample, rotation, scale, shape)
        if way != "similarity":
            rotation, scale = 0.0, 1.0
        if way == "subpixel" and max(abs(dx - round(dx)), abs(dy - round(dy))) < WHOLE:
            way = "integer"  # nothing to interpolate, so its noise stays as it is
        if way == "similarity" and max(abs(dx), abs(dy), abs(rotation), abs(scale - 1.0)) < WHOLE:
            way = "integer"
        if way == "integer":
            dx, dy = whole_pixels(dx), whole_pixels(dy)
        return cls(way, dx, dy, rotation, scale, flipped)

    @property
    def whole(self) -> tuple[int, int]:
        """The move in whole pixels."""
        return whole_pixels(self.dx), whole_pixels(self.dy)

    @property
    def only_moves(self) -> bool:
        """Whether it neither turns nor scales, so that a WCS can follow it by its reference pixel."""
        return not self.flipped and self.rotation == 0.0 and self.scale == 1.0

    def transform(self, shape: tuple[int, int]) -> Transform:
        """Return where positions of the frame, already turned if it is flipped, go in the reference frame.

        Parameters
        ----------
        shape : tuple of int
            Shape ``(ny, nx)`` of the frame.

        Returns
        -------
        Transform
            The motion after an exact half turn.
        """
        x, y = (shape[1] - 1) / 2.0, (shape[0] - 1) / 2.0
        turned = Transform(math.radians(self.rotation), self.scale)
        ((cx, cy),) = turned.apply([[x, y]])
        return Transform(turned.rotation, self.scale, float(x + self.dx - cx), float(y + self.dy - cy))

    def whole_transform(self, shape: tuple[int, int]) -> Transform:
        """Return where positions of the frame as it was taken go in the reference frame.

        Parameters
        ----------
        shape : tuple of int
            Shape ``(ny, nx)`` of the frame.

        Returns
        -------
        Transform
            The half turn of a flipped frame included.
        """
        return self.transform(shape).after(half_turn(shape)) if self.flipped else self.transform(shape)

    def box(self, shape: tuple[int, int], *, inner: bool = False) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the pixels of the reference frame between which the frame lies, by its corners.

        Parameters
        ----------
        shape : tuple of int
            Shape ``(ny, nx)`` of the frame.
        inner : bool
            The box that is full of it instead of the one that it is inside of: they differ if it is turned.

        Returns
        -------
        shape : tuple of int
            Shape ``(ny, nx)`` of the box.
        offset : tuple of int
            Its first pixel ``(x, y)``.
        """
        ny, nx = shape
        corners = self.transform(shape).apply([[0, 0], [0, ny - 1], [nx - 1, 0], [nx - 1, ny - 1]])
        (left, right), (bottom, top) = (np.sort(axis).reshape(2, 2) for axis in corners.T)
        near, far = (np.max, np.min) if inner else (np.min, np.max)
        # A pixel that the frame covers to nine tenths has its data (resample_planes).
        x, y = (math.ceil(near(low) - SPOILT_WEIGHT) for low in (left, bottom))
        x_end, y_end = (math.floor(far(high) + SPOILT_WEIGHT) for high in (right, top))
        return (y_end - y + 1, x_end - x + 1), (x, y)

    def apply(self, planes: Planes, shape: tuple[int, int], origin: tuple[int, int]) -> Planes:
        """Lay a frame on a grid.

        Parameters
        ----------
        planes : Planes
            The frame as it was taken.
        shape : tuple of int
            Shape ``(ny, nx)`` of the grid.
        origin : tuple of int
            Pixel ``(x, y)`` of the reference frame that is the grid's first.

        Returns
        -------
        Planes
            The frame on the grid.
        """
        from nightdesk.science.resample import resample_planes, turn_planes

        turned = turn_planes(planes) if self.flipped else planes
        if self.way == "integer":
            return shift_planes(turned, *self.whole, shape, origin)
        return resample_planes(turned, self.transform(planes.shape), shape, origin)

    def correlation(self, shape: tuple[int, int]) -> float:
        """Return by what the variance of a large area exceeds the sum of its pixels' VAR.

        Parameters
        ----------
        shape : tuple of int
            Shape ``(ny, nx)`` of the frame.

        Returns
        -------
        float
            1 for whole pixels.
        """
        if self.way == "integer":
            return 1.0
        from nightdesk.science.resample import correlation_factor

        return correlation_factor(self.transform(shape), shape)

    @property
    def words(self) -> str:
        """What is done, for HISTORY."""
        turned = "turned by 180 degrees, then " if self.flipped else ""
        if self.way == "integer":
            dx, dy = self.whole
            return f"{turned}moved by {dx} pixels in x and {dy} in y, by whole pixels; VAR is per pixel"
        more = "" if self.way == "subpixel" else f", rotation {self.rotation:.4f} degrees, scale {self.scale:.6f}"
        return (
            f"{turned}moved by {self.dx:.3f} pixels in x and {self.dy:.3f} in y{more}, by a cubic spline; VAR is per "
            "pixel, neighbours are correlated (CORRFACT)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for a recipe.

        Returns
        -------
        dict
            All that decides the aligned pixels.
        """
        return asdict(self)


def common_grid(
    motions: Sequence[Motion], shapes: Sequence[tuple[int, int]], how: Footprint
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the grid on which moved frames are combined.

    Parameters
    ----------
    motions : sequence of Motion
        Of each frame; the first is the reference frame's.
    shapes : sequence of tuple of int
        Shape ``(ny, nx)`` of each frame.
    how : {"first", "intersection", "union"}
        The reference frame's own grid, the pixels that all frames have, or those that any has.

    Returns
    -------
    shape : tuple of int
        Shape ``(ny, nx)`` of the grid.
    origin : tuple of int
        Position ``(x, y)`` of its first pixel in the reference frame.

    Raises
    ------
    ValueError
        If the frames have no pixel in common where `how` asks for it.
    """
    if how == "first":
        return shapes[0], (0, 0)
    inner = how == "intersection"
    boxes = [motion.box(shape, inner=inner) for motion, shape in zip(motions, shapes, strict=True)]
    return footprint([box for box, _ in boxes], [offset for _, offset in boxes], how)


def _way(resample: str, rotation: float, scale: float, shape: tuple[int, ...]) -> Way:
    if resample == "auto":
        corner = 0.5 * math.hypot(*shape) if len(shape) == 2 else 0.0
        off = corner * math.hypot(math.radians(rotation), scale - 1.0)
        return "similarity" if off > CORNER_PIXELS else "integer"
    return resample  # type: ignore[return-value]  # the settings know no other
