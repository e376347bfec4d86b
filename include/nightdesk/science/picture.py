"""A picture of an image for a person to look at."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.flag import NO_DATA

SOFTENING = 0.1
"""Part of the range below which the asinh stretch is linear."""


def render(image: ArrayLike, flags: ArrayLike | None = None) -> NDArray[np.uint8]:
    """Draw an image in grey, with the contrast of ZScale and an asinh stretch.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Signal, in any unit; what is not a number is drawn black.
    flags : array_like of uint16, shape (ny, nx), optional
        NO_DATA pixels are drawn black.

    Returns
    -------
    ndarray of uint8, shape (ny, nx)
        Grey values; the first row is the top of the picture, the last row of the image. An image
        without any contrast is drawn in an even grey.

    Raises
    ------
    ValueError
        If the image is not two-dimensional or the flags have another shape.

    Examples
    --------
    >>> render(np.array([[0.0, 0.0], [100.0, 100.0]]))
    array([[255, 255],
           [  1,   1]], dtype=uint8)
    """
    signal = np.asarray(image, dtype=np.float64)
    if signal.ndim != 2:
        raise ValueError(f"A picture is drawn of two dimensions (y, x), not of {signal.ndim}.")
    seen = np.isfinite(signal)
    if flags is not None:
        bits = np.asarray(flags)
        if bits.shape != signal.shape:
            raise ValueError(f"The image has the shape {signal.shape}, its flags {bits.shape}.")
        seen &= (bits & NO_DATA) == 0
    grey = np.zeros(signal.shape, dtype=np.uint8)
    if seen.any():
        grey[seen] = _stretch(signal[seen])
    return grey[::-1]


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return grey values from 1 to 255, so that black is left for missing pixels."""
    low, high = _limits(values)
    if not high > low:
        return np.full(values.shape, 128, dtype=np.uint8)
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    bright = np.arcsinh(share / SOFTENING) / np.arcsinh(1.0 / SOFTENING)
    return np.asarray(np.rint(1.0 + 254.0 * bright), dtype=np.uint8)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    from astropy.visualization import ZScaleInterval  # slow to import, and needed for pictures alone

    low, high = ZScaleInterval().get_limits(values)
    if high > low:
        return float(low), float(high)
    return float(values.min()), float(values.max())
