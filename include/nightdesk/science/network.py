"""Sorting networks that leave the middle of a few values in the middle, for whole planes of pixels at once."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

BOTH, SMALLER, LARGER = 0, 1, 2


def middle_places(n: int) -> tuple[int, int]:
    """Return where the two middle values of `n` sorted ones are; the same place twice where `n` is odd.

    Parameters
    ----------
    n : int
        How many values, at least 1.

    Returns
    -------
    lower, upper : int
        Places, from 0.

    Examples
    --------
    >>> middle_places(4), middle_places(5)
    ((1, 2), (2, 2))
    """
    return (n - 1) // 2, n // 2


@cache
def network(n: int, wanted: frozenset[int]) -> NDArray[np.int32]:
    r"""Return the steps that bring the `wanted` ranks of `n` values to their places.

    Parameters
    ----------
    n : int
        How many values, at least 1.
    wanted : frozenset of int
        Ranks, from 0; what lands at other places is of no use.

    Returns
    -------
    ndarray of int32, shape (steps, 3)
        Places `a` and `b`, and what is needed of them: both the smaller value at `a` and the larger at `b`
        (0), the smaller alone (1) or the larger alone (2). Not to be changed.

    Notes
    -----
    K. E. Batcher's odd-even merge sort for the next power of two, with the values that are not there taken
    as infinite, and without the steps that no wanted place depends on.

    Examples
    --------
    >>> network(3, frozenset({1})).tolist()
    [[0, 1, 0], [0, 2, 2], [1, 2, 1]]
    """
    needed = set(wanted)
    kept = []
    for a, b in reversed(_sorting_steps(n)):
        if a in needed or b in needed:
            kept.append((a, b, BOTH if a in needed and b in needed else SMALLER if a in needed else LARGER))
            needed |= {a, b}
    steps = np.array(kept[::-1], dtype=np.int32).reshape(-1, 3)
    steps.flags.writeable = False
    return steps


def _sorting_steps(n: int) -> list[tuple[int, int]]:
    steps = []
    size = 1 << max(n - 1, 0).bit_length()
    merged = 1
    while merged < size:
        apart = merged
        while apart >= 1:
            for start in range(apart % merged, size - apart, 2 * apart):
                for a in range(start, min(start + apart, size - apart)):
                    if a // (2 * merged) == (a + apart) // (2 * merged) and a + apart < n:
                        steps.append((a, a + apart))
            apart //= 2
        merged *= 2
    return steps


def run_network(planes: list[NDArray[np.float64]], steps: NDArray[np.int32]) -> None:
    """Run a network over planes of one shape.

    Parameters
    ----------
    planes : list of ndarray
        One for each place; its entries are overwritten and exchanged.
    steps : ndarray of int32, shape (steps, 3)
        As :func:`network` gave them.
    """
    spare = np.empty_like(planes[0])
    for a, b, kind in steps.tolist():
        one, other = planes[a], planes[b]
        if kind == BOTH:
            np.minimum(one, other, out=spare)
            np.maximum(one, other, out=other)
            planes[a], spare = spare, one
        elif kind == SMALLER:
            np.minimum(one, other, out=one)
        else:
            np.maximum(one, other, out=other)
