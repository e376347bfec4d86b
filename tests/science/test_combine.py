"""The stack: by hand for single pixels, by chance for its variance."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nightdesk.science import combine
from nightdesk.science.combine import Combined, Method, combine_frames
from nightdesk.science.flag import BAD_PIXEL, COSMIC_RAY, NO_DATA, SATURATED, UNILLUMINATED
from nightdesk.science.median import median_variance_factor

METHODS: tuple[Method, ...] = ("median", "clipped", "mean", "weighted")


def stack_pixel(
    values: list[float],
    variances: list[float] | float = 9.0,
    *,
    shared: list[float] | float = 0.0,
    flags: list[int] | int = 0,
    groups: list[int] | None = None,
    sigmas: list[float] | None = None,
    **options: Any,
) -> Combined:
    """Combine a single pixel of frames with a sky noise of 3 e-, each at an offset of its own."""
    n = len(values)

    def cube(figures: list[Any] | float, kind: type) -> NDArray[Any]:
        return np.broadcast_to(np.asarray(figures, kind), (n,)).reshape(n, 1, 1)

    return combine_frames(
        cube(values, float),
        cube(variances, float),
        cube(shared, float),
        cube(flags, np.uint16),
        offset_groups=range(n) if groups is None else groups,
        sigmas=[3.0] * n if sigmas is None else sigmas,
        **options,
    )


def figures(stack: Combined) -> tuple[float, float, int, int]:
    return stack.data.item(), stack.variance.item(), stack.flags.item(), stack.coverage.item()


@pytest.mark.parametrize(
    ("method", "value", "variance"),
    [("median", 12.0, 1.3460 * 3.0), ("clipped", 13.0, 3.0), ("mean", 13.0, 3.0), ("weighted", 13.0, 3.0)],
)
def test_three_values(method: Method, value: float, variance: float) -> None:
    assert figures(stack_pixel([10.0, 17.0, 12.0], method=method)) == pytest.approx((value, variance, 0, 3), rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_one_frame_is_its_own_stack(method: Method) -> None:
    stack = stack_pixel([7.0], 9.0, shared=2.0, flags=SATURATED, method=method)
    assert figures(stack) == (7.0, 9.0, SATURATED, 1)


def test_a_weighted_mean_weighs_frames() -> None:
    stack = stack_pixel([10.0, 20.0], [9.0, 36.0], sigmas=[3.0, 6.0], method="weighted", clip_sigma=None)
    assert figures(stack) == pytest.approx((12.0, 7.2, 0, 2))
    stack = stack_pixel([10.0, 20.0], [9.0, 36.0], method="weighted", weights=[1, 3], clip_sigma=None)
    assert figures(stack) == pytest.approx((17.5, (9 + 9 * 36) / 16, 0, 2))


@pytest.mark.parametrize("method", ["median", "clipped", "weighted"])
def test_an_outlier_is_rejected_and_counted(method: Method) -> None:
    stack = stack_pixel([10.0, 500.0, 12.0], [9.0, 499.0, 9.0], method=method, map_rejections=True)
    assert figures(stack) == (11.0, 4.5, 0, 2)
    assert stack.rejected.item() == 1
    assert stack.rejected_by_frame.tolist() == [0, 1, 0]
    assert stack.rejection_map is not None
    assert stack.rejection_map[:, 0, 0].tolist() == [False, True, False]


@pytest.mark.parametrize("options", [{"method": "mean"}, {"method": "median", "clip_sigma": None}])
def test_what_is_not_to_be_clipped_is_not(options: dict[str, Any]) -> None:
    stack = stack_pixel([10.0, 500.0, 12.0], **options)
    assert stack.coverage.item() == 3
    assert stack.rejected_by_frame.tolist() == [0, 0, 0]
    assert stack.rejection_map is None


def test_the_clip_goes_by_the_prediction_and_not_by_the_scatter() -> None:
    values = [0.0, 11.9, -11.9, 12.1, -12.1]
    assert stack_pixel(values, map_rejections=True).rejected_by_frame.tolist() == [0, 0, 0, 1, 1]
    assert stack_pixel(values, clip_sigma=5.0).rejected.item() == 0


def test_a_noisy_frame_may_scatter_more() -> None:
    values, variances, sigmas = [0.0, 0.5, -0.5, 30.0, 30.0], [9.0] * 3 + [225.0, 9.0], [3.0] * 3 + [15.0, 3.0]
    assert stack_pixel(values, variances, sigmas=sigmas).rejected_by_frame.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("values", "kept"),
    [([100.0, 900.0], [1, 0]), ([100.0, 103.0, 900.0, 950.0], [1, 1, 0, 0])],
    ids=["a pair", "two of four"],
)
def test_where_half_is_contaminated_the_lower_half_stays(values: list[float], kept: list[int]) -> None:
    stack = stack_pixel(values, level=99.0)
    assert stack.rejected_by_frame.tolist() == [1 - k for k in kept]
    assert stack.data.item() == pytest.approx(np.mean([v for v, k in zip(values, kept, strict=True) if k]))


def test_where_half_is_contaminated_and_the_sky_unknown_all_stay() -> None:
    assert figures(stack_pixel([100.0, 900.0])) == (500.0, 4.5, 0, 2)


@pytest.mark.parametrize("values", [[1000.0, 1400.0], [1000.0, 1200.0, 1400.0]])
def test_a_star_in_changing_seeing_is_no_outlier(values: list[float]) -> None:
    assert stack_pixel(values, level=100.0).rejected.item() == 0
    if len(values) > 2:
        assert stack_pixel(values).rejected.item() == 2


def test_a_bright_sky_is_no_starlight() -> None:
    assert stack_pixel([1000.0, 1001.0, 1100.0], level=1000.0).rejected_by_frame.tolist() == [0, 0, 1]


def test_an_outlier_does_not_raise_its_own_limit() -> None:
    stack = stack_pixel([10.0, 11.0, 12.0, 100.0], [9.0, 9.0, 16.0, 1e4], sigmas=[3.0, 3.0, 4.0, 3.0])
    assert stack.rejected_by_frame.tolist() == [0, 0, 0, 1]


def test_a_hit_on_a_star_is_an_outlier_all_the_same() -> None:
    assert stack_pixel([1000.0, 1200.0, 2400.0], level=100.0).rejected_by_frame.tolist() == [0, 0, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("flag", [BAD_PIXEL, COSMIC_RAY, NO_DATA, UNILLUMINATED])
def test_an_excluded_value_does_not_enter(method: Method, flag: int) -> None:
    stack = stack_pixel([10.0, 1e6, 12.0], flags=[0, flag, SATURATED], method=method)
    assert figures(stack) == (11.0, 4.5, SATURATED, 2)
    assert stack.rejected.item() == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_least_bad_value_stands_in(method: Method) -> None:
    stack = stack_pixel([10.0, 20.0, 30.0], flags=[BAD_PIXEL, UNILLUMINATED, COSMIC_RAY], method=method)
    assert figures(stack) == (20.0, 9.0, BAD_PIXEL | UNILLUMINATED | COSMIC_RAY, 1)


def test_values_that_stand_in_are_not_clipped_among_themselves() -> None:
    stack = stack_pixel([10.0, 20.0, 900.0], flags=COSMIC_RAY)
    assert (stack.data.item(), stack.rejected.item(), stack.coverage.item()) == (20.0, 0, 3)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_at_all_is_0_and_says_so(method: Method) -> None:
    stack = stack_pixel([10.0, 20.0], flags=NO_DATA, method=method)
    assert figures(stack) == (0.0, 0.0, NO_DATA, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("plane", ["values", "variances", "shared"])
def test_what_is_no_number_is_no_data(method: Method, bad: float, plane: str) -> None:
    planes: dict[str, Any] = {"values": [10.0, 11.0, 12.0], "variances": [9.0] * 3, "shared": [0.0] * 3}
    planes[plane] = [*planes[plane][:2], bad]
    assert figures(stack_pixel(**planes, method=method)) == (10.5, 4.5, 0, 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_variance_below_0_does_not_reach_the_stack(method: Method) -> None:
    stack = stack_pixel([10.0, 11.0], [-5.0, -1.0], shared=[2.0, -3.0], method=method)
    assert stack.variance.item() >= 0


def test_frames_without_noise_have_a_stack_without_noise() -> None:
    for method in ("median", "clipped", "mean"):
        assert figures(stack_pixel([5.0, 5.0], 0.0, sigmas=[0.0, 0.0], method=method)) == (5.0, 0.0, 0, 2)
        assert figures(stack_pixel([5.0, 5.0], 0.0, sigmas=[1.0, 2.0], method=method)) == (5.0, 0.0, 0, 2)


def test_the_median_of_a_pair_is_its_mean_also_in_noise() -> None:
    stack = stack_pixel([10.0, 20.0], [9.0, 81.0], sigmas=[3.0, 9.0])
    assert figures(stack) == pytest.approx((15.0, 90 / 4, 0, 2))


def test_unequal_noise_counts_frames_at_each_pixel() -> None:
    """Where the noisy third frame is missing, the pixel is a pair of equals."""
    stack = stack_pixel([10.0, 11.0, 12.0], [9.0, 9.0, 81.0], sigmas=[3.0, 3.0, 9.0], flags=[0, 0, BAD_PIXEL])
    assert figures(stack) == pytest.approx((10.5, 4.5, 0, 2))


@pytest.mark.parametrize("starlight", [0.0, 30.0, 3000.0])
@pytest.mark.parametrize("left", [12, 31, 32, 39])
def test_a_choice_of_frames_is_as_noisy_as_a_stack_of_them(starlight: float, left: int) -> None:
    """Whether their noise comes from a table, or from a formula where hardly two pixels have the same choice."""
    n = 40
    sigmas = np.linspace(3.0, 9.0, n)
    variances, values = (sigmas**2 + starlight).tolist(), np.linspace(90.0, 110.0, n).tolist()
    used = np.sort(np.random.default_rng(left).permutation(n)[:left])
    flags = [0 if number in used else BAD_PIXEL for number in range(n)]
    some = stack_pixel(values, variances, sigmas=sigmas.tolist(), flags=flags)
    alone = stack_pixel(*([figures[i] for i in used] for figures in (values, variances)), sigmas=sigmas[used].tolist())
    assert some.variance.item() == pytest.approx(alone.variance.item(), rel=2e-4)


@pytest.mark.parametrize(
    ("groups", "m"), [([0, 1, 2, 3], 4.0), ([0, 0, 0, 0], 1.0), ([0, 0, 1, 1], 2.0), ([0, 0, 0, 1], 1.6)]
)
def test_shared_noise_averages_down_between_offsets_alone(groups: list[int], m: float) -> None:
    mean = stack_pixel([1.0, 2.0, 3.0, 4.0], 25.0, shared=16.0, groups=groups, method="mean")
    assert mean.variance.item() == pytest.approx(9 / 4 + 16 / m)
    median = stack_pixel([1.0, 2.0, 3.0, 4.0], 25.0, shared=16.0, groups=groups)
    c = median_variance_factor(4)
    expected = c * 9 / 4 + 16 / m * (1 + (c - 1) * (m - 1) / 3)
    assert median.variance.item() == pytest.approx(expected)


def test_shared_noise_is_that_of_the_frames_in_use() -> None:
    flags = [0, 0, BAD_PIXEL, 0]
    stack = stack_pixel([1.0, 2.0, 3.0, 4.0], 25.0, shared=16.0, groups=[0, 0, 1, 2], flags=flags, method="mean")
    assert stack.variance.item() == pytest.approx(9 / 3 + 16 * 5 / 9)


def test_undithered_frames_share_the_error_of_their_masters() -> None:
    """Five frames, sky of 1000 e-, read noise 5 e-, a flat known to 1 %."""
    rng = np.random.default_rng(11)
    shape = (300, 300)
    flat_error = 1.0 + rng.normal(0.0, 0.01, shape)
    images = [(rng.poisson(1000.0, shape) + rng.normal(0.0, 5.0, shape)) / flat_error for _ in range(5)]
    shared = [(0.01 * image) ** 2 for image in images]
    variances = [np.maximum(image, 0) + 25.0 + k for image, k in zip(images, shared, strict=True)]
    stack = combine_frames(
        images, variances, shared, np.zeros((5, *shape), np.uint16), offset_groups=[0] * 5, sigmas=[33.0] * 5
    )
    true = np.mean((stack.data - 1000.0) ** 2)
    assert true == pytest.approx(394.0, rel=0.03)
    assert stack.variance.mean() == pytest.approx(true, rel=0.025)


@pytest.mark.parametrize("method", METHODS)
def test_frames_of_unequal_noise(method: Method) -> None:
    """The sky of three frames is twice and four times as bright, and stars stand on it."""
    rng = np.random.default_rng(12)
    sky = np.array([300.0, 600.0, 1200.0, 300.0, 1200.0])
    stars = np.where(np.arange(300) % 3 == 0, 5000.0, 0.0) * np.ones((300, 1))
    images = np.array([rng.poisson(stars + level, (300, 300)) - level for level in sky], float)
    variances = np.maximum(images + sky[:, None, None], 0.0)
    stack = combine_frames(
        images,
        variances,
        np.zeros_like(images),
        np.zeros(images.shape, np.uint16),
        offset_groups=range(5),
        sigmas=np.sqrt(sky),
        method=method,
        level=0.0,
    )
    for where, size in ((stars > 0, 30_000), (stars == 0, 60_000)):
        ratio = np.mean((stack.data - stars)[where] ** 2 / stack.variance[where])
        assert ratio == pytest.approx(1.0, abs=0.03 + 3 * np.sqrt(2 / size))


def test_rows_may_be_split_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(13)
    images = rng.normal(100.0, 10.0, (4, 23, 17))
    images[1, 5:9, 3] += 1000.0
    flags = rng.choice(np.array([0, 0, 0, 4, 8, 16, 64], np.uint16), images.shape)
    planes = images, np.full(images.shape, 104.0), np.full(images.shape, 4.0), flags
    options: dict[str, Any] = {"offset_groups": [0, 0, 1, 2], "sigmas": [10.0, 9.0, 11.0, 10.0], "level": 100.0}
    for method in METHODS:
        whole = combine_frames(*planes, **options, method=method, map_rejections=True)
        halves = [
            combine_frames(*(cube[:, rows] for cube in planes), **options, method=method, map_rejections=True)
            for rows in (slice(0, 10), slice(10, 23))
        ]
        monkeypatch.setattr(combine, "VALUES_AT_ONCE", 200)
        blocks = combine_frames(*planes, **options, method=method, map_rejections=True)
        monkeypatch.undo()
        for name in ("data", "variance", "flags", "coverage", "rejected"):
            expected = getattr(whole, name)
            assert getattr(blocks, name).tobytes() == expected.tobytes()
            assert np.concatenate([getattr(half, name) for half in halves]).tobytes() == expected.tobytes()
        assert blocks.rejected_by_frame.tolist() == whole.rejected_by_frame.tolist()
        assert (blocks.rejection_map == whole.rejection_map).all()  # type: ignore[union-attr]
        if method != "mean":
            assert whole.rejected_by_frame.sum() == whole.rejected.sum() > 0


def test_frames_may_come_one_by_one_and_big_endian() -> None:
    images = np.random.default_rng(14).normal(100.0, 10.0, (3, 4, 5)).astype(np.float32)
    planes = images, np.full(images.shape, 100.0), np.zeros(images.shape), np.zeros(images.shape, np.uint16)
    options: dict[str, Any] = {"offset_groups": [0, 1, 2], "sigmas": [10.0] * 3}
    expected = combine_frames(*planes, **options)
    foreign = [[plane.astype(plane.dtype.newbyteorder(">")) for plane in cube] for cube in planes]
    np.testing.assert_array_equal(combine_frames(*foreign, **options).data, expected.data)


IMAGE = np.zeros((3, 4))
FLAGS = np.zeros((3, 4), np.uint16)


@pytest.mark.parametrize(
    ("planes", "options", "words"),
    [
        (([], [], [], []), {}, "no frame"),
        (([IMAGE], [IMAGE], [IMAGE], []), {}, "Each frame needs"),
        (([IMAGE], [IMAGE[:2]], [IMAGE], [FLAGS]), {}, "on one grid"),
        (([IMAGE[0]], [IMAGE[0]], [IMAGE[0]], [FLAGS[0]]), {}, "two dimensions"),
        (None, {"method": "average"}, "median, clipped, mean, weighted"),
        (None, {"clip_sigma": 0.0}, "clip must be above 0"),
        (None, {"method": "clipped", "clip_sigma": None}, "clipped mean needs"),
        (None, {"tolerance": -0.1}, "tolerance"),
        (None, {"weights": [1.0]}, "Weights are for the weighted mean"),
        (None, {"method": "weighted", "weights": [0.0]}, "weight of each frame"),
        (None, {"method": "weighted", "weights": [1.0, 1.0]}, "one weight for each"),
        (None, {"method": "weighted", "sigmas": [0.0]}, "Without weights"),
        (None, {"sigmas": [1.0, 2.0]}, "one sigma for each"),
        (None, {"sigmas": [np.nan]}, "sigma of each frame"),
        (None, {"offset_groups": [0, 1]}, "one offset group for each"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_words(planes: Any, options: dict[str, Any], words: str) -> None:
    cubes = ([IMAGE], [IMAGE], [IMAGE], [FLAGS]) if planes is None else planes
    with pytest.raises(ValueError, match=words):
        combine_frames(*cubes, **{"offset_groups": [0], "sigmas": [1.0]} | options)


@pytest.mark.parametrize("sigmas", [(10.0, 30.0), (10.0, 40.0, 40.0), (5.0, 30.0, 30.0, 30.0), (10.0,) * 5])
def test_the_noise_of_other_frames_rejects_no_value_of_a_quiet_one(sigmas: tuple[float, ...]) -> None:
    each = np.array(sigmas)[:, None, None]
    values = np.random.default_rng(2).normal(0.0, 1.0, (len(sigmas), 400, 400)) * each
    stack = combine_frames(
        values,
        np.broadcast_to(each**2, values.shape),
        np.zeros(values.shape),
        np.zeros(values.shape, np.uint16),
        offset_groups=range(len(sigmas)),
        sigmas=sigmas,
        level=0.0,
    )
    # a value of a frame as quiet as the rest is beyond 4 sigma by 6e-5; of the quiet one it was 1 % to 5 %
    assert stack.rejected_by_frame.max() < 2e-3 * 160_000
    assert np.mean(stack.data**2 / stack.variance) == pytest.approx(1.0, abs=0.015)
