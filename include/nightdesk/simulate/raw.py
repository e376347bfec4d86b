"""Raw frames as the telescope writes them, of the sky and for the calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from nightdesk.simulate.camera import SATURATION
from nightdesk.simulate.field import band_of, extinction_factor
from nightdesk.simulate.programme import READOUT, Plan, Programme, plan_calibrations
from nightdesk.simulate.seed import random_for

Image = NDArray[np.float64]
Card = tuple[str, str | int | float | bool, str]


@dataclass(frozen=True)
class SimulatedFrame:
    """A raw science frame and what is true of it."""

    path: Path
    target: str
    filter_name: str
    night: date
    date_obs: datetime  # start of the exposure, UT
    exposure: float  # seconds
    airmass: float
    dx: float  # where the sky lies compared with the group's first frame, pixels
    dy: float
    sky: float  # electrons per pixel, as received, where the flat is 1
    x: float  # the sidecar's star, 0-based
    y: float

    @property
    def name(self) -> str:
        """The frame's name, as in a sidecar."""
        return self.path.stem


def write_frame(programme: Programme, plan: Plan, number: int) -> SimulatedFrame:
    """Expose and write one science frame."""
    dx, dy = programme.offsets[plan.target, plan.filter_name, plan.night][plan.index]
    airmass = programme.airmass(plan)
    sky_level = programme.sky_level(plan, airmass)
    exposure, flat = programme.exposures[plan.filter_name], programme.flats[plan.filter_name]
    above = programme.fields[plan.target].light(band_of(plan.filter_name), exposure, dx, dy)
    received = above / extinction_factor(plan.filter_name, airmass) + sky_level
    name = f"r{number:07d}"
    random = random_for(programme.seed, plan.night.isoformat(), name)
    pixels = programme.chip.read_out(received * flat, exposure, random)
    header = _header(programme, "object", exposure, plan.start) + _pointing(programme, plan, airmass, dx, dy)
    path = programme.raw_folder(plan) / f"{name}.fits"
    write_fits(path, pixels, header)
    x, y = programme.fields[plan.target].guide
    return SimulatedFrame(
        path=path,
        target=plan.target,
        filter_name=plan.filter_name,
        night=plan.night,
        date_obs=plan.start,
        exposure=exposure,
        airmass=airmass,
        dx=dx,
        dy=dy,
        sky=sky_level,
        x=round(x + dx, 2),
        y=round(y + dy, 2),
    )


def _header(programme: Programme, kind: str, exposure: float, start: datetime) -> list[Card]:
    """Return the cards of every raw frame."""
    return [
        ("IMAGETYP", kind, "type of frame"),
        ("EXPTIME", exposure, "[s] exposure time"),
        ("DATE-OBS", start.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3], "start of exposure, UT"),
        ("TELESCOP", "pt5m", "simulated"),
        ("INSTRUME", "pt5m", "instrument"),
        ("XBINNING", 2, "binning along x"),
        ("YBINNING", 2, "binning along y"),
        ("EGAIN", programme.camera.gain, "[electron/adu] gain"),
        ("RDNOISE", programme.camera.read_noise, "[electron] read noise"),
        ("SATURATE", SATURATION, "[adu] level of saturation"),
        ("GAIN", 0, "gain setting of the camera"),
        ("READOUTM", "Normal", "readout mode"),
        ("SET-TEMP", -20.0, "[C] wanted temperature of the CCD"),
        ("CCD-TEMP", -20.0, "[C] temperature of the CCD"),
    ]


def _pointing(programme: Programme, plan: Plan, airmass: float, dx: float, dy: float) -> list[Card]:
    """Return the cards of a science frame that say where it looks, through which filter."""
    right_ascension, declination = programme.positions[plan.target]
    ny, nx = programme.shape
    degrees = programme.camera.pixel_scale / 3600.0
    return [
        ("OBJECT", plan.target, "name of target"),
        ("FILTER", plan.filter_name, "name of filter"),
        ("AIRMASS", airmass, "airmass in the middle of the exposure"),
        ("RA", _sexagesimal(right_ascension / 15.0, 2), "right ascension of target, J2000"),
        ("DEC", _sexagesimal(declination, 1, sign=True), "declination of target, J2000"),
        ("CTYPE1", "RA---TAN", "projection"),
        ("CTYPE2", "DEC--TAN", "projection"),
        ("CRVAL1", right_ascension, "[deg]"),
        ("CRVAL2", declination, "[deg]"),
        ("CRPIX1", (nx + 1) / 2 + dx, "reference pixel"),
        ("CRPIX2", (ny + 1) / 2 + dy, "reference pixel"),
        ("CD1_1", -degrees, "[deg/pixel] east is left"),
        ("CD1_2", 0.0, "[deg/pixel]"),
        ("CD2_1", 0.0, "[deg/pixel]"),
        ("CD2_2", degrees, "[deg/pixel] north is up"),
    ]


def _sexagesimal(value: float, decimals: int, *, sign: bool = False) -> str:
    units = 10**decimals
    total = round(abs(value) * 3600 * units)
    minutes, seconds = total // (60 * units), total % (60 * units) / units
    lead = ("-" if value < 0 else "+") if sign else ""
    return f"{lead}{minutes // 60:02d}:{minutes % 60:02d}:{seconds:0{3 + decimals}.{decimals}f}"


def write_calibrations(programme: Programme, night: date, number: int) -> Iterator[Path]:
    """Write the raw calibration frames of a night, exposed in its afternoon, and yield their paths."""
    start = datetime.combine(night, time(13), programme.zone).astimezone(UTC)
    for offset, (kind, filter_name, exposure) in enumerate(plan_calibrations(programme)):
        name = f"r{number + offset:07d}"
        level = programme.camera.flat_level * programme.camera.gain
        light = programme.flats[filter_name] * level if kind == "flat" else 0.0
        pixels = programme.chip.read_out(light, exposure, random_for(programme.seed, night.isoformat(), name))
        header = [*_header(programme, kind, exposure, start), ("OBJECT", kind, "name of target")]
        if filter_name:
            header.append(("FILTER", filter_name, "name of filter"))
        path = programme.root / "raw" / night.isoformat() / f"{name}.fits"
        write_fits(path, pixels, header)
        start += timedelta(seconds=exposure) + READOUT
        yield path


def write_fits(path: Path, pixels: NDArray[Any], cards: Sequence[Card], variance: Image | None = None) -> None:
    """Write an array, with its variance where it has one; the same bytes for the same arguments."""
    header = fits.Header()
    for key, value, comment in cards:
        header[key] = (value, comment)
    hdus = fits.HDUList([fits.PrimaryHDU(pixels, header)])
    if variance is not None:
        hdus.append(fits.ImageHDU(variance.astype(np.float32), name="VAR"))
        unit = str(header.get("BUNIT", ""))
        hdus[-1].header["BUNIT"] = (f"{unit}2" if unit else "", "unit")
        hdus[-1].header["UTYPE"] = ("VarianceUncertainty", "for astropy's CCDData")
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus.writeto(path, overwrite=True)
