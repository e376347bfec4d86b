"""The sidecar `xy.csv`: one star's position in each frame."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from io import StringIO
from typing import TYPE_CHECKING

from nightdesk.errors import SetupError
from nightdesk.io.atomic import create_bytes, write_bytes
from nightdesk.io.raw import stem_of
from nightdesk.io.signature import MADE_BY, is_made_by_nightdesk, signature

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from nightdesk.settings import Settings

HEADER_LINE = "fname,x,y"


@dataclass(frozen=True)
class Placement:
    """How a whole frame lies on the reference frame, as its stars have it.

    `dx` and `dy` are by how much the frame's centre moves, in pixels; it turns about its centre by `rotation` degrees
    (180 after a meridian flip) and grows by `scale`. `matches` stars agree, with a `residual` of so many pixels (rms).
    """

    dx: float
    dy: float
    rotation: float
    scale: float
    matches: int
    residual: float


@dataclass(frozen=True)
class Position:
    """A star in one frame, counted from the configured origin, and the sidecar's line.

    In a sidecar that Nightdesk made the frame's `placement` too: a person who changes a figure in it makes it the
    person's, and then the star's position alone counts.

    The figures stay as written: the notebook truncates their differences, so their last bit counts.
    """

    name: str
    x: float
    y: float
    use: bool
    line: int
    placement: Placement | None = None


@dataclass(frozen=True)
class Positions:
    """The rows of a sidecar that count for a group, in their order; `unknown` names rows without a frame."""

    rows: tuple[Position, ...]
    unknown: tuple[str, ...]

    @property
    def used(self) -> tuple[Position, ...]:
        """The rows whose frames are to be used; the first of them is the reference."""
        return tuple(row for row in self.rows if row.use)

    @property
    def reference(self) -> Position:
        """The row whose position is the origin of the grid."""
        return self.used[0]


def read_sidecar(settings: Settings, path: Path, *, names: Collection[str], shape: tuple[int, ...]) -> Positions:
    """Read a sidecar and keep the rows of the frames asked for.

    Parameters
    ----------
    settings : Settings
        For the origin of positions and the extensions that a name may carry.
    path : Path
        The file.
    names : collection of str
        The group's own frames; rows of others are only noted.
    shape : tuple of int
        Shape ``(ny, nx)`` of the frames, within which positions must lie; empty when unknown.

    Raises
    ------
    SetupError
        Naming the file, the line and what is wrong with it.
    """
    placed = is_made_by_nightdesk(path)
    rows: list[Position] = []
    unknown: list[str] = []
    lines: dict[str, int] = {}
    for line, cells in _read_lines(path):
        if cells["fname"] == "":
            raise _wrong(path, line, "the name (fname) is blank", "Name the frame, or delete the line.")
        name = stem_of(cells["fname"], settings.files.extensions) or cells["fname"]
        if name not in names:
            unknown.append(name)
            continue
        if name in lines:
            raise _wrong(path, line, f"{name} stands already on line {lines[name]}", "Delete one of the two.")
        lines[name] = line
        row = _read_position(settings, path, line, cells, name, () if placed else shape)
        rows.append(replace(row, placement=_read_placement(cells)) if placed else row)
    if rows and not any(row.use for row in rows):
        raise _wrong(path, rows[0].line, "use is 0 in this and every other row", "Leave at least one frame in.")
    return Positions(tuple(rows), tuple(unknown))


def _read_placement(cells: dict[str, str]) -> Placement:
    dx, dy, rotation, scale, residual = (
        float(cells[column]) for column in ("dx", "dy", "rotation", "scale", "residual")
    )
    return Placement(dx, dy, rotation, scale, int(cells["matches"]), residual)


def write_own_sidecar(path: Path, rows: Sequence[tuple[str, float, float, Placement]]) -> None:
    """Write a sidecar that Nightdesk made, marked as such; a person's that is there, or comes now, is left alone.

    `rows` are frame name, x, y and placement, the reference frame first.
    """
    lines = ["fname,x,y,dx,dy,rotation,scale,matches,residual"]
    for name, x, y, p in rows:
        lines.append(
            f"{name},{x:.3f},{y:.3f},{p.dx:.4f},{p.dy:.4f},{p.rotation:.5f},{p.scale:.7f},{p.matches},{p.residual:.3f}"
        )
    mark = signature(lines)
    text = "\n".join([f"{lines[0]},{MADE_BY}", *(f"{line},{mark}" for line in lines[1:])]) + "\n"
    if path.is_file():
        if is_made_by_nightdesk(path):
            write_bytes(path, text.encode())
    else:
        with suppress(FileExistsError):
            create_bytes(path, text.encode())


def _wrong(path: Path, line: int, what: str, advice: str) -> SetupError:
    place = "/".join(path.parts[path.parts.index("xys") :]) if "xys" in path.parts else str(path)
    return SetupError(f"{place}, line {line}: {what}. {advice}")


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each line that is not empty, by its number, as values by column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _wrong(path, line, "it is not UTF-8 text", "Save it as plain text.") from error
    first, *others = text.split("\n")
    columns = _cells(path, 1, first)
    if missing := [column for column in ("fname", "x", "y") if column not in columns]:
        what = f"the column {', '.join(missing)} is missing (found: {', '.join(columns)})"
        raise _wrong(path, 1, what, f"Its first line must be {HEADER_LINE}.")
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise _wrong(path, 1, f"the column {twice[0]} stands twice", "Delete one of the two.")
    for line, row in enumerate(others, start=2):
        values = _cells(path, line, row)
        if not any(values):
            continue
        if len(values) != len(columns):
            what = f"it has {len(values)} values where line 1 has {len(columns)}"
            raise _wrong(path, line, what, "Separate values by commas, with a point in decimals.")
        yield line, dict(zip(columns, values, strict=True))


def _cells(path: Path, line: int, text: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([text], skipinitialspace=True, strict=True), [])]
    except csv.Error as error:
        raise _wrong(path, line, f"a quote is not closed, or not at the end ({error})", "Delete the quotes.") from error


def _read_position(
    settings: Settings, path: Path, line: int, cells: dict[str, str], name: str, shape: tuple[int, ...]
) -> Position:
    position = {}
    for axis, column in ((-1, "x"), (-2, "y")):
        text = cells[column]
        if text == "":
            raise _wrong(path, line, f"{column} of {name} is blank", "Enter the star's position.")
        value = _as_number(text)
        if value is None:
            raise _wrong(path, line, f"{column} = {text!r} of {name} is not a number", "Enter the star's position.")
        if shape and not -0.5 <= value - settings.sidecar.origin <= shape[axis] - 0.5:
            what = f"{column} = {text} of {name} lies outside the frame, which is {shape[1]} x {shape[0]} pixels"
            raise _wrong(path, line, what, f"Positions count from {settings.sidecar.origin}.")
        position[column] = value
    use = cells.get("use", "")
    if use not in ("", "0", "1"):
        raise _wrong(path, line, f"use = {use!r} of {name} is neither 0 nor 1", "Write 1 to use the frame, 0 not to.")
    return Position(name, position["x"], position["y"], use != "0", line)


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _as_number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    if text.isdigit() and len(text) <= 15:
        return float(text)  # every conversion agrees on whole numbers
    import pandas as pd

    # read_csv's own conversion, which the notebook used: with older pandas it differs from float() in the last bit.
    number = float(pd.read_csv(StringIO(f"v\n{text}\n"))["v"].iloc[0])
    return number if math.isfinite(number) else None
