"""Instrument signature removal: bias, dark and flat, with the variance and the flags they leave."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science import compiled
from nightdesk.science.flag import BAD_PIXEL, NO_DATA, SATURATED, UNILLUMINATED
from nightdesk.science.planes import Planes

Image = NDArray[np.float64]


def remove_signature(
    raw: ArrayLike,
    *,
    gain: float,
    read_noise: ArrayLike,
    bias: ArrayLike | None = None,
    bias_variance: ArrayLike | None = None,
    dark: ArrayLike | None = None,
    dark_variance: ArrayLike | None = None,
    dark_contains_bias: bool = False,
    dark_scale: float = 1.0,
    bias_in_dark: float = 0.0,
    flat: ArrayLike | None = None,
    flat_variance: ArrayLike | None = None,
    saturation: ArrayLike | None = None,
    bad_pixels: ArrayLike | None = None,
    flat_limit: float = 0.2,
) -> Planes:
    r"""Turn a raw exposure into electrons that the sky sent, with their variance and flags.

    Parameters
    ----------
    raw : array_like, shape (ny, nx)
        The exposure, in ADU.
    gain : float
        Electrons per ADU (EGAIN), above 0.
    read_noise : float or array_like, shape (ny, nx)
        In electrons, 0 or more; a plane where amplifiers differ.
    bias : array_like, shape (ny, nx), optional
        Master bias, in ADU. It may be missing only where the dark contains the bias.
    bias_variance : array_like, shape (ny, nx), optional
        Variance of the master bias, in ADU squared. Without it the master counts as noiseless.
    dark : array_like, shape (ny, nx), optional
        Master dark, in ADU.
    dark_variance : array_like, shape (ny, nx), optional
        Variance of the master dark, in ADU squared. Without it the master counts as noiseless.
    dark_contains_bias : bool
        The dark still has its bias in it: then no other bias is subtracted.
    dark_scale : float
        Exposure time of the raw over that of the dark, 0 or more; 1 if the dark contains the bias.
    bias_in_dark : float
        How many times this very master bias was taken off the dark, 0 or more; 0 if it was another one.
    flat : array_like, shape (ny, nx), optional
        Master flat, dimensionless, normalised to about 1.
    flat_variance : array_like, shape (ny, nx), optional
        Variance of the master flat, dimensionless. Without it the master counts as noiseless.
    saturation : float or array_like, shape (ny, nx), optional
        Raw level from which a pixel is saturated, in ADU.
    bad_pixels : array_like, shape (ny, nx), optional
        Not zero where the detector is known to be bad.
    flat_limit : float
        Pixels whose flat is below this fraction are flagged as unilluminated and not divided; above 0.

    Returns
    -------
    Planes
        Signal in electrons, its variance, the part of it that the masters caused, and flags.

    Raises
    ------
    ValueError
        If shapes differ, a bias is missing, or the gain, the read noise, the dark's scale, its bias or the
        flat's limit is out of range.

    Notes
    -----
    With bias `B`, gain `g`, dark `D` (electrons), read noise `R` and flat `F`:

    .. math::

        S = (raw - B) g - D, \qquad S' = S / F

        V = (\max(S + D, 0) + R^2) / F^2 + K

        K = V_O / F^2 + (S / F^2)^2 V_F

    `K` is the shared part, with the variance :math:`V_O` of bias and dark by :func:`offset_variance`. The shot
    noise is that of the pixel's own count: at 30 electrons the mean of :math:`(S - truth)^2 / V` is 1.045, at 200
    and more it is within 1.5 % of 1.

    Where the dark contains the bias, its thermal electrons can be told from the bias only if a bias is
    given too; it then serves for the shot noise alone. Without one the dark's shot noise is left out.

    A raw value that is not a number is NO_DATA with value 0; one whose bias or dark is not a number is
    NO_DATA and BAD_PIXEL; one whose flat is not a number is a BAD_PIXEL and not divided. Nothing that is
    returned is ever NaN, and no variance is negative.

    Examples
    --------
    >>> raw, bias, flat = np.array([[1100.0]]), np.array([[1000.0]]), np.array([[0.5]])
    >>> planes = remove_signature(raw, gain=2.0, read_noise=5.0, bias=bias, flat=flat)
    >>> planes.data, planes.variance
    (array([[400.]]), array([[900.]]))
    """
    _check_numbers(gain, read_noise, dark_scale, bias_in_dark, flat_limit)
    if bias is None and not (dark is not None and dark_contains_bias):
        raise ValueError("There is no bias: give a master bias, or a dark that contains the bias.")
    if dark is not None and dark_contains_bias and dark_scale != 1.0:
        raise ValueError(
            "A dark that contains the bias cannot be scaled to another exposure time: "
            "use a dark of the same exposure time, or one without bias."
        )
    counts = _image(raw, "raw")
    masters = prepare_masters(
        (counts.shape[0], counts.shape[1]),
        gain=gain,
        bias=bias,
        bias_variance=bias_variance,
        dark=dark,
        dark_variance=dark_variance,
        dark_contains_bias=dark_contains_bias,
        dark_scale=dark_scale,
        bias_in_dark=bias_in_dark,
        flat=flat,
        flat_variance=flat_variance,
        bad_pixels=bad_pixels,
        flat_limit=flat_limit,
    )
    return apply_masters(counts, masters, gain=gain, read_noise=read_noise, saturation=saturation)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Hold what the masters do to every frame of one gain and one dark scale.

    Attributes
    ----------
    pedestal : ndarray, shape (ny, nx)
        What to subtract, in ADU.
    pedestal_variance : ndarray, shape (ny, nx)
        Its variance after the flat, in electrons squared.
    thermal : ndarray, shape (ny, nx)
        Thermal electrons in the raw.
    sensitivity : ndarray, shape (ny, nx)
        The flat; 1 where it is useless, which is flagged.
    inverse_square : ndarray, shape (ny, nx)
        One over the square of `sensitivity`.
    sensitivity_variance : ndarray, shape (ny, nx)
        Its variance, over its fourth power.
    flags : ndarray of uint16, shape (ny, nx)
        Of the detector and the masters.
    """

    pedestal: Image
    pedestal_variance: Image
    thermal: Image
    sensitivity: Image
    inverse_square: Image
    sensitivity_variance: Image
    flags: NDArray[np.uint16]

    def rows(self, first: int, last: int) -> tuple[NDArray[np.generic], ...]:
        """Return some rows of all planes."""
        return tuple(getattr(self, field.name)[first:last] for field in fields(self))


