"""Parts of a detector as FITS writes them: ``[x1:x2,y1:y2]``, counted from 1, both ends included."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECTION = re.compile(r"^\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]$")


@dataclass(frozen=True, order=True)
class Section:
    """A rectangle of pixels; 0-based, the ends not included."""

    x_first: int
    x_end: int
    y_first: int
    y_end: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, as arrays are indexed."""
        return slice(self.y_first, self.y_end), slice(self.x_first, self.x_end)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(ny, nx)``."""
        return self.y_end - self.y_first, self.x_end - self.x_first

    def __str__(self) -> str:
        """Return the section as FITS writes it."""
        return f"[{self.x_first + 1}:{self.x_end},{self.y_first + 1}:{self.y_end}]"


def parse_section(text: str, shape: tuple[int, ...] | None = None) -> Section:
    """Return the section that a text names.

    Raises
    ------
    ValueError
        If it is none, or reaches beyond an image of the shape ``(ny, nx)``.
    """
    match = _SECTION.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no section such as [1:318,2:510]")
    x_first, x_last, y_first, y_last = (int(part) for part in match.groups())
    if not 1 <= x_first <= x_last or not 1 <= y_first <= y_last:
        raise ValueError(f"{text!r} is no section: it counts from 1, the smaller number first")
    if shape is not None and len(shape) == 2 and (x_last > shape[1] or y_last > shape[0]):
        raise ValueError(f"{text!r} reaches beyond the image of {shape[1]} x {shape[0]} pixels")
    return Section(x_first - 1, x_last, y_first - 1, y_last)
