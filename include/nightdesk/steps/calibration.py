"""A group's calibration, read once for a batch: masters, flags that they bring, and the read noise."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nightdesk.errors import SetupError
from nightdesk.io.header import find_value, require_number
from nightdesk.io.inventory import hash_file
from nightdesk.io.master import Master, read_master
from nightdesk.io.section import parse_section
from nightdesk.science.flag import BAD_PIXEL
from nightdesk.science.flat import Scaled, flat_level
from nightdesk.science.read_noise import measure_read_noise
from nightdesk.settings import Measured
from nightdesk.steps.raw_image import RawImage, read_raw_image

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.io import fits
    from numpy.typing import NDArray

    from nightdesk.settings import Settings
    from nightdesk.steps.recipe import Work

DARK_EXPOSURE_TOLERANCE = 0.01
GAIN = "gain, e-/ADU"
BIAS_PAIR = "bias pair"  # where a read noise stood that was measured
BAD_PIXELS = "bad pixels"  # the role of a mask among the masters


def flat_region(settings: Settings, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Return the part of a flat whose level is divided out.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    shape : tuple of int
        Shape ``(ny, nx)`` of the flat.

    Returns
    -------
    tuple of slice, or None
        Rows and columns; None for all of it.

    Raises
    ------
    SetupError
        If it does not fit the detector.
    """
    text = settings.calibs.flat_region
    try:
        return parse_section(text, shape).slices if text else None
    except ValueError as error:
        raise SetupError(f"[calibs] flat_region: {error}") from error


def size_words(shape: tuple[int, ...]) -> str:
    """Return a shape as a person says it.

    Parameters
    ----------
    shape : tuple of int
        Shape ``(ny, nx)``.

    Returns
    -------
    str
        Width x height.
    """
    return " x ".join(str(axis) for axis in reversed(shape))


@dataclass
class Calibration:
    """The group's masters, read when the first frame needs them and checked against it."""

    work: Work
    _read: dict[str, Master] | None = None
    _flat: tuple[Scaled, Scaled | None] | None = None
    _noise: float | None = None
    _once: threading.RLock = field(default_factory=threading.RLock)

    def masters(self, shape: tuple[int, ...]) -> dict[str, Master]:
        """Return the masters by role; `SetupError` when one has another shape than the frames."""
        with self._once:
            if self._read is None:
                paths, with_variance = self.work.masters.by_role, not self.work.notebook
                self._read = {role: read_master(path, with_variance=with_variance) for role, path in paths.items()}
        for role, master in self._read.items():
            if master.data.shape != shape:
                raise SetupError(
                    f"{self.work.layout.relative(master.path)}: the master {role} is {size_words(master.data.shape)} "
                    f"pixels, the frames are {size_words(shape)}. Put one of that size there, then clear this run."
                )
        return self._read

    def flat(self, shape: tuple[int, ...]) -> tuple[Scaled | None, Scaled | None]:
        """Return the flat, normalised to a median of 1, and its variance; None and None when there is none."""
        master = self.masters(shape).get("flat")
        if master is None:
            return None, None
        with self._once:
            if self._flat is None:
                calibs = self.work.settings.calibs
                region = flat_region(self.work.settings, shape)
                try:
                    level = flat_level(master.data, region, how=calibs.flat_level)
                except ValueError as error:
                    raise SetupError(f"{self.work.layout.relative(master.path)}: {error}") from error
                variance = None if master.variance is None else Scaled(master.variance, level**2)
                self._flat = (Scaled(master.data, level), variance)
        return self._flat

    def bad_pixels(self, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """Return where the mask file or a master's flags say that the detector is bad; None when none says anything."""
        masters = self.masters(shape)
        masks = [masters[BAD_PIXELS].data != 0] if BAD_PIXELS in masters else []
        masks += [(master.flags & BAD_PIXEL) != 0 for master in masters.values() if master.flags is not None]
        bad = None
        for mask in masks:
            bad = mask if bad is None else bad | mask
        return bad

    def amplifier(self, raw: RawImage) -> tuple[float, float | NDArray[Any], str]:
        """Return a raw's gain (e-/ADU), its read noise (e-, one figure or a plane), and where that stood.

        Raises
        ------
        FrameError
            If no source gives one of them.
        """
        if raw.joined:
            assert raw.gain is not None
            assert raw.read_noise is not None
            return raw.gain, raw.read_noise * raw.noise_factor, "header of the amplifiers"
        keywords = self.work.settings.instrument_of(self.work.group).keywords
        gain, _ = require_number(raw.header, raw.path.name, keywords.gain, what=GAIN, setting="gain", above=0)
        noise, source = self._read_noise(raw.path, raw.header, gain)
        return gain, noise * raw.noise_factor, source

    def _read_noise(self, path: Path, header: fits.Header, gain: float) -> tuple[float, str]:
        sources = self.work.settings.instrument_of(self.work.group).keywords.read_noise
        split = next((place for place, source in enumerate(sources) if isinstance(source, Measured)), len(sources))
        if find_value(header, path.name, sources[:split]) is None and self.work.bias_pair:
            return self._measured() * gain, BIAS_PAIR
        return require_number(header, path.name, sources, what="read noise, e-", setting="read_noise", least=0)

    def _measured(self) -> float:
        with self._once:
            if self._noise is None:
                settings, instrument = self.work.settings, self.work.settings.instrument_of(self.work.group)
                pair = [read_raw_image(settings, settings.root / path, instrument) for path in self.work.bias_pair]
                # taking off the overscan is in these already; of one frame's own noise it is no part
                self._noise = measure_read_noise(pair[0].pixels, pair[1].pixels) / pair[0].noise_factor
        return self._noise


def bias_in_dark(bias: Master | None, dark: Master | None) -> float:
    """Return how many times a bias was taken off a dark; their errors are one and the same then.

    Parameters
    ----------
    bias : Master or None
        The master bias.
    dark : Master or None
        The master dark.

    Returns
    -------
    float
        Per unit of the dark's image; 0 where the dark was made with another bias, or does not say.
    """
    if bias is None or dark is None or dark.contains_bias or not dark.bias_hash:
        return 0.0
    return dark.bias_share if dark.bias_hash == hash_file(bias.path) else 0.0


def dark_scale(work: Work, path: Path, dark: Master | None, exposure: float) -> float:
    """Return by what a dark is multiplied: the ratio of exposure times, or 1 when the bias is still in it.

    Parameters
    ----------
    work : Work
        The group.
    path : Path
        The raw.
    dark : Master or None
        The master dark.
    exposure : float
        Of the raw, in seconds.

    Returns
    -------
    float
        The factor, 0 or more.

    Raises
    ------
    SetupError
        If the dark does not say its exposure time, or contains the bias and is of another one.
    """
    if dark is None:
        return 1.0
    place = work.layout.relative(dark.path)
    if dark.exposure is None or dark.exposure <= 0:
        raise SetupError(f"{place}: the master dark has no EXPTIME. Write its exposure time (s) into its header.")
    if not dark.contains_bias:
        return exposure / dark.exposure
    if abs(exposure - dark.exposure) > DARK_EXPOSURE_TOLERANCE * dark.exposure:
        raise SetupError(
            f"{place}: the master dark contains the bias (DARKBIAS = T), so it cannot be scaled from {dark.exposure:g} "
            f"s to the {exposure:g} s of {path.name}. Put a dark of that exposure there, or one without the bias."
        )
    return 1.0
