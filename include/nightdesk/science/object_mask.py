"""Where stars and galaxies are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightdesk.science import compiled

BOX = 5
GROWTH = 3


def find_objects(
    image: NDArray[Any],
    sound: NDArray[np.bool_],
    *,
    level: float,
    sigma: float,
    threshold: float = 1.0,
) -> NDArray[np.bool_]:
    """Mark the pixels in which an object adds light to the sky.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Signal, in electrons.
    sound : ndarray of bool, shape (ny, nx)
        Pixels whose value is good.
    level, sigma : float
        Level and scatter of the sky, in electrons.
    threshold : float
        Excess of the mean of 5 by 5 pixels over the sky that makes an object, in `sigma`; the noise of
        that mean is a fifth of it.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        True on objects and 3 pixels around them.
    """
    whole = bool(sound.all())
    if compiled.available() and sigma > 0 and image.dtype in (np.float32, np.float64):
        solid = (np.ascontiguousarray(image), None if whole else np.ascontiguousarray(sound))
        return compiled.find_objects(*solid, level=level, limit=threshold * sigma, growth=GROWTH)
    above = np.subtract(image, level, dtype=np.float64)
    excess = (above if whole else np.where(sound, above, 0.0)).astype(np.float32)
    light = _mean_around(excess)
    share = _share_of_whole(image.shape) if whole else _mean_around(sound.astype(np.float32))
    bright = light > threshold * sigma * np.maximum(share, 1 / BOX**2)
    if sigma == 0:
        bright = sound & (excess > 0)
    return _grown(bright)


def _mean_around(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the box around each pixel; beyond the edge there is nothing."""
    for axis in (0, 1):
        lines = np.moveaxis(image, axis, 0)
        total = lines.copy()
        for apart in range(1, BOX // 2 + 1):
            total[apart:] += lines[:-apart]
            total[:-apart] += lines[apart:]
        image = np.moveaxis(total, 0, axis)
    image /= BOX**2
    return image


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with what is so many steps up, down or aside of it."""
    for _ in range(GROWTH):
        grown = mask.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
        mask = grown
    return mask


def _share_of_whole(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return which part of the box around each pixel lies in the image."""
    sides = []
    for length in shape:
        place = np.arange(length)
        reach = np.minimum(place + BOX // 2, length - 1) - np.maximum(place - BOX // 2, 0) + 1
        sides.append(reach / BOX)
    return np.multiply.outer(sides[0], sides[1])
