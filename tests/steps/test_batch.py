"""A batch: several frames at a time, the good ones through, the bad ones named in their order."""

from __future__ import annotations

import threading

import pytest

from nightdesk.errors import FrameError, SetupError
from nightdesk.steps.batch import run_batch
from nightdesk.steps.recipe import Work
from tests.small_night import SmallNight


@pytest.fixture
def work(night: SmallNight) -> Work:
    night.list_raws()
    return Work.open(night.settings, night.group)


def test_frames_are_in_work_at_a_time(work: Work) -> None:
    together = threading.Barrier(3, timeout=10)
    run_batch(work, "isr", work.inputs.frames, lambda name: together.wait() and None, at_once=3)


def test_bad_frames_are_named_in_their_order_whoever_is_first(work: Work) -> None:
    first, second, third = work.inputs.frames
    second_is_through = threading.Event()
    done = []

    def _one(name: str) -> None:
        if name == first:
            second_is_through.wait(10)
            raise FrameError(f"z {name}")
        if name == second:
            second_is_through.set()
            raise FrameError(f"a {name}")
        done.append(name)

    with pytest.raises(FrameError, match=f"^z {first} a {second}$"):
        run_batch(work, "isr", work.inputs.frames, _one, at_once=2)
    assert done == [third]
    assert [bool(work.loss(name)) for name in work.inputs.frames] == [True, True, False]


def test_what_is_wrong_for_all_is_not_tried_with_the_rest(work: Work) -> None:
    tried = []

    def _one(name: str) -> None:
        tried.append(name)
        raise SetupError("no master")

    with pytest.raises(SetupError, match="no master"):
        run_batch(work, "isr", work.inputs.frames * 50, _one)
    assert len(tried) < 100
