"""The sidecar `xy.csv`: one star's position in each frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from nightdesk.errors import SetupError
from nightdesk.io.raw import stem_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import pandas as pd

    from nightdesk.settings import Settings

HEADER_LINE = "fname,x,y"


@dataclass(frozen=True)
class Position:
    """A star in one frame, counted from the configured origin, and the sidecar's line.

    The figures stay as written: the notebook truncates their differences, so their last bit counts.
    """

    name: str
    x: float
    y: float
    use: bool
    line: int


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
    table = _read_table(path)
    rows: list[Position] = []
    unknown: list[str] = []
    lines: dict[str, int] = {}
    for index, text in enumerate(table["fname"]):
        line = index + 2
        if text == "" and all(value == "" for value in table.iloc[index]):
            continue
        if text == "":
            raise _wrong(path, line, "the name (fname) is blank", "Name the frame, or delete the line.")
        name = stem_of(text, settings.files.extensions) or text
        if name not in names:
            unknown.append(name)
            continue
        if name in lines:
            raise _wrong(path, line, f"{name} stands already on line {lines[name]}", "Delete one of the two.")
        lines[name] = line
        rows.append(_read_row(settings, path, table, index, name, shape))
    if rows and not any(row.use for row in rows):
        raise _wrong(path, rows[0].line, "use is 0 in this and every other row", "Leave at least one frame in.")
    return Positions(tuple(rows), tuple(unknown))


def _wrong(path: Path, line: int, what: str, advice: str) -> SetupError:
    place = "/".join(path.parts[path.parts.index("xys") :]) if "xys" in path.parts else str(path)
    return SetupError(f"{place}, line {line}: {what}. {advice}")


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise _wrong(path, line, "it is not UTF-8 text", "Save it as plain text.") from error
    columns = [column.strip() for column in (text.splitlines() or [""])[0].split(",")]
    missing = [column for column in ("fname", "x", "y") if column not in columns]
    if missing:
        advice = f"Its first line must be {HEADER_LINE}"
        raise _wrong(path, 1, f"the column {', '.join(missing)} is missing (found: {', '.join(columns)})", advice)
    for line, row in enumerate(text.splitlines(), start=1):
        if row.strip() and len(row.split(",")) != len(columns):
            what = f"it has {len(row.split(','))} values where line 1 has {len(columns)}"
            raise _wrong(path, line, what, "Separate values by commas, with a point in decimals.")
    table = pd.read_csv(
        StringIO(text),
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
        skip_blank_lines=False,
        index_col=False,
    )
    table.columns = columns
    return table.fillna("").map(str.strip)


def _read_row(
    settings: Settings, path: Path, table: pd.DataFrame, index: int, name: str, shape: tuple[int, ...]
) -> Position:
    line = index + 2
    position = {}
    for axis, column in ((-1, "x"), (-2, "y")):
        text = table[column].iloc[index]
        if text == "":
            raise _wrong(path, line, f"{column} of {name} is blank", "Enter the star's position.")
        value = _as_number(text)
        if value is None:
            raise _wrong(path, line, f"{column} = {text!r} of {name} is not a number", "Enter the star's position.")
        if shape and not -0.5 <= value - settings.sidecar.origin <= shape[axis] - 0.5:
            what = f"{column} = {text} of {name} lies outside the frame, which is {shape[1]} x {shape[0]} pixels"
            raise _wrong(path, line, what, f"Positions count from {settings.sidecar.origin}.")
        position[column] = value
    return Position(name, position["x"], position["y"], _read_use(path, table, index, name), line)


def _read_use(path: Path, table: pd.DataFrame, index: int, name: str) -> bool:
    if "use" not in table.columns:
        return True
    text = table["use"].iloc[index]
    if text not in ("", "0", "1"):
        raise _wrong(
            path,
            index + 2,
            f"use = {text!r} of {name} is neither 0 nor 1",
            "Write 1 to use the frame, 0 not to.",
        )
    return bool(text != "0")


def _as_number(text: str) -> float | None:
    import pandas as pd

    try:
        # read_csv's own conversion, not float(): the two differ in the last bit, and the notebook used this one.
        number = float(pd.read_csv(StringIO(f"v\n{text}\n"))["v"].iloc[0])
    except (ValueError, TypeError, IndexError):
        return None
    return number if math.isfinite(number) else None
