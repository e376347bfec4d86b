"""Extinction: the known number, the order of its arithmetic, and what is refused."""

import numpy as np
import pytest

from nightdesk.science.extinction import correct_extinction, extinction_factor


def test_the_known_number_to_the_last_bit() -> None:
    corrected, _ = correct_extinction([[20927.0]], [[20927.0]], airmass=1.72, extinction_coefficient=0.0547)
    assert corrected.item() == 22821.310206385726


def test_the_order_of_the_arithmetic_matters_and_is_kept() -> None:
    """Somewhere among these airmasses the short-cut 0.4 k X differs: this test would see it."""
    airmasses = np.linspace(1.0, 3.0, 500).tolist()
    exact = [10.0 ** ((0.0547 * x) / 2.5) for x in airmasses]
    assert [extinction_factor(x, 0.0547) for x in airmasses] == exact
    assert [10.0 ** (0.4 * 0.0547 * x) for x in airmasses] != exact


def test_the_variance_scales_by_the_square() -> None:
    corrected, variance = correct_extinction([[100.0]], [[9.0]], airmass=2.0, extinction_coefficient=0.5)
    factor = 10**0.4
    assert corrected.item() == pytest.approx(100 * factor)
    assert variance.item() == pytest.approx(9 * factor**2)


@pytest.mark.parametrize(
    ("airmass", "coefficient", "words"),
    [
        (0.99, 0.1, "airmass"),
        (np.nan, 0.1, "airmass"),
        (np.inf, 0.1, "airmass"),
        (1.2, -0.1, "coefficient"),
        (1.2, np.nan, "coefficient"),
    ],
)
def test_what_cannot_be_is_refused(airmass: float, coefficient: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        correct_extinction([[1.0]], [[1.0]], airmass=airmass, extinction_coefficient=coefficient)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        correct_extinction([[1.0]], [[1.0, 1.0]], airmass=1.0, extinction_coefficient=0.1)
