"""Finding stars: what is one, where it is, and what is none."""

import numpy as np
import pytest

from nightdesk.science.flag import BAD_PIXEL, SATURATED
from nightdesk.science.star import Stars, find_stars, replace_hot_pixels
from nightdesk.science.synthetic import SyntheticImage

EMPTY = SyntheticImage((200, 220), seed=5).with_sky(300.0, (0.1, -0.05)).with_read_noise(6.0)


def nearest(stars: Stars, x: float, y: float) -> float:
    return float(np.min(np.hypot(stars.x - x, stars.y - y)))


@pytest.mark.parametrize("fwhm", [2.0, 3.5, 6.0])
def test_stars_of_any_width_are_found_where_they_are(fwhm):
    field = EMPTY.with_stars(12, faintest=20_000.0, brightest=200_000.0, fwhm=fwhm, margin=20.0)
    stars = find_stars(field.exposure())
    apart = [nearest(stars, star.x, star.y) for star in field.stars]
    assert len(stars) == pytest.approx(12, abs=2)  # two may be blended
    assert np.median(apart) < 0.05
    assert stars.fwhm == pytest.approx(fwhm, rel=0.25)


def test_the_stated_error_is_the_centroids_scatter():
    field = EMPTY.with_star(100.3, 90.6, 4000.0, fwhm=3.0)
    found = [find_stars(field.with_seed(seed).exposure()) for seed in range(60)]
    off = np.array([[stars.x[0] - 100.3, stars.y[0] - 90.6] for stars in found])
    stated = np.median([stars.error[0] for stars in found])
    assert 0.6 < off.std() / stated < 1.4


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_an_empty_frame(seed):
    assert len(find_stars(EMPTY.with_seed(seed).exposure())) <= 1


def test_hot_pixels_are_no_stars():
    random = np.random.default_rng(8)
    image = EMPTY.exposure()
    rows, columns = random.integers(5, 190, (2, 150))
    image[rows, columns] += 10 ** random.uniform(2.0, 4.5, 150)
    assert len(find_stars(image)) <= 3


def test_a_narrow_star_survives_the_hot_pixel_filter():
    field = SyntheticImage((40, 40), seed=2).with_star(20.0, 20.0, 50_000.0, fwhm=1.8)
    assert replace_hot_pixels(field.expected, sigma=5.0)[20, 20] == field.expected[20, 20]


def test_a_trail_does_not_fill_the_list():
    field = EMPTY.with_stars(10, faintest=30_000.0, brightest=100_000.0, margin=20.0)
    image = field.exposure()
    y, x = np.indices(image.shape)
    image += 800.0 * np.exp(-((y - 0.4 * x - 40.0) ** 2) / 4.0)
    stars = find_stars(image)
    assert len(stars) <= 14
    assert np.median([nearest(stars, star.x, star.y) for star in field.stars]) < 0.1


def test_flagged_pixels_are_not_believed_and_saturated_stars_are_marked():
    field = EMPTY.with_star(60.0, 50.0, 60_000.0).with_star(140.0, 120.0, 90_000.0)
    image, flags = field.exposure(), np.zeros(field.shape, np.uint16)
    image[30:34, 150:154], flags[30:34, 150:154] = 1e6, BAD_PIXEL
    image[10, 10], flags[10, 10] = np.nan, BAD_PIXEL
    flags[120, 140] = SATURATED
    stars = find_stars(image, flags)
    assert len(stars) == 2
    assert stars.saturated.tolist() == [True, False]
    assert stars.error[0] > 0.3 > stars.error[1]


def test_they_are_sorted_and_can_be_chosen():
    stars = find_stars(EMPTY.with_stars(8, faintest=20_000.0, brightest=2e5, margin=20.0).exposure())
    assert (np.diff(stars.flux) <= 0).all()
    assert stars.chosen(stars.x < 100).x.max() < 100
    assert stars.chosen([0, 1]).fwhm == stars.fwhm


@pytest.mark.parametrize(
    ("image", "flags", "message"),
    [
        pytest.param(np.zeros(5), None, "two dimensions", id="one-dimension"),
        pytest.param(np.zeros((9, 9)), np.zeros((8, 9), np.uint16), "its flags", id="shapes"),
    ],
)
def test_what_is_no_frame_is_refused(image, flags, message):
    with pytest.raises(ValueError, match=message):
        find_stars(image, flags)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_a_frame_without_noise_has_no_stars(value):
    assert len(find_stars(np.full((64, 64), value))) == 0
