"""The sidecar xy.csv: what it may hold, which rows count, and every error with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nightdesk.errors import SetupError
from nightdesk.io.sidecar import Positions, read_sidecar
from nightdesk.settings import Settings

NAMES = ("r0743053", "r0743054", "r0743055")
SHAPE = (24, 32)
GOOD = "fname,x,y\nr0743053,10,11\nr0743054,12.5,9\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "xys/NGC5949/R/xy.csv"
    path.parent.mkdir(parents=True)
    return path


def read(path: Path, content: str | bytes, *, shape: tuple[int, ...] = SHAPE, **tables: Any) -> Positions:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_sidecar(Settings.model_validate(tables), path, names=NAMES, shape=shape)


def rows(positions: Positions) -> list[tuple[str, float, float]]:
    return [(row.name, row.x, row.y) for row in positions.rows]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD, id="as asked for"),
        pytest.param("fname, x, y\nr0743053, 10, 11\nr0743054, 12.5, 9\n", id="blanks after commas"),
        pytest.param("fname , x,y \n r0743053 ,10 ,11\n\tr0743054,12.5,9 \n", id="blanks anywhere"),
        pytest.param(GOOD.replace("053,", "053.fits,").replace("054,", "054.fit,"), id="with .fits and .fit"),
        pytest.param(GOOD.replace("053,", "053.FTS,").replace("054,", "054.fits.gz,"), id="with .FTS and .fits.gz"),
        pytest.param(GOOD.replace("\n", "\r\n"), id="lines of Windows"),
        pytest.param(GOOD.replace("\n", "\r"), id="lines of an old Macintosh"),
        pytest.param("\ufeff" + GOOD, id="with a byte order mark"),
        pytest.param(GOOD.rstrip(), id="no end of line"),
        pytest.param(GOOD + "\n \n,,\n", id="empty lines"),
        pytest.param("y,seeing,x,fname\n11,1.1,10,r0743053\n9,2,12.5,r0743054\n", id="columns in any order, and more"),
        pytest.param('"fname","x","y"\n"r0743053",10,11\n"r0743054","12.5",9\n', id="in quotes"),
        pytest.param("fname,x,y\nr0743053,1e1,+11.\nr0743054,12.50,9e0\n", id="other ways to write a number"),
    ],
)
def test_positions_are_read(path: Path, content: str) -> None:
    positions = read(path, content)
    assert rows(positions) == [("r0743053", 10.0, 11.0), ("r0743054", 12.5, 9.0)]
    assert positions.unknown == ()
    assert positions.reference.name == "r0743053"


def test_names_are_text_and_keep_their_zeros(path: Path) -> None:
    path.write_text("fname,x,y\n0743053,1,2\n743053,3,4\n1e3,5,6\nnan,7,8\n")
    names = ("0743053", "743053", "1e3", "nan")
    positions = read_sidecar(Settings(), path, names=names, shape=SHAPE)
    assert [row.name for row in positions.rows] == list(names)


def test_figures_are_those_the_notebook_read(path: Path) -> None:
    figures = ["15.123456789012345", "7.3", "23.000000000000004", "0.1", "3.14159265358979323846"]
    path.write_text("fname,x,y\n" + "".join(f"f{index},{text},1\n" for index, text in enumerate(figures)))
    positions = read_sidecar(Settings(), path, names=[f"f{index}" for index in range(5)], shape=())
    assert [row.x for row in positions.rows] == pd.read_csv(path)["x"].tolist()


def test_rows_count_only_for_frames_of_the_group(path: Path) -> None:
    positions = read(path, "fname,x,y\nr0000001,5,5\nr0743054,12,9\nr0743053,10,11\nr0000001,bad,\n")
    assert [row.name for row in positions.rows] == ["r0743054", "r0743053"]
    assert positions.unknown == ("r0000001", "r0000001")
    assert positions.reference.name == "r0743054"
    assert [row.line for row in positions.rows] == [3, 4]


def test_a_sidecar_may_have_no_row_of_the_group(path: Path) -> None:
    assert read(path, "fname,x,y\n") == Positions((), ())
    assert read(path, "fname,x,y\nr0000001,5,5\n").unknown == ("r0000001",)


def test_use_0_leaves_a_frame_out(path: Path) -> None:
    positions = read(path, "fname,x,y,use\nr0743053,10,11,0\nr0743054,12,9,1\nr0743055,12,9,\n")
    assert [row.use for row in positions.rows] == [False, True, True]
    assert [row.name for row in positions.used] == ["r0743054", "r0743055"]
    assert positions.reference.name == "r0743054"


def test_a_frame_that_is_left_out_still_needs_a_position(path: Path) -> None:
    with pytest.raises(SetupError, match=r"line 2: x of r0743053 is blank"):
        read(path, "fname,x,y,use\nr0743053,,11,0\n")


ERRORS = [
    pytest.param("", 1, "the column fname, x, y is missing", id="empty file"),
    pytest.param("fname,x\nr0743053,1\n", 1, "the column y is missing (found: fname, x)", id="a column is missing"),
    pytest.param("r0743053,1,2\n", 1, "the column fname, x, y is missing", id="no header line"),
    pytest.param("fname;x;y\nr0743053;1;2\n", 1, "is missing (found: fname;x;y)", id="semicolons"),
    pytest.param("fname,x,y,x\nr0743053,1,2,3\n", 1, "the column x stands twice", id="a column twice"),
    pytest.param(GOOD + "r0743053.fits,1,2\n", 4, "r0743053 stands already on line 2", id="a name twice"),
    pytest.param(GOOD + ",1,2\n", 4, "the name (fname) is blank", id="blank name"),
    pytest.param("fname,x,y\n\nr0743053,,2\n", 3, "x of r0743053 is blank", id="blank x, an empty line before"),
    pytest.param("fname,x,y\nr0743053,1, \n", 2, "y of r0743053 is blank", id="blank y"),
    *(
        pytest.param(f"fname,x,y\nr0743053,{text},2\n", 2, f"x = {text!r} of r0743053 is not a number", id=text)
        for text in ("abc", "1.2.3", "nan", "inf", "-inf", "True", "1_0", "0x10", "1e999", "12 px", "½", "١٢", "NA")
    ),
    pytest.param("fname,x,y\nr0743053,1,2,3\n", 2, "it has 4 values where line 1 has 3", id="decimal comma"),
    pytest.param("fname,x,y\nr0743053,1\n", 2, "it has 2 values where line 1 has 3", id="too few values"),
    pytest.param('fname,x,y\n"r0743053,1,2\n', 2, "a quote is not closed", id="open quote"),
    pytest.param("fname,x,y\nr0743053,33,2\n", 2, "x = 33 of r0743053 lies outside the frame", id="right of it"),
    pytest.param("fname,x,y\nr0743053,0.4,2\n", 2, "x = 0.4 of r0743053 lies outside", id="left of it"),
    pytest.param("fname,x,y\nr0743053,1,24.6\n", 2, "which is 32 x 24 pixels", id="above it"),
    pytest.param("fname,x,y,use\nr0743053,1,2,no\n", 2, "use = 'no' of r0743053 is neither 0 nor 1", id="use"),
    pytest.param("fname,x,y,use\nr0743053,1,2,0\nr0743054,1,2,0\n", 2, "use is 0 in this and every", id="nothing used"),
    pytest.param(b"fname,x,y\nr0743053,1,2\nr0743054,\xff,2\n", 3, "it is not UTF-8 text", id="not UTF-8"),
]


@pytest.mark.parametrize(("content", "line", "told"), ERRORS)
def test_every_error_names_the_file_and_the_line(path: Path, content: str | bytes, line: int, told: str) -> None:
    with pytest.raises(SetupError) as caught:
        read(path, content)
    message = str(caught.value)
    assert message.startswith(f"xys/NGC5949/R/xy.csv, line {line}: ")
    assert told in message
    assert re.search(r"\. [A-Z]", message)  # and a second sentence says what to do


@pytest.mark.parametrize(
    ("origin", "inside", "outside"),
    [
        pytest.param(1, [(0.5, 0.5), (32.5, 24.5)], [(0.49, 1), (32.51, 1), (1, 0.49), (1, 24.51)], id="as DS9 counts"),
        pytest.param(0, [(-0.5, -0.5), (31.5, 23.5)], [(-0.51, 0), (31.51, 0), (0, -0.51), (0, 23.51)], id="from 0"),
    ],
)
def test_positions_lie_within_the_frame_by_the_configured_origin(
    path: Path, origin: int, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    for x, y in inside:
        assert rows(read(path, f"fname,x,y\nr0743053,{x},{y}\n", sidecar={"origin": origin})) == [("r0743053", x, y)]
    for x, y in outside:
        with pytest.raises(SetupError, match=f"Positions count from {origin}"):
            read(path, f"fname,x,y\nr0743053,{x},{y}\n", sidecar={"origin": origin})


def test_without_a_known_shape_any_position_is_taken(path: Path) -> None:
    assert rows(read(path, "fname,x,y\nr0743053,9999,1\n", shape=())) == [("r0743053", 9999.0, 1.0)]
