"""The overscan: constant, per row, polynomial, and what is clipped."""

from __future__ import annotations

import numpy as np
import pytest

from nightdesk.science.overscan import measure_overscan, overscan_noise_factor

ROWS = np.arange(200)


def strip(level: np.ndarray, noise: float = 2.0, columns: int = 16) -> np.ndarray:
    return level[:, None] + np.random.default_rng(1).normal(0.0, noise, (len(level), columns))


def test_a_constant_is_the_clipped_mean_of_all() -> None:
    counts = strip(np.full(200, 500.0))
    counts[17, 3] = 60_000.0
    level = measure_overscan(counts)
    assert np.ptp(level) == 0
    assert level[0] == pytest.approx(500.0, abs=0.1)


def test_each_row_has_its_own_level() -> None:
    truth = 500.0 + 10.0 * (ROWS % 2)
    assert np.abs(measure_overscan(strip(truth), method="row") - truth).max() < 4 * 2.0 / 4


def test_a_row_that_is_no_number_gets_the_median() -> None:
    counts = strip(np.full(200, 500.0))
    counts[5] = np.nan
    assert measure_overscan(counts, method="row")[5] == pytest.approx(500.0, abs=0.5)


def test_a_polynomial_follows_a_drift_and_not_a_trail() -> None:
    truth = 500.0 + 1e-4 * (ROWS - 100.0) ** 2
    counts = strip(truth)
    counts[100:104] += 300.0
    assert np.abs(measure_overscan(counts, method="polynomial", order=2) - truth).max() < 0.3


def test_the_noise_of_a_rows_level_is_in_all_its_pixels() -> None:
    rng = np.random.default_rng(2)
    counts = rng.normal(0.0, 5.0, (20_000, 9))
    left = rng.normal(0.0, 5.0, 20_000) - measure_overscan(counts, method="row")
    assert left.std() == pytest.approx(5.0 * overscan_noise_factor(9, "row"), rel=0.02)


@pytest.mark.parametrize(
    "counts", [np.zeros((0, 4)), np.zeros(5), np.full((4, 4), np.nan)], ids=["none", "line", "nan"]
)
def test_an_overscan_without_values_is_refused(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"overscan|value"):
        measure_overscan(counts, method="row" if counts.ndim == 2 else "constant")