def prepare_masters(
    shape: tuple[int, int],
    *,
    gain: float,
    bias: ArrayLike | None = None,
    bias_variance: ArrayLike | None = None,
    dark: ArrayLike | None = None,
    dark_variance: ArrayLike | None = None,
    dark_contains_bias: bool = False,
    dark_scale: float = 1.0,
    bias_in_dark: float = 0.0,
    flat: ArrayLike | None = None,
    flat_variance: ArrayLike | None = None,
    bad_pixels: ArrayLike | None = None,
    flat_limit: float = 0.2,
) -> Prepared:
    """Do the part of :func:`remove_signature` that is the same for frames of one gain and one dark scale.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the planes.
    gain : float
        Electrons per ADU (EGAIN).
    bias, bias_variance, dark, dark_variance : array_like, optional
        As there.
    dark_contains_bias : bool
        As there.
    dark_scale, bias_in_dark : float
        As there.
    flat, flat_variance, bad_pixels : array_like, optional
        As there.
    flat_limit : float
        As there.

    Returns
    -------
    Prepared
        Planes for :func:`apply_masters`.
    """
    flags = np.zeros(shape, dtype=np.uint16)
    pedestal, pedestal_variance, thermal = _offsets(
        shape, gain, bias, bias_variance, dark, dark_variance, dark_contains_bias, dark_scale, bias_in_dark
    )
    flags[~np.isfinite(pedestal)] |= NO_DATA | BAD_PIXEL
    if bad_pixels is not None:
        flags[_plane(bad_pixels, "bad-pixel mask", shape) != 0] |= BAD_PIXEL
    sensitivity, sensitivity_variance = _sensitivity(flat, flat_variance, flat_limit, shape, flags)
    inverse_square = 1.0 / sensitivity**2
    return Prepared(
        pedestal,
        pedestal_variance * inverse_square,
        thermal,
        sensitivity,
        inverse_square,
        sensitivity_variance * inverse_square**2,
        flags,
    )


