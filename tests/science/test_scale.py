"""Frames are brought to the reference's exposure time, or to the brightness of its stars."""

import numpy as np
import pytest

from nightdesk.science.flag import NO_DATA, SATURATED
from nightdesk.science.scale import exposure_scales, star_scales
from nightdesk.science.synthetic import Star, add_star

SHAPE = (150, 200)


def field(scale: float, sky: float, seed: int, fwhm: float = 3.0) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sigma = fwhm / 2.3548
    light = np.full(SHAPE, sky)
    for i, (cy, cx) in enumerate([(30, 40), (30, 150), (75, 100), (120, 50), (120, 160), (75, 20)]):
        flux = scale * 20_000.0 * (i + 1)
        light += flux / (2 * np.pi * sigma**2) * np.exp(-((x - cx - 0.3) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    return np.random.default_rng(seed).poisson(light).astype(float)


FLAGS = np.zeros(SHAPE, np.uint16)


@pytest.mark.parametrize("exposures", [[], [60.0, 0.0], [60.0, np.nan], [-1.0]])
def test_impossible_exposures_are_refused(exposures: list[float]) -> None:
    with pytest.raises(ValueError, match="exposure time"):
        exposure_scales(exposures)


def test_stars_give_the_scale_in_any_sky_and_seeing() -> None:
    images = [field(1.0, 200.0, 1), field(0.5, 900.0, 2), field(2.0, 50.0, 3, fwhm=3.6)]
    assert star_scales(images, [FLAGS] * 3) == pytest.approx([1.0, 2.0, 0.5], rel=0.01)


@pytest.mark.parametrize("widths", [(3.0, 5.0), (5.0, 3.0), (3.0, 4.5)])
def test_seeing_does_not_pass_for_transparency(widths: tuple[float, float]) -> None:
    """Wings of a Moffat profile, which a narrow aperture cuts off where the seeing is bad."""
    images = []
    for number, fwhm in enumerate(widths):
        light = np.full((400, 400), 200.0)
        for i in range(25):
            add_star(light, Star(45.3 + 77 * (i % 5), 45.7 + 77 * (i // 5), 50_000.0 + 8000 * i), fwhm=fwhm)
        images.append(np.random.default_rng(number).poisson(light).astype(float))
    assert star_scales(images, [np.zeros((400, 400), np.uint16)] * 2)[1] == pytest.approx(1.0, abs=0.01)


def test_a_variable_star_does_not_matter() -> None:
    images = [field(1.0, 200.0, 1), field(1.0, 200.0, 2)]
    images[1][110:130, 150:170] = 200.0 + 3 * (images[1][110:130, 150:170] - 200.0)
    assert star_scales(images, [FLAGS] * 2)[1] == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("flag", [SATURATED, NO_DATA])
def test_spoilt_stars_do_not_count(flag: int) -> None:
    images, flags = [field(1.0, 200.0, 1), field(1.0, 200.0, 2)], [FLAGS, FLAGS.copy()]
    for cy, cx in [(30, 40), (30, 150), (75, 100)]:
        images[1][cy - 1 : cy + 2, cx - 1 : cx + 2] *= 0.1
        flags[1][cy - 1 : cy + 2, cx - 1 : cx + 2] = flag
    assert star_scales(images, flags)[1] == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("level", [0.0, 200.0])
def test_without_stars_there_is_no_scale(level: float) -> None:
    blank = np.random.default_rng(1).poisson(level, SHAPE).astype(float)
    with pytest.raises(ValueError, match="0 stars are measurable"):
        star_scales([blank, blank], [FLAGS, FLAGS])


def test_each_image_needs_flags() -> None:
    with pytest.raises(ValueError, match="planes of flags"):
        star_scales([np.zeros(SHAPE)], [])
