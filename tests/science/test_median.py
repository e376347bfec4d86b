"""The factor of the median: against published figures, against chance, and its limits."""

import math

import numpy as np
import pytest

from nightdesk.science import compiled
from nightdesk.science.median import (
    TABULATED,
    median_variance_factor,
    median_variance_factors,
    middle_values,
    unequal_median_variance,
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


def test_no_value_has_no_median() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        median_variance_factor(0)
    with pytest.raises(ValueError, match="at least one value"):
        unequal_median_variance(np.ones((1, 0)))


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


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 11, 30, 31, 32, 101])
def test_equal_noise_has_the_known_factor(n: int) -> None:
    expected = 4.0 * median_variance_factor(n) / n
    assert unequal_median_variance(np.full((1, n), 2.0)).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    "sigmas",
    [
        [1, 3],
        [1, 1, 3],
        [1, 3, 3],
        [1, 2, 3],
        [1, 1, 1, 10],
        [1, 1, 3, 3],
        [1, 1, 1, 3, 3],
        [1.25] * 4 + [0.75] * 4,
        [1] * 10 + [3] * 11,
        [1] * 16 + [3] * 15,
        [1] * 17 + [3] * 17,
    ],
    ids=str,
)
def test_unequal_noise_makes_the_scatter_of_medians(sigmas: list[float]) -> None:
    each = np.array(sigmas, float)
    rng = np.random.default_rng(7)
    squares = [np.median(rng.standard_normal((20_000, len(each))) * each, axis=1) ** 2 for _ in range(10)]
    # 200 000 medians know their variance to 0.32 %, somewhat less where the tails are long
    assert unequal_median_variance(each[None]).item() == pytest.approx(np.mean(squares), rel=0.015)


@pytest.mark.parametrize("n", [2, 5, 12, 30])
def test_the_compiled_error_function_gives_the_same_bits(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled.available():
        pytest.skip("the compiled loops are not there")
    sigmas = np.random.default_rng(n).uniform(1.0, 3.0, (4, n))
    found = unequal_median_variance(sigmas)
    monkeypatch.setattr(compiled, "_library", None)
    np.testing.assert_array_equal(unequal_median_variance(sigmas), found)