def apply_masters(
    counts: Image, masters: Prepared, *, gain: float, read_noise: ArrayLike, saturation: ArrayLike | None = None
) -> Planes:
    """Do the rest of :func:`remove_signature` for one frame.

    Parameters
    ----------
    counts : ndarray, shape (ny, nx)
        The exposure, in ADU.
    masters : Prepared
        The masters.
    gain : float
        Electrons per ADU, that of `masters`.
    read_noise : float or array_like, shape (ny, nx)
        In electrons.
    saturation : float or array_like, shape (ny, nx), optional
        In ADU.

    Returns
    -------
    Planes
        Signal, variances and flags.
    """
    flags = masters.flags.copy()
    single_figures = np.ndim(read_noise) == 0 and (saturation is None or np.ndim(saturation) == 0)
    if compiled.available() and single_figures and np.isfinite(counts).all():
        data, variance, shared = (np.empty(counts.shape) for _ in range(3))
        compiled.calibrate(
            np.ascontiguousarray(counts),
            masters.rows(0, len(counts)),
            compiled.Camera.of(
                gain, float(np.asarray(read_noise)), None if saturation is None else float(np.asarray(saturation))
            ),
            (data, variance, shared, flags),
        )
        return Planes(data, variance, shared, flags)
    flags[~np.isfinite(counts)] |= NO_DATA
    if saturation is not None:
        flags[counts >= np.asarray(saturation, dtype=np.float64)] |= SATURATED
    present = (flags & NO_DATA) == 0
    signal = np.where(present, counts, 0.0) - np.where(present, masters.pedestal, 0.0)
    signal *= gain
    shot = np.maximum(signal + masters.thermal, 0.0)
    independent = (shot + np.square(np.asarray(read_noise, dtype=np.float64))) * masters.inverse_square
    shared = masters.pedestal_variance + signal**2 * masters.sensitivity_variance
    shared = np.where(present, shared, 0.0)
    return Planes(signal / masters.sensitivity, np.where(present, independent, 0.0) + shared, shared, flags)


def offset_variance(bias_variance: Image, dark_variance: Image, *, scale: float, bias_in_dark: float) -> Image:
    r"""Return the variance of a bias and a scaled dark that are subtracted together.

    Parameters
    ----------
    bias_variance : ndarray, shape (ny, nx)
        Variance of the master bias, in ADU squared.
    dark_variance : ndarray, shape (ny, nx)
        Variance of the master dark, that of the bias taken off it included, in ADU squared.
    scale : float
        By what the dark is multiplied, 0 or more.
    bias_in_dark : float
        How many times this very bias was taken off the dark, 0 or more; 0 if it was another one.

    Returns
    -------
    ndarray, shape (ny, nx)
        Variance of the sum, in ADU squared, 0 or more.

    Notes
    -----
    With a dark :math:`D = \bar D - a B` the sum is :math:`B + s D = (1 - s a) B + s \bar D`: where raw and darks
    were exposed equally long the bias drops out, its error too. With :math:`V_D = V_{\bar D} + a^2 V_B`

    .. math::

        V_O = (1 - s a)^2 V_B + s^2 V_{\bar D} = V_B (1 - 2 s a) + s^2 V_D

    Examples
    --------
    >>> bias, dark = np.array([[4.0]]), np.array([[5.0]])
    >>> [offset_variance(bias, dark, scale=1.0, bias_in_dark=share).item() for share in (0.0, 1.0)]
    [9.0, 1.0]
    """
    variance = bias_variance * (1.0 - 2.0 * scale * bias_in_dark) + dark_variance * scale**2
    return np.maximum(variance, 0.0)


