"""A master's file: image, VAR, DQ and PROVENANCE, the same bytes for the same frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from nightdesk import __version__
from nightdesk.io.frame import RECIPE
from nightdesk.io.hdu import write_hdus
from nightdesk.io.header import add_step
from nightdesk.io.inventory import hash_file
from nightdesk.science.flag import FLAG_MEANINGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nightdesk.io.calibration_set import CalibrationSet
    from nightdesk.science.master import MasterPlanes
    from nightdesk.settings import Settings
    from nightdesk.steps.raw_image import RawImage

_INHERITED = ("INSTRUME", "TELESCOP", "DETECTOR", "READOUTM", "TRIM", "OVERSCAN", "OVERMETH")


def write_master(
    settings: Settings,
    chosen: CalibrationSet,
    planes: MasterPlanes,
    *,
    frames: Sequence[RawImage],
    cards: Mapping[str, Any],
    masters: Sequence[tuple[str, Path]],
    recipe: str,
) -> None:
    """Write a master with its variance, flags and provenance.

    Parameters
    ----------
    settings : Settings
        For the data root.
    chosen : CalibrationSet
        What it is, for what, and where it goes.
    planes : MasterPlanes
        Its arrays.
    frames : sequence of RawImage
        The frames it is made of, in order.
    cards : mapping
        Header cards of its kind.
    masters : sequence of (role, Path)
        The masters that were taken off its frames.
    recipe : str
        The hash of all that it is made from.
    """
    instrument = settings.instruments[chosen.wanted.instrument or next(iter(settings.instruments))]
    modes = [source for source in instrument.keywords.readout_mode if isinstance(source, str)]
    header = _header(chosen, frames, cards, (*_INHERITED, *modes))
    for role, path in masters:
        header[f"{role.upper()}FIL"] = path.relative_to(settings.root).as_posix()
    header["NDVERS"] = (__version__, "version of Nightdesk")
    header[RECIPE] = recipe
    add_step(header, _history(chosen, len(frames), masters))
    for frame in frames:
        for repair in frame.repairs:
            add_step(header, f"Repair: {repair.keyword} = {repair.value!r} in {frame.path.name}: {repair.reason}.")
    hdus: list[Any] = [fits.PrimaryHDU(planes.data.astype(np.float32), header)]
    if planes.variance is not None:
        hdus.append(_variance(planes.variance, str(header.get("BUNIT", ""))))
    if planes.flags.any():
        hdus.append(_flags(planes))
    hdus.append(_provenance(chosen, frames, masters))
    write_hdus(chosen.path, hdus)


def _header(
    chosen: CalibrationSet, frames: Sequence[RawImage], cards: Mapping[str, Any], inherited: Sequence[str]
) -> fits.Header:
    header, first, wanted = fits.Header(), frames[0].header, chosen.wanted
    header["IMAGETYP"] = (chosen.kind, "type of frame")
    for keyword in inherited:
        if keyword in first:
            header[keyword] = (first[keyword], first.comments[keyword])
    x, _, y = wanted.binning.partition("x")
    header["XBINNING"], header["YBINNING"] = float(x or 0), float(y or 0)
    if wanted.temperature is not None:
        header["CCD-TEMP"] = (wanted.temperature, "[C] temperature of the detector")
    header["NIGHT"] = (wanted.night.isoformat(), "local date of the evening")
    header["NCOMBINE"] = (len(frames), "frames combined")
    for number, frame in enumerate(frames, start=1):
        header[f"IMCMB{number:03d}" if number < 1000 else f"IMCM{number:04d}"] = (frame.path.name, "a frame combined")
    for keyword, card in cards.items():
        header[keyword] = card
    return header


def _history(chosen: CalibrationSet, number: int, masters: Sequence[tuple[str, Path]]) -> str:
    off = " and ".join(role for role, _ in masters)
    return f"Master {chosen.kind}: clipped mean of {number} frames" + (f", {off} taken off." if off else ".")


def _variance(variance: NDArray[np.float64], unit: str) -> fits.ImageHDU:
    hdu = fits.ImageHDU(variance.astype(np.float32), name="VAR")
    hdu.header["BUNIT"] = (f"{unit}2" if unit else "", "unit of the image")
    hdu.header["UTYPE"] = ("VarianceUncertainty", "for astropy's CCDData")
    return hdu


def _flags(planes: MasterPlanes) -> fits.ImageHDU:
    hdu = fits.ImageHDU(planes.flags, name="DQ")
    for number, (bit, meaning) in enumerate(FLAG_MEANINGS.items()):
        hdu.header[f"MSKN{number:04d}"] = (meaning, "meaning of a flag")
        hdu.header[f"MSKM{number:04d}"] = (bit, f"its bit in DQ: {meaning}")
    return hdu


def _provenance(
    chosen: CalibrationSet, frames: Sequence[RawImage], masters: Sequence[tuple[str, Path]]
) -> fits.BinTableHDU:
    rows = [(chosen.kind, frame.path) for frame in frames] + [(f"master {role}", path) for role, path in masters]
    columns = [
        fits.Column("ROLE", f"{max(len(role) for role, _ in rows)}A", array=[role for role, _ in rows]),
        fits.Column("FILE", f"{max(len(path.name) for _, path in rows)}A", array=[path.name for _, path in rows]),
        fits.Column("SHA256", "64A", array=[hash_file(path) for _, path in rows]),
    ]
    return fits.BinTableHDU.from_columns(columns, name="PROVENANCE")
