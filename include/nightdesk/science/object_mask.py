"""Where stars and galaxies are."""

import numpy as np
from numpy.typing import NDArray

BOX = 5
GROWTH = 3


def find_objects(
    image: NDArray[np.float64],
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
    from scipy import ndimage  # half a second that most of what imports this module does without

    whole = bool(sound.all())
    excess = (image - level if whole else np.where(sound, image - level, 0.0)).astype(np.float32)
    light = ndimage.uniform_filter(excess, BOX, mode="constant")
    share = (
        _share_of_whole(image.shape)
        if whole
        else ndimage.uniform_filter(sound.astype(np.float32), BOX, mode="constant")
    )
    bright = light > threshold * sigma * np.maximum(share, 1 / BOX**2)
    if sigma == 0:
        bright = sound & (excess > 0)
    return np.asarray(ndimage.binary_dilation(bright, iterations=GROWTH), dtype=bool)


def _share_of_whole(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return which part of the box around each pixel lies in the image."""
    sides = []
    for length in shape:
        place = np.arange(length)
        reach = np.minimum(place + BOX // 2, length - 1) - np.maximum(place - BOX // 2, 0) + 1
        sides.append(reach / BOX)
    return np.multiply.outer(sides[0], sides[1])
