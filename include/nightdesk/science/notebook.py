"""The arithmetic of the notebook from which Nightdesk grew, bit for bit.

Nothing here is to be improved: the profile ``notebook`` promises the notebook's own numbers, with their
faults (a variance that is taken before the flat and may be negative, edges that wrap around). The
standard profile is in the other modules.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.median import middle_values

Image = NDArray[np.float64]


def calibrate(raw: ArrayLike, bias: ArrayLike, flat: ArrayLike, gain: float) -> tuple[Image, Image]:
    """Subtract the bias and divide by the flat as the notebook did.

    Parameters
    ----------
    raw : array_like, shape (ny, nx)
        The exposure, in ADU.
    bias : array_like, shape (ny, nx)
        Master bias, in ADU, in the type it has on disk.
    flat : array_like, shape (ny, nx)
        Master flat, dimensionless, in the type it has on disk; zeros are not guarded against.
    gain : float
        Electrons per ADU.

    Returns
    -------
    data, variance : ndarray of float64, shape (ny, nx)
        Signal in electrons, and the electrons before the flat, which the notebook took as variance.

    Examples
    --------
    >>> calibrate([[1100]], [[1000.0]], [[0.5]], 2.0)
    (array([[400.]]), array([[200.]]))
    """
    data = np.asarray(raw).astype("f8")
    data = data - np.asarray(bias)
    data = data * gain
    variance = np.copy(data)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        data = data / np.asarray(flat)
    return data, variance


def correct(image: ArrayLike, airmass: float, extinction_coefficient: float) -> Image:
    """Correct for atmospheric extinction as the notebook did.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Signal, in electrons.
    airmass : float
        Airmass of the exposure.
    extinction_coefficient : float
        In magnitudes per airmass.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        Signal above the atmosphere, in electrons. The notebook never scaled the variance.

    Examples
    --------
    >>> correct(20927, 1.72, 0.0547).item()
    22821.310206385726
    """
    magnitudes = float(extinction_coefficient) * float(airmass)
    corrected: Image = np.asarray(image, dtype=np.float64) * (10.0 ** (magnitudes / 2.5))
    return corrected


def roll(image: ArrayLike, xdiff: float, ydiff: float) -> Image:
    """Shift an image as the notebook did: around the edges, decimals cut off.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Signal or variance.
    xdiff, ydiff : float
        Position in the reference frame minus position in this frame, in pixels.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        The image rolled along x, then along y.

    Examples
    --------
    >>> roll([[1.0, 2.0, 3.0]], -1.9, 0.0)
    array([[2., 3., 1.]])
    """
    shifted = np.roll(np.asarray(image, dtype=np.float64), int(xdiff), axis=1)
    return np.roll(shifted, int(ydiff), axis=0)


def median(cube: Image) -> Image:
    """Return what ``np.median`` returns along the first axis, to the last bit, in less time.

    Parameters
    ----------
    cube : ndarray, shape (n, ny, nx)
        One value per frame, of any kind.

    Returns
    -------
    ndarray, shape (ny, nx)
        NaN wherever a value is NaN.

    Examples
    --------
    >>> median(np.array([[[1.0, np.nan]], [[5.0, 0.0]], [[2.0, 0.0]]]))
    array([[ 2., nan]])
    """
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(np.sum(cube, axis=0))
        if not finite.all():  # numpy knows what a median of such is
            found = np.empty(finite.shape)
            odd = ~finite
            found[odd] = np.median(np.ascontiguousarray(cube[:, odd].T), 1)
            if finite.any():
                found[finite] = median(np.ascontiguousarray(cube[:, finite]))
            return found
        lower, upper = middle_values(cube, None)
        return lower if len(cube) % 2 else (lower + upper) / 2.0
