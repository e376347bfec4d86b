"""Laws of products: what is read is what was written, and the same frame is the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from nightdesk.io.frame import RECIPE, Frame, read_frame, read_recipe, write_frame
from nightdesk.science.flag import NO_DATA

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(str.rstrip)
VALUES = (
    TEXTS
    | st.integers(-(2**31), 2**31)
    | st.booleans()
    | st.floats(-1e30, 1e30).map(lambda value: float(f"{value:.10G}"))
)
KEYWORDS = st.from_regex(r"ND[A-Z0-9_-]{1,6}", fullmatch=True).filter(lambda word: word != RECIPE)


def planes(shape: tuple[int, int], depth: str, least: float | None = None) -> st.SearchStrategy[NDArray[Any]]:
    width: Literal[32, 64] = 32 if depth == "float32" else 64
    numbers = st.floats(least, allow_nan=False, allow_infinity=False, width=width)
    return arrays.arrays(depth, shape, elements=numbers)


@st.composite
def frames(draw: st.DrawFn, depth: str, *, always_flagged: bool = False) -> Frame:
    shape = draw(SHAPES)
    flagged = always_flagged or draw(st.booleans())
    least = 0.0 if flagged else None  # only the notebook's products, which have no flags, may have a variance below 0
    header = fits.Header([(RECIPE, draw(st.from_regex(r"[0-9a-f]{64}", fullmatch=True)))])
    for keyword, value in draw(st.dictionaries(KEYWORDS, VALUES, max_size=5)).items():
        header[keyword] = value
    return Frame(
        data=draw(planes(shape, depth)),
        variance=draw(planes(shape, depth, least)),
        shared_variance=draw(planes(shape, depth, least)) if flagged and draw(st.booleans()) else None,
        flags=draw(arrays.arrays("uint16", shape)) if flagged else None,
        header=header,
    )


def assert_same(read: NDArray[Any] | None, written: NDArray[Any] | None) -> None:
    if written is None:
        assert read is None
        return
    assert read is not None
    assert read.dtype == written.dtype
    np.testing.assert_array_equal(read, written)


DEPTHS_AND_FRAMES = st.sampled_from(["float32", "float64"]).flatmap(
    lambda depth: st.tuples(st.just(depth), frames(depth))
)


@in_one_folder
@given(DEPTHS_AND_FRAMES)
def test_a_frame_is_read_as_it_was_written(tmp_path: Path, given_: tuple[str, Frame]) -> None:
    depth, frame = given_
    path = tmp_path / "x.fits"
    expected = dict(frame.header)
    write_frame(path, frame, depth=depth)
    read = read_frame(path)
    for name in ("data", "variance", "shared_variance", "flags"):
        assert_same(getattr(read, name), getattr(frame, name))
    assert {keyword: read.header[keyword] for keyword in expected} == expected
    assert read_recipe(path) == expected[RECIPE]


@in_one_folder
@given(DEPTHS_AND_FRAMES)
def test_a_frame_read_and_written_again_is_the_same_bytes(tmp_path: Path, given_: tuple[str, Frame]) -> None:
    depth, frame = given_
    first, second = tmp_path / "a.fits", tmp_path / "b.fits"
    write_frame(first, frame, depth=depth)
    write_frame(second, read_frame(first), depth=depth)
    write_frame(first, read_frame(second), depth=depth)
    assert first.read_bytes() == second.read_bytes()


@in_one_folder
@given(frames("float32", always_flagged=True), st.sampled_from([np.nan, np.inf, -np.inf, 1e39, -1e300]), st.data())
def test_what_a_product_cannot_hold_is_no_data_and_nothing_else_is_touched(
    tmp_path: Path, frame: Frame, value: float, data: st.DataObject
) -> None:
    assert frame.flags is not None
    ny, nx = frame.data.shape
    y, x = data.draw(st.integers(0, ny - 1)), data.draw(st.integers(0, nx - 1))
    plane = data.draw(st.sampled_from(["data", "variance"]))
    spoilt = getattr(frame, plane).astype(np.float64)
    spoilt[y, x] = value
    path = tmp_path / "x.fits"
    write_frame(path, replace(frame, **{plane: spoilt}), depth="float32")
    read = read_frame(path)
    expected = frame.flags.copy()
    expected[y, x] |= NO_DATA
    assert_same(read.flags, expected)
    for name in ("data", "variance"):
        planes = getattr(frame, name).copy()
        planes[y, x] = 0
        assert_same(getattr(read, name), planes)


@in_one_folder
@given(DEPTHS_AND_FRAMES)
def test_the_sums_of_a_product_hold(tmp_path: Path, given_: tuple[str, Frame]) -> None:
    depth, frame = given_
    path = tmp_path / "x.fits"
    write_frame(path, frame, depth=depth)
    with fits.open(path, checksum=True) as hdus:  # a wrong sum is a warning, and a warning an error
        for hdu in hdus:
            assert hdu.verify_checksum() == hdu.verify_datasum() == 1
