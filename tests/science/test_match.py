"""Matching lists of stars: right, or refused with the figure that failed."""

import math
import re

import numpy as np
import pytest
from scipy.special import betainc

from nightdesk.science.match import _log_tail, match_stars
from nightdesk.science.star import Stars
from nightdesk.science.transform import Transform, half_turn

SHAPE = (480, 512)


def stars_at(points, *, error=0.03, order=None) -> Stars:
    """Stars at (x, y), the brightest first."""
    points = np.asarray(points, dtype=float)
    n = len(points)
    flux = np.arange(n, 0, -1.0) if order is None else order
    return Stars(points[:, 0], points[:, 1], flux, np.full(n, error), np.full(n, 3.0), np.zeros(n, bool), 3.0)


def field(number: int, seed: int = 1):
    random = np.random.default_rng(seed)
    return random.uniform(0, 1, (number, 2)) * (SHAPE[1] - 1, SHAPE[0] - 1)


def seen(points, transform: Transform, seed: int = 2, error: float = 0.03):
    """Where the stars of a field stand in a frame that `transform` takes to the reference frame."""
    moved = transform.inverse().apply(points) + np.random.default_rng(seed).normal(0.0, error, points.shape)
    inside = (moved > 0).all(axis=1) & (moved < (SHAPE[1] - 1, SHAPE[0] - 1)).all(axis=1)
    return moved[inside]


@pytest.mark.parametrize("number", [7, 20, 300])
@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(Transform(), id="still"),
        pytest.param(Transform(dx=40.3, dy=-71.8), id="moved"),
        pytest.param(Transform(math.radians(0.9), 1.0, 12.0, -30.0), id="turned"),
        pytest.param(half_turn(SHAPE).after(Transform(math.radians(-0.8), 1.0, 10.0, 5.0)), id="flipped"),
    ],
)
def test_a_match_is_right(number, transform):
    points = field(number)
    match = match_stars(stars_at(seen(points, transform)), stars_at(points), SHAPE)
    assert match.accepted, match.refusal
    assert match.transform.is_flip == transform.is_flip
    corners = [[0.0, 0.0], [511.0, 0.0], [511.0, 479.0], [0.0, 479.0]]
    off = np.linalg.norm(match.transform.apply(corners) - transform.apply(corners), axis=1)
    assert off.max() < 0.2
    assert match.error < 0.03


def test_few_stars_make_a_rigid_motion_and_many_show_their_scale():
    grown = Transform(0.0, 1.003)
    many = match_stars(stars_at(seen(field(60), grown)), stars_at(field(60)), SHAPE)
    assert many.transform.scale == pytest.approx(1.003, abs=1e-4)
    few = match_stars(stars_at(seen(field(7), Transform())), stars_at(field(7)), SHAPE)
    assert few.transform.scale == 1.0


def test_where_the_scale_is_one_it_stays_one():
    match = match_stars(stars_at(seen(field(60), Transform(dx=3.3))), stars_at(field(60)), SHAPE)
    assert match.transform.scale == 1.0
    assert match.scale != 1.0


def test_good_centroids_weigh_more():
    points, true = field(30), Transform(dx=5.25, dy=-3.5)
    here = seen(points, true, error=0.0)
    random = np.random.default_rng(3)
    errors = np.where(np.arange(len(here)) < 4, 0.01, 0.5)
    noisy = here + random.normal(0.0, 1.0, here.shape) * errors[:, None]
    match = match_stars(stars_at(noisy, error=errors), stars_at(true.apply(here), error=0.01), SHAPE)
    assert np.hypot(*np.subtract(match.transform.shift_at(250, 240), (5.25, -3.5))) < 0.05


def test_one_bright_star_that_is_off_does_not_decide():
    points = field(25)
    here = points.copy()
    here[0] += (1.5, 0.0)
    errors = np.where(np.arange(25) == 0, 0.01, 0.05)
    match = match_stars(stars_at(here, error=errors), stars_at(points, error=errors), SHAPE)
    assert np.hypot(*match.transform.shift_at(250, 240)) < 0.05


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        pytest.param(field(4), field(40), "too few stars: 4 stars were found in it, 40 in the reference", id="few"),
        pytest.param(field(30, seed=7), field(30, seed=8), r"too few|no pattern|may be chance", id="another-field"),
        pytest.param(seen(field(40), Transform(0.0, 1.01)), field(40), r"scale|too few|badly", id="scale"),
        pytest.param(
            np.vstack([field(6), field(30, seed=9)]),
            np.vstack([field(6), field(30, seed=10)]),
            r"too few of its stars agree: \d+ of \d+ \(\d+%, at least 50%\)",
            id="a-minority",
        ),
    ],
)
def test_a_refusal_names_the_figure(mine, theirs, words):
    match = match_stars(stars_at(mine), stars_at(theirs), SHAPE)
    assert not match.accepted
    assert re.search(words, match.refusal)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("number", [5, 12, 80, 600])
def test_different_fields_never_match(number, seed):
    one, other = field(number, seed=2 * seed), field(number, seed=2 * seed + 1)
    assert not match_stars(stars_at(one), stars_at(other), SHAPE).accepted


def test_an_empty_list_is_refused():
    assert "too few stars: 0" in match_stars(stars_at(np.zeros((0, 2))), stars_at(field(9)), SHAPE).refusal


@pytest.mark.parametrize("p", [1e-12, 1e-3, 0.02, 0.5, 0.999])
@pytest.mark.parametrize(("wanted", "tries"), [(1, 1), (1, 500), (3, 14), (14, 14), (40, 300), (500, 500)])
def test_the_chance_of_so_many_matches_is_the_incomplete_beta_function(wanted: int, tries: int, p: float) -> None:
    expected = float(betainc(wanted, tries - wanted + 1, p))
    if expected > 1e-290:
        assert _log_tail(wanted, tries, p) == pytest.approx(math.log(expected), abs=1e-9)
    else:
        assert _log_tail(wanted, tries, p) < math.log(1e-289)


def test_what_cannot_happen_has_no_chance_and_what_must_has_all() -> None:
    assert _log_tail(3, 10, 0.0) == -math.inf
    assert _log_tail(3, 10, 1.0) == 0.0