def _offsets(
    shape: tuple[int, ...],
    gain: float,
    bias: ArrayLike | None,
    bias_variance: ArrayLike | None,
    dark: ArrayLike | None,
    dark_variance: ArrayLike | None,
    dark_contains_bias: bool,
    dark_scale: float,
    bias_in_dark: float,
) -> tuple[Image, Image, Image]:
    """Return what to subtract (ADU), its variance (e-^2), and the thermal electrons in the raw."""
    zero = np.zeros(shape)
    level = zero if bias is None else _image(bias, "bias", shape)
    level_variance = _variance(bias_variance, "bias variance", shape)
    if dark is None:
        return level, level_variance * gain**2, zero
    current = _image(dark, "dark", shape)
    current_variance = _variance(dark_variance, "dark variance", shape)
    if dark_contains_bias:
        thermal = zero if bias is None else _finite(current) - _finite(level)
        return current, current_variance * gain**2, np.maximum(thermal, 0.0) * gain
    thermal = np.maximum(_finite(current), 0.0) * (dark_scale * gain)
    variance = offset_variance(level_variance, current_variance, scale=dark_scale, bias_in_dark=bias_in_dark) * gain**2
    return np.where(np.isfinite(current), level + _finite(current) * dark_scale, np.nan), variance, thermal


def _sensitivity(
    flat: ArrayLike | None,
    flat_variance: ArrayLike | None,
    flat_limit: float,
    shape: tuple[int, ...],
    flags: NDArray[np.uint16],
) -> tuple[Image, Image]:
    """Return the flat to divide by (1 where it is useless, which is flagged) and its variance."""
    if flat is None:
        return np.ones(shape), np.zeros(shape)
    sensitivity = _image(flat, "flat", shape)
    variance = _variance(flat_variance, "flat variance", shape)
    unknown = ~np.isfinite(sensitivity)
    dim = ~unknown & (sensitivity < flat_limit)
    flags[unknown] |= BAD_PIXEL
    flags[dim] |= UNILLUMINATED
    useless = unknown | dim
    return np.where(useless, 1.0, sensitivity), np.where(useless, 0.0, variance)


def _finite(image: Image) -> Image:
    return np.where(np.isfinite(image), image, 0.0)


def _check_numbers(
    gain: float, read_noise: ArrayLike, dark_scale: float, bias_in_dark: float, flat_limit: float
) -> None:
    if not (np.isfinite(gain) and gain > 0):
        raise ValueError(f"The gain must be above 0 e-/ADU, but it is {gain}.")
    noise = np.asarray(read_noise, dtype=np.float64)
    if not (np.isfinite(noise).all() and (noise >= 0).all()):
        raise ValueError(f"The read noise must be 0 e- or more, but it is {noise}.")
    if not (np.isfinite(dark_scale) and dark_scale >= 0):
        raise ValueError(f"The scale of the dark must be 0 or more, but it is {dark_scale}.")
    if not (np.isfinite(bias_in_dark) and bias_in_dark >= 0):
        raise ValueError(f"The bias in the dark must be counted 0 times or more, but it is {bias_in_dark}.")
    if not 0 < flat_limit <= 1:
        raise ValueError(f"The limit of the flat must be above 0 and at most 1, but it is {flat_limit}.")


def _plane(values: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.generic]:
    plane = np.asarray(values)
    if plane.ndim != 2:
        raise ValueError(f"The {name} must have two dimensions (y, x), but it has {plane.ndim}.")
    if shape is not None and plane.shape != shape:
        raise ValueError(f"The {name} has the shape {plane.shape}, but the raw has {shape} (ny, nx).")
    return plane


def _image(values: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> Image:
    return _plane(values, name, shape).astype(np.float64)


def _variance(values: ArrayLike | None, name: str, shape: tuple[int, ...]) -> Image:
    """Return a master's variance; none, or one that is no number or negative, counts as noiseless."""
    if values is None:
        return np.zeros(shape)
    variance = _image(values, name, shape)
    return np.where(np.isfinite(variance), np.maximum(variance, 0.0), 0.0)
