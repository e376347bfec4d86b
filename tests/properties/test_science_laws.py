"""Laws that the arithmetic keeps for any frames whatever."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from nightdesk.science.combine import Combined, combine_frames
from nightdesk.science.extinction import correct_extinction
from nightdesk.science.flag import EXCLUDING, FLAG_MEANINGS, NO_DATA
from nightdesk.science.flat import normalise_flat
from nightdesk.science.isr import remove_signature
from nightdesk.science.median import median_variance_factor
from nightdesk.science.notebook import roll
from nightdesk.science.picture import render
from nightdesk.science.planes import Planes
from nightdesk.science.shift import footprint, shift_planes, whole_pixels
from nightdesk.science.sky import estimate_sky

settings.register_profile("nightdesk", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("nightdesk")

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
signals = st.floats(-1e5, 1e6, width=32)
anything = st.floats(width=32)
noises = st.floats(0, 1e6, width=32)
bits = st.sampled_from([0, 0, 0, 0, *FLAG_MEANINGS, 1 | 4, 8 | 16, 2 | 32, 64 | 4])
shifts = st.integers(-8, 8)
methods = st.sampled_from(["median", "clipped", "mean", "weighted"])


def planes_of(draw: st.DrawFn, shape: tuple[int, ...], values: st.SearchStrategy[float] = signals) -> Planes:
    data = draw(hnp.arrays(np.float64, shape, elements=values))
    independent = draw(hnp.arrays(np.float64, shape, elements=noises))
    shared = draw(hnp.arrays(np.float64, shape, elements=noises))
    flags = draw(hnp.arrays(np.uint16, shape, elements=bits))
    absent = (flags & NO_DATA) != 0
    return Planes(
        np.where(absent, 0.0, data),
        np.where(absent, 0.0, independent + shared),
        np.where(absent, 0.0, shared),
        flags,
    )


@st.composite
def some_planes(draw: st.DrawFn) -> Planes:
    return planes_of(draw, draw(shapes))


@st.composite
def some_groups(draw: st.DrawFn, most: int = 7) -> tuple[list[Planes], dict[str, Any]]:
    """Draw frames of one shape, and what combining them needs to know."""
    n, shape = draw(st.integers(1, most)), draw(shapes)
    options = {
        "offset_groups": draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)),
        "sigmas": draw(st.lists(st.floats(1.0, 100.0), min_size=n, max_size=n)),
        "method": draw(methods),
        "clip_sigma": draw(st.sampled_from([3.0, 4.0])),
        "level": draw(st.sampled_from([None, 0.0, 100.0])),
    }
    return [planes_of(draw, shape) for _ in range(n)], options


def combine(frames: list[Planes], options: dict[str, Any]) -> Combined:
    return combine_frames(
        [frame.data for frame in frames],
        [frame.variance for frame in frames],
        [frame.shared_variance for frame in frames],
        [frame.flags for frame in frames],
        **options,
    )


def assert_same(a: Combined, b: Combined, where: Any = ...) -> None:
    np.testing.assert_allclose(a.data[where], b.data[where], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(a.variance[where], b.variance[where], rtol=1e-9, atol=1e-9)
    for name in ("flags", "coverage", "rejected"):
        np.testing.assert_array_equal(getattr(a, name)[where], getattr(b, name)[where])


@given(some_groups(), st.randoms())
def test_the_order_of_frames_never_matters(group: tuple[list[Planes], dict[str, Any]], random: Any) -> None:
    frames, options = group
    order = list(range(len(frames)))
    random.shuffle(order)
    turned = options | {name: [options[name][i] for i in order] for name in ("offset_groups", "sigmas")}
    stack, other = combine(frames, options), combine([frames[i] for i in order], turned)
    if options["method"] == "median":
        np.testing.assert_array_equal(stack.data, other.data)
    assert_same(stack, other)
    assert [stack.rejected_by_frame[i] for i in order] == other.rejected_by_frame.tolist()


@given(some_groups(), st.data())
def test_an_excluded_value_never_matters_beside_a_good_one(
    group: tuple[list[Planes], dict[str, Any]], data: st.DataObject
) -> None:
    frames, options = group
    others = []
    for frame in frames:
        excluded = (frame.flags & EXCLUDING) != 0
        wild = data.draw(hnp.arrays(np.float64, frame.shape, elements=anything))
        noise = data.draw(hnp.arrays(np.float64, frame.shape, elements=anything))
        others.append(
            Planes(
                np.where(excluded, wild, frame.data),
                np.where(excluded, noise, frame.variance),
                np.where(excluded, noise, frame.shared_variance),
                frame.flags,
            )
        )
    good = np.any([(frame.flags & EXCLUDING) == 0 for frame in frames], axis=0)
    assert_same(combine(frames, options), combine(others, options), good)


@given(some_groups(), st.data())
def test_a_pixel_never_alters_another(group: tuple[list[Planes], dict[str, Any]], data: st.DataObject) -> None:
    frames, options = group
    y = data.draw(st.integers(0, frames[0].shape[0] - 1))
    x = data.draw(st.integers(0, frames[0].shape[1] - 1))
    changed = [Planes(f.data.copy(), f.variance.copy(), f.shared_variance.copy(), f.flags.copy()) for f in frames]
    changed[0].data[y, x], changed[0].flags[y, x] = data.draw(anything), data.draw(bits)
    elsewhere = np.ones(frames[0].shape, bool)
    elsewhere[y, x] = False
    stack, other = combine(frames, options), combine(changed, options)
    for name in ("data", "variance", "flags", "coverage", "rejected"):
        np.testing.assert_array_equal(getattr(stack, name)[elsewhere], getattr(other, name)[elsewhere])


@given(some_groups(), st.data())
def test_a_stack_is_never_nan_and_its_variance_never_negative(
    group: tuple[list[Planes], dict[str, Any]], data: st.DataObject
) -> None:
    frames, options = group
    wild = [
        Planes(*(data.draw(hnp.arrays(np.float64, f.shape, elements=anything)) for _ in range(3)), f.flags)
        for f in frames
    ]
    for stack in (combine(frames, options), combine(wild, options)):
        assert np.isfinite(stack.data).all()
        assert np.isfinite(stack.variance).all()
        assert (stack.variance >= 0).all()
        empty = stack.coverage == 0
        assert (stack.flags[empty] == NO_DATA).all()
        assert not stack.data[empty].any()
        assert not stack.variance[empty].any()
        assert (stack.coverage + stack.rejected <= len(frames)).all()
        assert stack.rejected.sum() == stack.rejected_by_frame.sum()


@given(some_planes(), st.integers(1, 6), methods)
def test_combining_copies_keeps_the_value(frame: Planes, n: int, method: str) -> None:
    stack = combine([frame] * n, {"offset_groups": range(n), "sigmas": [1.0] * n, "method": method})
    absent = (frame.flags & NO_DATA) != 0
    np.testing.assert_allclose(stack.data, frame.data, rtol=1e-14)
    np.testing.assert_array_equal(stack.flags, np.where(absent, NO_DATA, frame.flags))
    np.testing.assert_array_equal(stack.coverage, np.where(absent, 0, n))
    factor = median_variance_factor(n) if method == "median" else 1.0
    np.testing.assert_allclose(stack.variance, frame.variance * factor / n, rtol=1e-9)


@given(some_planes(), st.integers(2, 6))
def test_what_frames_share_does_not_average_down(frame: Planes, n: int) -> None:
    same, different = (
        combine([frame] * n, {"offset_groups": groups, "sigmas": [1.0] * n}).variance for groups in ([0] * n, range(n))
    )
    assert (same >= frame.shared_variance * (1 - 1e-12)).all()
    assert (same >= different * (1 - 1e-12)).all()


@given(some_planes(), st.floats(1.0, 5.0), st.floats(0.0, 1.0))
def test_extinction_keeps_the_signal_to_noise_ratio(frame: Planes, airmass: float, k: float) -> None:
    data, variance = correct_extinction(frame.data, frame.variance, airmass=airmass, extinction_coefficient=k)
    noisy = frame.variance > 0
    np.testing.assert_allclose(
        data[noisy] / np.sqrt(variance[noisy]), frame.data[noisy] / np.sqrt(frame.variance[noisy]), rtol=1e-12
    )
    assert (np.abs(data) >= np.abs(frame.data)).all()


@given(some_planes(), shifts, shifts)
def test_there_and_back_keeps_the_overlap(frame: Planes, dx: int, dy: int) -> None:
    back = shift_planes(shift_planes(frame, dx, dy), -dx, -dy)
    ny, nx = frame.shape
    y, x = np.mgrid[:ny, :nx]
    kept = (x + dx >= 0) & (x + dx < nx) & (y + dy >= 0) & (y + dy < ny)
    for name in ("data", "variance", "shared_variance", "flags"):
        np.testing.assert_array_equal(getattr(back, name)[kept], getattr(frame, name)[kept])
    assert (back.flags[~kept] == NO_DATA).all()


@given(some_planes(), shifts, shifts)
def test_a_larger_grid_loses_nothing(frame: Planes, dx: int, dy: int) -> None:
    shape, origin = footprint([frame.shape, frame.shape], [(0, 0), (dx, dy)], "union")
    shifted = shift_planes(frame, dx, dy, shape, origin)
    assert shifted.data.sum() == pytest.approx(frame.data.sum(), rel=1e-12, abs=1e-6)
    assert np.count_nonzero(shifted.flags != NO_DATA) == np.count_nonzero(frame.flags != NO_DATA)


@given(some_planes(), shifts, shifts)
def test_a_shift_within_the_frame_agrees_with_a_roll(frame: Planes, dx: int, dy: int) -> None:
    shifted = shift_planes(frame, dx, dy)
    rolled = roll(frame.data, float(dx), float(dy))
    flags = roll(frame.flags, float(dx), float(dy))
    there = shifted.flags == flags
    copied = (shifted.flags & NO_DATA) == 0
    assert there[copied].all()
    np.testing.assert_array_equal(shifted.data[copied], rolled[copied])


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), shifts, shifts), min_size=1, max_size=6))
def test_the_union_contains_the_intersection(frames: list[tuple[int, int, int, int]]) -> None:
    sizes = [(ny, nx) for ny, nx, _, _ in frames]
    offsets = [(dx, dy) for _, _, dx, dy in frames]

    def box(how: Any) -> tuple[int, int, int, int]:
        (ny, nx), (x, y) = footprint(sizes, offsets, how)
        return x, y, x + nx, y + ny

    union = box("union")
    for (ny, nx), (dx, dy) in zip(sizes, offsets, strict=True):
        assert union[0] <= dx
        assert union[1] <= dy
        assert union[2] >= dx + nx
        assert union[3] >= dy + ny
    try:
        common = box("intersection")
    except ValueError:
        assume(False)
    for (ny, nx), (dx, dy) in zip(sizes, offsets, strict=True):
        assert dx <= common[0] < common[2] <= dx + nx
        assert dy <= common[1] < common[3] <= dy + ny


@given(st.floats(-1e6, 1e6))
def test_a_whole_shift_is_the_nearest(difference: float) -> None:
    assert -0.5 - 1e-9 <= whole_pixels(difference) - difference <= 0.5 + 1e-9


@given(shapes, st.data())
def test_signature_removal_never_makes_nan_or_negative_variance(shape: tuple[int, ...], data: st.DataObject) -> None:
    def wild() -> NDArray[np.float64]:
        return data.draw(hnp.arrays(np.float64, shape, elements=anything))

    with np.errstate(over="ignore"):
        planes = remove_signature(
            wild() / 1e10,
            gain=data.draw(st.floats(0.01, 100.0)),
            read_noise=data.draw(st.floats(0.0, 100.0)),
            bias=wild() / 1e10,
            bias_variance=wild(),
            dark=wild() / 1e10,
            dark_variance=wild(),
            flat=wild(),
            flat_variance=wild(),
            saturation=data.draw(st.none() | st.floats(0, 1e5)),
        )
    assert np.isfinite(planes.data).all()
    assert np.isfinite(planes.variance).all()
    assert (planes.shared_variance >= 0).all()
    assert (planes.variance >= planes.shared_variance).all()
    assert not planes.data[(planes.flags & NO_DATA) != 0].any()


@given(some_planes(), st.floats(0.3, 3.0))
def test_a_brighter_flat_means_less_light(frame: Planes, response: float) -> None:
    zero, flat = np.zeros(frame.shape), np.full(frame.shape, response)
    plain = remove_signature(frame.data, gain=1.5, read_noise=4.0, bias=zero)
    divided = remove_signature(frame.data, gain=1.5, read_noise=4.0, bias=zero, flat=flat)
    np.testing.assert_allclose(divided.data * response, plain.data, rtol=1e-12)
    np.testing.assert_allclose(divided.variance * response**2, plain.variance, rtol=1e-12)


@given(hnp.arrays(np.float64, shapes, elements=st.floats(1.0, 1e5)), st.floats(0.01, 100.0))
def test_a_flat_knows_no_unit(flat: NDArray[np.float64], unit: float) -> None:
    np.testing.assert_allclose(normalise_flat(flat * unit)[0], normalise_flat(flat)[0], rtol=1e-12)


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=signals))
def test_the_sky_lies_within_the_image(image: NDArray[np.float64]) -> None:
    level, sigma = estimate_sky(image)
    assert np.isfinite([level, sigma]).all()
    assert sigma >= 0
    assert image.min() - 1e-6 <= level <= image.max() + 1e-6


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12), elements=anything))
def test_any_image_has_a_picture(image: NDArray[np.float64]) -> None:
    picture = render(image)
    assert picture.shape == image.shape
    assert (picture[::-1][~np.isfinite(image)] == 0).all()
    assert (picture[::-1][np.isfinite(image)] > 0).all()
