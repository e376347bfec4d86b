"""A flat is divided by its median, and its variance by the square of that."""

import numpy as np
import pytest

from nightdesk.science.flat import normalise_flat


def test_the_median_becomes_one() -> None:
    flat = np.arange(1.0, 26.0).reshape(5, 5) * 1000
    normalised, variance, level = normalise_flat(flat, flat)
    assert level == 13000.0
    assert np.median(normalised) == 1.0
    assert variance is not None
    np.testing.assert_allclose(normalised / np.sqrt(variance), flat / np.sqrt(flat))


def test_a_flat_of_median_one_stays_as_it_is() -> None:
    flat = np.array([[0.9, 1.0, 1.2]])
    np.testing.assert_array_equal(normalise_flat(flat)[0], flat)


def test_only_the_region_counts() -> None:
    flat = np.full((10, 10), 5.0)
    flat[2:4, 2:4] = 20.0
    normalised, _, level = normalise_flat(flat, region=(slice(2, 4), slice(2, 4)))
    assert level == 20.0
    assert normalised[0, 0] == 0.25


def test_what_is_no_number_does_not_count() -> None:
    normalised, _, level = normalise_flat(np.array([[np.nan, 4.0, 4.0, np.inf]]))
    assert level == 4.0
    assert np.isnan(normalised[0, 0])


@pytest.mark.parametrize(
    ("flat", "variance", "words"),
    [
        (np.zeros((3, 3)), None, "above 0"),
        (np.full((3, 3), -1.0), None, "above 0"),
        (np.full((3, 3), np.nan), None, "above 0"),
        (np.ones(3), None, "two dimensions"),
        (np.ones((3, 3)), np.ones((2, 3)), "shape"),
    ],
)
def test_what_is_no_flat_is_refused(flat: np.ndarray, variance: np.ndarray | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        normalise_flat(flat, variance)
