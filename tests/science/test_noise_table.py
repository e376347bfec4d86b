"""A short form of docs/noise.md: simulated nights whose variance must be right."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from tools import noise_table
from tools.noise_table import BRIGHT_SKIES, CONDITIONS, METHODS, OFFSETS, Conditions, Figures, Offsets, measure, page

COUNTS = (1, 2, 3, 4, 5, 10, 31)
REALISATIONS = 3
SYSTEMATIC = {"sky": 0.03, "stars": 0.05}
TRIALS = 1.0
"""Standard errors of chance that are granted on top; docs/noise.md, of more realisations, needs none."""
NOISE_PAGE = Path(__file__).parents[2] / "docs" / "noise.md"


@pytest.mark.parametrize("conditions", CONDITIONS)
@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("sky", BRIGHT_SKIES)
def test_the_variance_is_right(sky: float, offsets: Offsets, conditions: Conditions) -> None:
    figures = Figures()
    seed = [20261121, int(sky), OFFSETS.index(offsets), CONDITIONS.index(conditions)]
    rng = np.random.default_rng(seed)
    for _ in range(REALISATIONS):
        measure(figures, rng, sky=sky, offsets=offsets, conditions=conditions, counts=COUNTS, methods=METHODS)
    for n, method, kind in itertools.product(COUNTS, METHODS, ("sky", "stars")):
        mean = figures[sky, offsets, conditions, n, method, kind]
        assert mean.error < 0.016, "too few pixels to prove anything"
        bound = SYSTEMATIC[kind] + TRIALS * mean.error
        assert mean.value == pytest.approx(1.0, abs=bound), f"{n} frames, {method}, {kind}"


def test_the_other_rules_are_shown_where_they_are_wrong() -> None:
    """What the page says of them is not by chance: the rules as they are known give the known errors."""
    figures, rng = Figures(), np.random.default_rng(3)
    for _ in range(2):
        measure(figures, rng, sky=1000.0, offsets="dithered", conditions="one airmass", counts=(2, 3), methods=METHODS)

    def wrong_by(rule: str, n: int) -> float:
        place = 1000.0, "dithered", "one airmass", n, rule, "sky"
        return figures[*place, "true"].value / figures[*place, "claimed"].value

    assert wrong_by("DRAGONS median", 2) == pytest.approx(2 / np.pi, rel=0.06)
    assert wrong_by("DRAGONS median", 3) == pytest.approx(1.346 * 2 / np.pi, rel=0.06)
    assert wrong_by("DRAGONS median, no mask", 2) == pytest.approx(2 / np.pi, rel=0.06)
    assert wrong_by("DRAGONS median, no mask", 3) == pytest.approx(1.346 / 3, rel=0.06)
    assert wrong_by("ccdproc average", 2) == pytest.approx(2.0, rel=0.06)
    assert wrong_by("ccdproc average", 3) == pytest.approx(1.5, rel=0.06)


def test_without_sky_matching_a_drift_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table can fail: leave one step out, and it does."""
    monkeypatch.setattr(noise_table, "estimate_sky", lambda image, flags: (0.0, 1.0))
    figures, rng = Figures(), np.random.default_rng(3)
    measure(figures, rng, sky=200.0, offsets="dithered", conditions="sky drifts 20 %", counts=(11,), methods=["median"])
    assert figures[200.0, "dithered", "sky drifts 20 %", 11, "median", "sky"].value > 1.5


def our_cells(page: str) -> list[tuple[float, float]]:
    """Read the figures of sky and stars from the tables of Nightdesk's own methods in bright skies."""
    ours = page[page.index("## Median, sky of 200 e-") : page.index("## Faint skies")]
    return [(float(sky), float(stars)) for sky, stars in re.findall(r"\| (\d\.\d+) / (\d\.\d+)(?= \|)", ours)]


def test_every_figure_of_the_page_is_within_its_bound() -> None:
    text = NOISE_PAGE.read_text(encoding="utf-8")
    cells = our_cells(text)
    assert len(cells) == len(BRIGHT_SKIES) * len(METHODS) * len(OFFSETS) * len(CONDITIONS) * len(noise_table.COUNTS)
    for sky, stars in cells:
        assert abs(sky - 1.0) <= SYSTEMATIC["sky"]
        assert abs(stars - 1.0) <= SYSTEMATIC["stars"]
    errors = re.search(r"statistical error of a single figure is at most\s+([\d.]+) % in the sky and ([\d.]+) %", text)
    assert errors is not None
    assert max(map(float, errors.groups())) < 1.0


def test_real_frames_have_the_noise_they_claim_with_the_gain_of_their_light() -> None:
    text = NOISE_PAGE.with_name("real_noise.md").read_text(encoding="utf-8")
    ratios = [float(cells[-1]) for cells in re.findall(r"^\| (?:all|tres1).*? \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)]
    assert len(ratios) == 5
    assert ratios == pytest.approx([1.0] * 5, abs=0.05)


def test_the_page_is_written_from_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_table, "COUNTS", (1, 3))
    figures = noise_table.run(seed=1, realisations=1, counts=(1, 3))
    text = page(figures, command="python x.py", seed=1, realisations=1, minutes=2.0)
    assert "`python x.py`\n(seed 1, 1 realisations" in text
    assert "4.5 % at 30 e-" in text
    assert f"{figures[1000.0, 'pairs', 'mixed airmass', 3, 'median', 'stars'].value:.3f}" in text
    assert "claims none" in text
    assert "nan" not in text
    again = noise_table.run(seed=1, realisations=1, counts=(1, 3))
    assert page(again, command="python x.py", seed=1, realisations=1, minutes=2.0) == text
