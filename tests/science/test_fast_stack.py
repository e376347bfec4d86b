"""The fast ways to the stack, plain numpy and compiled, against the plain one: the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nightdesk.science import compiled
from nightdesk.science.combine import combine_frames
from nightdesk.science.flag import BAD_PIXEL, COSMIC_RAY, EXCLUDING, NO_DATA, SATURATED, UNILLUMINATED
from nightdesk.science.median import middle_of_all, middle_values
from nightdesk.science.network import middle_places, network, run_network
from tests.science.plain_stack import plain_middle, plain_stack

LIBRARY = compiled._library


@pytest.fixture(params=["numpy", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test runs both ways; without a compiler at set-up the second is skipped."""
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "_library", None)
    elif LIBRARY is None:
        pytest.skip("the compiled loops are not there")
    return str(request.param)


@pytest.mark.parametrize("n", range(1, 14))
def test_a_network_finds_the_middle_of_every_pattern(n: int) -> None:
    """By the zero-one principle that is a proof."""
    patterns = np.array([[(number >> place) & 1 for number in range(2**n)] for place in range(n)], dtype=np.float64)
    wanted = set(middle_places(n)) | {max(middle_places(n)[0] - 1, 0)}
    planes = list(patterns.copy())
    run_network(planes, network(n, frozenset(wanted)))
    ordered = np.sort(patterns, axis=0)
    for place in wanted:
        np.testing.assert_array_equal(planes[place], ordered[place])


