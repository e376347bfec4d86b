"""Alignment of real frames that others took, against what is known of their shifts.

The frames lie in the folder that the environment variable NIGHTDESK_REAL_DATA names (default: ``../shared/data`` beside
the checkout); without them these tests are skipped, and say so.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from nightdesk.science.alignment import Alignment, align_frames, choose_star
from nightdesk.science.star import Stars, find_stars
from tests.real_data import REAL_DATA, absent

STARGATE_SHIFTS = (
    (3.223, 4.607),
    (3.000, 4.787),
    (2.022, 3.227),
    (0.953, 1.941),
    (0.0, 0.0),
    (0.455, 3.213),
    (0.388, 3.894),
    (0.427, 4.835),
    (-1.150, 2.852),
    (-2.732, 1.014),
)  # of frames 0001 to 0010 to frame 0005, by independent centroids that agree to half a pixel


def folder(name: str) -> Path:
    place = REAL_DATA / name
    if not place.is_dir():
        pytest.skip(absent(place))
    return place


def known_positions(place: Path) -> dict[str, tuple[float, float]]:
    with (place / "xy.csv").open() as stream:
        return {row["fname"]: (float(row["x"]), float(row["y"])) for row in csv.DictReader(stream)}


def stars_of(paths: list[Path], dark: NDArray[np.float64] | float = 0.0) -> tuple[list[Stars], tuple[int, int]]:
    images = [np.asarray(fits.getdata(path), dtype=np.float64) - dark for path in paths]
    return [find_stars(image) for image in images], images[0].shape


def positions_in_reference(
    paths: list[Path], alignment: Alignment, known: dict[str, tuple[float, float]]
) -> NDArray[np.float64]:
    """Where each frame's known position comes to lie in the reference frame."""
    return np.array(
        [match.transform.apply([known[path.stem]])[0] for path, match in zip(paths, alignment.matches, strict=True)]
    )


@pytest.fixture(scope="module")
def stargate() -> tuple[list[Path], Alignment, tuple[int, int], list[Stars]]:
    place = folder("iraf_stargate")
    paths = sorted(place.glob("StarGate*.fit"))
    order = [4, *(index for index in range(10) if index != 4)]  # 0005 is the reference of the known shifts
    stars, shape = stars_of([paths[index] for index in order])
    return [paths[index] for index in order], align_frames(stars, shape), shape, stars


def test_stargate_agrees_with_the_known_shifts(stargate):
    """Interlaced rows, and hot pixels on which matching by images locks."""
    paths, alignment, (ny, nx), _ = stargate
    assert alignment.aligned == list(range(10))
    number = [int(path.stem[-4:]) - 1 for path in paths]
    found = np.array([match.transform.shift_at((nx - 1) / 2, (ny - 1) / 2) for match in alignment.matches])
    off = np.linalg.norm(found - np.array(STARGATE_SHIFTS)[number], axis=1)
    assert off.max() < 0.6


def test_stargate_agrees_with_the_star_a_person_measured(stargate):
    paths, alignment, _, _ = stargate
    known = known_positions(REAL_DATA / "iraf_stargate")
    places = positions_in_reference(paths, alignment, known)
    assert np.linalg.norm(places - known[paths[0].stem], axis=1).max() < 0.6


def test_stargates_hot_pixels_do_not_win(stargate):
    _, alignment, shape, stars = stargate
    moved = [match.transform.shift_at(shape[1] / 2, shape[0] / 2) for match in alignment.matches[1:]]
    assert min(np.hypot(*move) for move in moved) > 1.0
    assert all(0.995 < match.scale < 1.005 and abs(match.transform.degrees) < 0.1 for match in alignment.matches)
    assert choose_star(stars, alignment, shape) is not None


@pytest.mark.parametrize("with_dark", [True, False], ids=["dark-subtracted", "raw"])
def test_tres1_follows_a_drift_of_a_hundred_pixels(with_dark):
    place = folder("oscaar_tres1")
    paths = sorted(path for path in place.glob("tres1-*.fit") if not path.stem.endswith("d"))
    darks = np.array([fits.getdata(path) for path in sorted(place.glob("tres1-*d.fit"))], dtype=np.float64)
    stars, shape = stars_of(paths, np.median(darks, axis=0) if with_dark else 0.0)
    alignment = align_frames(stars, shape)
    assert alignment.aligned == list(range(8))
    known = known_positions(place)
    places = positions_in_reference(paths, alignment, known)
    assert np.linalg.norm(places - known[paths[0].stem], axis=1).max() < 0.15
    assert max(np.hypot(*match.transform.shift_at(100, 400)) for match in alignment.matches) > 170


def test_m92_in_two_filters_is_one_field():
    place = folder("m92_kpno")
    paths = [place / "iraf_out" / f"m920{number}.fits" for number in (10, 11, 14, 15)]
    stars, shape = stars_of(paths)
    alignment = align_frames(stars, shape)
    assert alignment.aligned == [0, 1, 2, 3]
    assert all(match.error < 0.1 for match in alignment.matches)


def test_another_field_is_refused():
    one = stars_of([folder("iraf_stargate") / "StarGateCluster_030_sec_1x1_0005.fit"])[0][0]
    other = stars_of([folder("oscaar_tres1") / "tres1-025.fit"])[0][0]
    assert align_frames([one, other], (581, 752)).aligned in ([0], [1])
