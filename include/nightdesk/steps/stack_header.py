"""The header of a stack: what its pixels mean, when and through which air they were taken, and what they came from."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nightdesk import __version__
from nightdesk.io.header import add_step, find_number, find_text, read_steps
from nightdesk.night import parse_moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.io import fits

    from nightdesk.steps.recipe import Work

_OF_ONE_FRAME = (
    "DATE-OBS",
    "EXPOSURE",
    "XSHIFT",
    "YSHIFT",
    "FLIPPED",
    "ROTATED",
    "RESCALED",
    "ALIGNWAY",
    "ARESID",
    "ARESN",
    "ARESKNWN",
    "JD",
    "MJD-OBS",
    "UTSTART",
    "UT",
    "HISTORY",
    "COMMENT",
    "",
)


def stack_header(work: Work, names: Sequence[str], headers: Sequence[fits.Header]) -> fits.Header:
    """Return a stack's header from those of its frames, the first of which gives the WCS and whatever else is common.

    Parameters
    ----------
    work : Work
        The group.
    names : sequence of str
        The frames, in the order of combination.
    headers : sequence of Header
        Of their aligned products.

    Returns
    -------
    Header
        Without the figures that only the pixels tell (RDNOISE, NREJ, NOISERAT).
    """
    header = headers[0].copy()
    for keyword in _OF_ONE_FRAME:
        header.remove(keyword, remove_all=True, ignore_missing=True)
    settings = work.settings.combine
    add_names(header, names)
    header["COMBMETH"] = (settings.method, "how they were combined")
    _add_times(header, work, names, headers)
    _add_airmass(header, work, names, headers)
    header["GAIN"] = (1.0, "e- per unit: the image is in electrons")
    header["RDNOISE"] = (0.0, "read noise of the stack (e-)")
    header["NDVERS"] = (__version__, "version of Nightdesk")
    header["NDCONF"] = work.settings_hash
    _add_steps(header, names, headers)
    add_step(header, _extinction(headers))
    if any("NREPAIR" in one for one in headers):
        header["NREPAIR"] = (sum(int(one.get("NREPAIR", 0)) for one in headers), "header values repaired in its raws")
    _add_residuals(header, headers)
    add_step(header, f"Align: {_ways(headers)} onto the grid of {names[0]}, footprint {settings.footprint}.")
    return header


_OF_ISR = ("Repair:", "Overscan:", "Trim:", "Amplifiers:", "ISR:", "Bad pixels:", "Cosmic rays:", "Warning:")
_OF_EACH = ("Repair:", "Warning:")


def _add_steps(header: fits.Header, names: Sequence[str], headers: Sequence[fits.Header]) -> None:
    """Copy what was done to the first frame before its extinction, and what was peculiar to others."""
    common = [step for step in read_steps(headers[0]) if step.startswith(_OF_ISR)]
    for step in common:
        add_step(header, step)
    for name, one in zip(names[1:], headers[1:], strict=True):
        for step in read_steps(one):
            if step.startswith(_OF_EACH) and step not in common:
                word, _, rest = step.partition(":")
                add_step(header, f"{word} ({name}):{rest}")


def _extinction(headers: Sequence[fits.Header]) -> str:
    """Return in a sentence how the frames came above the atmosphere."""
    given = [one for one in headers if "EXTK" not in one]
    if len(given) == len(headers):
        return "Extinction: the raws were corrected already (EXTCORR = T)."
    k = next(one["EXTK"] for one in headers if "EXTK" in one)
    already = f"; {len(given)} of {len(headers)} frames were corrected already" if given else ""
    return f"Extinction: to above the atmosphere, k = {k:g} mag/airmass{already}."


_WAYS = {"integer": "whole pixels", "subpixel": "fractions of pixels", "similarity": "similarities"}


def _ways(headers: Sequence[fits.Header]) -> str:
    ways = " and ".join(words for way, words in _WAYS.items() if any(one.get("ALIGNWAY") == way for one in headers))
    turned = sum(bool(one.get("FLIPPED")) for one in headers)
    return f"{ways or 'whole pixels'}{f' ({turned} frames turned by 180 degrees)' if turned else ''}"


def _add_residuals(header: fits.Header, headers: Sequence[fits.Header]) -> None:
    for number, one in enumerate(headers, start=1):
        if "ARESID" in one:
            header[f"ARES{number:04d}"] = (one["ARESID"], "px at most left to the reference's stars")
            header[f"ARSN{number:04d}"] = (one["ARESN"], "stars that told it; 0: the reference frame")


def add_names(header: fits.Header, names: Sequence[str]) -> None:
    """Write down which frames a stack is made of.

    Parameters
    ----------
    header : Header
        The stack's; changed in place.
    names : sequence of str
        The frames, in the order of combination.
    """
    header["NCOMBINE"] = (len(names), "frames combined")
    for number, name in enumerate(names, start=1):
        header[_name_keyword(number)] = (name, "a frame combined")


def read_names(header: fits.Header) -> list[str]:
    """Return the frames that a stack is made of.

    Parameters
    ----------
    header : Header
        The stack's.

    Returns
    -------
    list of str
        Their names, in the order of combination.
    """
    return [str(header[_name_keyword(number)]) for number in range(1, int(header.get("NCOMBINE", 0)) + 1)]


def _name_keyword(number: int) -> str:
    return f"IMCMB{number:03d}" if number < 1000 else f"IMCM{number:04d}"


def _add_times(header: fits.Header, work: Work, names: Sequence[str], headers: Sequence[fits.Header]) -> None:
    times = exposures(work, names, headers)
    meant = math.fsum(times) / len(times) if work.settings.combine.scale == "none" else times[0]
    header["EXPTIME"] = (meant, "exposure that the pixels mean (s)")
    header["TEXPTIME"] = (math.fsum(times), "exposure of all frames (s)")
    starts = [_start(work, name, one) for name, one in zip(names, headers, strict=True)]
    known = [(start, seconds) for start, seconds in zip(starts, times, strict=True) if start is not None]
    if not known:
        return
    header["DATE-BEG"] = (_iso(min(start for start, _ in known)), "start of the first frame (UTC)")
    header["DATE-END"] = (
        _iso(max(start + timedelta(seconds=s) for start, s in known)),
        "end of the last frame (UTC)",
    )
    middles = [(start + timedelta(seconds=seconds / 2)).timestamp() for start, seconds in known]
    weights = [seconds or 1.0 for _, seconds in known]
    average = math.fsum(m * w for m, w in zip(middles, weights, strict=True)) / math.fsum(weights)
    header["DATE-AVG"] = (_iso(datetime.fromtimestamp(average, UTC)), "exposure-weighted middle (UTC)")


def exposures(work: Work, names: Sequence[str], headers: Sequence[fits.Header]) -> list[float]:
    """Return each frame's exposure time in seconds, 0 where it is unknown.

    Parameters
    ----------
    work : Work
        The group.
    names : sequence of str
        The frames.
    headers : sequence of Header
        Of their products.

    Returns
    -------
    list of float
        In the order of the names.
    """
    sources = work.settings.instrument_of(work.group).keywords.exposure
    files = [work.raw_path(name).name for name in names]
    return [find_number(header, file, sources) or 0.0 for file, header in zip(files, headers, strict=True)]


def _start(work: Work, name: str, header: fits.Header) -> datetime | None:
    keywords = work.settings.instrument_of(work.group).keywords
    file = work.raw_path(name).name
    day, clock = find_text(header, file, keywords.date), find_text(header, file, keywords.time)
    try:
        return parse_moment(day, clock) if day else None
    except ValueError:
        return None  # its night came from the configuration


def _iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _add_airmass(header: fits.Header, work: Work, names: Sequence[str], headers: Sequence[fits.Header]) -> None:
    airmasses = [float(one["AIRMASS"]) for one in headers if isinstance(one.get("AIRMASS"), (int, float))]
    if len(airmasses) != len(headers):
        return
    weights = [seconds or 1.0 for seconds in exposures(work, names, headers)]
    mean = math.fsum(a * w for a, w in zip(airmasses, weights, strict=True)) / math.fsum(weights)
    header["AIRMASS"] = (mean, "exposure-weighted mean airmass")
    header["AIRMSTRT"] = (airmasses[0], "airmass of the first frame")
    header["AIRMEND"] = (airmasses[-1], "airmass of the last frame")


def read_noise_of(header: fits.Header) -> float:
    """Return the read noise that a frame's pixels carry above the atmosphere.

    Parameters
    ----------
    header : Header
        Of the frame.

    Returns
    -------
    float
        In electrons; 0 where it is unknown.
    """
    factor: float = 10.0 ** (0.4 * float(header.get("EXTK", 0.0)) * float(header.get("AIRMASS", 0.0)))
    return float(header.get("RDNOISE", 0.0)) * factor
