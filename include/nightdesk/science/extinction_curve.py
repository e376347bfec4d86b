"""How much the air of an observatory dims the light at each wavelength."""

import io

import numpy as np

SOURCES = {
    "lapalma": "King 1985, RGO/La Palma Technical Note 31; dust-free, k_V = 0.102",
    "kpno": "Kitt Peak, as IRAF has it",
    "ctio": "Cerro Tololo: Stone and Baldwin 1983, Baldwin and Stone 1984; as IRAF has it",
    "mko": "Mauna Kea: Buton et al. 2013",
    "paranal": "Paranal: Patat et al. 2011",
    "apo": "Apache Point Observatory",
    "mtham": "Mount Hamilton, Lick Observatory",
}
"""The curves there are, and who measured them."""

V_BAND = 5500.0
"""Wavelength at which a night's k_V is compared with a curve's, in Angstrom."""

KING_K_V = 0.102
"""k_V of the dust-free curve of La Palma, by its author, in magnitudes per airmass."""

# Magnitudes per airmass at wavelengths in Angstrom, chosen so that a straight line between two of them is
# nowhere more than 0.005 off what its author measured every 50 Angstrom (1.7 % where the extinction is above 0.3).
_TABLE = """\
wavelength lapalma    kpno    ctio     mko paranal     apo   mtham
      3200  0.9908   1.017    1.05   0.856       -  0.9364   1.084
      3250  0.8303   0.881    0.91   0.722       -  0.8038   0.948
      3300  0.6967   0.787    0.82   0.588       -    0.72   0.858
      3350   0.649   0.731    0.75   0.551   0.646  0.6573   0.794
      3400  0.5934   0.683     0.7   0.514  0.5935  0.6196   0.745
      3450  0.5486   0.639    0.66   0.481  0.5665  0.5924   0.702
      3550   0.483   0.569  0.5848   0.424   0.515  0.5052  0.6312
      3650  0.4299   0.511  0.5397  0.3795   0.467  0.4615  0.5661
      3700  0.4061   0.486  0.5029   0.359   0.443  0.4368  0.5345
      3850   0.344   0.419  0.4261  0.3075   0.382  0.3855  0.4655
      3950  0.3092  0.3814  0.3998  0.2785   0.354  0.3418  0.4276
      4050  0.2787  0.3487  0.3757   0.253   0.323  0.3023  0.3913
      4150  0.2519  0.3198  0.3452  0.2305  0.2915  0.2747  0.3577
      4250  0.2283  0.2943  0.3117   0.211  0.2695  0.2515  0.3265
      4450  0.1896  0.2527  0.2727   0.178   0.225  0.2118  0.2821
      4700  0.1529  0.2115  0.2316   0.147  0.1875  0.1735  0.2437
      5000  0.1244    0.18    0.19   0.125  0.1565  0.1477   0.203
      5200   0.112  0.1634  0.1748   0.114   0.142  0.1386  0.1916
      5550  0.1004  0.1482  0.1406  0.1065   0.128  0.1253  0.1772
      5750  0.0987  0.1448  0.1537  0.1055   0.133   0.122  0.1695
      5850  0.0914  0.1364  0.1595  0.1005   0.123  0.1179  0.1657
      5950  0.0876   0.133  0.1549   0.098  0.1235  0.1104  0.1629
      6150  0.0808  0.1242  0.1401   0.088   0.106  0.0887  0.1508
      6550  0.0547  0.0959  0.0974  0.0625   0.082  0.0746  0.1149
      6563  0.0541  0.0951   0.096  0.0619  0.0815  0.0744   0.114
      6800  0.0428  0.0827  0.0709   0.052   0.064  0.0708  0.0979
      7300  0.0282  0.0657  0.0608   0.037  0.0542  0.0551  0.0878
      7750  0.0197  0.0555  0.0495  0.0295  0.0443  0.0521  0.0765
      8350  0.0146  0.0482  0.0502  0.0235  0.0347  0.0514  0.0772
      8700  0.0124  0.0304  0.0305   0.021  0.0299  0.0451  0.0575
      9800  0.0077  0.0523  0.0523   0.015  0.0232  0.0447  0.0793
     10000  0.0071  0.0411  0.0411   0.014   0.022  0.0447  0.0681
     10250  0.0064  0.0234  0.0234       -       -  0.0512  0.0504
     10400   0.006   0.024   0.024       -       -  0.0517   0.051
     10800  0.0052       -  0.0294       -       -  0.0452  0.0564
"""

_WAVELENGTHS, *_CURVES = np.genfromtxt(io.StringIO(_TABLE), skip_header=1, missing_values="-", unpack=True)
_BY_SITE = dict(zip(SOURCES, _CURVES, strict=True))


def extinction_at(wavelength: float, curve: str, k_v: float | None = None) -> float:
    r"""Return the extinction coefficient at a wavelength.

    Parameters
    ----------
    wavelength : float
        In Angstrom, within the curve.
    curve : str
        The observatory whose curve to take: a key of `SOURCES`.
    k_v : float, optional
        Extinction measured on the night in V, in magnitudes per airmass; dust dims all wavelengths alike, so the
        whole curve is raised by what it is above the curve's own.

    Returns
    -------
    float
        In magnitudes per airmass, 0 or more.

    Raises
    ------
    ValueError
        If there is no such curve, the wavelength is outside it, or `k_v` is so low that the coefficient would be
        negative.

    Notes
    -----
    :math:`k(\lambda) = k_{curve}(\lambda) + (k_V - k_{V,curve})`, by straight lines between the table's wavelengths.

    Examples
    --------
    >>> extinction_at(6550.0, "lapalma")
    0.0547
    >>> round(extinction_at(6550.0, "lapalma", k_v=0.13), 4)
    0.0827
    """
    if curve not in _BY_SITE:
        raise ValueError(f"There is no extinction curve {curve!r}; there are {', '.join(SOURCES)}.")
    values = _BY_SITE[curve]
    known = np.isfinite(values)
    first, last = _WAVELENGTHS[known][0], _WAVELENGTHS[known][-1]
    if not first <= wavelength <= last:
        raise ValueError(f"The curve {curve} runs from {first:g} to {last:g} Angstrom; {wavelength:g} is outside it.")
    k = float(np.interp(wavelength, _WAVELENGTHS[known], values[known]))
    if k_v is not None:
        k += k_v - curve_k_v(curve)
    if k < 0:
        raise ValueError(f"k_V = {k_v:g} is too low for the curve {curve}: the coefficient would be {k:.4f}.")
    return k


def curve_k_v(curve: str) -> float:
    """Return a curve's own extinction in V.

    Parameters
    ----------
    curve : str
        A key of `SOURCES`.

    Returns
    -------
    float
        In magnitudes per airmass.

    Examples
    --------
    >>> curve_k_v("lapalma"), round(curve_k_v("kpno"), 3)
    (0.102, 0.15)
    """
    return KING_K_V if curve == "lapalma" else extinction_at(V_BAND, curve)
