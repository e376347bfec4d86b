"""Groups of frames: the reference, what is fixed on the chip, and the star that is written down."""

from dataclasses import replace

import numpy as np
import pytest

from nightdesk.science.alignment import align_frames, choose_star
from nightdesk.science.persistence import find_persistent
from nightdesk.science.star import Stars
from nightdesk.science.transform import Transform, half_turn
from tests.science.test_match import SHAPE, field, seen, stars_at

STARS = field(25, seed=4)
HOT = field(30, seed=5)
MOVES = [Transform(), Transform(dx=30.4, dy=-12.2), Transform(dx=-18.7, dy=25.1), Transform(dx=9.5, dy=40.0)]


def frames(moves=MOVES, hot=HOT, width=3.0) -> list[Stars]:
    """The detections of each frame, those fixed on the chip first because they are the brightest."""
    lists = []
    for number, move in enumerate(moves):
        stars = seen(STARS, move, seed=number)
        both = np.vstack([hot + np.random.default_rng(number).normal(0, 0.02, hot.shape), stars])
        listed = stars_at(both)
        lists.append(replace(listed, width=np.r_[np.full(len(hot), width), np.full(len(stars), 3.0)]))
    return lists


def test_what_is_fixed_on_the_chip_is_marked():
    marks = find_persistent(frames())
    assert all(mask[: len(HOT)].all() and not mask[len(HOT) :].any() for mask in marks)


def test_one_frame_has_nothing_persistent():
    assert not find_persistent(frames()[:1])[0].any()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_hot_pixels_never_win(count):
    alignment = align_frames(frames(MOVES[:count]), SHAPE)
    assert alignment.aligned == list(range(count))
    for match, move in zip(alignment.matches, MOVES, strict=False):
        assert match.transform.shift_at(250, 240) == pytest.approx(move.shift_at(250, 240), abs=0.1)


def test_hot_pixels_alone_are_refused_when_the_sky_is_another():
    lists = [*frames()[:1], stars_at(np.vstack([HOT, field(25, seed=77)]))]
    assert align_frames(lists, SHAPE).aligned == [0]


@pytest.mark.parametrize("hot", [HOT[:0], HOT[:3]], ids=["clean", "three-hot"])
def test_a_group_that_was_not_moved_is_aligned(hot):
    alignment = align_frames(frames([Transform(), Transform(dx=0.1), Transform(dy=-0.2)], hot), SHAPE)
    assert alignment.aligned == [0, 1, 2]
    assert alignment.matches[2].transform.shift_at(250, 240) == pytest.approx((0.0, -0.2), abs=0.05)


def test_a_still_group_of_narrow_detections_is_not_believed():
    """Pairs of hot pixels, narrower than the stars around them that moved."""
    few = [Transform(), Transform(dx=30.0)]
    lists = [
        replace(one, width=np.r_[np.full(len(HOT), 1.5), np.full(len(one) - len(HOT), 3.0)])
        for one in (stars_at(np.vstack([HOT, seen(STARS[:4], move)])) for move in few)
    ]
    assert align_frames(lists, SHAPE).aligned == [0]


JUMP = Transform(dx=30.4, dy=-12.2)
FLIP = half_turn(SHAPE).after(Transform(dx=3.0, dy=2.0))


@pytest.mark.parametrize("hot", [HOT[:0], HOT], ids=["clean", "hot"])
@pytest.mark.parametrize(("still", "moved"), [(6, 3), (3, 2), (2, 1), (9, 1), (5, 4)])
@pytest.mark.parametrize("move", [JUMP, FLIP], ids=["jump", "flip"])
def test_a_guided_group_that_then_moves_is_aligned(still, moved, move, hot):
    """The stars stand still in most frames, as hot pixels do; in the others they do not."""
    alignment = align_frames(frames([Transform()] * still + [move] * moved, hot), SHAPE)
    assert alignment.aligned == list(range(still + moved))
    for match in alignment.matches[still:]:
        assert match.transform.shift_at(250, 240) == pytest.approx(move.shift_at(250, 240), abs=0.1)
        assert match.transform.is_flip == move.is_flip


