"""The noise ratio is 1 for a right variance, in spite of all that is not noise."""

import numpy as np
import pytest

from nightdesk.science.flag import BAD_PIXEL, NO_DATA, SATURATED
from nightdesk.science.noise_ratio import noise_ratio

SHAPE = (200, 300)
FLAGS = np.zeros(SHAPE, np.uint16)


def noise(sigma: float = 10.0) -> np.ndarray:
    return np.random.default_rng(6).normal(0.0, sigma, SHAPE)


@pytest.mark.parametrize("claim", [0.5, 1.0, 2.0])
def test_it_is_the_noise_over_the_claim(claim: float) -> None:
    ratio = noise_ratio(500.0 + noise(), np.full(SHAPE, (10.0 * claim) ** 2), FLAGS)
    # Neighbouring differences share pixels: the standard error is about 0.5 %.
    assert ratio == pytest.approx(1 / claim, rel=0.02)


def test_stars_gradients_and_hits_are_not_noise() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image = 500.0 + noise() + 0.2 * x
    rng = np.random.default_rng(3)
    for _ in range(80):
        cx, cy = rng.uniform(0, SHAPE[1]), rng.uniform(0, SHAPE[0])
        image += 10 ** rng.uniform(1.0, 4.0) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 5.0)
    assert noise_ratio(image, np.full(SHAPE, 100.0), FLAGS) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("flag", [BAD_PIXEL, NO_DATA, SATURATED])
def test_flagged_pixels_do_not_count(flag: int) -> None:
    image, variance, flags = noise(), np.full(SHAPE, 100.0), FLAGS.copy()
    image[::3] = 0.0
    flags[::3] = flag
    assert noise_ratio(image, variance, flags) == pytest.approx(1.0, abs=0.03)


def test_coverage_may_change_across_the_image() -> None:
    scale = np.where(np.arange(SHAPE[1]) < 100, 1.0, 3.0)
    assert noise_ratio(noise() * scale, 100.0 * scale**2 * np.ones(SHAPE), FLAGS) == pytest.approx(1.0, abs=0.03)


def test_boxes_see_through_smoothed_pixels() -> None:
    raw = noise()
    smooth = (raw + np.roll(raw, 1, 0) + np.roll(raw, 1, 1) + np.roll(raw, (1, 1), (0, 1))) / 4
    pixels = noise_ratio(smooth, np.full(SHAPE, 100.0), FLAGS)
    boxes = noise_ratio(smooth, np.full(SHAPE, 100.0), FLAGS, box=10)
    assert pixels < 0.5
    assert boxes == pytest.approx(0.95, abs=0.1)


@pytest.mark.parametrize(
    ("variance", "flags"),
    [(np.zeros(SHAPE), FLAGS), (np.full(SHAPE, 1.0), np.full(SHAPE, NO_DATA, np.uint16))],
    ids=["no variance", "no data"],
)
def test_where_nothing_can_be_compared_there_is_no_ratio(variance: np.ndarray, flags: np.ndarray) -> None:
    assert np.isnan(noise_ratio(noise(), variance, flags))


def test_a_tiny_image_has_no_ratio() -> None:
    assert np.isnan(noise_ratio(np.ones((3, 3)), np.ones((3, 3)), np.zeros((3, 3), np.uint16)))


def test_an_even_image_has_no_noise() -> None:
    assert noise_ratio(np.ones(SHAPE), np.ones(SHAPE), FLAGS) == 0.0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        noise_ratio(noise(), np.ones((2, 2)), FLAGS)
    with pytest.raises(ValueError, match="box"):
        noise_ratio(noise(), np.ones(SHAPE), FLAGS, box=0)
