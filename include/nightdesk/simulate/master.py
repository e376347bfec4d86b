"""Simulated masters: each pixel is the mean of so many calibration frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightdesk.group import clean_name
from nightdesk.simulate.programme import Programme
from nightdesk.simulate.raw import Card, write_fits
from nightdesk.simulate.seed import random_for

Image = NDArray[np.float64]


def write_masters(programme: Programme, dark_master: bool) -> Iterator[Path]:
    """Write bias, flats and (if asked for) dark, and yield their paths."""
    folder, camera = programme.root / "calibs", programme.camera
    noise = (camera.read_noise / camera.gain) ** 2 + 1.0 / 12.0  # of one bias frame, ADU squared
    variance = np.full(programme.shape, noise)
    yield _write_master(programme, folder / "bias2x2.fits", programme.chip.bias, variance, "bias")
    if dark_master:
        longest = max(programme.exposures.values())
        dark = programme.chip.dark_rate * longest / camera.gain
        cards: list[Card] = [("EXPTIME", longest, "[s] exposure time"), ("DARKBIAS", False, "free of bias")]
        # The dark frames' own noise and that of the bias taken off them.
        variance = dark / camera.gain + 2.0 * noise
        yield _write_master(programme, folder / "dark2x2.fits", dark, variance, "dark", cards)
    for name, flat in programme.flats.items():
        path = folder / f"{clean_name(name)}flatnorm2x2.fits"
        variance = flat / (camera.flat_level * camera.gain) + noise / camera.flat_level**2
        yield _write_master(programme, path, flat, variance, "flat", [("FILTER", name, "name of filter")])


def _write_master(
    programme: Programme, path: Path, perfect: Image, variance: Image, kind: str, cards: Sequence[Card] = ()
) -> Path:
    """Write a master from its perfect self and the variance of one of the frames it is made of."""
    count = programme.calibration_frames
    header: list[Card] = [
        ("IMAGETYP", kind, "type of frame"),
        ("INSTRUME", "pt5m", "instrument"),
        ("XBINNING", 2, "binning along x"),
        ("YBINNING", 2, "binning along y"),
        ("BUNIT", "" if kind == "flat" else "adu", "unit"),
        ("NCOMBINE", count, "frames it is the mean of; 0: free of noise"),
        *cards,
    ]
    master, master_variance = perfect, None
    if count:
        master_variance = variance / count
        master = perfect + random_for(programme.seed, path.name).normal(0.0, np.sqrt(master_variance))
    if kind == "flat":
        master = master / np.median(master)
    write_fits(path, master.astype(np.float32), header, master_variance)
    return path
