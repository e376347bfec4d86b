"""Where the stars of a frame are, to a small part of a pixel."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final, Self

import numpy as np
import sep
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.flag import EXCLUDING, SATURATED
from nightdesk.science.median import middle_values
from nightdesk.science.scatter import robust_scatter
from nightdesk.science.smoothing import smooth

Image = NDArray[np.floating]

DETECTION_SIGMA: Final = 5.0
FIRST_FWHM: Final = 3.0
"""Width in pixels of the first filter, before the width of the stars is known."""

FWHM_LIMITS: Final = (1.6, 15.0)
FWHM_PER_HALF_LIGHT_RADIUS: Final = 1.75
"""Between a Gaussian (2.0) and a Moffat profile of exponent 3 (1.59)."""

SHARPEST: Final = 0.28
"""Radius of half the light, in FWHM, below which a detection is no star but a pixel or a cosmic ray."""

BLURREST: Final = 3.0
SIGMA_PER_FWHM: Final = 1.0 / 2.3548
CENTROID_ERROR: Final = 0.7
"""Error of a centroid in FWHM, times the signal-to-noise ratio."""

ERROR_FLOOR: Final = 0.01
SATURATED_ERROR: Final = 0.3
BACKGROUND_BOX: Final = 64
MOST_STARS: Final = 500
LARGEST_SAMPLE: Final = 800
"""Rows and columns at the centre of a frame that tell the width of its stars, if they hold enough of them."""

ENOUGH_STARS: Final = 20
FEW_PIXELS: Final = 300_000
"""Of stars, for which there is room at first; only a nebula has more."""


@dataclass(frozen=True, eq=False)
class Stars:
    """Hold the stars of one frame, the brightest first.

    Attributes
    ----------
    x, y : ndarray, shape (n,)
        Centroids, 0-based, in pixels.
    flux : ndarray, shape (n,)
        Light within one FWHM of the centroid, in the image's unit.
    error : ndarray, shape (n,)
        Standard error of a coordinate, in pixels.
    width : ndarray, shape (n,)
        Full width at half maximum of each, in pixels.
    saturated : ndarray of bool, shape (n,)
        Whether a pixel of it is saturated.
    fwhm : float
        Typical full width at half maximum, in pixels; NaN without stars.
    sky : float
        Level of the sky, in the image's unit.
    """

    x: Image
    y: Image
    flux: Image
    error: Image
    width: Image
    saturated: NDArray[np.bool_]
    fwhm: float
    sky: float = 0.0

    def __len__(self) -> int:
        """Return how many stars there are."""
        return len(self.x)

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """Centroids as an array of shape (n, 2), (x, y)."""
        return np.column_stack([self.x, self.y]).astype(np.float64)

    def chosen(self, which: ArrayLike) -> Self:
        """Return some of the stars.

        Parameters
        ----------
        which : array_like of bool or int
            Mask or indices.

        Returns
        -------
        Stars
            Those stars.
        """
        index = np.asarray(which)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(
            **{name: value[index] if isinstance(value, np.ndarray) else value for name, value in values.items()}
        )


def replace_hot_pixels(signal: Image, sigma: ArrayLike) -> Image:
    r"""Replace pixels that stand out of their neighbours more than any star does.

    Parameters
    ----------
    signal : ndarray, shape (..., ny, nx)
        Signal above the sky, of one image or of several.
    sigma : array_like, shape (...)
        Noise of the sky in each, in the same unit.

    Returns
    -------
    ndarray, shape (..., ny, nx)
        A copy in which each such pixel has the median of its neighbourhood.

    Notes
    -----
    Hot is what exceeds :math:`3.5 m + 5 \sigma`, `m` being the median of the 3 by 3 pixels around it (at
    least 0). In a star of FWHM 1.6 pixels or more the central pixel does not. The second pass finds what
    stood beside another hot pixel. For finding stars only: no product is made from the result.

    Examples
    --------
    >>> image = np.zeros((5, 5))
    >>> image[2, 2] = 1000.0
    >>> float(replace_hot_pixels(image, sigma=10.0).max())
    0.0
    """
    clean = np.array(signal)
    limit = np.broadcast_to(5.0 * np.asarray(sigma, dtype=clean.dtype)[..., None, None], clean.shape)
    bright = np.nonzero(clean > limit)
    for _ in range(2):
        middle = middle_values(_neighbourhoods(clean, bright), None)[0].astype(clean.dtype)
        hot = clean[bright] > 3.5 * np.maximum(middle, 0.0) + limit[bright]
        if not hot.any():
            break
        clean[tuple(place[hot] for place in bright)] = middle[hot]
        still = clean[bright] > limit[bright]
        bright = tuple(place[still] for place in bright)
    return clean


def _neighbourhoods(image: Image, places: tuple[NDArray[np.intp], ...]) -> NDArray[np.float64]:
    """Return the 9 pixels around each of some pixels, shape (9, n); beyond the edge those at the edge again."""
    *which, rows, columns = places
    y, x = (
        [np.maximum(place - 1, 0), place, np.minimum(place + 1, length - 1)]
        for place, length in zip((rows, columns), image.shape[-2:], strict=True)
    )
    return np.stack([image[(*which, row, column)] for row in y for column in x], dtype=np.float64)


def squared_distances(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far some points are from others.

    Parameters
    ----------
    some : ndarray, shape (n, 2)
        Positions (x, y), in pixels.
    others : ndarray, shape (m, 2)
        The same.

    Returns
    -------
    ndarray, shape (n, m)
        In pixels squared.

    Examples
    --------
    >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 2.0]]))
    array([[25.,  4.]])
    """
    x, y = (np.subtract.outer(some[:, axis], others[:, axis]) for axis in (0, 1))
    return np.asarray(x * x + y * y)


