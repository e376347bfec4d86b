"""The airmass at an altitude."""

import numpy as np


def airmass_at(altitude: float) -> float:
    r"""Return how much air the light of a star has passed, compared with the zenith.

    Parameters
    ----------
    altitude : float
        True altitude (without refraction) above the horizon, in degrees, from 0 to 90.

    Returns
    -------
    float
        Relative airmass, at least 1; 31.7 at the horizon.

    Raises
    ------
    ValueError
        If the altitude is not from 0 to 90.

    Notes
    -----
    Young (1994, Applied Optics 33, 1108), for the true zenith distance z:

    .. math::

        X = \frac{1.002432 \cos^2 z + 0.148386 \cos z + 0.0096467}
                 {\cos^3 z + 0.149864 \cos^2 z + 0.0102963 \cos z + 0.000303978}

    Examples
    --------
    >>> round(airmass_at(30.0), 4), airmass_at(90.0)
    (1.9917, 1.0)
    """
    if not 0 <= altitude <= 90:
        raise ValueError(f"The altitude must be from 0 to 90 degrees, but it is {altitude}.")
    c = float(np.sin(np.radians(altitude)))
    numerator = 1.002432 * c**2 + 0.148386 * c + 0.0096467
    return round(max(numerator / (c**3 + 0.149864 * c**2 + 0.0102963 * c + 0.000303978), 1.0), 6)
