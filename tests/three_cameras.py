"""An observatory with three cameras that write into one folder: a MEF with overscan, a compressed one, a mute one.

`mef` has its image in an extension called CCD with 8 overscan columns, trimmed by keyword. `fz` writes tile-compressed
files. The headers of `mute` tell nothing at all: what it saw, when and how long stands in its files' names, the rest in
the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from nightdesk.group import Group
from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import Layout
from nightdesk.settings import Settings, load_settings

Image = NDArray[np.float64]

SHAPE = (40, 48)
OVERSCAN = 8
GAIN, READ_NOISE = 1.5, 6.0
NIGHTS = tuple(date(2026, 11, day) for day in (10, 11, 12, 13, 14))
FLAT_NIGHTS = (NIGHTS[0], NIGHTS[3])
CAMERAS = ("mef", "fz", "mute")

SKY = 600.0  # electrons in an exposure
CONFIGURATION = """
[data]
root = "{root}"

[site]
name = "Three cameras"
timezone = "Atlantic/Canary"
latitude = 28.76
longitude = "17:52:45 W"
extinction_curve = "lapalma"

[filters.R]
wavelength = 6550
dark = "none"

[masters]
minimum_flat = 3

[instruments.mef]
match = {{ INSTRUME = "MEF*" }}
extension = "CCD"
trim = "TRIMSEC"
overscan = {{ section = "BIASSEC", method = "row" }}

[instruments.mef.keywords]
target = "OBJNAME"
gain = "AGAIN_01"
read_noise = "ARDNS_01"
binning_x = 1
binning_y = 1

[instruments.fz]
match = {{ INSTRUME = "squeezed" }}

[instruments.mute]
match = {{ INSTRUME = "" }}

[instruments.mute.keywords]
target = {{ file = '^mute_([A-Za-z0-9]+)_' }}
date = {{ file = '_(\\d{{8}}T\\d{{6}})_' }}
exposure = {{ file = '_(\\d+)s' }}
filter = {{ value = "R" }}
frame_type = [{{ file = '^mute_(bias|flat)_' }}, {{ value = "object" }}]
gain = {gain}
read_noise = {{ measure = "bias pairs" }}
airmass = 1.2
binning_x = 1
binning_y = 1

[instruments.mute.frame_types]
science = ["object"]
bias = ["bias"]
flat = ["flat"]
"""


@dataclass(frozen=True)
class ThreeCameras:
    """Five nights of one target, biases on each, flats on the first and the fourth; `fz` takes two frames more."""

    root: Path
    seed: int = 1
    frames: int = 2
    calibrations: int = 5
    nights: tuple[date, ...] = NIGHTS

    @property
    def settings(self) -> Settings:
        """The observatory's settings."""
        config = self.root / "observatory.toml"
        return load_settings(config)

    def groups(self) -> list[Group]:
        """All groups."""
        return [Group(night, "M67", "R", camera) for night in self.nights for camera in CAMERAS]

    def flat(self, camera: str, night: date) -> Image:
        """The sensitivity, another one for each camera, and from the third night on: as the nearest flats have it."""
        y, x = np.indices(SHAPE)
        turn = CAMERAS.index(camera) + 0.3 * (night > NIGHTS[1])
        response = 1.0 + 0.15 * np.cos(x / 9.0 + turn) * np.cos(y / 7.0 - turn)
        return response / np.median(response)

    def bias(self, camera: str) -> Image:
        """The bias above the overscan, ADU."""
        return 4.0 * (np.arange(SHAPE[1])[None, :] % 5) + np.full(SHAPE, 0.0 if camera == "mef" else 400.0)

    def write(self) -> ThreeCameras:
        """Write the configuration and every raw, all cameras in one folder a night."""
        self.root.mkdir(parents=True, exist_ok=True)
        text = CONFIGURATION.format(root=self.root, gain=GAIN)
        (self.root / "observatory.toml").write_text(text)
        for night in self.nights:
            for camera in CAMERAS:
                self._write_night(camera, night)
        return self

    def write_sidecars(self) -> None:
        """Write down that nothing moved: every star is where it was."""
        for group, raws in take_inventory(self.settings).science.items():
            place = self.root.joinpath("xys", *group.parts, group.night.isoformat())
            place.mkdir(parents=True, exist_ok=True)
            (place / "xy.csv").write_text("fname,x,y\n" + "".join(f"{facts.name},10,10\n" for facts in raws))

    def _write_night(self, camera: str, night: date) -> None:
        plan = [("bias", 0.0)] * self.calibrations
        plan += [("flat", 5.0)] * (self.calibrations if night in FLAT_NIGHTS else 0)
        plan += [("object", 60.0)] * (self.frames + 2 * (camera == "fz"))
        for number, (kind, exposure) in enumerate(plan):
            self.write_frame(camera, night, kind, number, exposure)

    def write_frame(
        self, camera: str, night: date, kind: str, number: int, exposure: float, *, hour: int | None = None
    ) -> Path:
        """Write one raw of a camera; `hour` counts on after midnight: 30 is dawn."""
        random = np.random.default_rng([self.seed, CAMERAS.index(camera), night.day, number])
        light = {"bias": 0.0, "flat": 20_000.0 * GAIN, "object": SKY}[kind] * self.flat(camera, night)
        electrons = random.poisson(light) + random.normal(0.0, READ_NOISE, SHAPE)
        counts = electrons / GAIN + self.bias(camera)
        hour = {"bias": 16, "flat": 19, "object": 22}[kind] if hour is None else hour
        start = datetime(night.year, night.month, night.day, tzinfo=UTC) + timedelta(hours=hour, seconds=90 * number)
        header = fits.Header()
        header["DATE-OBS"] = start.strftime("%Y-%m-%dT%H:%M:%S")
        header["EXPTIME"] = exposure
        folder = self.root / "raw" / night.isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        write = {"mef": _write_mef, "fz": _write_fz, "mute": _write_mute}[camera]
        return write(folder, kind, f"{night.day:02d}{number:02d}", counts, header, random)