def find_stars(image: ArrayLike, flags: ArrayLike | None = None) -> Stars:
    r"""Find the stars of a frame and measure their centroids.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Signal, in electrons (other units only spoil the errors).
    flags : array_like of uint16, shape (ny, nx), optional
        Excluded pixels are filled before anything is measured; saturated stars are marked.

    Returns
    -------
    Stars
        At most 500, the brightest first; none in an empty frame.

    Raises
    ------
    ValueError
        If the shapes differ or the image has no two dimensions.

    Notes
    -----
    Hot pixels are replaced; the image is smoothed by a Gaussian as wide as its own stars, which makes
    faint wide ones stand out, and searched at five times the noise of the *smoothed* image. The centroids
    are windowed ones on the unsmoothed image (Bertin & Arnouts 1996, ``XWIN_IMAGE``, as sep has them), with
    an error of about :math:`0.7\,\mathrm{FWHM} / (S/N)`.

    Examples
    --------
    >>> from nightdesk.science.synthetic import SyntheticImage
    >>> field = SyntheticImage((64, 64), seed=1).with_sky(100.0).with_read_noise(5.0)
    >>> stars = find_stars(field.with_star(30.3, 20.8, 50_000.0).exposure())
    >>> len(stars), stars.x.round(1), stars.y.round(1)
    (1, array([30.3]), array([20.8]))
    """
    given = np.asarray(image)
    pixels: Image = given.astype(given.dtype if given.dtype == np.float32 else np.float64, copy=False)
    if pixels.ndim != 2:
        raise ValueError(f"A frame has two dimensions (y, x); this one has {pixels.ndim}.")
    spoilt, saturated = _masks(pixels, flags)
    if spoilt.mean() > 0.9:
        return _no_stars()
    signal, sky, sigma = _above_sky(pixels, spoilt)
    if sigma <= 0:
        return _no_stars(sky)
    clean = replace_hot_pixels(signal, sigma)
    del signal  # as large as the frame
    fwhm = _typical_width(clean, spoilt)
    found = _detect(clean, spoilt, fwhm)
    if len(found) == 0:
        return _no_stars(sky)
    return _measure(clean, found, spoilt, saturated, fwhm=fwhm, sigma=sigma, sky=sky)


def _no_stars(sky: float = 0.0) -> Stars:
    none = np.zeros(0)
    return Stars(none, none, none, none, none, np.zeros(0, dtype=bool), float("nan"), sky)


