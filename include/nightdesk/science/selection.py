"""Which frames' values may enter each pixel of a stack."""

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.flag import EXCLUDING, LEAST_BAD_FIRST, NO_DATA


def select_values(flags: NDArray[np.uint16]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose the good values of each pixel or, where there is none, the least bad ones.

    Parameters
    ----------
    flags : ndarray of uint16, shape (n, ...)
        Flags of each frame.

    Returns
    -------
    used : ndarray of bool, shape (n, ...)
        The values to combine; none where no frame has data.
    doubtful : ndarray of bool, shape (...)
        Where no good value was found and the least bad ones were chosen.

    Notes
    -----
    A value is good without any excluding flag. Among excluded ones the unilluminated come before cosmic
    rays, and those before bad pixels; a value is as bad as its worst flag.

    Examples
    --------
    >>> used, doubtful = select_values(np.array([[8, 1], [0, 64]], dtype=np.uint16))
    >>> used
    array([[False, False],
           [ True,  True]])
    >>> doubtful
    array([False,  True])
    """
    used = (flags & EXCLUDING) == 0
    doubtful = ~used.any(axis=0)
    if not doubtful.any():
        return used, doubtful
    candidates = flags[:, doubtful] & EXCLUDING
    chosen = np.zeros(candidates.shape, dtype=bool)
    tolerated = 0
    for bit in LEAST_BAD_FIRST:
        tolerated |= bit
        chosen |= ((candidates | tolerated) == tolerated) & ~chosen.any(axis=0)
    used[:, doubtful] = chosen
    return used, doubtful


def combine_flags(
    flags: NDArray[np.uint16], used: NDArray[np.bool_], doubtful: NDArray[np.bool_]
) -> NDArray[np.uint16]:
    """Join the flags of the values that made each pixel of a stack.

    Parameters
    ----------
    flags : ndarray of uint16, shape (n, ...)
        Flags of each frame.
    used : ndarray of bool, shape (n, ...)
        The values that were combined.
    doubtful : ndarray of bool, shape (...)
        Where only excluded values were at hand.

    Returns
    -------
    ndarray of uint16, shape (...)
        All bits of the used values; of all frames where the pixel is doubtful; NO_DATA alone where
        nothing was used.

    Examples
    --------
    >>> flags = np.array([[8], [4]], dtype=np.uint16)
    >>> combine_flags(flags, *select_values(flags))
    array([4], dtype=uint16)
    """
    heard = np.where(used | doubtful, flags, np.uint16(0))
    joined: NDArray[np.uint16] = np.bitwise_or.reduce(heard, axis=0)
    joined[~used.any(axis=0)] = NO_DATA
    return joined
