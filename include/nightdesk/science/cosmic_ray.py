"""Cosmic rays in a single frame, found by their sharp edges."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.flag import COSMIC_RAY, EXCLUDING, SATURATED
from nightdesk.science.planes import Planes


def flag_cosmic_rays(
    planes: Planes,
    *,
    read_noise: float,
    sigma: float = 4.5,
    neighbour_fraction: float = 0.3,
    object_limit: float = 5.0,
) -> Planes:
    """Flag the pixels of a frame that were hit by a cosmic ray.

    Parameters
    ----------
    planes : Planes
        The frame, in electrons, with its sky.
    read_noise : float
        In electrons, 0 or more.
    sigma : float
        How far above the noise the edge of a hit must be, in standard deviations.
    neighbour_fraction : float
        Part of `sigma` that is enough for a neighbour of a hit.
    object_limit : float
        How much sharper than any star a hit must be; higher spares the cores of undersampled stars.

    Returns
    -------
    Planes
        The same values, with COSMIC_RAY added to the flags.

    Raises
    ------
    ValueError
        If astroscrappy is not installed.

    Notes
    -----
    L.A.Cosmic (van Dokkum 2001, PASP 113, 1420) as astroscrappy does it, without the cleaned image: no
    pixel value is invented. Most hits are found by comparing frames; this is for single frames and pairs.
    """
    return replace(planes, flags=planes.flags | _hits(planes, read_noise, sigma, neighbour_fraction, object_limit))


def _hits(
    planes: Planes, read_noise: float, sigma: float, neighbour_fraction: float, object_limit: float
) -> NDArray[np.uint16]:
    try:
        from astroscrappy import detect_cosmics  # an option: only who asks for it needs it
    except ImportError as error:
        raise ValueError(
            "Finding cosmic rays in single frames needs astroscrappy: install it, or switch the option off."
        ) from error
    known = (planes.flags & (EXCLUDING | SATURATED)) != 0
    found, _ = detect_cosmics(
        planes.data.astype(np.float32),
        inmask=known,
        invar=np.maximum(planes.variance, 1e-6).astype(np.float32),
        gain=1.0,
        readnoise=read_noise,
        satlevel=np.inf,
        sigclip=sigma,
        sigfrac=neighbour_fraction,
        objlim=object_limit,
        cleantype="medmask",
    )
    return np.where(found, np.uint16(COSMIC_RAY), np.uint16(0))