def _masks(pixels: Image, flags: ArrayLike | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels are to be filled, and which are saturated."""
    spoilt = ~np.isfinite(pixels)
    if flags is None:
        return spoilt, np.zeros(pixels.shape, dtype=bool)
    bits = np.asarray(flags)
    if bits.shape != pixels.shape:
        raise ValueError(f"The image has the shape {pixels.shape}, its flags {bits.shape}.")
    return spoilt | ((bits & EXCLUDING) != 0), (bits & SATURATED) != 0


def _above_sky(pixels: Image, spoilt: NDArray[np.bool_]) -> tuple[Image, float, float]:
    """Return the signal above a smooth background (0 where spoilt), the background's level and its noise."""
    signal = np.array(pixels, dtype=np.float32, order="C")  # half the memory to go through
    signal[spoilt] = 0.0
    box = max(min(BACKGROUND_BOX, *pixels.shape), 8)
    background = sep.Background(signal, mask=spoilt, bw=box, bh=box, fw=3, fh=3)
    background.subfrom(signal)
    signal[spoilt] = 0.0
    return signal, float(background.globalback), float(background.globalrms)


def _sample(image: Image, spoilt: NDArray[np.bool_]) -> Image:
    step = max(1, int(np.sqrt(image.size / 100_000)))
    return np.asarray(image[::step, ::step][~spoilt[::step, ::step]])


def _detect(clean: Image, spoilt: NDArray[np.bool_], fwhm: float) -> NDArray[np.void]:
    """Return sep's table of what stands out of the image smoothed by `fwhm`."""
    smoothed = smooth(clean, fwhm * SIGMA_PER_FWHM)
    sample = _sample(smoothed, spoilt)
    noise = robust_scatter(sample)
    noise = robust_scatter(sample[np.abs(sample - np.median(sample)) < 3.0 * noise]) if noise > 0 else noise
    if noise <= 0:
        return np.zeros(0, dtype=[("x", float)])
    threshold = DETECTION_SIGMA * noise
    ways = [(1.0, FEW_PIXELS), *((raised, max(FEW_PIXELS, clean.size // 2)) for raised in (1.0, 4.0, 16.0, 64.0))]
    for raised, room in ways:  # of a nebula of many thousand pieces the bright ones are enough
        sep.set_extract_pixstack(room)
        try:
            table: NDArray[np.void] = sep.extract(
                smoothed,
                raised * threshold,
                minarea=3,
                deblend_nthresh=16,
                filter_kernel=None,
                mask=spoilt,
            )
            return table
        except Exception as error:  # sep raises nothing more special
            if "limit" not in str(error) and "full" not in str(error):
                raise
    return np.zeros(0, dtype=[("x", float)])


def _typical_width(clean: Image, spoilt: NDArray[np.bool_]) -> float:
    """Return the full width at half maximum of the brighter stars, in pixels; of those at the centre if they do."""
    middle = tuple(slice(max(0, (n - LARGEST_SAMPLE) // 2), (n + LARGEST_SAMPLE) // 2 + 1) for n in clean.shape)
    for part in [middle, (slice(None), slice(None))][: 1 if max(clean.shape) <= LARGEST_SAMPLE else 2]:
        image = np.ascontiguousarray(clean[part])
        found = _detect(image, np.ascontiguousarray(spoilt[part]), FIRST_FWHM)
        bright = found[np.argsort(found["flux"])[::-1][:100]] if len(found) else found
        radii = _half_light_radii(image, bright["x"], bright["y"], 8.0) if len(found) else np.zeros(0)
        radii = radii[np.isfinite(radii) & (radii > 0.6)]
        if radii.size >= ENOUGH_STARS:
            break
    if radii.size == 0:
        return FIRST_FWHM
    return float(np.clip(FWHM_PER_HALF_LIGHT_RADIUS * np.median(radii), *FWHM_LIMITS))


def _half_light_radii(clean: Image, x: Image, y: Image, reach: float) -> Image:
    radii, flags = sep.flux_radius(clean, x, y, np.full(len(x), reach), 0.5, subpix=5)
    return np.where(np.asarray(flags) & sep.APER_ALLMASKED, np.nan, radii)


def _measure(
    clean: Image,
    found: NDArray[np.void],
    spoilt: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    *,
    fwhm: float,
    sigma: float,
    sky: float,
) -> Stars:
    found = found[np.argsort(found["flux"])[::-1][: 2 * MOST_STARS]]
    x, y, _ = sep.winpos(clean, found["x"], found["y"], np.full(len(found), fwhm * SIGMA_PER_FWHM))
    aperture = fwhm
    flux, _, _ = sep.sum_circle(clean, x, y, aperture)
    radii = _half_light_radii(clean, x, y, 2.5 * fwhm)
    noise = np.sqrt(np.maximum(flux, 0.0) + np.pi * aperture**2 * sigma**2)
    spoilt_share = sep.sum_circle(spoilt.astype(np.float32), x, y, aperture)[0] / (np.pi * aperture**2)
    is_saturated = sep.sum_circle(saturated.astype(np.float32), x, y, aperture)[0] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        error = CENTROID_ERROR * fwhm * noise / flux
    error = np.hypot(np.hypot(error, ERROR_FLOOR), np.where(is_saturated, SATURATED_ERROR, 0.0))
    good = _is_star(clean.shape, found, x, y, flux, radii, fwhm) & (spoilt_share < 0.2)
    kept = np.flatnonzero(good)[np.argsort(flux[good], kind="stable")[::-1]]
    width = FWHM_PER_HALF_LIGHT_RADIUS * radii
    stars = Stars(x, y, flux, error, width, is_saturated, fwhm, sky).chosen(kept)
    stars = _without_doubles(stars, fwhm)
    return stars.chosen(np.arange(min(len(stars), MOST_STARS)))


def _is_star(
    shape: tuple[int, ...], found: NDArray[np.void], x: Image, y: Image, flux: Image, radii: Image, fwhm: float
) -> NDArray[np.bool_]:
    """Tell stars from pixels, cosmic rays, trails and what the edge cuts."""
    ny, nx = shape
    margin = max(fwhm, 2.0)
    inside = (x > margin) & (y > margin) & (x < nx - 1 - margin) & (y < ny - 1 - margin)
    settled = np.hypot(x - found["x"], y - found["y"]) < fwhm
    wide = (radii > SHARPEST * fwhm) & (radii < BLURREST * fwhm)
    elongation = found["a"] / np.maximum(found["b"], 0.1)
    round_enough = elongation < 2.0 * np.median(elongation)
    return np.asarray(inside & settled & wide & round_enough & (flux > 0))


def _without_doubles(stars: Stars, fwhm: float) -> Stars:
    """Drop the fainter of two detections whose centroids met."""
    if len(stars) < 2:
        return stars
    fainter, _ = np.nonzero(np.tril(squared_distances(stars.positions, stars.positions) <= (0.5 * fwhm) ** 2, -1))
    return stars.chosen(np.setdiff1d(np.arange(len(stars)), fainter))
