"""Real frames: the noise of eight exposures of one camera is the predicted one.

The frames (SBIG ST-10, five darks that contain the bias, no flat) are not part of this repository; they
are looked for in a folder ``shared/data`` beside it.
"""

import csv
from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from nightdesk.science.combine import Combined
from nightdesk.science.isr import remove_signature
from nightdesk.science.median import median_variance_factor
from nightdesk.science.noise_ratio import noise_ratio
from nightdesk.science.object_mask import find_objects
from nightdesk.science.planes import Planes
from nightdesk.science.read_noise import measure_read_noise
from nightdesk.science.scatter import robust_scatter
from nightdesk.science.shift import shift_planes, whole_pixels
from nightdesk.science.sky import estimate_sky
from tests.real_data import REAL_DATA, absent
from tools.real_noise import combine

FOLDER = REAL_DATA / "oscaar_tres1"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=absent(FOLDER))

HEADER_GAIN = 0.78
"""EGAIN of these headers; the light itself says 1.28, see the photon transfer below."""
MEASURED_GAIN = 1.28
NEIGHBOURS = {"x": (0, 1), "y": (1, 0), "diagonal": (1, 1)}

Image = NDArray[np.float64]


@pytest.fixture(scope="module")
def darks() -> list[Image]:
    return [fits.getdata(path).astype(float) for path in sorted(FOLDER.glob("*d.fit"))]


@pytest.fixture(scope="module")
def read_noise(darks: list[Image]) -> float:
    """Return the read noise in ADU, with the little that the dark current adds."""
    return float(np.mean([measure_read_noise(a, b) for a, b in pairwise(darks)]))


@pytest.fixture(scope="module")
def positions() -> dict[str, tuple[float, float]]:
    with (FOLDER / "xy.csv").open() as lines:
        return {row["fname"]: (float(row["x"]), float(row["y"])) for row in csv.DictReader(lines)}


def calibrate(name: str, darks: list[Image], read_noise: float, gain: float) -> Planes:
    variance = median_variance_factor(len(darks)) * read_noise**2 / len(darks)
    return remove_signature(
        fits.getdata(FOLDER / f"{name}.fit"),
        gain=gain,
        read_noise=read_noise * gain,
        dark=np.median(darks, axis=0),
        dark_variance=np.full(darks[0].shape, variance),
        dark_contains_bias=True,
        saturation=60_000.0,
    )


def ratio(stack: Combined) -> float:
    return noise_ratio(stack.data, stack.variance, stack.flags)


@pytest.fixture(scope="module")
def frames(positions: dict[str, tuple[float, float]], darks: list[Image], read_noise: float) -> dict[str, Planes]:
    return {name: calibrate(name, darks, read_noise, MEASURED_GAIN) for name in positions}


def test_eight_dithered_frames_have_the_noise_they_claim(
    frames: dict[str, Planes], positions: dict[str, tuple[float, float]]
) -> None:
    x, y = next(iter(positions.values()))
    shifted = [
        shift_planes(frame, whole_pixels(x - positions[name][0]), whole_pixels(y - positions[name][1]))
        for name, frame in frames.items()
    ]
    assert ratio(combine(shifted, range(8))) == pytest.approx(1.0, abs=0.05)


def test_undithered_pairs_have_the_noise_they_claim(frames: dict[str, Planes]) -> None:
    in_order = list(frames.values())
    for pair in zip(in_order[::2], in_order[1::2], strict=True):
        assert ratio(combine(pair, [0, 0])) == pytest.approx(1.0, abs=0.05)


def test_the_headers_gain_is_found_out(
    positions: dict[str, tuple[float, float]], darks: list[Image], read_noise: float
) -> None:
    """Too few electrons per ADU claim too much shot noise: the ratio goes as the root of the gain."""
    frame = calibrate(next(iter(positions)), darks, read_noise, HEADER_GAIN)
    found = noise_ratio(frame.data, frame.variance, frame.flags)
    assert found == pytest.approx(np.sqrt(HEADER_GAIN / MEASURED_GAIN), abs=0.03)
    assert found < 0.85


def test_the_light_itself_tells_the_gain(
    positions: dict[str, tuple[float, float]], darks: list[Image], read_noise: float
) -> None:
    """The cause, measured: noise against light falls on a line of 1 / 1.28, and the noise is white."""
    dark = np.median(darks, axis=0)
    light, noise = [], []
    for first, second in pairwise(positions):
        a, b = (fits.getdata(FOLDER / f"{name}.fit") - dark for name in (first, second))
        blank = np.logical_and.reduce([_blank(image) for image in (a, b)])
        light.append(a[blank].mean() + b[blank].mean())
        difference = np.where(blank, a - b, np.nan)
        steps = np.diff(difference, axis=1)
        noise.append(robust_scatter(steps[np.isfinite(steps)]) ** 2 / 2)
        for lag, correlation in _correlations(difference).items():
            assert abs(correlation) < 0.05, f"{first} - {second}, {lag}"
    slope, intercept = np.polyfit(light, noise, 1)
    assert 1 / slope == pytest.approx(MEASURED_GAIN, abs=0.05)
    assert np.sqrt(intercept / 2) == pytest.approx(read_noise, rel=0.2)


def _blank(image: Image) -> NDArray[np.bool_]:
    sound = np.ones(image.shape, bool)
    level, sigma = estimate_sky(image)
    return ~find_objects(image, sound, level=level, sigma=sigma)


def _correlations(difference: Image) -> dict[str, float]:
    """Return the correlation of neighbouring pixels of blank sky."""
    residual = difference - np.nanmedian(difference)
    residual[np.abs(residual) > 4 * robust_scatter(residual[np.isfinite(residual)])] = np.nan
    ny, nx = residual.shape
    variance = np.nanmean(residual**2)
    return {
        name: float(np.nanmean(residual[dy:, dx:] * residual[: ny - dy, : nx - dx]) / variance)
        for name, (dy, dx) in NEIGHBOURS.items()
    }
