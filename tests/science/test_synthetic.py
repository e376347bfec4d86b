"""The builder of test images keeps its promises."""

from __future__ import annotations

import numpy as np
import pytest

from nightdesk.science.synthetic import Star, SyntheticImage, add_galaxy, add_star, draw_fluxes


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 4.5])
@pytest.mark.parametrize("centre", [(40.0, 40.0), (39.7, 40.4)], ids=["on a pixel", "between pixels"])
def test_a_star_has_its_flux_and_centre(fwhm: float, centre: tuple[float, float]) -> None:
    image = np.zeros((81, 81))
    add_star(image, Star(*centre, 1e6), fwhm=fwhm)
    y, x = np.indices(image.shape)
    assert image.sum() == pytest.approx(1e6, rel=0.01)
    assert (image * x).sum() / image.sum() == pytest.approx(centre[0], abs=0.01)
    assert (image * y).sum() / image.sum() == pytest.approx(centre[1], abs=0.01)


@pytest.mark.parametrize("beta", [1.5, 3.0, 4.765])
def test_a_star_falls_to_half_at_half_its_width(beta: float) -> None:
    image = np.zeros((41, 41))
    add_star(image, Star(20.0, 20.0, 1e6), fwhm=4.0, beta=beta)
    np.testing.assert_allclose(image[[18, 22, 20, 20], [20, 20, 18, 22]], image[20, 20] / 2)


def test_a_star_beyond_the_edge_lends_only_its_wing() -> None:
    whole = np.zeros((60, 60))
    add_star(whole, Star(20.3, 33.0, 1e5), fwhm=3.0)
    part = np.zeros((60, 38))
    add_star(part, Star(20.3 - 22, 33.0, 1e5), fwhm=3.0)
    np.testing.assert_allclose(part, whole[:, 22:], rtol=1e-9, atol=0.02)
    far = np.zeros((60, 60))
    for x, y in ((-500.0, 30.0), (500.0, 30.0), (30.0, -500.0), (30.0, 500.0)):
        add_star(far, Star(x, y, 1e5), fwhm=3.0)
    assert not far.any()


@pytest.mark.parametrize("bad", [{"fwhm": 0.0}, {"fwhm": 3.0, "beta": 1.0}], ids=["no width", "endless wings"])
def test_an_impossible_star_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Moffat"):
        add_star(np.zeros((9, 9)), Star(4.0, 4.0, 1.0), **bad)


def test_a_galaxy_is_an_inclined_exponential() -> None:
    image = np.zeros((201, 201))
    add_galaxy(image, x=100, y=100, central=50.0, scale=8.0, axis_ratio=0.5, angle=np.pi / 2, softening=0.0)
    assert image.sum() == pytest.approx(2 * np.pi * 0.5 * 8.0**2 * 50.0, rel=0.01)
    assert image[108, 100] == pytest.approx(50.0 / np.e)
    assert image[100, 104] == pytest.approx(50.0 / np.e)


def test_spiral_arms_move_light_about_but_add_none() -> None:
    smooth, armed = np.zeros((151, 151)), np.zeros((151, 151))
    add_galaxy(smooth, x=75, y=75, central=50.0, scale=8.0, axis_ratio=1.0)
    add_galaxy(armed, x=75, y=75, central=50.0, scale=8.0, axis_ratio=1.0, arms=0.8)
    assert armed.sum() == pytest.approx(smooth.sum(), rel=0.01)
    assert np.abs(armed - smooth).max() > 5.0
    assert armed.min() >= 0.0


def test_an_impossible_galaxy_is_refused() -> None:
    with pytest.raises(ValueError, match="axis_ratio"):
        add_galaxy(np.zeros((9, 9)), x=4, y=4, central=1.0, scale=1.0, axis_ratio=0.0)


def test_fluxes_follow_the_power_law() -> None:
    fluxes = draw_fluxes(np.random.default_rng(4), 200_000, faintest=10.0, brightest=1e6, slope=0.75)
    assert fluxes.min() >= 10.0
    assert fluxes.max() <= 1e6
    counts = [np.count_nonzero(fluxes > limit) for limit in (10.0, 100.0, 1000.0)]
    assert np.diff(np.log10(counts)) == pytest.approx(-0.75, abs=0.02)


@pytest.mark.parametrize("bad", [(0.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 2.0, 0.0)])
def test_an_impossible_power_law_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="fluxes"):
        draw_fluxes(np.random.default_rng(1), 3, faintest=bad[0], brightest=bad[1], slope=bad[2])


def test_building_on_an_image_leaves_it_as_it_was() -> None:
    base = SyntheticImage((20, 24), seed=1).with_sky(100.0)
    before = base.expected.copy()
    base.with_star(5, 5, 1e4).with_stars(5).with_galaxy(9, 9, central=9.0, scale=3.0).with_response(0.5)
    np.testing.assert_array_equal(base.expected, before)
    assert base.stars == ()
    with pytest.raises(ValueError, match="read-only"):
        base.expected[0, 0] = 1.0


def test_an_image_does_not_lock_the_array_it_was_given() -> None:
    mine = np.ones((4, 5))
    image = SyntheticImage((4, 5), expected=mine)
    mine[0, 0] = 7.0
    assert image.expected[0, 0] == 1.0


def test_the_seed_decides_everything() -> None:
    def build(seed: int) -> SyntheticImage:
        return SyntheticImage((16, 16), seed=seed).with_sky(50.0).with_stars(4).with_read_noise(3.0)

    np.testing.assert_array_equal(build(1).exposure(), build(1).exposure())
    assert not np.array_equal(build(1).exposure(), build(1).with_seed(2).exposure())
    assert build(1).stars != build(2).stars


def test_exposures_scatter_by_the_variance() -> None:
    image = SyntheticImage((24, 24), seed=8).with_sky(40.0, gradient=(2.0, 0.0)).with_read_noise(6.0)
    cube = image.exposures(400)
    assert cube.shape == (400, 24, 24)
    assert np.mean((cube - image.expected) / np.sqrt(image.variance)) == pytest.approx(0.0, abs=0.01)
    assert np.mean((cube - image.expected) ** 2 / image.variance) == pytest.approx(1.0, abs=0.02)


def test_the_sky_rises_along_its_gradient() -> None:
    image = SyntheticImage((3, 4)).with_sky(10.0, gradient=(2.0, 5.0))
    assert image.expected[2, 3] == 10.0 + 3 * 2.0 + 2 * 5.0


def test_stars_keep_their_margin() -> None:
    image = SyntheticImage((40, 50), seed=3).with_stars(200, margin=8.0)
    assert len(image.stars) == 200
    assert all(8 <= star.x <= 41 and 8 <= star.y <= 31 for star in image.stars)


def test_a_foreign_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        SyntheticImage((4, 5), expected=np.ones((5, 4)))
