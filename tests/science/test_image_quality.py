"""The figures of an image, against images whose figures are known."""

import numpy as np
import pytest

from nightdesk.science.flag import NO_DATA
from nightdesk.science.image_quality import limiting_magnitude, measure_image

SKY, NOISE = 500.0, 8.0
SIGMA_PER_FWHM = 1 / 2.3548


def field(*, fwhm: float = 4.0, ratio: float = 1.0, angle: float = 0.0, beta: float | None = None, seed: int = 1):
    """Forty stars of one profile on an even sky; `beta` is a Moffat's exponent, else they are Gaussian."""
    random = np.random.default_rng(seed)
    image = SKY + random.normal(0.0, NOISE, (400, 420))
    y, x = np.indices(image.shape)
    cosine, sine = np.cos(angle), np.sin(angle)
    for number in range(40):
        x0, y0 = 35 + 50 * (number % 8) + random.uniform(-2, 2), 35 + 60 * (number // 8) + random.uniform(-2, 2)
        u = (x - x0) * cosine + (y - y0) * sine
        v = (-(x - x0) * sine + (y - y0) * cosine) / ratio
        square = u**2 + v**2
        if beta is None:
            profile = np.exp(-square / (2 * (fwhm * SIGMA_PER_FWHM) ** 2))
        else:
            core = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
            profile = (1 + square / core**2) ** -beta
        image += random.uniform(2000, 20_000) * profile
    return image


@pytest.mark.parametrize("fwhm", [2.5, 4.0, 6.5])
@pytest.mark.parametrize("beta", [None, 2.5, 4.0], ids=["Gaussian", "Moffat 2.5", "Moffat 4"])
def test_the_width_is_that_of_the_stars_whatever_their_profile(fwhm: float, beta: float | None) -> None:
    assert measure_image(field(fwhm=fwhm, beta=beta)).fwhm == pytest.approx(fwhm, rel=0.05)


@pytest.mark.parametrize(("ratio", "angle"), [(1.0, 0.0), (0.8, 0.0), (0.7, 0.6), (0.6, 2.0)])
def test_the_ellipticity_is_that_of_the_stars_at_any_angle(ratio: float, angle: float) -> None:
    assert measure_image(field(fwhm=5.0, ratio=ratio, angle=angle)).ellipticity == pytest.approx(1 - ratio, abs=0.03)


def test_sky_and_noise_are_those_between_the_stars() -> None:
    figures = measure_image(field())
    assert figures.sky == pytest.approx(SKY, abs=0.5)
    assert figures.noise == pytest.approx(NOISE, rel=0.02)
    assert len(figures.stars) == 40


def test_pixels_without_data_are_not_measured() -> None:
    image = field()
    flags = np.zeros(image.shape, np.uint16)
    image[:200], flags[:200] = 0.0, NO_DATA
    figures = measure_image(image, flags)
    assert figures.sky == pytest.approx(SKY, abs=1.0)
    assert len(figures.stars) < 40


def test_an_image_of_nothing_but_flags_is_told() -> None:
    with pytest.raises(ValueError, match="no sky"):
        measure_image(np.zeros((50, 50)), np.full((50, 50), NO_DATA, np.uint16))


def test_an_empty_sky_has_no_stars_and_no_depth() -> None:
    figures = measure_image(np.random.default_rng(2).normal(SKY, NOISE, (200, 200)), exposure=60.0)
    assert len(figures.stars) == 0
    assert np.isnan(figures.fwhm)
    assert np.isnan(figures.depth)


def test_a_star_at_the_limit_has_five_times_the_noise_of_its_aperture() -> None:
    """Many apertures on blank sky scatter by what the limiting magnitude was computed from."""
    fwhm, exposure, zero_point = 4.0, 120.0, 22.5
    limit = limiting_magnitude(NOISE, fwhm, exposure, zero_point)
    flux = exposure * 10 ** (0.4 * (zero_point - limit))
    random = np.random.default_rng(3)
    y, x = np.indices((17, 17)) - 8
    aperture = np.hypot(x, y) <= fwhm
    sums = [random.normal(0, NOISE, (17, 17))[aperture].sum() for _ in range(4000)]
    assert flux / np.std(sums) == pytest.approx(5.0, rel=0.05)


def test_twice_the_exposure_at_the_same_noise_is_deeper_by_its_logarithm() -> None:
    one, two = (limiting_magnitude(10.0, 3.0, seconds) for seconds in (30.0, 60.0))
    assert two - one == pytest.approx(2.5 * np.log10(2))
