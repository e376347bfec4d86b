"""Stars measured again in small windows."""

import numpy as np
import pytest

from nightdesk.science.match import match_near, match_stars
from nightdesk.science.sample import Places, window_places
from nightdesk.science.stamp import measure_stamps
from nightdesk.science.star import Stars, find_stars
from nightdesk.science.synthetic import SyntheticImage

SHAPE = (200, 240)
PLACES = [(40.3, 50.8), (90.6, 60.2), (150.1, 150.4), (200.9, 100.5), (60.5, 150.7), (120.2, 110.6), (190.4, 40.1)]


def field(dx: float = 0.0, dy: float = 0.0, seed: int = 1) -> np.ndarray:
    image = SyntheticImage(SHAPE, seed=seed).with_sky(100.0).with_read_noise(5.0)
    for number, (x, y) in enumerate(PLACES):
        image = image.with_star(x + dx, y + dy, 60_000.0 - 5_000.0 * number)
    return image.exposure()


def measured(image: np.ndarray, stars: Stars, flags: np.ndarray | None = None) -> tuple[Stars, int]:
    bits = np.zeros(SHAPE, np.uint16) if flags is None else flags

    def _look(rows: Places, columns: Places, size: int) -> tuple[np.ndarray, np.ndarray]:
        places = window_places(rows, columns, size)
        return image[places], bits[places]

    return measure_stamps(_look, stars, SHAPE)


def test_stars_are_found_where_a_search_finds_them() -> None:
    there = find_stars(field())
    image = field(0.4, -0.3, seed=2)
    found, tried = measured(image, there)
    assert tried == len(PLACES) == len(found)
    search = find_stars(image)
    np.testing.assert_allclose(found.positions, search.positions, atol=0.05)
    np.testing.assert_allclose(found.flux, search.flux, rtol=0.02)


def test_a_window_is_measured_as_if_it_were_alone() -> None:
    there, image = find_stars(field()), field(seed=2)
    together, _ = measured(image, there)
    alone = [measured(image, there.chosen([number]))[0] for number in range(len(there))]
    for name in ("x", "y", "flux", "error", "width"):
        one_by_one = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_allclose(np.sort(getattr(together, name)), np.sort(one_by_one), rtol=1e-9)


def test_no_window_without_a_star_or_with_a_flag_counts() -> None:
    there = find_stars(field())
    empty = SyntheticImage(SHAPE, seed=3).with_sky(100.0).with_read_noise(5.0).exposure()
    found, tried = measured(empty, there)
    assert (len(found), tried) == (0, len(PLACES))
    found, tried = measured(field(), there, np.full(SHAPE, 16, np.uint16))
    assert (len(found), tried) == (0, 0)
    saturated = np.zeros(SHAPE, np.uint16)
    saturated[51, 40] = 4
    assert len(measured(field(), there, saturated)[0]) == len(PLACES) - 1


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.4, -0.3), (1.5, 0.5), (9.0, -6.0)])
def test_a_match_of_what_lies_near_is_the_match_of_all_hypotheses(dx: float, dy: float) -> None:
    there, here = find_stars(field()), find_stars(field(dx, dy, seed=2))
    near, full = match_near(here, there, SHAPE), match_stars(here, there, SHAPE)
    assert near.accepted
    assert full.accepted
    assert near.matches == full.matches
    assert near.transform == full.transform
