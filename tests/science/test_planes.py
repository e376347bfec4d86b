"""Planes belong together, and are scaled and levelled together."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from nightdesk.science.flag import BAD_PIXEL, NO_DATA
from nightdesk.science.planes import Planes


def planes(data: list[list[float]], flags: list[list[int]] | None = None) -> Planes:
    image = np.array(data)
    bits = np.zeros(image.shape, np.uint16) if flags is None else np.array(flags, np.uint16)
    return Planes(image, image + 25.0, np.full(image.shape, 4.0), bits)


@pytest.mark.parametrize("wrong", range(4), ids=["data", "variance", "shared variance", "flags"])
def test_planes_of_different_shapes_are_refused(wrong: int) -> None:
    arrays = [np.zeros((3, 4)), np.zeros((3, 4)), np.zeros((3, 4)), np.zeros((3, 4), np.uint16)]
    arrays[wrong] = arrays[wrong][:2]
    with pytest.raises(ValueError, match="one shape"):
        Planes(*arrays)


def test_a_cube_is_refused() -> None:
    cube = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match="two dimensions"):
        Planes(cube, cube, cube, cube.astype(np.uint16))


def test_flags_of_another_type_are_refused() -> None:
    image = np.zeros((3, 4))
    with pytest.raises(ValueError, match="uint16"):
        Planes(image, image, image, image.astype(np.int32))  # type: ignore[arg-type]


def test_planes_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        planes([[1.0]]).data = np.zeros((1, 1))  # type: ignore[misc]


def test_scaling_keeps_the_signal_to_noise_ratio() -> None:
    scaled = planes([[100.0, 200.0]]).scaled(2.0)
    assert scaled.data.tolist() == [[200.0, 400.0]]
    assert scaled.variance.tolist() == [[500.0, 900.0]]
    assert scaled.shared_variance.tolist() == [[16.0, 16.0]]


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_scale_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        planes([[1.0]]).scaled(factor)


def test_a_level_is_taken_from_every_pixel_that_has_data() -> None:
    levelled = planes([[100.0, 0.0, 30.0]], [[0, NO_DATA, BAD_PIXEL]]).without_level(10.0)
    assert levelled.data.tolist() == [[90.0, 0.0, 20.0]]
    assert levelled.variance.tolist() == [[125.0, 25.0, 55.0]]
