"""ISR, instrument signature removal: bias, dark, gain, variance, flat and flags, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from nightdesk.errors import FrameError, SetupError
from nightdesk.io.frame import RECIPE, Frame, read_raw, write_frame
from nightdesk.io.header import inherit_header, require_number
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED
from nightdesk.io.master import Master, read_master
from nightdesk.io.raw import RawFacts, read_facts
from nightdesk.manifest import FileState, forget_loss, renew_raw
from nightdesk.science import notebook
from nightdesk.science.flat import normalise_flat
from nightdesk.science.isr import remove_signature
from nightdesk.steps.batch import run_batch
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.settings import Settings

DARK_EXPOSURE_TOLERANCE = 0.01


def run(settings: Settings, group: Group, names: Sequence[str]) -> None:
    """Remove the instrument's signature from a batch of raws and write them to ``postISR``.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    names : sequence of str
        Frame names, as `list_frames` gave them.

    Raises
    ------
    FrameError
        After the good frames are written, naming the bad ones and what to do.
    SetupError
        If a master is missing or does not fit.
    """
    work = Work.open(settings, group)
    calibration = _Calibration(work)
    run_batch(work, "isr", names, lambda name: _reduce(work, calibration, name))


def _reduce(work: Work, calibration: _Calibration, name: str) -> None:
    path = work.raw_path(name)
    state = FileState.of(work.layout, path)
    if not work.is_current(POST_ISR, name):
        for later in (EXTINCTION, SHIFTED):
            work.layout.product(later, name).unlink(missing_ok=True)
        _require_member(work, path, state)
        pixels, header = read_raw(path, work.settings.instrument_of(work.group))
        _refuse_mosaic(path, header)
        _check_shape(work, path, pixels)
        reduce = _notebook_frame if work.notebook else _standard_frame
        frame = reduce(work, calibration, path, pixels, header)
        frame.header[RECIPE] = work.recipe(POST_ISR, name)
        write_frame(work.layout.product(POST_ISR, name), frame, depth=work.settings.depth)
    forget_loss(work.layout, name)
    renew_raw(work.layout, state)


def _require_member(work: Work, path: Path, state: FileState) -> None:
    """Refuse a raw that is cut short, or that is no longer of this group since it was mended."""
    facts = read_facts(work.settings, path, size=state.size, mtime_ns=state.mtime_ns)
    if facts.kind == "rejected":
        raise FrameError(f"{path.name}: {facts.reason}.")
    if not facts.complete:
        raise FrameError(
            f"{path.name}: it is cut short: {facts.size:,} bytes, at least {facts.missing:,} fewer than its headers "
            "say. Copy it again, then clear this task with its downstream."
        )
    if facts.kind != "science" or not _same_group(work, facts):
        is_now = f"{facts.night}/{facts.target}/{facts.filter_name}" if facts.kind == "science" else facts.kind
        raise FrameError(f"{path.name}: its header now says {is_now}, not {work.group.key}. Clear the whole run.")


def _same_group(work: Work, facts: RawFacts) -> bool:
    group = work.group
    return (facts.night, facts.target.casefold(), facts.filter_name.casefold(), facts.instrument) == (
        group.night.isoformat(),
        group.target.casefold(),
        group.filter_name.casefold(),
        group.instrument,
    )


def _refuse_mosaic(path: Path, header: fits.Header) -> None:
    for keyword in ("BAYERPAT", "COLORTYP", "XBAYROFF"):
        if keyword in header and str(header[keyword]).strip().upper() not in ("", "MONO", "NONE"):
            raise FrameError(
                f"{path.name}: {keyword} = {header[keyword]!r} says that it is a colour mosaic, which is not reduced. "
                "Remove it, or debayer it first."
            )


def _check_shape(work: Work, path: Path, pixels: NDArray[Any]) -> None:
    shape = work.inputs.shape
    if shape and pixels.shape != shape:
        raise FrameError(
            f"{path.name}: it is {_size(pixels.shape)} pixels, the group's other frames are {_size(shape)}. Remove it, "
            "or give it its own target name in the header."
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(axis) for axis in reversed(shape))


@dataclass
class _Calibration:
    """The group's masters, read when the first frame needs them and checked against it."""

    work: Work
    _read: dict[str, Master] | None = None
    _flat: tuple[NDArray[Any], NDArray[Any] | None] | None = None

    def masters(self, shape: tuple[int, ...]) -> dict[str, Master]:
        if self._read is None:
            self._read = {role: read_master(path) for role, path in self.work.masters.by_role.items()}
        for role, master in self._read.items():
            if master.data.shape != shape:
                raise SetupError(
                    f"{self.work.layout.relative(master.path)}: the master {role} is {_size(master.data.shape)} "
                    f"pixels, the frames are {_size(shape)}. Put a master of the frames' size there, then clear this run."
                )
        return self._read

    def flat(self, shape: tuple[int, ...]) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        master = self.masters(shape).get("flat")
        if master is None:
            return None, None
        if self._flat is None:
            try:
                flat, variance, _ = normalise_flat(master.data, master.variance)
            except ValueError as error:
                raise SetupError(f"{self.work.layout.relative(master.path)}: {error}") from error
            self._flat = (flat, variance)
        return self._flat


