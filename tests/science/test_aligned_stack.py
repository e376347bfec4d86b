"""What the ways of shifting do to a stack: the width of its stars, their light, and what VAR means."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from numpy.typing import NDArray
from scipy.optimize import least_squares

from nightdesk.science.combine import combine_frames
from nightdesk.science.median import median_variance_factor
from nightdesk.science.planes import Planes
from nightdesk.science.resample import correlation_factor, resample_planes
from nightdesk.science.shift import shift_planes, whole_pixels
from nightdesk.science.synthetic import Star, add_star
from nightdesk.science.transform import Transform

Image = NDArray[np.float64]

FRAMES = 25
TRANSFER = {
    "integer": np.sinc,
    "subpixel": lambda f: np.sinc(f) ** 4 / (2.0 / 3.0 + np.cos(2.0 * np.pi * f) / 3.0),
}
"""What a way of shifting does to a wave of f cycles per pixel, on average over all fractions of a pixel.

Whole pixels leave a fraction spread evenly over a pixel; a cubic spline through the pixels is Unser's cardinal one.
"""


def dithers(frames: int = FRAMES, seed: int = 1) -> list[tuple[float, float]]:
    """Moves whose fractions fill the pixel evenly; the first is none."""
    random = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(frames)))
    cells = [((i + 0.5) / side, (j + 0.5) / side) for i in range(side) for j in range(side)][:frames]
    whole = random.integers(-4, 5, (frames, 2))
    return [(0.0, 0.0), *((float(w[0] + c[0]), float(w[1] + c[1])) for w, c in zip(whole[1:], cells[1:], strict=True))]


def planes_of(image: Image, variance: float = 1.0) -> Planes:
    return Planes(image, np.full(image.shape, variance), np.zeros(image.shape), np.zeros(image.shape, np.uint16))


def laid(planes: Planes, dx: float, dy: float, way: str) -> Planes:
    if way == "integer":
        return shift_planes(planes, whole_pixels(dx), whole_pixels(dy))
    return resample_planes(planes, Transform(dx=dx, dy=dy))


def gaussian(x: float, y: float, fwhm: float, shape: tuple[int, int] = (80, 80)) -> Image:
    rows, columns = np.indices(shape)
    return np.asarray(1e4 * np.exp(-4.0 * np.log(2.0) * ((columns - x) ** 2 + (rows - y) ** 2) / fwhm**2))


def fwhm_of(image: Image, x: float, y: float) -> float:
    """Fit a Gaussian profile."""

    def off(p: Image) -> Image:
        peak, cx, cy, fwhm = p
        return np.asarray((peak / 1e4 * gaussian(cx, cy, fwhm) - image).ravel())

    return abs(float(least_squares(off, [image.max(), x, y, 3.0]).x[3]))


def broadening(fwhm: float, way: str) -> float:
    """Return by what a Gaussian is wider after `way`, by its transfer function (docs/decisions/0004)."""
    fine = 16
    x = (np.arange(80 * fine) - 40 * fine) / fine
    profile = np.exp(-4.0 * np.log(2.0) * (x / fwhm) ** 2)
    waves = np.fft.fft(profile) * TRANSFER[way](np.fft.fftfreq(len(x), 1.0 / fine))
    moved = np.fft.ifft(waves).real[::fine]
    return fwhm_of(1e4 * np.outer(moved, moved), 40.0, 40.0) / fwhm


@pytest.mark.parametrize(("fwhm", "percent"), [(2.0, 5.6), (3.0, 2.5), (6.0, 0.6)])
def test_the_prediction_for_whole_pixels_is_the_known_one(fwhm, percent):
    assert broadening(fwhm, "integer") == pytest.approx(1.0 + percent / 100.0, abs=0.01)
    assert np.sqrt(1.0 + 8.0 * np.log(2.0) / 12.0 / fwhm**2) == pytest.approx(1.0 + percent / 100.0, abs=0.001)


@pytest.mark.parametrize("way", ["integer", "subpixel"])
@pytest.mark.parametrize("fwhm", [2.0, 3.0, 6.0])
def test_the_width_of_a_stack_is_as_predicted(fwhm, way):
    x, y = 40.0, 40.0
    frames, widths = [], []
    for dx, dy in dithers():
        image = gaussian(x - dx, y - dy, fwhm)
        widths.append(fwhm_of(image, x - dx, y - dy))
        frames.append(laid(planes_of(image), dx, dy, way).data)
    measured = fwhm_of(np.mean(frames, axis=0), x, y) / np.mean(widths)
    assert measured == pytest.approx(broadening(fwhm, way), abs=0.005)


def test_a_hundred_stars_are_as_bright_by_every_way():
    shape, fwhm = (460, 460), 3.0
    centres = [(50.3 + 40 * i + 3 * np.sin(j), 50.7 + 40 * j + 3 * np.cos(i)) for i in range(10) for j in range(10)]
    fluxes = np.geomspace(2e4, 1e6, 100)
    moves = dithers(9)
    stacks = {}
    for way in ("integer", "subpixel", "similarity"):
        frames = []
        for number, (dx, dy) in enumerate(moves):
            place = Transform(
                np.radians(0.5 * (number % 3 - 1)) if way == "similarity" and number else 0.0, 1.0, dx, dy
            )
            image = np.zeros(shape)
            for (x, y), flux in zip(place.inverse().apply(centres), fluxes, strict=True):
                add_star(image, Star(float(x), float(y), float(flux)), fwhm=fwhm)
            planes = planes_of(image)
            frames.append(resample_planes(planes, place) if way == "similarity" else laid(planes, dx, dy, way))
        used = [(frame.flags == 0) for frame in frames]
        stacks[way] = np.sum([f.data * u for f, u in zip(frames, used, strict=True)], axis=0) / np.sum(
            used, axis=0
        ).clip(1)
    x, y = np.array(centres).T
    light = {way: sep.sum_circle(np.ascontiguousarray(stack), x, y, 12.0, subpix=0)[0] for way, stack in stacks.items()}
    assert len(x) == 100
    for way in ("subpixel", "similarity"):
        assert np.abs(light[way] / light["integer"] - 1.0).max() < 1e-3
    assert np.abs(light["integer"] / fluxes - 1.0).max() < 0.03  # wings beyond the aperture


@pytest.mark.parametrize("method", ["median", "clipped", "mean"])
@pytest.mark.parametrize("frames", [2, 3, 5, 9])
def test_chi_square_of_a_resampled_stack(frames, method):
    """Per pixel, as VARCONV says; in boxes with the factor CORRFACT."""
    shape, sigma = (300, 300), 10.0
    random = np.random.default_rng([frames, len(method)])
    pixel, boxed = [], []
    for _ in range(4):
        moves = [(0.0, 0.0), *((float(dx), float(dy)) for dx, dy in random.uniform(-3, 3, (frames - 1, 2)))]
        planes = [laid(planes_of(random.normal(0, sigma, shape), sigma**2), *move, "subpixel") for move in moves]
        stack = combine_frames(
            [p.data for p in planes],
            [p.variance for p in planes],
            [p.shared_variance for p in planes],
            [p.flags for p in planes],
            offset_groups=list(range(frames)),
            sigmas=[float(np.sqrt(np.median(p.variance[p.flags == 0]))) for p in planes],
            method=method,
        )
        inner = slice(10, 290)
        data, variance = stack.data[inner, inner], stack.variance[inner, inner]
        mean = frames / np.sum([1.0 / correlation_factor(Transform(dx=dx, dy=dy)) for dx, dy in moves])
        c_n = median_variance_factor(frames) if method == "median" else 1.0
        pixel.append(np.mean(data**2 / variance))
        means = data.reshape(28, 10, 28, 10).mean(axis=(1, 3))
        boxed.append(np.mean(means**2) / (variance.mean() / 100 * (c_n + mean - 1.0) / c_n))
    assert np.mean(pixel) == pytest.approx(1.0, abs=0.05)
    assert np.mean(boxed) == pytest.approx(1.0, abs=0.05)
