"""The level of the sky, in spite of stars, galaxies, hits, holes and whole numbers."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nightdesk.science.flag import BAD_PIXEL, NO_DATA, SATURATED
from nightdesk.science.object_mask import find_objects
from nightdesk.science.sky import estimate_noise, estimate_sky

SHAPE = (200, 300)


def blank(level: float = 400.0, seed: int = 4) -> NDArray[np.float64]:
    return np.random.default_rng(seed).poisson(level, SHAPE).astype(float)


def starlight() -> NDArray[np.float64]:
    """Return 60 stars and a galaxy that covers a tenth of the image."""
    rng = np.random.default_rng(8)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = 300.0 * np.exp(-np.hypot((x - 180) / 1.5, y - 90) / 12.0)
    for _ in range(60):
        cx, cy, flux = rng.uniform(0, SHAPE[1]), rng.uniform(0, SHAPE[0]), 10 ** rng.uniform(2.5, 5.5)
        light += flux / 15.0 * (1 + ((x - cx) ** 2 + (y - cy) ** 2) / 4.0) ** -2.5
    return light


def test_a_blank_sky() -> None:
    level, sigma = estimate_sky(blank())
    # Four standard errors of a mean and of a scatter from 60 000 pixels.
    assert level == pytest.approx(400.0, abs=4 * 20 / np.sqrt(60_000))
    assert sigma == pytest.approx(20.0, rel=0.02)


@pytest.mark.parametrize("level", [20.0, 400.0, 5000.0])
def test_objects_raise_the_level_by_a_fraction_of_the_noise(level: float) -> None:
    image = np.random.default_rng(4).poisson(level + starlight()).astype(float)
    found, sigma = estimate_sky(image)
    assert found == pytest.approx(level, abs=0.2 * np.sqrt(level))
    assert sigma == pytest.approx(np.sqrt(level), rel=0.06)
    assert abs(image.mean() - level) > 5 * abs(found - level)


@pytest.mark.parametrize("drift", [0.8, 0.99, 1.05, 1.5])
def test_the_difference_of_two_skies_is_better_known_than_either(drift: float) -> None:
    rng = np.random.default_rng(9)
    first = estimate_sky(rng.poisson(400.0 + starlight()).astype(float))[0]
    second = estimate_sky(rng.poisson(400.0 * drift + starlight()).astype(float))[0]
    assert second - first == pytest.approx(400.0 * (drift - 1), abs=0.8)


def test_whole_numbers_do_not_round_the_level() -> None:
    rng = np.random.default_rng(4)
    image = np.rint(rng.normal(1000.37, 2.0, SHAPE))
    assert estimate_sky(image)[0] == pytest.approx(1000.37, abs=0.04)


@pytest.mark.parametrize("flag", [BAD_PIXEL, NO_DATA, SATURATED])
def test_flagged_pixels_do_not_count(flag: int) -> None:
    image, flags = blank(), np.zeros(SHAPE, np.uint16)
    image[:80], flags[:80] = 410.0, flag
    assert estimate_sky(image, flags)[0] == pytest.approx(400.0, abs=0.5)


def test_what_is_no_number_does_not_count() -> None:
    image = blank()
    image[:80] = np.nan
    assert estimate_sky(image)[0] == pytest.approx(400.0, abs=0.5)


@pytest.mark.parametrize("value", [0.0, -7.0, 1e9])
def test_an_even_image_is_all_sky(value: float) -> None:
    assert estimate_sky(np.full((5, 6), value)) == (value, 0.0)


def test_a_single_pixel_has_a_level() -> None:
    assert estimate_sky(np.array([[3.0]])) == (3.0, 0.0)


def test_without_a_good_pixel_there_is_no_sky() -> None:
    with pytest.raises(ValueError, match="no sky"):
        estimate_sky(np.zeros((3, 3)), np.full((3, 3), NO_DATA))


def test_flags_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        estimate_sky(np.zeros((3, 3)), np.zeros((3, 4)))


def test_the_noise_of_a_frame_is_that_of_its_sky() -> None:
    variance, flags = np.full((20, 20), 225.0), np.zeros((20, 20), np.uint16)
    variance[:5] = 1e6
    variance[5:14], flags[5:14] = 0.0, NO_DATA
    assert estimate_noise(variance, flags) == 15.0
    assert estimate_noise(variance, np.full((20, 20), NO_DATA)) == 0.0


@pytest.mark.parametrize("size", [60_000, 59_999, 2, 1])
def test_the_noise_is_the_median_of_what_is_chosen(size: int) -> None:
    variance, flags = np.random.default_rng(5).normal(225.0, 9.0, SHAPE), np.full(SHAPE, NO_DATA, np.uint16)
    flags.flat[:size] = 0
    assert estimate_noise(variance, flags) == np.sqrt(np.median(variance.flat[:size]))


def test_float32_is_measured_as_the_same_numbers_in_float64() -> None:
    image = (blank() + starlight()).astype(np.float32)
    assert estimate_sky(image) == estimate_sky(image.astype(np.float64))
    assert estimate_noise(image) == estimate_noise(image.astype(np.float64))


def test_objects_are_marked_and_noise_is_not() -> None:
    image = blank()
    image[100:103, 50:53] += 100.0
    found = find_objects(image, np.ones(SHAPE, bool), level=400.0, sigma=20.0)
    assert found[100:103, 50:53].all()
    assert not found[:80].any()
    assert not found[:, 80:].any()


def test_a_pixel_that_is_not_sound_is_no_object() -> None:
    image, sound = blank(), np.ones(SHAPE, bool)
    image[100:103, 50:53], sound[100:103, 50:53] = 1e6, False
    assert not find_objects(image, sound, level=400.0, sigma=20.0).any()
