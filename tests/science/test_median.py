"""The factor of the median: against published figures, against chance, and its limits."""

import math

import numpy as np
import pytest

from nightdesk.science.median import (
    TABULATED,
    median_variance_factor,
    median_variance_factors,
    middle_values,
    unequal_noise_exponent,
)

PUBLISHED = {
    1: 1.0, 2: 1.0, 3: 1.3460, 4: 1.1928, 5: 1.4342, 6: 1.2885, 7: 1.4731, 8: 1.3454, 9: 1.4949, 10: 1.3833,
    11: 1.5088, 12: 1.4102, 13: 1.5184, 14: 1.4303, 15: 1.5254, 20: 1.4687, 25: 1.5437, 31: 1.5489,
    51: 1.5575, 101: 1.5641,
}  # fmt: skip


@pytest.mark.parametrize(("n", "factor"), PUBLISHED.items())
def test_the_known_factors(n: int, factor: float) -> None:
    assert median_variance_factor(n) == pytest.approx(factor, abs=5.1e-5)


@pytest.mark.parametrize("n", [3, 4, 9, 10, 150])
def test_the_factor_is_the_scatter_of_medians(n: int) -> None:
    draws = 200_000 if n < 20 else 20_000
    medians = np.median(np.random.default_rng(n).standard_normal((draws, n)), axis=1)
    error = math.sqrt(2 / draws)
    assert n * np.mean(medians**2) == pytest.approx(median_variance_factor(n), rel=4 * error)


def test_the_factor_goes_smoothly_to_its_limit() -> None:
    for first in (TABULATED - 1, TABULATED):
        ns = range(first - 4, first + 10, 2)
        steps = np.diff([median_variance_factor(n) for n in ns])
        assert (steps > 0).all()
        assert (np.abs(np.diff(steps)) < 2e-5).all()
    assert median_variance_factor(10**7) == pytest.approx(math.pi / 2, abs=1e-6)


def test_factors_are_indexed_by_the_count() -> None:
    factors = median_variance_factors(12)
    assert factors[0] == 0
    assert factors[11] == median_variance_factor(11)


@pytest.mark.parametrize("function", [median_variance_factor, unequal_noise_exponent])
def test_no_value_has_no_median(function: object) -> None:
    with pytest.raises(ValueError, match="at least one value"):
        function(0)  # type: ignore[operator]


@pytest.mark.parametrize("n", range(1, 9))
def test_middle_values_make_the_median(n: int) -> None:
    rng = np.random.default_rng(n)
    values, used = rng.normal(size=(8, 5, 6)), np.zeros((8, 5, 6), bool)
    for place in np.ndindex(5, 6):
        used[(rng.permutation(8)[:n], *place)] = True
    lower, upper = middle_values(values, used)
    expected = np.median(np.where(used, values, np.nan), axis=0) if n == 8 else np.nanmedian(
        np.where(used, values, np.nan), axis=0
    )  # fmt: skip
    np.testing.assert_array_equal((lower + upper) / 2, expected)


def test_nothing_in_use_has_the_value_0() -> None:
    lower, upper = middle_values(np.ones((3, 1)), np.zeros((3, 1), bool))
    assert lower.item() == upper.item() == 0.0


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 12, 21])
@pytest.mark.parametrize("spread", [0.1, 0.25])
def test_unequal_noise_enters_with_the_right_power(n: int, spread: float) -> None:
    """Half of the frames noisier, half of them quieter than the rest."""
    sigmas = np.ones(n)
    sigmas[: n // 2] += spread
    sigmas[n - n // 2 :] -= spread
    rng = np.random.default_rng(n)
    squares = [np.median(rng.standard_normal((20_000, n)) * sigmas, axis=1) ** 2 for _ in range(10)]
    p = unequal_noise_exponent(n)
    predicted = median_variance_factor(n) / n * np.mean(sigmas**p) ** (2 / p)
    # 200 000 medians know their variance to 0.32 %.
    assert np.mean(squares) == pytest.approx(predicted, rel=0.015)


@pytest.mark.parametrize(
    ("sigmas", "tolerance"),
    [
        ([1, 3], 0.01),
        ([1, 2, 3], 0.08),
        ([1, 1, 1, 2, 2, 2], 0.03),
        ([1, 1, 3, 3], 0.10),
        ([1, 1, 1, 3, 3], 0.10),
        ([1, 1, 1, 3], 0.15),
        ([1, 1, 3], 0.15),
    ],
    ids=str,
)
def test_very_unequal_noise_is_met_roughly(sigmas: list[float], tolerance: float) -> None:
    n, each = len(sigmas), np.array(sigmas, float)
    medians = np.median(np.random.default_rng(7).standard_normal((200_000, n)) * each, axis=1)
    p = unequal_noise_exponent(n)
    predicted = median_variance_factor(n) / n * np.mean(each**p) ** (2 / p)
    assert np.mean(medians**2) == pytest.approx(predicted, rel=tolerance + 0.013)
