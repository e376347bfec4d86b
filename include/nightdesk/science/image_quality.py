"""How good an image is: the width and roundness of its stars, its sky, its noise, how deep it goes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nightdesk.science.flag import EXCLUDING
from nightdesk.science.sky import estimate_sky
from nightdesk.science.star import Stars, find_stars

DETECTION = 5.0
"""A source as bright as so many times the noise in its aperture is at the limit."""

MOST_MEASURED = 200
LARGEST_WHOLE = 4_000_000
PATCH = 1000
SIGMA_PER_FWHM = 1.0 / 2.3548


@dataclass(frozen=True, eq=False)
class ImageQuality:
    """Hold the figures of one image.

    Attributes
    ----------
    fwhm : float
        Median full width at half maximum of the stars, in pixels; NaN without stars.
    ellipticity : float
        One minus the ratio of the axes of the mean star; NaN without stars.
    sky : float
        Level of the sky, in the image's unit.
    noise : float
        Scatter of the blank sky from pixel to pixel, in the image's unit.
    depth : float
        Magnitude of a source at 5 sigma; NaN without stars or exposure time.
    stars : Stars
        The stars they were measured on, the brightest first.
    """

    fwhm: float
    ellipticity: float
    sky: float
    noise: float
    depth: float
    stars: Stars


def measure_image(
    image: ArrayLike, flags: ArrayLike | None = None, *, exposure: float = 0.0, zero_point: float = 0.0
) -> ImageQuality:
    """Measure the stars and the sky of an image.

    Parameters
    ----------
    image : array_like, shape (ny, nx)
        Signal, in electrons.
    flags : array_like of uint16, shape (ny, nx), optional
        Excluded pixels are not measured.
    exposure : float
        Exposure time that the pixels mean, in seconds; 0 where it is unknown.
    zero_point : float
        Magnitude of a source of one electron per second; 0 gives instrumental magnitudes.

    Returns
    -------
    ImageQuality
        The figures.

    Raises
    ------
    ValueError
        If the image has no sky to measure, or the shapes differ.

    Examples
    --------
    >>> from nightdesk.science.synthetic import SyntheticImage
    >>> field = SyntheticImage((64, 64), seed=1).with_sky(100.0).with_read_noise(5.0)
    >>> figures = measure_image(field.with_star(30.3, 20.8, 50_000.0).exposure())
    >>> round(figures.sky), round(figures.noise)
    (100, 11)
    """
    signal = np.asarray(image)
    bits = None if flags is None else np.asarray(flags, dtype=np.uint16)
    sky, noise = _sky(signal, bits)
    stars = find_stars(signal, bits)
    sound = stars.chosen(~stars.saturated)
    fwhm = _width(signal, bits, sound, sky)
    return ImageQuality(
        fwhm=fwhm,
        ellipticity=_ellipticity(signal, bits, sound, sky, fwhm),
        sky=sky,
        noise=noise,
        depth=limiting_magnitude(noise, fwhm, exposure, zero_point),
        stars=stars,
    )


def limiting_magnitude(noise: float, fwhm: float, exposure: float, zero_point: float = 0.0) -> float:
    r"""Return the magnitude of a point source that stands out of the sky by five standard deviations.

    Parameters
    ----------
    noise : float
        Scatter of the sky from pixel to pixel, in electrons.
    fwhm : float
        Full width at half maximum of a star, in pixels.
    exposure : float
        Exposure time that the pixels mean, in seconds.
    zero_point : float
        Magnitude of one electron per second.

    Returns
    -------
    float
        In magnitudes; NaN where a figure is missing.

    Notes
    -----
    In an aperture whose radius is one FWHM :math:`r` the sky scatters by :math:`\sqrt{\pi}\, r \sigma`, so
    :math:`m = z - 2.5 \log_{10}(5 \sqrt{\pi}\, r \sigma / t)`. What the aperture misses of a star (6 % of a
    Gaussian) is not added.

    Examples
    --------
    >>> round(limiting_magnitude(10.0, 3.0, 60.0, 22.0), 2)
    20.38
    """
    signal = DETECTION * np.sqrt(np.pi) * fwhm * noise
    if not (np.isfinite(signal) and signal > 0 and exposure > 0):
        return float("nan")
    return float(zero_point - 2.5 * np.log10(signal / exposure))


def _sky(signal: NDArray[np.floating], flags: NDArray[np.uint16] | None) -> tuple[float, float]:
    """Return level and scatter of the sky; of a large image from patches, which tell as much."""
    if signal.size <= LARGEST_WHOLE:
        return estimate_sky(signal, flags)
    figures = []
    for part in _patches(signal.shape):
        try:
            figures.append(estimate_sky(signal[part], None if flags is None else flags[part]))
        except ValueError:
            continue  # a corner that no frame covers
    if not figures:
        raise ValueError("The image has no pixel without a flag, so it has no sky to measure.")
    level, sigma = np.median(np.array(figures), axis=0)
    return float(level), float(sigma)


def _patches(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    places = []
    for y in (0.25, 0.5, 0.75):
        for x in (0.25, 0.5, 0.75):
            if (x == 0.5) == (y == 0.5):  # the centre and the four corners around it
                starts = [max(0, int(n * share) - PATCH // 2) for n, share in zip(shape, (y, x), strict=True)]
                places.append((slice(starts[0], starts[0] + PATCH), slice(starts[1], starts[1] + PATCH)))
    return places


def _width(signal: NDArray[np.floating], flags: NDArray[np.uint16] | None, stars: Stars, sky: float) -> float:
    r"""Return the full width at half maximum of the mean star.

    The profiles of the stars, each over its own flux, are joined; :math:`\ln p = a + b r^2 + c r^4` is fitted to the
    medians of narrow rings, and solved for half of its maximum. No shape of star is assumed.
    """
    if not len(stars):
        return float("nan")
    first = float(np.median(stars.width[:MOST_MEASURED]))
    reach = max(2, int(np.ceil(first)))
    radii, profile = [], []
    for x, y, flux in np.column_stack([stars.positions, stars.flux])[:MOST_MEASURED]:
        cut = _cut(signal, flags, x, y, reach, sky)
        if cut is not None:
            light, dx, dy = cut
            radii.append(np.hypot(dx, dy).ravel())
            profile.append(light.ravel() / flux)
    if not radii:
        return first
    return _half_maximum(np.concatenate(radii), np.concatenate(profile), first)


def _half_maximum(radii: NDArray[np.float64], profile: NDArray[np.float64], first: float) -> float:
    """Return the full width at half maximum of a profile; `first` is a guess, and the answer where none is found."""
    ring = first / 12
    number = np.floor(radii / ring).astype(int)
    squares, logarithms = [], []
    for index in range(12):  # out to one FWHM, so that half of the maximum lies well inside
        inside = number == index
        value = np.median(profile[inside]) if inside.any() else 0.0
        if value > 0:
            squares.append(float(np.mean(radii[inside] ** 2)))
            logarithms.append(float(np.log(value)))
    if len(squares) < 4:
        return first
    c, b, _ = np.polyfit(squares, logarithms, 2)
    roots = np.roots([c, b, np.log(2.0)])
    good = [root.real for root in roots if abs(root.imag) < 1e-9 and root.real > 0]
    width = 2.0 * float(np.sqrt(min(good))) if good else first
    return width if 0.5 * first < width < 2.0 * first else first


def _ellipticity(
    signal: NDArray[np.floating], flags: NDArray[np.uint16] | None, stars: Stars, sky: float, fwhm: float
) -> float:
    r"""Return the ellipticity of the mean star.

    Moments under a round Gaussian weight `W` are those of star times weight: :math:`M^{-1} = S^{-1} + W^{-1}`. The
    median over the stars is taken of the moments, not of the ellipticities, which noise makes greater than they are.
    """
    if not len(stars):
        return float("nan")
    reach = max(2, int(np.ceil(1.5 * fwhm)))
    weight = (fwhm * SIGMA_PER_FWHM) ** 2
    moments = []
    for x, y in stars.positions[:MOST_MEASURED]:
        moment = _moments(signal, flags, x, y, reach, sky, weight)
        if moment is not None:
            moments.append(moment)
    if not moments:
        return float("nan")
    xx, yy, xy = np.median(np.array(moments), axis=0)
    try:
        star = np.linalg.inv(np.linalg.inv(np.array([[xx, xy], [xy, yy]])) - np.eye(2) / weight)
        small, large = np.linalg.eigvalsh(star)
    except np.linalg.LinAlgError:
        return float("nan")
    return float(1.0 - np.sqrt(small / large)) if small > 0 else float("nan")


def _moments(
    signal: NDArray[np.floating],
    flags: NDArray[np.uint16] | None,
    x: float,
    y: float,
    reach: int,
    sky: float,
    weight: float,
) -> tuple[float, float, float] | None:
    """Return the weighted second moments of a star, or None where a pixel of it is missing."""
    cut = _cut(signal, flags, x, y, reach, sky)
    if cut is None:
        return None
    light, dx, dy = cut
    light = light * np.exp(-(dx**2 + dy**2) / (2.0 * weight))
    total = light.sum()
    if not (np.isfinite(total) and total > 0):
        return None
    xx, yy, xy = (float((light * product).sum() / total) for product in (dx * dx, dy * dy, dx * dy))
    return xx, yy, xy


def _cut(
    signal: NDArray[np.floating], flags: NDArray[np.uint16] | None, x: float, y: float, reach: int, sky: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the light about a position, the distances of columns and of rows; None where a pixel is missing."""
    column, row = round(x), round(y)
    ny, nx = signal.shape
    if column < reach or row < reach or column + reach >= nx or row + reach >= ny:
        return None
    part = (slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
    if flags is not None and (flags[part] & EXCLUDING).any():
        return None
    around = np.arange(-reach, reach + 1, dtype=np.float64)
    return signal[part].astype(np.float64) - sky, (around + column - x)[None, :], (around + row - y)[:, None]