@pytest.mark.parametrize("n", [*range(1, 18), 30, 31, 64, 65, 100])
@pytest.mark.parametrize("share", [1.0, 0.9, 0.3])
def test_the_middle_values(n: int, share: float, way: str) -> None:
    random = np.random.default_rng(n)
    values = random.normal(100.0, 10.0, (n, 3, 67)).round(1)  # with ties
    used = random.random(values.shape) < share
    expected = plain_middle(values, used)
    for found, right in zip(middle_values(values, used), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    if share == 1.0:
        for found, right in zip(middle_of_all(values), expected, strict=True):
            np.testing.assert_array_equal(found, right)


def night(n: int, seed: int, *, drift: float, trouble: float) -> dict[str, NDArray[Any]]:
    """Frames of a sky with stars, with outliers and flags as often as asked for."""
    random = np.random.default_rng(seed)
    shape = (n, 9, 71)
    sky = np.linspace(200.0, 200.0 * (1 + drift), n)[:, None, None]
    stars = np.where(random.random(shape[1:]) < 0.03, random.exponential(5000.0, shape[1:]), 0.0)
    shared = random.uniform(0.0, 40.0, shape)
    variances = sky + stars + 25.0 + shared
    values = random.normal(stars + 200.0, np.sqrt(variances))
    values[random.random(shape) < trouble] += 3000.0
    flags = np.zeros(shape, np.uint16)
    for bit in (BAD_PIXEL, COSMIC_RAY, NO_DATA, UNILLUMINATED, SATURATED):
        flags[random.random(shape) < trouble] |= np.uint16(bit)
    if trouble:
        flags[:, 0, :5] = [NO_DATA, BAD_PIXEL, UNILLUMINATED, COSMIC_RAY, SATURATED]
        values[0, 1, 1], variances[0, 1, 2], shared[0, 1, 3] = np.nan, np.inf, -1.0
        variances[-1, 1, 4] = -3.0
    return {
        "values": values,
        "variances": variances,
        "shared": shared,
        "flags": flags,
        "sigmas": np.sqrt(sky.ravel() + 25.0),
    }


@pytest.mark.parametrize("trouble", [0.0, 0.02, 0.4], ids=["clean", "usual", "bad"])
@pytest.mark.parametrize("drift", [0.0, 0.2], ids=["steady", "drifting"])
@pytest.mark.parametrize("method", ["median", "clipped", "mean", "weighted"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 31, 40])
def test_every_bit_of_the_stack(n: int, method: Any, drift: float, trouble: float, way: str) -> None:
    frames = night(n, seed=n, drift=drift, trouble=trouble)
    groups = np.arange(n) // 2
    weights = (frames["sigmas"].min() / frames["sigmas"]) ** 2 if method == "weighted" else np.ones(n)
    for clip, level in ((4.0, 200.0), (4.0, None), (3.0, 200.0), (None, None)):
        if clip is None and method == "clipped":
            continue
        options = {"offset_groups": groups, "sigmas": frames["sigmas"], "clip_sigma": clip, "level": level}
        cubes = [frames[name] for name in ("values", "variances", "shared", "flags")]
        expected = plain_stack(*cubes, **options, method=method, weights=weights)
        stack = combine_frames(*cubes, **options, method=method, map_rejections=True)
        found = (stack.data, stack.variance, stack.flags, stack.coverage, stack.rejected, stack.rejection_map)
        for name, one, right in zip(
            ("data", "variance", "flags", "coverage", "rejected", "map"), found, expected, strict=True
        ):
            assert one is not None
            np.testing.assert_array_equal(one, right, err_msg=f"{name}, clip {clip}, level {level}")
        assert stack.rejected_by_frame.tolist() == expected[5].sum(axis=(1, 2)).tolist()


@pytest.mark.skipif(LIBRARY is None, reason="the compiled loops are not there")
@pytest.mark.parametrize("drift", [0.0, 0.1], ids=["steady", "drifting"])
def test_compiled_only_pixels_that_lose_a_value_are_hard(drift: float) -> None:
    """Plain numpy calls some more pixels hard, and finds out that they lose nothing."""
    frames = night(40, seed=3, drift=drift, trouble=0.003)
    from nightdesk.science import easy

    found = []
    for library in (LIBRARY, None):
        compiled._library = library
        with np.errstate(all="ignore"):
            found.append(
                easy.easy_pixels(
                    *(frames[name] for name in ("values", "variances", "shared", "flags")),
                    clip_sigma=4.0,
                    sigmas=frames["sigmas"],
                    level=200.0,
                    tolerance=0.5,
                )
            )
    compiled._library = LIBRARY
    stack = combine_frames(
        *(frames[name] for name in ("values", "variances", "shared", "flags")),
        offset_groups=np.arange(40),
        sigmas=frames["sigmas"],
        level=200.0,
    )
    loses = (stack.rejected > 0) | ((frames["flags"] & EXCLUDING) != 0).any(axis=0)
    odd = np.zeros(loses.shape, bool)
    odd[1, 1:5] = True  # what is no number or negative
    np.testing.assert_array_equal(found[0].hard & ~odd, loses & ~odd)
    assert found[0].hard[odd].all()
    assert not (found[0].hard & ~found[1].hard).any()
    assert found[0].hard.sum() < found[1].hard.sum() < found[0].hard.size


def test_the_table_of_unequal_noise_is_the_integral() -> None:
    """For a mild and for a wild spread of noise."""
    from nightdesk.science.median import median_variance_factor, unequal_median_variance
    from nightdesk.science.stack_variance import _noise_of_all

    mean = np.geomspace(50.0, 1e6, 400)
    for spread, precision in ((1.05, 1e-6), (1.5, 1e-6), (3.0, 1e-4)):
        sigmas = np.linspace(10.0, 10.0 * spread, 7)
        sky = np.mean(sigmas**2)
        starlight = np.maximum(mean - sky, 0.0)
        each = mean * (sigmas[:, None] ** 2 + starlight) / (sky + starlight)
        integral = unequal_median_variance(np.sqrt(each.T)) * 7 / median_variance_factor(7)
        np.testing.assert_allclose(_noise_of_all(mean, sigmas), integral, rtol=precision)


@pytest.mark.parametrize("n", [8, 9, 20, 31])
def test_parts_of_many_frames_are_as_if_each_was_integrated(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of mildly unequal noise, of which some miss at each pixel."""
    from nightdesk.science import stack_variance

    random = np.random.default_rng(n)
    used = np.ones((n, 1, 60), bool)
    for pixel in range(1, 60):
        used[random.choice(n, size=random.integers(1, 4), replace=False), 0, pixel] = False
    independent = np.broadcast_to(np.geomspace(60.0, 3000.0, 60), used.shape)
    for sigmas in (np.linspace(10.0, 12.4, n), 10.0 * np.exp(random.uniform(0.0, 0.2, n))):
        options = {"sigmas": sigmas, "offset_groups": np.arange(n)}
        found = stack_variance.median_variance(independent, 0.0 * independent, used, **options)
        with monkeypatch.context() as changed:
            changed.setattr(stack_variance, "MANY", n + 1)
            exact = stack_variance.median_variance(independent, 0.0 * independent, used, **options)
        assert found[0, 0] == exact[0, 0]
        np.testing.assert_allclose(found, exact, rtol=4e-3)
