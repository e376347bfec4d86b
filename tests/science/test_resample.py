"""Resampling: positions, flux, width, variance and flags after one interpolation."""

import math

import numpy as np
import pytest

from nightdesk.science.flag import BAD_PIXEL, COSMIC_RAY, NO_DATA, SATURATED
from nightdesk.science.planes import Planes
from nightdesk.science.resample import correlation_factor, resample_planes, spline_smoothing, turn_planes
from nightdesk.science.shift import shift_planes
from nightdesk.science.synthetic import SyntheticImage
from nightdesk.science.transform import Transform, half_turn

SHAPE = (120, 140)
ROTATED = Transform(math.radians(0.53), 1.0, 2.3, -1.7)


def planes_of(image, variance=100.0, flags=None) -> Planes:
    image = np.asarray(image, dtype=float)
    bits = np.zeros(image.shape, np.uint16) if flags is None else flags
    return Planes(image, np.full(image.shape, variance), np.full(image.shape, 0.1 * variance), bits)


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 6.0])
@pytest.mark.parametrize(
    "transform", [Transform(dx=0.5, dy=0.5), Transform(dx=-7.3, dy=4.8), ROTATED], ids=["half", "moved", "turned"]
)
def test_a_star_arrives_whole_and_in_its_place(transform, fwhm):
    x, y = 61.2, 55.7
    there = transform.apply([[x, y]])[0]
    star = SyntheticImage(SHAPE).with_star(x, y, 1e5, fwhm=fwhm).expected
    moved = resample_planes(planes_of(star), transform).data
    rows, columns = np.indices(SHAPE)
    near = np.hypot(rows - there[1], columns - there[0]) < 25
    assert moved[near].sum() == pytest.approx(star[np.hypot(rows - y, columns - x) < 25].sum(), rel=2e-3)
    assert (moved * columns)[near].sum() / moved[near].sum() == pytest.approx(there[0], abs=0.02)
    assert (moved * rows)[near].sum() / moved[near].sum() == pytest.approx(there[1], abs=0.02)


def test_whole_pixels_are_a_plain_shift():
    random = np.random.default_rng(1)
    planes = planes_of(random.normal(100, 10, SHAPE))
    resampled = resample_planes(planes, Transform(dx=3.0, dy=-5.0))
    shifted = shift_planes(planes, 3, -5)
    assert np.allclose(resampled.data, shifted.data, atol=1e-9)
    assert np.allclose(resampled.variance, shifted.variance)
    assert (resampled.flags == shifted.flags).all()


def test_the_grids_origin_is_the_same_as_a_shift():
    planes = planes_of(np.random.default_rng(1).normal(100, 10, SHAPE))
    resampled = resample_planes(planes, Transform(dx=3.0, dy=-5.0), (130, 150), (-4, -6))
    shifted = shift_planes(planes, 3, -5, (130, 150), (-4, -6))
    assert np.allclose(resampled.data, shifted.data, atol=1e-9)
    assert (resampled.flags == shifted.flags).all()


@pytest.mark.parametrize(
    "transform",
    [Transform(dx=0.5, dy=0.5), Transform(dx=0.25, dy=0.1), ROTATED, Transform(math.radians(0.4), 1.004, 1.0, 2.0)],
    ids=["half", "quarter", "turned", "scaled"],
)
def test_the_variance_is_that_of_the_single_pixel(transform):
    shape = (500, 500)
    noise = np.random.default_rng(2).normal(0.0, 10.0, shape)
    resampled = resample_planes(planes_of(noise), transform)
    good = resampled.flags == 0
    assert np.mean(resampled.data[good] ** 2 / resampled.variance[good]) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("transform", [Transform(dx=0.5, dy=0.5), Transform(dx=0.3), ROTATED])
def test_large_areas_follow_the_stated_correlation(transform):
    chi = []
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0.0, 10.0, (440, 440))
        resampled = resample_planes(planes_of(noise), transform)
        box = resampled.data[20:420, 20:420].reshape(20, 20, 20, 20).mean(axis=(1, 3))
        predicted = resampled.variance[20:420, 20:420].mean() / 400 * correlation_factor(transform, (440, 440))
        chi.append(np.mean(box**2) / predicted)
    assert np.mean(chi) == pytest.approx(1.0, abs=0.05)


def test_half_a_pixel_smooths_most_and_none_nothing():
    assert spline_smoothing(0.0) == pytest.approx(1.0)
    assert spline_smoothing(0.5) < spline_smoothing(0.25) == pytest.approx(spline_smoothing(0.75))
    assert correlation_factor(Transform(dx=4.0, dy=-1.0)) == pytest.approx(1.0)


def test_one_bad_pixel_stays_a_spot():
    flags = np.zeros(SHAPE, np.uint16)
    image = np.full(SHAPE, 500.0)
    image[60, 70], flags[60, 70] = np.nan, BAD_PIXEL
    image[20, 30], flags[20, 30] = 1e6, COSMIC_RAY
    resampled = resample_planes(planes_of(image, flags=flags), Transform(dx=0.4, dy=0.3))
    assert np.isfinite(resampled.data).all()
    inside = resampled.flags & NO_DATA == 0
    assert np.abs(resampled.data[inside] - 500.0).max() < 1e-6
    assert 2 <= np.count_nonzero(resampled.flags & BAD_PIXEL) <= 4
    assert 2 <= np.count_nonzero(resampled.flags & COSMIC_RAY) <= 4


def test_a_saturated_core_stays_marked():
    flags = np.zeros(SHAPE, np.uint16)
    flags[50:53, 60:63] = SATURATED
    resampled = resample_planes(planes_of(np.full(SHAPE, 5.0), flags=flags), Transform(dx=0.5, dy=0.5))
    assert resampled.flags[51:53, 61:63].min() == SATURATED
    assert resampled.data[51, 61] == pytest.approx(5.0)


def test_beyond_the_edge_there_is_no_data():
    resampled = resample_planes(planes_of(np.full(SHAPE, 5.0)), Transform(dx=10.5))
    assert (resampled.flags[:, :10] == NO_DATA).all()
    assert (resampled.data[:, :10] == 0).all()
    assert (resampled.variance[:, :10] == 0).all()
    assert (resampled.flags[:, 12:] == 0).all()


def test_a_frame_that_is_flagged_throughout_is_no_error():
    flags = np.full(SHAPE, BAD_PIXEL, np.uint16)
    resampled = resample_planes(planes_of(np.full(SHAPE, np.nan), flags=flags), Transform(dx=0.5))
    assert np.isfinite(resampled.data).all()


def test_turning_is_exact_and_twice_is_nothing():
    planes = planes_of(np.random.default_rng(3).normal(size=SHAPE))
    turned = turn_planes(planes)
    x, y = half_turn(SHAPE).apply([[10.0, 20.0]])[0].round().astype(int)
    assert turned.data[y, x] == planes.data[20, 10]
    assert (turn_planes(turned).data == planes.data).all()
    assert (turn_planes(turned).flags == planes.flags).all()


def test_a_grid_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        resample_planes(planes_of(np.zeros(SHAPE)), Transform(), (0, 5))
