"""Atmospheric extinction: from the ground to the flux above the atmosphere."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def extinction_factor(airmass: float, extinction_coefficient: float) -> float:
    r"""Return the factor by which the atmosphere has dimmed the light.

    Parameters
    ----------
    airmass : float
        Effective airmass of the exposure, at least 1.
    extinction_coefficient : float
        First-order extinction in this filter, in magnitudes per airmass, at least 0.

    Returns
    -------
    float
        Flux above the atmosphere over flux at the ground, at least 1.

    Raises
    ------
    ValueError
        If the airmass is below 1 or the coefficient is negative, or either is not a number.

    Notes
    -----
    :math:`10^{(k X) / 2.5}`, evaluated in this order: :math:`10^{0.4 k X}` differs in the last bit for
    one airmass in fifty.

    Examples
    --------
    >>> 20927 * extinction_factor(1.72, 0.0547)
    22821.310206385726
    """
    if not (np.isfinite(airmass) and airmass >= 1):
        raise ValueError(f"The airmass must be 1 or more, but it is {airmass}.")
    if not (np.isfinite(extinction_coefficient) and extinction_coefficient >= 0):
        raise ValueError(
            f"The extinction coefficient must be 0 mag/airmass or more, but it is {extinction_coefficient}."
        )
    return float(10.0 ** ((float(extinction_coefficient) * float(airmass)) / 2.5))


def correct_extinction(
    image: ArrayLike,
    variance: ArrayLike,
    *,
    airmass: float,
    extinction_coefficient: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Scale an image to the flux it would have above the atmosphere.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Signal, in electrons.
    variance : array_like, shape (ny, nx)
        Variance of `image`, in electrons squared.
    airmass : float
        Effective airmass of the exposure, at least 1.
    extinction_coefficient : float
        First-order extinction in this filter, in magnitudes per airmass.

    Returns
    -------
    corrected, corrected_variance : ndarray, shape (ny, nx)
        Signal and variance at zero airmass, in electrons and electrons squared.

    Raises
    ------
    ValueError
        If the shapes differ, the airmass is below 1 or the coefficient is negative.

    Notes
    -----
    :math:`F_0 = F \, 10^{0.4 k X}`. The factor is common to all pixels and carries no pixel noise of
    its own, so the variance scales by its square. The uncertainty of `k` moves all pixels together: it
    belongs in the header, not in the variance.

    Examples
    --------
    >>> image = np.array([[20927.0]])
    >>> corrected, _ = correct_extinction(image, image, airmass=1.72, extinction_coefficient=0.0547)
    >>> corrected.round(2)
    array([[22821.31]])
    """
    signal = np.asarray(image, dtype=np.float64)
    noise = np.asarray(variance, dtype=np.float64)
    if signal.shape != noise.shape:
        raise ValueError(f"The image has the shape {signal.shape}, its variance {noise.shape}.")
    factor = extinction_factor(airmass, extinction_coefficient)
    return signal * factor, noise * factor**2
