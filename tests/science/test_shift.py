"""Shifts copy what overlaps, wrap nothing, and mark the rest."""

import numpy as np
import pytest

from nightdesk.science.flag import NO_DATA, SATURATED
from nightdesk.science.planes import Planes
from nightdesk.science.shift import footprint, shift_planes, whole_pixels


def numbered(ny: int, nx: int) -> Planes:
    """Return planes whose values tell where they came from."""
    data = 1.0 + np.arange(ny * nx, dtype=float).reshape(ny, nx)
    return Planes(data, data + 1000, data + 2000, np.full((ny, nx), SATURATED, np.uint16))


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(0.0, 0), (0.49, 0), (0.5, 1), (1.5, 2), (2.5, 3), (-0.5, 0), (-0.51, -1), (-1.5, -1), (118.0, 118)],
)
def test_shifts_are_rounded_with_halves_upwards(difference: float, expected: int) -> None:
    assert whole_pixels(difference) == expected


@pytest.mark.parametrize("difference", [np.nan, np.inf])
def test_a_shift_that_is_no_number_is_refused(difference: float) -> None:
    with pytest.raises(ValueError, match="number of pixels"):
        whole_pixels(difference)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, 0), (0, -1), (-3, 2), (5, 4), (-50, 0), (0, 50)])
@pytest.mark.parametrize(
    ("shape", "origin"),
    [(None, (0, 0)), ((4, 6), (0, 0)), ((9, 9), (-2, -3)), ((2, 3), (2, 1))],
    ids=["own grid", "same grid", "larger grid", "smaller grid"],
)
def test_each_pixel_of_the_grid_holds_what_lies_there(
    dx: int, dy: int, shape: tuple[int, int] | None, origin: tuple[int, int]
) -> None:
    planes = numbered(4, 6)
    shifted = shift_planes(planes, dx, dy, shape, origin)
    assert shifted.shape == (shape or (4, 6))
    for (row, column), value in np.ndenumerate(shifted.data):
        y, x = row + origin[1] - dy, column + origin[0] - dx
        place = row, column
        if 0 <= y < 4 and 0 <= x < 6:
            assert value == planes.data[y, x]
            assert shifted.variance[place] == value + 1000
            assert shifted.shared_variance[place] == value + 2000
            assert shifted.flags[place] == SATURATED
        else:
            assert (value, shifted.variance[place], shifted.shared_variance[place]) == (0.0, 0.0, 0.0)
            assert shifted.flags[place] == NO_DATA


def test_a_shift_of_nothing_copies() -> None:
    planes = numbered(4, 6)
    shift_planes(planes, 0, 0).data[:] = 0
    assert planes.data.all()


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        shift_planes(numbered(2, 2), 0, 0, shape=(0, 2))


@pytest.mark.parametrize(
    ("how", "expected"),
    [("first", ((10, 20), (0, 0))), ("intersection", ((5, 16), (3, 0))), ("union", ((15, 24), (-1, -5)))],
)
def test_footprints(how: str, expected: tuple[tuple[int, int], tuple[int, int]]) -> None:
    shapes = [(10, 20)] * 3
    assert footprint(shapes, [(0, 0), (3, 0), (-1, -5)], how) == expected  # type: ignore[arg-type]


def test_frames_of_different_shapes_have_footprints_too() -> None:
    shapes, offsets = [(10, 20), (30, 40)], [(0, 0), (-5, -5)]
    assert footprint(shapes, offsets, "intersection") == ((10, 20), (0, 0))
    assert footprint(shapes, offsets, "union") == ((30, 40), (-5, -5))


@pytest.mark.parametrize(
    ("shapes", "offsets", "how", "words"),
    [
        ([], [], "first", "0 shapes"),
        ([(4, 4)], [(0, 0), (1, 1)], "first", "2 offsets"),
        ([(4, 4), (4, 4)], [(0, 0), (4, 0)], "intersection", "no pixel in common"),
        ([(4, 4)], [(0, 0)], "largest", "first, intersection or union"),
    ],
)
def test_impossible_footprints_are_refused(shapes: list, offsets: list, how: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        footprint(shapes, offsets, how)  # type: ignore[arg-type]
