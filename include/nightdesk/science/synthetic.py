"""Make images of an invented sky, for tests and for the simulated night.

`SyntheticImage` is an immutable builder: every ``with_...`` method returns a new image with something more
on it, so a test may start from a common image without spoiling it for others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]

FAINTEST_LIGHT = 0.02
"""Electrons per pixel where the wing of a star is cut off."""


@dataclass(frozen=True)
class Star:
    """A point source.

    Attributes
    ----------
    x, y : float
        0-based position of the centre, in pixels.
    flux : float
        Total flux, in electrons.
    """

    x: float
    y: float
    flux: float


def add_star(image: Image, star: Star, *, fwhm: float, beta: float = 3.0) -> None:
    r"""Add a star with a Moffat profile to an image, in place.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image that receives the star, in electrons.
    star : Star
        Position and flux; the centre may lie outside the image.
    fwhm : float
        Full width at half maximum, in pixels; from 2 on the samples sum up to the flux within 1 %.
    beta : float
        Exponent of the wings, above 1.

    Raises
    ------
    ValueError
        If `fwhm` is not positive or `beta` not above 1.

    Notes
    -----
    :math:`I(r) = F \frac{\beta - 1}{\pi \alpha^2} (1 + r^2 / \alpha^2)^{-\beta}` with
    :math:`\alpha = \mathrm{FWHM} / (2 \sqrt{2^{1/\beta} - 1})`, sampled at the pixel centres and cut where it
    falls below 0.02 electrons.

    Examples
    --------
    >>> image = np.zeros((41, 41))
    >>> add_star(image, Star(20.0, 20.0, 1000.0), fwhm=3.0)
    >>> image.sum().round(-1)
    np.float64(1000.0)
    """
    if fwhm <= 0 or beta <= 1:
        raise ValueError(f"a Moffat profile needs fwhm > 0 and beta > 1, not {fwhm} and {beta}")
    alpha = fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0))
    peak = star.flux * (beta - 1.0) / (np.pi * alpha**2)
    if peak <= FAINTEST_LIGHT:
        return
    radius = alpha * np.sqrt((peak / FAINTEST_LIGHT) ** (1.0 / beta) - 1.0)
    ny, nx = image.shape
    rows = slice(max(int(star.y - radius), 0), min(max(int(star.y + radius) + 2, 0), ny))
    columns = slice(max(int(star.x - radius), 0), min(max(int(star.x + radius) + 2, 0), nx))
    y = np.arange(rows.start, rows.stop)[:, np.newaxis] - star.y
    x = np.arange(columns.start, columns.stop)[np.newaxis, :] - star.x
    image[rows, columns] += peak * (1.0 + (x**2 + y**2) / alpha**2) ** -beta


def add_galaxy(
    image: Image,
    *,
    x: float,
    y: float,
    central: float,
    scale: float,
    axis_ratio: float = 0.5,
    angle: float = 0.0,
    bulge: float = 0.0,
    arms: float = 0.0,
    softening: float = 1.0,
) -> None:
    r"""Add an inclined exponential disc to an image, in place.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image that receives the galaxy, in electrons.
    x, y : float
        0-based position of the centre, in pixels.
    central : float
        Central surface brightness of the disc, in electrons per pixel.
    scale : float
        Scale length along the major axis, in pixels.
    axis_ratio : float
        Minor over major axis, above 0 and at most 1.
    angle : float
        Angle of the major axis from the x axis towards the y axis, in radians.
    bulge : float
        Central brightness of a rounder inner component of a fifth of the scale length, in units of `central`.
    arms : float
        Contrast of a two-armed logarithmic spiral, from 0 to 1.
    softening : float
        Radius that smooths the cusp at the centre, as seeing does, in pixels.

    Raises
    ------
    ValueError
        If `scale`, `axis_ratio` or `arms` is outside its range.

    Notes
    -----
    A Sersic profile of index 1: :math:`I(r) = I_0 \exp(-r / h)`, with `r` in the plane of the disc.

    Examples
    --------
    >>> image = np.zeros((101, 101))
    >>> add_galaxy(image, x=50.0, y=50.0, central=100.0, scale=5.0, axis_ratio=1.0, softening=0.0)
    >>> image[50, 55].round(2)
    np.float64(36.79)
    """
    if scale <= 0 or not 0 < axis_ratio <= 1 or not 0 <= arms <= 1:
        raise ValueError("a galaxy needs scale > 0, 0 < axis_ratio <= 1 and 0 <= arms <= 1")
    ny, nx = image.shape
    up = np.arange(ny)[:, np.newaxis] - y
    right = np.arange(nx)[np.newaxis, :] - x
    along = right * np.cos(angle) + up * np.sin(angle)
    across = up * np.cos(angle) - right * np.sin(angle)
    radius = np.sqrt(along**2 + (across / axis_ratio) ** 2 + softening**2)
    disc = central * np.exp(-radius / scale)
    if arms:
        phase = np.arctan2(across / axis_ratio, along) - 3.0 * np.log(radius / scale + 0.2)
        disc *= 1.0 + arms * np.cos(2.0 * phase) * (1.0 - np.exp(-radius / scale))
    image += disc
    if bulge:
        rounder = np.sqrt(along**2 + (across / np.sqrt(axis_ratio)) ** 2 + softening**2)
        image += bulge * central * np.exp(-rounder / (0.2 * scale))


def draw_fluxes(
    random: np.random.Generator, number: int, *, faintest: float, brightest: float, slope: float = 0.75
) -> Image:
    r"""Draw fluxes of stars from the power law of a number count.

    Parameters
    ----------
    random : numpy.random.Generator
        Source of the random numbers.
    number : int
        How many fluxes.
    faintest, brightest : float
        Limits of the flux, in electrons.
    slope : float
        Exponent of the count of stars brighter than a flux, above 0; 1.5 is a uniform space, 0.75 (0.3 in the
        logarithm per magnitude) a field out of the Milky Way.

    Returns
    -------
    ndarray, shape (number,)
        Fluxes, in electrons.

    Raises
    ------
    ValueError
        If the limits are not positive and in order, or `slope` is not positive.

    Notes
    -----
    :math:`N(>F) \propto F^{-s}`, inverted between the two limits.

    Examples
    --------
    >>> fluxes = draw_fluxes(np.random.default_rng(1), 1000, faintest=100.0, brightest=1e5)
    >>> bool(fluxes.min() >= 100.0), bool(np.median(fluxes) < 300.0)
    (True, True)
    """
    if not 0 < faintest <= brightest or slope <= 0:
        raise ValueError("fluxes need 0 < faintest <= brightest and slope > 0")
    rest = (brightest / faintest) ** -slope
    fluxes: Image = faintest * (1.0 - random.random(number) * (1.0 - rest)) ** (-1.0 / slope)
    return fluxes


@dataclass(frozen=True, eq=False)
class SyntheticImage:
    """An invented image: its noiseless light, and any number of seeded exposures of it.

    Attributes
    ----------
    shape : tuple of int
        Shape (ny, nx), in pixels.
    seed : int
        Decides every random number; two images with the same history and seed are equal to the bit.
    read_noise : float
        Standard deviation of the read noise, in electrons.
    expected : ndarray, shape (ny, nx)
        Noiseless light, in electrons; read-only. Dark by default.
    stars : tuple of Star
        What `with_star` and `with_stars` put on it.

    Examples
    --------
    >>> empty = SyntheticImage((32, 32), seed=3).with_sky(100.0).with_read_noise(5.0)
    >>> field = empty.with_star(16.0, 15.0, 5000.0)
    >>> field.exposures(4).shape
    (4, 32, 32)
    >>> field.variance[0, 0].round()
    np.float64(125.0)
    """

    shape: tuple[int, int] = (64, 64)
    seed: int = 0
    read_noise: float = 0.0
    expected: Image = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    stars: tuple[Star, ...] = ()

    def __post_init__(self) -> None:
        """Give a new image its dark pixels, and lock them."""
        expected = np.zeros(self.shape) if self.expected.size == 0 else self.expected.copy()
        if expected.shape != self.shape:
            raise ValueError(f"expected has the shape {expected.shape}, the image {self.shape}")
        expected.setflags(write=False)
        object.__setattr__(self, "expected", expected)

    def with_seed(self, seed: int) -> Self:
        """Return the same light with other noise.

        Parameters
        ----------
        seed : int
            The new seed.

        Returns
        -------
        SyntheticImage
            The new image.
        """
        return replace(self, seed=seed)

    def with_read_noise(self, read_noise: float) -> Self:
        """Return the image as read out with this noise.

        Parameters
        ----------
        read_noise : float
            Standard deviation, in electrons, at least 0.

        Returns
        -------
        SyntheticImage
            The new image.
        """
        return replace(self, read_noise=read_noise)

    def with_sky(self, level: float, gradient: tuple[float, float] = (0.0, 0.0)) -> Self:
        """Add a sky that is level or rises linearly.

        Parameters
        ----------
        level : float
            Sky at pixel (0, 0), in electrons.
        gradient : tuple of float
            Rise along x and along y, in electrons per pixel.

        Returns
        -------
        SyntheticImage
            The new image.
        """
        y, x = np.indices(self.shape)
        return replace(self, expected=self.expected + level + gradient[0] * x + gradient[1] * y)

    def with_star(self, x: float, y: float, flux: float, *, fwhm: float = 3.0, beta: float = 3.0) -> Self:
        """Add one star with a Moffat profile.

        Parameters
        ----------
        x, y : float
            0-based position, in pixels.
        flux : float
            Total flux, in electrons.
        fwhm : float
            Full width at half maximum, in pixels.
        beta : float
            Exponent of the wings.

        Returns
        -------
        SyntheticImage
            The new image.
        """
        return self._with_all((Star(x, y, flux),), fwhm, beta)

    def with_stars(
        self,
        number: int,
        *,
        faintest: float = 200.0,
        brightest: float = 50_000.0,
        fwhm: float = 3.0,
        beta: float = 3.0,
        margin: float = 0.0,
    ) -> Self:
        """Add stars at random positions, with fluxes from the power law of `draw_fluxes`.

        Parameters
        ----------
        number : int
            How many.
        faintest, brightest : float
            Limits of the flux, in electrons.
        fwhm : float
            Full width at half maximum, in pixels.
        beta : float
            Exponent of the wings.
        margin : float
            Least distance of a star from the edge, in pixels.

        Returns
        -------
        SyntheticImage
            The new image.
        """
        ny, nx = self.shape
        random = np.random.default_rng([self.seed, len(self.stars), 1])
        fluxes = draw_fluxes(random, number, faintest=faintest, brightest=brightest)
        xs = random.uniform(margin, nx - 1 - margin, number)
        ys = random.uniform(margin, ny - 1 - margin, number)
        stars = tuple(Star(float(x), float(y), float(f)) for x, y, f in zip(xs, ys, fluxes, strict=True))
        return self._with_all(stars, fwhm, beta)

    def with_galaxy(
        self,
        x: float,
        y: float,
        *,
        central: float,
        scale: float,
        axis_ratio: float = 0.5,
        angle: float = 0.0,
    ) -> Self:
        """Add an inclined exponential disc.

        Parameters
        ----------
        x, y : float
            0-based position of the centre, in pixels.
        central : float
            Central surface brightness, in electrons per pixel.
        scale : float
            Scale length, in pixels.
        axis_ratio : float
            Minor over major axis.
        angle : float
            Angle of the major axis from x towards y, in radians.

        Returns
        -------
        SyntheticImage
            The new image.
        """
        expected = self.expected.copy()
        add_galaxy(expected, x=x, y=y, central=central, scale=scale, axis_ratio=axis_ratio, angle=angle, bulge=0.0)
        return replace(self, expected=expected)

    def with_response(self, response: Image | float) -> Self:
        """Multiply the light by a flat field, or by the transparency of the air.

        Parameters
        ----------
        response : ndarray, shape (ny, nx), or float
            Dimensionless factor, at least 0.

        Returns
        -------
        SyntheticImage
            The new image.
        """
        return replace(self, expected=self.expected * response)

    @property
    def variance(self) -> Image:
        """The true variance of an exposure.

        Returns
        -------
        ndarray, shape (ny, nx)
            Light plus read noise squared, in electrons squared.
        """
        return self.expected + self.read_noise**2

    def exposure(self) -> Image:
        """Return one noisy exposure, shape (ny, nx), in electrons; the same one at every call.

        Returns
        -------
        ndarray, shape (ny, nx)
            Light with Poisson and read noise, in electrons.
        """
        image: Image = self.exposures(1)[0]
        return image

    def exposures(self, number: int) -> Image:
        """Return independent noisy exposures.

        Parameters
        ----------
        number : int
            How many.

        Returns
        -------
        ndarray, shape (number, ny, nx)
            Light with Poisson and read noise, in electrons.
        """
        random = np.random.default_rng([self.seed, 2])
        size = (number, *self.shape)
        return random.poisson(self.expected, size) + random.normal(0.0, self.read_noise, size)

    def _with_all(self, stars: tuple[Star, ...], fwhm: float, beta: float) -> Self:
        expected = self.expected.copy()
        for star in stars:
            add_star(expected, star, fwhm=fwhm, beta=beta)
        return replace(self, expected=expected, stars=self.stars + stars)
