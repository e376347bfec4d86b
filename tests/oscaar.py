"""Real frames of TrES-1 in a data root: what an observatory would set up to reduce them.

Eight lights and five darks of 60 s from an SBIG ST-10. There is no flat, OBJECT is blank, AIRMASS is missing and the
darks contain the bias; the telescope drifted by 118 pixels in x and 130 in y. The files are only copied: what their
headers lack the configuration supplies.
"""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import numpy as np
from astropy.io import fits

from tests.real_data import REAL_DATA, absent

FRAMES = REAL_DATA / "oscaar_tres1"
ABSENT = absent(FRAMES)

TARGET, FILTER, NIGHT = "tres1", "R", date(2012, 6, 16)
NAMES = [f"tres1-{number:03d}" for number in range(25, 201, 25)]

CONFIGURATION = """\
[data]
root = "."

[site]
name = "College Park"
timezone = "America/New_York"

[aliases.filters]
"Filter 2" = "R"

[filters.R]
extinction = 0.12
flat = "none"

[sidecar]
origin = 0

[instruments.st10.keywords]
target = ["OBJECT", { file = '^([a-z0-9]+)-\\d' }]
airmass = ["AIRMASS", 1.2]
gain = 1.28                          # EGAIN says 0.78; the scatter of the light itself says this
read_noise = 14.1                    # the darks scatter by 10.99 ADU
"""


def set_up(root: Path, *, sidecar: bool = True) -> Path:
    """Write configuration, master dark and (if asked for) positions below `root`, and return the configuration."""
    root.mkdir(parents=True, exist_ok=True)
    configuration = root / "observatory.toml"
    configuration.write_text(CONFIGURATION)
    write_master_dark(root / "calibs" / "dark2x2.fits")
    if sidecar:
        write_sidecar(root)
    return configuration


def write_master_dark(path: Path) -> None:
    """Write the plain median of the five darks, which have the bias in them."""
    darks = sorted(FRAMES.glob("tres1-*d.fit"))
    stack = np.stack([fits.getdata(dark) for dark in darks])
    header = fits.Header([("EXPTIME", 60.0, "[s]"), ("DARKBIAS", True, "the bias is in it"), ("NCOMBINE", len(darks))])
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.median(stack, axis=0).astype(np.float32), header).writeto(path, overwrite=True)


def write_sidecar(root: Path) -> Path:
    """Copy the star's positions to where the night's own are looked for."""
    path = root / "xys" / TARGET / FILTER / NIGHT.isoformat() / "xy.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FRAMES / "xy.csv", path)
    return path


def deliver(root: Path) -> list[Path]:
    """Copy lights and darks to where the camera would write them, and return the paths of the lights."""
    place = root / "raw" / NIGHT.isoformat()
    place.mkdir(parents=True, exist_ok=True)
    for frame in sorted(FRAMES.glob("tres1-*.fit")):
        shutil.copyfile(frame, place / frame.name)
    return [place / f"{name}.fit" for name in NAMES]
