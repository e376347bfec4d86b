"""A grade comes with the figure, the limit and the reason in words; what has no limits is not judged, and said so."""

from __future__ import annotations

import pytest

from nightdesk.quality import Quality, grade_figures, grade_stack, not_judged
from nightdesk.settings import Settings

LIMITS = {"fwhm": [3.0, 4.0, 5.0], "sky": [10, 20, 30], "stars": [50, 20, 5], "depth": [20, 19, 18]}
SETTINGS = Settings.model_validate({"quality": {"filters": {"R": LIMITS}}})
GOOD = {"fwhm": 2.5, "ellipticity": 0.1, "sky": 300.0, "exposure": 60.0, "stars": 200, "depth": 21.0}


@pytest.mark.parametrize(
    ("figures", "grade", "reason"),
    [
        ({}, "green", ""),
        ({"fwhm": 3.21}, "yellow", "the stars are wide: FWHM 3.21 px, the limit is 3 px."),
        ({"fwhm": 4.5}, "orange", "the stars are wide: FWHM 4.5 px, the limit is 4 px."),
        ({"ellipticity": 0.61}, "red", "the stars are not round: ellipticity 0.61, the limit is 0.5."),
        ({"sky": 720.0}, "yellow", "the sky is bright: 12 e-/s, the limit is 10 e-/s."),
        ({"stars": 19}, "orange", "few stars are seen: 19, the limit is 20."),
        ({"depth": 17.5}, "red", "it is not deep: 5 sigma at 17.5 mag, the limit is 18 mag."),
        ({"fwhm": None, "sky": None, "depth": None}, "green", ""),
    ],
)
def test_a_figure_beyond_a_limit_is_told_with_both(figures: dict[str, float], grade: str, reason: str) -> None:
    assert grade_figures(SETTINGS, GOOD | figures, "r") == Quality(grade, reason)


def test_the_worst_counts_and_every_reason_is_given() -> None:
    found = grade_stack(SETTINGS, {"NOISERAT": 1.5}, GOOD | {"fwhm": 9.0}, filter_name="R", lost=2)
    assert found.grade == "red"
    for part in ("NOISERAT = 1.500", "FWHM 9 px", "2 frames were lost"):
        assert part in found.reason


def test_what_has_no_limits_is_named() -> None:
    assert not_judged(SETTINGS, "R") == []
    assert not_judged(SETTINGS, "H") == ["fwhm", "sky", "stars", "depth"]


@pytest.mark.parametrize(
    ("ratio", "grade", "told"),
    [(0.89, "orange", "less"), (0.9, "green", ""), (1.0, "green", ""), (1.1, "green", ""), (1.11, "orange", "more")],
)
def test_noise_that_is_not_the_claimed_one_is_orange(ratio: float, grade: str, told: str) -> None:
    found = grade_stack(SETTINGS, {"NOISERAT": ratio}, GOOD, filter_name="R")
    assert found.grade == grade
    assert told in found.reason
    assert grade_stack(SETTINGS, {"NOISERAT": None}, GOOD, filter_name="R").grade == "green"