def _write_mef(
    folder: Path, kind: str, name: str, counts: Image, header: fits.Header, random: np.random.Generator
) -> Path:
    drift = 350.0 + 3.0 * np.sin(np.arange(SHAPE[0]) / 6.0)[:, None]
    strip = drift + random.normal(0.0, READ_NOISE / GAIN, (SHAPE[0], OVERSCAN))
    image = np.rint(np.hstack([counts + drift, strip])).astype(np.uint16)
    header["INSTRUME"] = "MEF-1"
    header["IMAGETYP"] = {"bias": "Zero", "flat": "Dome Flat", "object": "OBJECT"}[kind]
    header["OBJNAME"], header["FILTER"] = "M 67", "R"
    header["RA"], header["DEC"], header["EQUINOX"] = "01:12:00", "+31:48:00", 2000.0
    extension = fits.ImageHDU(image, name="CCD")
    extension.header["TRIMSEC"] = f"[1:{SHAPE[1]},1:{SHAPE[0]}]"
    extension.header["BIASSEC"] = f"[{SHAPE[1] + 1}:{SHAPE[1] + OVERSCAN},1:{SHAPE[0]}]"
    extension.header["AGAIN_01"], extension.header["ARDNS_01"] = GAIN, READ_NOISE
    path = folder / f"a{name}.fits"
    other = fits.ImageHDU(np.zeros((4, 4), np.float32), name="GUIDER")
    fits.HDUList([fits.PrimaryHDU(header=header), other, extension]).writeto(path)
    return path


def _write_fz(
    folder: Path, kind: str, name: str, counts: Image, header: fits.Header, random: np.random.Generator
) -> Path:
    header["INSTRUME"], header["IMAGETYP"] = "squeezed", kind.upper()
    header["OBJECT"], header["FILTER"], header["AIRMASS"] = "M 67", "R", 1.3
    header["EGAIN"], header["RDNOISE"], header["XBINNING"], header["YBINNING"] = GAIN, READ_NOISE, 1, 1
    path = folder / f"b{name}.fits.fz"
    image = fits.CompImageHDU(np.rint(counts).astype(np.uint16), header)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    return path


def _write_mute(
    folder: Path, kind: str, name: str, counts: Image, header: fits.Header, random: np.random.Generator
) -> Path:
    word = "M67" if kind == "object" else kind
    moment = header["DATE-OBS"].replace("-", "").replace(":", "")
    path = folder / f"mute_{word}_{moment}_{header['EXPTIME']:.0f}s_{name}.fits"
    fits.PrimaryHDU(np.rint(counts).astype(np.uint16)).writeto(path)
    return path


def sky_is_right(made: ThreeCameras, group: Group) -> None:
    """Check a stack's pixels against the sky above the atmosphere, by the noise that they claim."""
    with fits.open(Layout(made.settings, group).stack) as hdus:
        header, image, variance = hdus[0].header, hdus["SCI"].data, hdus["VAR"].data
    sky = SKY * 10.0 ** (0.4 * header["EXTK"] * header["AIRMASS"])
    pull = (image - sky) / np.sqrt(variance)
    assert image.shape == SHAPE
    assert abs(np.mean(pull)) < 0.3  # the masters' noise is common to many pixels
    assert 0.85 < np.mean(pull**2) < 1.15
