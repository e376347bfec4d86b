"""Where stars and galaxies are."""

import numpy as np
import pytest
from scipy import ndimage

from nightdesk.science import compiled
from nightdesk.science.object_mask import find_objects

SHAPES = [(64, 90), (3, 40), (40, 2), (5, 5), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [1.0, 0.8])
def test_what_is_bright_over_its_box_is_marked_with_what_is_around(shape: tuple[int, int], share: float) -> None:
    random = np.random.default_rng(1)
    image, sound = random.normal(100.0, 5.0, shape), random.random(shape) < share
    excess = np.where(sound, image - 100.0, 0.0)
    light = ndimage.uniform_filter(excess, 5, mode="constant")
    there = ndimage.uniform_filter(sound.astype(float), 5, mode="constant")
    bright = light > 0.3 * 5.0 * np.maximum(there, 1 / 25)
    expected = ndimage.binary_dilation(bright, iterations=3)
    found = find_objects(image, sound, level=100.0, sigma=5.0, threshold=0.3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [1.0, 0.8, 0.2])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_compiled_loop_marks_the_same(
    shape: tuple[int, int], share: float, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled.available():
        pytest.skip("the compiled loops are not there")
    random = np.random.default_rng(2)
    image, sound = random.normal(100.0, 5.0, shape).astype(kind), random.random(shape) < share
    image[~sound] = np.nan
    for threshold in (0.1, 0.3, 1.0):
        found = find_objects(image, sound, level=99.7, sigma=5.1, threshold=threshold)
        with monkeypatch.context() as plain:
            plain.setattr(compiled, "_library", None)
            expected = find_objects(image, sound, level=99.7, sigma=5.1, threshold=threshold)
        np.testing.assert_array_equal(found, expected)
