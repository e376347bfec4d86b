"""The robust scatter: true for a normal distribution, deaf to outliers, fine between whole numbers."""

import numpy as np
import pytest

from nightdesk.science.scatter import robust_scatter


@pytest.mark.parametrize("sigma", [0.01, 1.0, 250.0])
def test_a_normal_distribution_has_its_standard_deviation(sigma: float) -> None:
    values = np.random.default_rng(2).normal(7.0, sigma, 100_000)
    # The standard error of half the distance between quartiles is 1.17 / sqrt(N), here 0.4 %.
    assert robust_scatter(values) == pytest.approx(sigma, rel=0.015)


def test_a_tenth_of_outliers_changes_little() -> None:
    values = np.random.default_rng(2).normal(0.0, 1.0, 50_000)
    values[:5000] = 1e6
    assert robust_scatter(values) == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("sigma", [1.0, 1.7, 2.4, 3.5, 5.0])
def test_whole_numbers_do_not_round_it(sigma: float) -> None:
    values = np.rint(np.random.default_rng(2).normal(0.3, sigma, 200_000))
    assert robust_scatter(values) == pytest.approx(sigma, rel=0.015)


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_nothing_that_scatters_has_no_scatter(values: list[float]) -> None:
    assert robust_scatter(values) == 0.0