@pytest.mark.parametrize("fixed", [2, 3, 6])
def test_hot_pixels_never_win_in_a_guided_group(fixed):
    """After guiding comes another field: what agrees then is the chip's, not the sky's."""
    other = stars_at(np.vstack([field(25, seed=77), HOT + np.random.default_rng(9).normal(0, 0.3, HOT.shape)]))
    alignment = align_frames([*frames([Transform()] * fixed), other], SHAPE)
    assert alignment.aligned == list(range(fixed))


def test_an_empty_frame_is_refused_and_the_others_are_aligned():
    lists = frames()
    lists[2] = stars_at(np.zeros((0, 2)))
    alignment = align_frames(lists, SHAPE)
    assert alignment.aligned == [0, 1, 3]
    assert "0 stars were found in it" in alignment.matches[2].refusal


def test_an_empty_first_frame_is_not_the_reference():
    lists = [stars_at(np.zeros((0, 2))), *frames()]
    alignment = align_frames(lists, SHAPE)
    assert alignment.reference == 1
    assert alignment.aligned == [1, 2, 3, 4]


def test_a_first_frame_of_another_field_gives_way():
    lists = [stars_at(field(30, seed=99)), *frames(hot=HOT[:0])]
    alignment = align_frames(lists, SHAPE)
    assert alignment.reference == 1
    assert alignment.aligned == [1, 2, 3, 4]


def test_the_best_reference_is_sharp_with_a_dark_sky():
    lists = [
        replace(one, width=np.full(len(one), width), sky=sky)
        for one, width, sky in zip(frames(hot=HOT[:0]), (4.0, 3.0, 2.5, 2.6), (100, 100, 400, 100), strict=True)
    ]
    assert align_frames(lists, SHAPE, reference="best").reference == 3
    assert align_frames(lists, SHAPE).reference == 0


def test_the_star_written_down_is_bright_alone_and_in_every_frame():
    lists = frames(hot=HOT[:0])
    saturated = lists[0].saturated.copy()
    saturated[:3] = True
    lists[0] = replace(lists[0], saturated=saturated)
    alignment = align_frames(lists, SHAPE)
    position = choose_star(lists, alignment, SHAPE)
    assert position is not None
    rank = int(np.argmin(np.hypot(lists[0].x - position[0], lists[0].y - position[1])))
    assert rank >= 3
    for number in alignment.aligned:
        x, y = alignment.matches[number].transform.inverse().apply([position])[0]
        assert 9 <= x <= SHAPE[1] - 10
        assert 9 <= y <= SHAPE[0] - 10


def test_the_star_written_down_is_none_of_the_hot_pixels():
    lists = frames()
    position = choose_star(lists, align_frames(lists, SHAPE), SHAPE)
    assert position is not None
    assert np.hypot(*(HOT - position).T).min() > 1.0
    assert np.hypot(*(STARS - position).T).min() < 0.2


def test_a_star_that_is_saturated_in_another_frame_is_not_written_down():
    lists = frames(hot=HOT[:0])
    alignment = align_frames(lists, SHAPE)
    first = choose_star(lists, alignment, SHAPE)
    assert first is not None
    x, y = alignment.matches[2].transform.inverse().apply([first])[0]
    saturated = np.hypot(lists[2].x - x, lists[2].y - y) < 1.0
    lists[2] = replace(lists[2], saturated=saturated)
    assert choose_star(lists, alignment, SHAPE) != first


def test_no_star_may_be_in_every_frame():
    lists = [stars_at([[5.0, 5.0]])] * 2
    assert choose_star(lists, align_frames(lists, SHAPE), SHAPE) is None


def test_no_frames_cannot_be_aligned():
    with pytest.raises(ValueError, match="no frame"):
        align_frames([], SHAPE)


def test_a_long_drift_is_followed_from_frame_to_frame():
    """The last frame has no star of the first."""
    sky = np.random.default_rng(12).uniform(0, 1, (120, 2)) * (3 * SHAPE[1], SHAPE[0])
    moves = [Transform(dx=-0.45 * SHAPE[1] * number) for number in range(3)]
    lists = [stars_at(seen(sky, move.inverse(), seed=number)) for number, move in enumerate(moves)]
    alignment = align_frames(lists, SHAPE)
    assert alignment.aligned == [0, 1, 2]
    assert alignment.matches[2].transform.shift_at(0, 0)[0] == pytest.approx(0.9 * SHAPE[1], abs=0.1)
