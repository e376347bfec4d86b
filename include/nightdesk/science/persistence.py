"""What stays on the detector while the sky moves: hot pixels and their like."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nightdesk.science.star import Stars

RADIUS: Final = 0.5
LEAST_SHARE: Final = 0.6


def find_persistent(
    lists: Sequence[Stars], *, radius: float = RADIUS, least_share: float = LEAST_SHARE
) -> list[NDArray[np.bool_]]:
    """Mark the detections that are at one place of the detector in most frames.

    Parameters
    ----------
    lists : sequence of Stars
        The detections of each frame of a group.
    radius : float
        How far apart they may be, in pixels.
    least_share : float
        In what part of the frames that have any detection they must be; two frames at least.

    Returns
    -------
    list of ndarray of bool
        For each frame, whether each of its detections persists. In a group whose frames were not moved
        against each other these are the stars themselves.

    Examples
    --------
    >>> def stars(*x):
    ...     a = np.array(x)
    ...     return Stars(a, 0 * a, a, a, a, a < 0, 3.0)
    >>> [mask.tolist() for mask in find_persistent([stars(5.0, 20.0), stars(5.1, 27.0), stars(4.9, 31.0)])]
    [[True, False], [True, False], [True, False]]
    """
    present = [stars for stars in lists if len(stars)]
    needed = max(2, int(np.ceil(least_share * len(present))))
    trees = [cKDTree(stars.positions) if len(stars) else None for stars in lists]
    marks = []
    for number, stars in enumerate(lists):
        seen = np.ones(len(stars), dtype=np.intp)
        for other, tree in enumerate(trees):
            if other != number and tree is not None and len(stars):
                seen += np.isfinite(tree.query(stars.positions, distance_upper_bound=radius)[0])
        marks.append(seen >= needed if len(present) > 1 else np.zeros(len(stars), dtype=bool))
    return marks
