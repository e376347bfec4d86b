"""Rows made ahead: those of the blocks, in whatever strips they are asked for, and no more of them than were said."""

import threading

import numpy as np
import pytest

from nightdesk.steps.ahead import RowsAhead

IMAGE = np.arange(40.0 * 3).reshape(40, 3)


@pytest.mark.parametrize("strip", [1, 4, 7, 40])
@pytest.mark.parametrize("block", [1, 5, 8, 40])
def test_strips_are_those_of_the_image(block: int, strip: int) -> None:
    blocks = [slice(first, min(first + block, 40)) for first in range(0, 40, block)]
    rows = RowsAhead(lambda part: (IMAGE[part], -IMAGE[part]), blocks, workers=2)
    made = [rows(first, min(first + strip, 40)) for first in range(0, 40, strip)]
    np.testing.assert_array_equal(np.concatenate([part.data for part in made]), IMAGE)
    np.testing.assert_array_equal(np.concatenate([part.variance for part in made]), -IMAGE)


def test_few_blocks_are_made_before_they_are_wanted() -> None:
    begun = threading.Semaphore(0)

    def _make(part: slice) -> tuple[np.ndarray, np.ndarray]:
        begun.release()
        return IMAGE[part], IMAGE[part]

    rows = RowsAhead(_make, [slice(row, row + 1) for row in range(40)], workers=2)
    for _ in range(3):
        assert begun.acquire(timeout=60)
    rows(0, 1)
    assert begun.acquire(timeout=60)
    assert not begun.acquire(timeout=0.2)


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    def _make(part: slice) -> tuple[np.ndarray, np.ndarray]:
        raise OSError("the disk is gone")

    rows = RowsAhead(_make, [slice(0, 40)], workers=2)
    with pytest.raises(OSError, match="the disk is gone"):
        rows(0, 4)
