"""A raw as the arithmetic wants it: repaired, its overscan taken off, trimmed, its amplifiers joined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nightdesk.errors import FrameError
from nightdesk.io.detector import Part, find_parts
from nightdesk.io.frame import read_raw
from nightdesk.io.header import add_step, as_number, find_number, largest_count, require_number
from nightdesk.io.raw import find_raw_repairs
from nightdesk.io.repair import apply_repairs, describe_repairs
from nightdesk.science.overscan import measure_overscan, overscan_noise_factor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from astropy.io import fits
    from numpy.typing import NDArray

    from nightdesk.instrument import Amplifier, Instrument, Sources
    from nightdesk.settings import Repair, Settings

_SECTIONS = ("TRIMSEC", "BIASSEC", "DATASEC", "CCDSEC", "DETSEC", "AMPSEC")


@dataclass
class RawImage:
    """A raw's pixels in ADU above its overscan (if it has one), its repaired header, and what was done.

    `saturation` is the level from which a pixel of `pixels` is saturated, `read_noise` in electrons; both may be one
    figure or a plane, and None where nothing tells it. `gain` is e-/ADU. `noise_factor` is what
    taking off the overscan did to the read noise; `joined` tells that it is of several amplifiers.
    """

    path: Path
    pixels: NDArray[Any]
    header: fits.Header
    gain: float | None
    read_noise: float | NDArray[np.float64] | None
    saturation: float | NDArray[np.float64] | None
    noise_factor: float = 1.0
    joined: bool = False
    repairs: tuple[Repair, ...] = ()
    history: list[str] = field(default_factory=list)
    unrepaired: fits.Header | None = None

    def describe(self, product: fits.Header) -> None:
        """Say in a product's header what was done before ISR."""
        describe_repairs(product, self.header if self.unrepaired is None else self.unrepaired, self.repairs)
        for line in self.history:
            add_step(product, line)


def read_raw_image(settings: Settings, path: Path, instrument: Instrument) -> RawImage:
    """Read a raw, repair its header, take off the overscan, trim it and join its amplifiers.

    Parameters
    ----------
    settings : Settings
        The observatory's settings, with repairs.
    path : Path
        The raw.
    instrument : Instrument
        Its instrument's profile.

    Returns
    -------
    RawImage
        Pixels as stored where there is neither overscan nor amplifier, else float64.

    Raises
    ------
    FrameError
        If it cannot be read, or a section is missing or does not fit it.
    """
    return raw_image(settings, path, *read_raw(path, instrument), instrument)


def raw_image(
    settings: Settings, path: Path, pixels: NDArray[Any], header: fits.Header, instrument: Instrument
) -> RawImage:
    """Do the same with pixels and header that are read already.

    Parameters
    ----------
    settings : Settings
        The observatory's settings, with repairs.
    path : Path
        The raw.
    pixels : ndarray, shape (ny, nx)
        In ADU.
    header : Header
        Of the image; repaired in place.
    instrument : Instrument
        Its instrument's profile.

    Returns
    -------
    RawImage
        As `read_raw_image` returns it.

    Raises
    ------
    FrameError
        If a section is missing or does not fit it.
    """
    repairs = find_raw_repairs(settings, path, header, instrument)
    unrepaired = header.copy() if repairs else None
    apply_repairs(header, repairs)
    try:
        parts = find_parts(header, path.name, instrument, pixels.shape)
        image = _plain(path, pixels, header, instrument, parts)
    except ValueError as error:
        raise FrameError(f"{path.name}: {error}. Mend the header, or the configuration.") from error
    image.repairs, image.unrepaired = repairs, unrepaired
    return image


def _plain(
    path: Path, pixels: NDArray[Any], header: fits.Header, instrument: Instrument, parts: tuple[Part, ...]
) -> RawImage:
    keywords = instrument.keywords
    if instrument.amplifiers:
        return _joined(path, pixels, header, instrument, parts)
    (part,) = parts
    trimmed = pixels[part.light.slices]
    image = RawImage(
        path,
        trimmed,
        header,
        gain=find_number(header, path.name, keywords.gain),
        read_noise=find_number(header, path.name, keywords.read_noise),
        saturation=_saturation(path, header, keywords.saturation),
    )
    if part.overscan is not None:
        image.pixels, level = _without_overscan(pixels, part, instrument)
        if image.saturation is not None:
            image.saturation = np.broadcast_to(image.saturation - level[:, None], trimmed.shape)
        assert instrument.overscan is not None
        method, mean = instrument.overscan.method, float(level.mean())
        image.noise_factor = overscan_noise_factor(part.overscan.shape[1], method)
        _note_overscan(image, str(part.overscan), mean, instrument)
        image.history.append(f"Overscan: {method} level of {part.overscan}, {mean:.3f} ADU on average, taken off.")
    if trimmed.shape != pixels.shape:
        _note_trim(image, parts)
        image.history.append(f"Trim: {part.light} of the raw is left.")
    return image


def _without_overscan(pixels: NDArray[Any], part: Part, instrument: Instrument) -> tuple[NDArray[Any], NDArray[Any]]:
    assert instrument.overscan is not None
    assert part.overscan is not None
    settings = instrument.overscan
    level = measure_overscan(
        pixels[part.overscan.slices], method=settings.method, order=settings.order, clip_sigma=settings.clip_sigma
    )
    rows = part.light.shape[0]
    if settings.method == "constant":
        level = np.full(rows, level[0])  # its region may be of other rows
    return pixels[part.light.slices].astype(np.float64) - level[:, None], level


