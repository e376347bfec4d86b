"""Rows made in threads ahead of who writes them: computing and writing go on at once, and no image is held whole."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from nightdesk.io.frame import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ROWS_AHEAD = 128
"""Of the notebook's stack, made at once at most: the first are on their way to the disk while the next are made."""


class RowsAhead:
    """Data and variance of an image, made block by block by several threads, given from top to bottom.

    Parameters
    ----------
    make : callable
        Makes a block of rows: data and variance, shape (rows, nx).
    blocks : sequence of slice
        Rows of the image, each block after the one before.
    workers : int
        How many are made at a time. One more waits to be taken, so memory does not grow where writing is slower.
    """

    def __init__(
        self,
        make: Callable[[slice], tuple[NDArray[np.float64], NDArray[np.float64]]],
        blocks: Sequence[slice],
        workers: int,
    ) -> None:
        self._make, self._blocks = make, deque(blocks)
        self._pool = ThreadPoolExecutor(workers)
        self._making: deque[Future[tuple[NDArray[np.float64], NDArray[np.float64]]]] = deque()
        self._first = 0  # of the rows at hand
        self._planes = [np.zeros((0, 0)), np.zeros((0, 0))]
        for _ in range(workers + 1):
            self._begin()

    def _begin(self) -> None:
        if self._blocks:
            self._making.append(self._pool.submit(self._make, self._blocks.popleft()))
        else:
            self._pool.shutdown(wait=False)

    def __call__(self, first: int, last: int) -> Rows:
        """Return rows from the first to before the last; the first is the last of the call before."""
        while self._first + len(self._planes[0]) < last:
            made = self._making.popleft().result()
            self._begin()
            done = first - self._first
            rest = [plane[done:] for plane in self._planes]  # a block seldom ends where what is asked for does
            if len(rest[0]):
                made = (np.concatenate([rest[0], made[0]]), np.concatenate([rest[1], made[1]]))
            self._planes, self._first = list(made), first
        place = slice(first - self._first, last - self._first)
        return Rows(self._planes[0][place], self._planes[1][place])
