"""Transforms: there and back, one after the other, and fitted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightdesk.science.transform import Transform, fit_transform, half_turn

POINTS = np.array([[0.0, 0.0], [511.0, 3.0], [20.0, 480.0], [250.0, 200.0]])

transforms = st.builds(
    Transform,
    rotation=st.floats(-3.1, 3.1),
    scale=st.floats(0.9, 1.1),
    dx=st.floats(-500, 500),
    dy=st.floats(-500, 500),
)


@given(transforms)
def test_the_inverse_leads_back(transform):
    assert np.allclose(transform.inverse().apply(transform.apply(POINTS)), POINTS, atol=1e-6)


@given(transforms, transforms)
def test_after_is_one_and_then_the_other(first, second):
    assert np.allclose(second.after(first).apply(POINTS), second.apply(first.apply(POINTS)), atol=1e-6)


@given(transforms)
def test_a_fit_finds_what_moved_the_points(transform):
    found = fit_transform(POINTS, transform.apply(POINTS), [1.0, 2.0, 3.0, 4.0], free_scale=True)
    assert np.allclose(found.apply(POINTS), transform.apply(POINTS), atol=1e-6)


def test_a_rigid_fit_keeps_the_scale():
    assert fit_transform(POINTS, 1.01 * POINTS).scale == 1.0


def test_weights_decide_between_points_that_disagree():
    moved = POINTS + np.array([[10.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    found = fit_transform(POINTS, moved, [1e-9, 1.0, 1.0, 1.0])
    assert found.shift_at(250.0, 200.0) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_a_half_turn_is_a_flip_and_two_are_none():
    turn = half_turn((480, 512))
    assert turn.is_flip
    assert not turn.after(turn).is_flip
    assert np.allclose(turn.after(turn).apply(POINTS), POINTS)
    assert math.isclose(abs(turn.degrees), 180.0)


@pytest.mark.parametrize(
    "points", [pytest.param([[1.0, 2.0]], id="one"), pytest.param([[1.0, 2.0], [1.0, 2.0]], id="the-same-twice")]
)
def test_what_fixes_no_transform_is_refused(points):
    with pytest.raises(ValueError, match=r"two positions|coincide"):
        fit_transform(points, points)
