"""Masters from raw calibration frames: their noise is what their variance says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nightdesk.science.flag import BAD_PIXEL
from nightdesk.science.isr import remove_signature
from nightdesk.science.master import (
    combine_bias,
    combine_dark,
    combine_flat,
    compare_levels,
    compare_responses,
    pair_noise,
)

SHAPE = (160, 160)
GAIN, READ_NOISE = 1.3, 8.0


def bias_frames(number: int, seed: int = 1) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    truth = 310.0 + rng.normal(0.0, 3.0, SHAPE)
    counts = truth + rng.normal(0.0, READ_NOISE / GAIN, (number, *SHAPE))
    return np.rint(counts).astype(np.uint16), truth


def flat_frames(levels: list[float], seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    truth = (1.0 - 0.3 * ((x - 80.0) ** 2 + (y - 80.0) ** 2) / 12800.0) * rng.normal(1.0, 0.006, SHAPE)
    truth /= np.median(truth)
    frames = [(rng.poisson(truth * level * GAIN) + rng.normal(0.0, READ_NOISE, SHAPE)) / GAIN for level in levels]
    return np.rint(frames), truth


def chi_square(data: NDArray[np.float64], truth: NDArray[np.float64], variance: NDArray[np.float64] | None) -> float:
    assert variance is not None
    return float(np.mean((data - truth) ** 2 / variance))


@pytest.mark.parametrize("number", [2, 3, 5, 9, 15])
def test_the_variance_of_a_bias_is_right(number: int) -> None:
    frames, truth = bias_frames(number)
    master = combine_bias(list(frames))
    assert chi_square(master.data, truth, master.variance) == pytest.approx(1.0, abs=0.05)


def test_a_cosmic_ray_leaves_nothing_in_a_bias_but_a_larger_variance() -> None:
    frames, truth = bias_frames(5)
    frames[2, 40, 50] = 20_000
    master = combine_bias(list(frames))
    assert master.variance is not None
    assert abs(master.data[40, 50] - truth[40, 50]) < 5 * np.sqrt(master.variance[40, 50])
    assert master.variance[40, 50] == pytest.approx(np.median(master.variance) * 5 / 4, rel=1e-6)


def test_a_noisy_pixel_has_a_variance_of_its_own() -> None:
    frames, _ = bias_frames(15)
    frames[:, 9, 9] = np.rint(310.0 + np.random.default_rng(5).normal(0.0, 14.0, 15))
    master = combine_bias(list(frames))
    assert master.variance is not None
    assert master.variance[9, 9] > 3 * np.median(master.variance)


def test_one_frame_says_nothing_of_its_noise() -> None:
    frames, _ = bias_frames(1)
    assert combine_bias(list(frames)).variance is None


@pytest.mark.parametrize(
    "levels",
    [[20_000.0] * 5, [5_000.0, 11_000.0, 24_000.0, 30_000.0], [20_000.0] * 15],
    ids=["dome", "twilight", "many"],
)
def test_the_variance_of_a_flat_is_right(levels: list[float]) -> None:
    frames, truth = flat_frames(levels)
    master = combine_flat(list(frames), levels=levels, gain=GAIN, read_noise=READ_NOISE)
    assert chi_square(master.data, truth, master.variance) == pytest.approx(1.0, abs=0.05)


def test_a_flat_carries_the_noise_of_the_bias_that_was_taken_off() -> None:
    levels = [300.0] * 5  # so faint that it shows
    frames, truth = flat_frames(levels)
    bias_error = np.random.default_rng(7).normal(0.0, 2.0, SHAPE)
    with_bias = combine_flat(
        list(frames + bias_error),
        levels=levels,
        gain=GAIN,
        read_noise=READ_NOISE,
        bias_variance=np.full(SHAPE, 4.0),
    )
    assert chi_square(with_bias.data, truth, with_bias.variance) == pytest.approx(1.0, abs=0.05)


def test_stars_of_the_twilight_are_not_in_the_flat() -> None:
    levels = [20_000.0] * 5
    frames, truth = flat_frames(levels)
    for number, frame in enumerate(frames):
        frame[20 * number + 10 : 20 * number + 14, 60:64] *= 1.5
    master = combine_flat(list(frames), levels=levels, gain=GAIN, read_noise=READ_NOISE)
    assert np.abs(master.data / truth - 1.0).max() < 0.03


def test_dead_and_bright_pixels_are_flagged_and_vignetting_is_not() -> None:
    frames, _ = flat_frames([20_000.0] * 3)
    frames[:, 30, 31] *= 0.2
    frames[:, 60, 61] *= 1.8
    master = combine_flat(list(frames), levels=[20_000.0] * 3, gain=GAIN, read_noise=READ_NOISE)
    assert sorted(map(tuple, np.argwhere(master.flags & BAD_PIXEL).tolist())) == [(30, 31), (60, 61)]


@pytest.mark.parametrize("exposures", [[60.0] * 7, [30.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0]], ids=["one", "mixed"])
def test_the_variance_of_a_dark_per_second_is_right(exposures: list[float]) -> None:
    rng = np.random.default_rng(3)
    biases, bias_truth = bias_frames(15)
    bias = combine_bias(list(biases))
    rate = np.where(rng.random(SHAPE) < 0.002, 20.0, 0.5)  # e-/s
    frames = [
        np.rint((rng.poisson(rate * t) + rng.normal(0.0, READ_NOISE, SHAPE)) / GAIN + bias_truth) for t in exposures
    ]
    dark = combine_dark(frames, exposures=exposures, gain=GAIN, bias=bias.data, bias_variance=bias.variance)
    limit = 0.05 if len(set(exposures)) == 1 else 0.15
    assert chi_square(dark.data, rate / GAIN, dark.variance) == pytest.approx(1.0, abs=limit)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0])
def test_a_bias_and_the_dark_that_was_made_with_it_have_the_variance_they_claim(scale: float) -> None:
    random = np.random.default_rng(4)
    shape, gain = (200, 200), 1.3
    bias = combine_bias(random.normal(310.0, 6.0, (5, *shape)))
    dark = combine_dark(
        random.normal(310.0, 6.0, (5, *shape)),
        exposures=[60.0] * 5,
        gain=gain,
        bias=bias.data,
        bias_variance=bias.variance,
    )
    planes = remove_signature(
        np.full(shape, 310.0),
        gain=gain,
        read_noise=0.0,
        bias=bias.data,
        bias_variance=bias.variance,
        dark=dark.data,
        dark_variance=dark.variance,
        dark_scale=60.0 * scale,
        bias_in_dark=1.0 / 60.0,
    )
    assert np.mean(planes.data**2 / planes.shared_variance) == pytest.approx(1.0, abs=0.03)


def test_a_dark_that_contains_the_bias_is_an_average_in_adu() -> None:
    frames = [np.full((20, 20), level) for level in (1000.0, 1002.0)]
    dark = combine_dark(frames, exposures=[60.0, 60.0], gain=1.0)
    assert np.allclose(dark.data, 1001.0)


def test_noise_is_measured_from_pairs() -> None:
    frames, _ = bias_frames(4)
    assert pair_noise(list(frames)) == pytest.approx(np.hypot(READ_NOISE / GAIN, 0.29), rel=0.02)


def test_a_frame_is_compared_with_a_master() -> None:
    frames, truth = bias_frames(1)
    offset, scatter = compare_levels(frames[0] + 12.0, truth)
    assert (offset, scatter) == (pytest.approx(12.0, abs=0.3), pytest.approx(READ_NOISE / GAIN, rel=0.05))
    flats, response = flat_frames([20_000.0])
    assert compare_responses(flats[0], response) < 0.002
    assert compare_responses(flats[0] * np.linspace(0.8, 1.2, 160), response) > 0.1


def test_frames_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        combine_bias([np.zeros((3, 4)), np.zeros((4, 4))])
