"""A picture comes out of any image, the right way up."""

import numpy as np
import pytest

from nightdesk.science.flag import NO_DATA, SATURATED
from nightdesk.science.picture import render


def test_stars_are_bright_and_the_first_row_is_the_top() -> None:
    image = np.random.default_rng(1).normal(100.0, 5.0, (60, 80))
    image[50:53, 10:13] += 500.0
    picture = render(image)
    assert picture.dtype == np.uint8
    assert picture.shape == (60, 80)
    assert (picture[7:10, 10:13] == 255).all()
    assert 20 < np.median(picture) < 235


def test_more_light_is_never_darker() -> None:
    image = np.random.default_rng(1).normal(100.0, 5.0, (60, 80))
    order = np.argsort(image, axis=None)
    assert (np.diff(render(image)[::-1].ravel()[order].astype(int)) >= 0).all()


def test_missing_pixels_are_black_and_only_they() -> None:
    image = np.random.default_rng(1).normal(0.0, 5.0, (60, 80))
    flags = np.full((60, 80), SATURATED, np.uint16)
    flags[:10] |= NO_DATA
    image[20, 20] = np.nan
    picture = render(image, flags)[::-1]
    assert not picture[:10].any()
    assert picture[20, 20] == 0
    assert np.count_nonzero(picture == 0) == 801


def test_missing_pixels_do_not_set_the_contrast() -> None:
    image = np.random.default_rng(1).normal(1000.0, 5.0, (60, 80))
    flags = np.zeros((60, 80), np.uint16)
    image[:30], flags[:30] = 0.0, NO_DATA
    assert np.ptp(render(image, flags)[:30]) > 200


@pytest.mark.parametrize(
    "image",
    [
        np.full((9, 7), 3.0),
        np.zeros((9, 7)),
        np.full((9, 7), np.nan),
        np.full((9, 7), np.inf),
        np.zeros((0, 7)),
        np.zeros((9, 0)),
        np.zeros((1, 1)),
        np.array([[0.0, 1e300]]),
        np.array([[-1e300, 1e300]]),
        np.eye(9),
        np.zeros((9, 7), np.uint16),
    ],
    ids=lambda image: f"{image.dtype} {image.shape} {image.max() if image.size else 'empty'}",
)
def test_no_image_is_too_odd(image: np.ndarray) -> None:
    assert render(image).shape == image.shape


def test_an_image_without_data_is_black() -> None:
    assert not render(np.ones((4, 4)), np.full((4, 4), NO_DATA, np.uint16)).any()


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        render(np.zeros(3))
    with pytest.raises(ValueError, match="shape"):
        render(np.zeros((3, 3)), np.zeros((3, 4)))