def _notebook_frame(
    work: Work, calibration: _Calibration, path: Path, pixels: NDArray[Any], header: fits.Header
) -> Frame:
    keywords = work.settings.instrument_of(work.group).keywords
    masters = calibration.masters(pixels.shape)
    gain, _ = require_number(header, path.name, keywords.gain, what="gain, e-/ADU", setting="gain", above=0)
    _require_airmass(work, path, header)
    data, variance = notebook.calibrate(pixels, masters["bias"].data, masters["flat"].data, gain)
    return Frame(data, variance, None, None, inherit_header(header))


def _require_airmass(work: Work, path: Path, header: fits.Header) -> None:
    keywords = work.settings.instrument_of(work.group).keywords
    require_number(header, path.name, keywords.airmass, what="airmass", setting="airmass", least=1)


def _standard_frame(
    work: Work, calibration: _Calibration, path: Path, pixels: NDArray[Any], header: fits.Header
) -> Frame:
    instrument = work.settings.instrument_of(work.group)
    keywords = instrument.keywords
    gain, _ = require_number(header, path.name, keywords.gain, what="gain, e-/ADU", setting="gain", above=0)
    noise, noise_source = require_number(
        header, path.name, keywords.read_noise, what="read noise, e-", setting="read_noise", least=0
    )
    exposure, _ = require_number(
        header, path.name, keywords.exposure, what="exposure time, s", setting="exposure", least=0
    )
    _require_airmass(work, path, header)
    masters = calibration.masters(pixels.shape)
    bias, dark = masters.get("bias"), masters.get("dark")
    flat, flat_variance = calibration.flat(pixels.shape)
    contains_bias = dark is not None and dark.contains_bias
    planes = remove_signature(
        pixels,
        gain=gain,
        read_noise=noise,
        bias=bias.data if bias else None,
        bias_variance=bias.variance if bias else None,
        dark=dark.data if dark else None,
        dark_variance=dark.variance if dark else None,
        dark_contains_bias=contains_bias,
        dark_scale=_dark_scale(work, path, dark, exposure),
        flat=flat,
        flat_variance=flat_variance,
        saturation=instrument.saturation,
        flat_limit=work.settings.calibs.flat_limit,
    )
    product = inherit_header(header)
    _describe(product, work, masters, gain=gain, noise=noise, noise_source=noise_source)
    return Frame(planes.data, planes.variance, planes.shared_variance, planes.flags, product)


def _dark_scale(work: Work, path: Path, dark: Master | None, exposure: float) -> float:
    """Return by what a dark is multiplied: the ratio of exposure times, or 1 when the bias is still in it."""
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


def _describe(
    header: fits.Header,
    work: Work,
    masters: dict[str, Master],
    *,
    gain: float,
    noise: float,
    noise_source: str,
) -> None:
    """Say in the header, and in plain words in HISTORY, what was done."""
    header["EGAIN"] = (1.0, "e- per unit: the image is in electrons")
    header["NDGAIN"] = (gain, "e-/ADU that the raw was multiplied by")
    header["RDNOISE"] = (noise, "read noise (e-)")
    header["RDNSRC"] = (noise_source, "where the read noise stood")
    for role, keyword in (("bias", "BIAS"), ("dark", "DARK"), ("flat", "FLAT")):
        master = masters.get(role)
        header[f"{keyword}COR"] = (master is not None, f"whether a master {role} was used")
        if master is not None:
            header[f"{keyword}FIL"] = work.layout.relative(master.path)
    if "dark" in masters:
        header["DARKBIAS"] = (masters["dark"].contains_bias, "whether that dark contains the bias")
    noiseless = [role for role, master in masters.items() if master.variance is None]
    header["NOISECAL"] = (not noiseless, "whether VAR contains the masters' noise")
    what = ", ".join(
        "no flat (the configuration says so)" if role == "flat" and role not in masters else role
        for role in ("bias", "dark", "flat")
        if role in masters or role == "flat"
    )
    header.add_history(f"ISR: {what}; gain {gain:g} e-/ADU, read noise {noise:g} e- ({noise_source}).")
