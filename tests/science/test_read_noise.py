"""The read noise from a pair of biases."""

import numpy as np
import pytest

from nightdesk.science.read_noise import measure_read_noise


@pytest.mark.parametrize("noise", [1.5, 3.0, 8.0])
def test_neither_structure_nor_hits_nor_rounding_matter(noise: float) -> None:
    rng = np.random.default_rng(3)
    structure = 1000.0 + 50.0 * np.sin(np.arange(300) / 7.0)
    pair = [np.rint(structure + rng.normal(0.0, noise, (300, 300))) for _ in range(2)]
    pair[0][10:20, 10:20] += 5000.0
    pair[1][0, 0] = np.nan
    assert measure_read_noise(*pair) == pytest.approx(noise, rel=0.02)


def test_biases_of_two_setups_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        measure_read_noise(np.zeros((20, 20)), np.zeros((10, 20)))


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        measure_read_noise(np.zeros((3, 3)), np.zeros((3, 3)))
