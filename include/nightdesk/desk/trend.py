"""How the frames of a group compare: how far each moved, and how much light came through the air."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MATCH: Final = 2.5
"""Pixels within which two positions are the same star."""

FEWEST: Final = 3


def transparency(reference: Mapping[str, Any], frame: Mapping[str, Any], shift: tuple[float, float]) -> float | None:
    """Return how much light of its stars a frame has, over the reference frame, for equal exposure times.

    Parameters
    ----------
    reference, frame : mapping
        Figures of both frames, above the atmosphere, so that the airmass is out of it.
    shift : tuple of float
        How far the frame must move to lie on the reference, in pixels (dx, dy).

    Returns
    -------
    float or None
        1 where both are alike; None where fewer than three stars can be compared.
    """
    one, other = _table(reference), _table(frame)
    times = reference.get("exposure") or 0.0, frame.get("exposure") or 0.0
    if len(one) == 0 or len(other) == 0 or min(times) <= 0:
        return None
    moved = other[:, :2] + np.array(shift)
    distance = np.hypot(*(one[:, None, axis] - moved[None, :, axis] for axis in (0, 1)))
    nearest = distance.argmin(axis=1)
    met = distance[np.arange(len(one)), nearest] < MATCH
    if np.count_nonzero(met) < FEWEST:
        return None
    ratios = (other[nearest[met], 2] / times[1]) / (one[met, 2] / times[0])
    return float(np.median(ratios))


def find_shift(reference: Mapping[str, Any], frame: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return how far a frame must move to lie on the reference: the shift that brings most stars together.

    Every pair of stars votes for one shift; None where fewer than three pairs agree.
    """
    one, other = _table(reference)[:40, :2], _table(frame)[:40, :2]
    if len(one) == 0 or len(other) == 0:
        return None
    votes = (one[:, None] - other[None, :]).reshape(-1, 2)
    together = np.hypot(*(votes[:, None, axis] - votes[None, :, axis] for axis in (0, 1))) < MATCH
    counts = together.sum(axis=1)
    best = int(counts.argmax())
    if counts[best] < min(FEWEST, len(one), len(other)):
        return None
    dx, dy = votes[together[best]].mean(axis=0)
    return float(dx), float(dy)


def _table(figures: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.array(figures.get("positions") or [], dtype=np.float64).reshape(-1, 3)