def _note_overscan(image: RawImage, sections: str, level: float, instrument: Instrument) -> None:
    assert instrument.overscan is not None
    image.header["OVERSCAN"] = (sections, "overscan that was taken off")
    image.header["OVERMETH"] = (instrument.overscan.method, "how its level was measured")
    image.header["OVERMEAN"] = (round(level, 4), "its mean level (ADU)")


def _note_trim(image: RawImage, parts: Sequence[Part]) -> None:
    """Say what was trimmed, and move what counts pixels: the WCS, and the physical coordinates.

    Between amplifiers strips may have been cut out: the WCS is moved as the part that its reference pixel lies in.
    """
    header = image.header
    for axis in (1, 2):
        if f"CRPIX{axis}" in header:
            header[f"CRPIX{axis}"] = _moved(parts, axis, _reference_pixel(image.path, header, axis))
        first = -_moved(parts[:1], axis, 0.0)
        if first or f"LTV{axis}" in header:
            header[f"LTV{axis}"] = ((as_number(header.get(f"LTV{axis}")) or 0.0) - first, "pixels trimmed off")
    for keyword in _SECTIONS:
        header.remove(keyword, remove_all=True, ignore_missing=True)
    header["TRIM"] = (", ".join(str(part.light) for part in parts), "part of the raw that is left")


def _reference_pixel(path: Path, header: fits.Header, axis: int) -> float:
    number = as_number(header[f"CRPIX{axis}"])
    if number is None:
        raise FrameError(
            f"{path.name}: CRPIX{axis} = {header[f'CRPIX{axis}']!r} is not a number (reference pixel of the WCS), and "
            "it must be moved with what is trimmed off. Mend the header."
        )
    return number


def _moved(parts: Sequence[Part], axis: int, pixel: float) -> float:
    """Return where a pixel (from 1) of the raw comes to lie, by the nearest of the parts."""
    spans = [
        (part.light.x_first, part.light.x_end, part.place.x_first)
        if axis == 1
        else (part.light.y_first, part.light.y_end, part.place.y_first)
        for part in parts
    ]
    first, _, place = min(spans, key=lambda span: max(span[0] + 0.5 - pixel, pixel - span[1] - 0.5, 0.0))
    return pixel - first + place


def _joined(
    path: Path, pixels: NDArray[Any], header: fits.Header, instrument: Instrument, parts: tuple[Part, ...]
) -> RawImage:
    """Join the amplifiers' parts in ADU of the first, so that one gain holds for all."""
    shape = max(part.place.y_end for part in parts), max(part.place.x_end for part in parts)
    joined, noise = np.empty(shape), np.empty(shape)
    limits = np.full(shape, np.inf)
    reference: float | None = None
    history: list[str] = []
    levels: dict[str, float] = {}
    factor = 1.0
    for number, (part, amplifier) in enumerate(zip(parts, instrument.amplifiers, strict=True), start=1):
        gain, read_noise, saturation = _amplifier_figures(path, header, amplifier, number)
        reference = gain if reference is None else reference
        level = np.zeros(part.light.shape[0])
        counts = pixels[part.light.slices].astype(np.float64)
        if part.overscan is not None:
            counts, level = _without_overscan(pixels, part, instrument)
            assert instrument.overscan is not None
            factor = overscan_noise_factor(part.overscan.shape[1], instrument.overscan.method)
            levels[str(part.overscan)] = float(level.mean())
            history.append(f"Overscan: level of {part.overscan}, {level.mean():.3f} ADU on average, taken off.")
        joined[part.place.slices] = counts * (gain / reference)
        noise[part.place.slices] = read_noise
        if saturation is not None:
            limits[part.place.slices] = (saturation - level[:, None]) * (gain / reference)
    lights = ", ".join(str(part.light) for part in parts)
    history.append(f"Amplifiers: {lights} joined, in ADU of the first, whose gain is {reference:g} e-/ADU.")
    saturated = limits if np.isfinite(limits).any() else None
    image = RawImage(
        path, joined, header, reference, noise, saturated, noise_factor=factor, joined=True, history=history
    )
    _note_trim(image, parts)
    if levels:
        _note_overscan(image, ", ".join(levels), float(np.mean(list(levels.values()))), instrument)
    return image


def _amplifier_figures(
    path: Path, header: fits.Header, amplifier: Amplifier, number: int
) -> tuple[float, float, float | None]:
    where = f"amplifiers {number}"
    gain, _ = require_number(header, path.name, amplifier.gain, what="gain, e-/ADU", setting=f"{where}, gain", above=0)
    noise, _ = require_number(
        header, path.name, amplifier.read_noise, what="read noise, e-", setting=f"{where}, read_noise", least=0
    )
    return gain, noise, _saturation(path, header, amplifier.saturation)


def _saturation(path: Path, header: fits.Header, sources: Sources) -> float | None:
    """Return the level of saturation in ADU: as configuration or header have it, else where the converter cuts off."""
    given = find_number(header, path.name, sources)
    return largest_count(header) if given is None else given
