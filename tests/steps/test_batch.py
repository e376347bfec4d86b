"""A batch: several frames at a time, the good ones through, the bad ones named in their order."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from nightdesk.errors import FrameError, SetupError
from nightdesk.io.layout import EXTINCTION, POST_ISR
from nightdesk.steps import extinction, isr
from nightdesk.steps.batch import Passage, Step, run_batch, run_steps
from nightdesk.steps.recipe import Work
from tests.small_night import SmallNight


@pytest.fixture
def work(night: SmallNight) -> Work:
    night.list_raws()
    return Work.open(night.settings, night.group)


def test_frames_are_in_work_at_a_time(work: Work) -> None:
    together = threading.Barrier(3, timeout=10)
    run_steps(work, [Step("isr", lambda passage: together.wait() and None)], work.inputs.frames, at_once=3)
    assert not together.broken


def test_bad_frames_are_named_in_their_order_whoever_is_first(work: Work) -> None:
    first, second, third = work.inputs.frames
    second_is_through = threading.Event()
    done = []

    def _one(passage: Passage) -> None:
        name = passage.name
        if name == first:
            second_is_through.wait(10)
            raise FrameError(f"z {name}")
        if name == second:
            second_is_through.set()
            raise FrameError(f"a {name}")
        done.append(name)

    with pytest.raises(FrameError, match=f"^z {first} a {second}$"):
        run_steps(work, [Step("isr", _one)], work.inputs.frames, at_once=2)
    assert done == [third]
    assert [bool(work.loss(name)) for name in work.inputs.frames] == [True, True, False]


def test_what_is_wrong_for_all_is_not_tried_with_the_rest(work: Work) -> None:
    tried = []

    def _one(name: str) -> None:
        tried.append(name)
        raise SetupError("no master")

    with pytest.raises(SetupError, match="no master"):
        run_batch(work, "isr", work.inputs.frames * 50, _one)
    assert len(tried) == 1


def test_what_a_step_made_is_kept_when_the_next_one_loses_the_frame(work: Work) -> None:
    first, second, third = work.inputs.frames

    def _one(passage: Passage) -> None:
        if passage.name == second:
            raise FrameError("no good")
        passage.make(EXTINCTION, passage.frame(POST_ISR))

    with pytest.raises(FrameError, match=r"^no good$"):
        run_steps(work, [isr.step(work), Step("extinction", _one)], work.inputs.frames)
    assert [work.is_current(POST_ISR, name) for name in (first, second, third)] == [True, True, True]
    assert [work.is_current(EXTINCTION, name) for name in (first, second, third)] == [True, False, True]
    loss = work.loss(second)
    assert loss is not None
    assert (loss["step"], loss["reason"]) == ("extinction", "no good")


def test_a_step_finds_the_frame_as_it_would_on_disk(work: Work) -> None:
    name, seen = work.inputs.frames[0], []

    def _one(passage: Passage) -> None:
        seen.append(passage.frame(POST_ISR))

    run_steps(work, [isr.step(work), Step("extinction", _one)], [name])
    run_steps(work, [Step("extinction", _one)], [name])
    in_the_pass, on_disk = seen
    sums = ("CHECKSUM", "DATASUM")
    cards = [[card.image for card in frame.header.cards if card.keyword not in sums] for frame in seen]
    assert cards[0] == cards[1]
    assert in_the_pass.standard
    assert on_disk.standard
    for one, other in zip(in_the_pass.block(3, 9), on_disk.block(3, 9), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_frame_that_a_step_passes_over_goes_through_the_others(work: Work) -> None:
    first, *others = work.inputs.frames
    passed_over = Step("extinction", extinction.step(pictures=False).one, frozenset([first]))
    run_steps(work, [isr.step(work), passed_over], work.inputs.frames)
    assert [work.is_current(EXTINCTION, name) for name in (first, *others)] == [False, True, True]
    assert work.is_current(POST_ISR, first)


def test_it_is_told_how_many_are_through(work: Work) -> None:
    told: list[int] = []
    run_steps(work, [Step("isr", lambda passage: None)], work.inputs.frames, progress=told.append)
    assert told == [1, 2, 3]
