"""ISR, instrument signature removal: bias, dark, gain, variance, flat and flags, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from nightdesk.errors import FrameError, SetupError
from nightdesk.io.airmass import Airmass, find_airmass
from nightdesk.io.frame import WARNING, Frame, RowFrame, Rows
from nightdesk.io.header import add_step, inherit_header, put_card, require_number
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED
from nightdesk.io.raw import RawFacts, read_facts
from nightdesk.manifest import FileState, forget_loss, renew_raw
from nightdesk.science import notebook
from nightdesk.science.cosmic_ray import flag_cosmic_rays
from nightdesk.science.isr import remove_signature
from nightdesk.steps.batch import Passage, Step, run_steps
from nightdesk.steps.calibration import BAD_PIXELS, GAIN, Calibration, bias_in_dark, dark_scale, size_words
from nightdesk.steps.raw_image import RawImage, read_raw_image
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.io.master import Master
    from nightdesk.science.planes import Planes
    from nightdesk.settings import Settings


PLANES = ("bias", "bias_variance", "dark", "dark_variance", "flat", "flat_variance", "bad_pixels")
"""Arguments of `remove_signature` that are planes, if they are given."""


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
    from nightdesk.steps import fused

    if fused.applies(settings, group):
        fused.check(settings, group, names)
        return
    work = Work.open(settings, group)
    run_steps(work, [step(work)], names)


def step(work: Work) -> Step:
    """Return what the step does for each frame.

    Parameters
    ----------
    work : Work
        The group.

    Returns
    -------
    Step
        With masters that are read once.
    """
    calibration = Calibration(work)
    return Step("isr", lambda passage: _reduce(passage, calibration))


def _reduce(passage: Passage, calibration: Calibration) -> None:
    work, name = passage.work, passage.name
    path = work.raw_path(name)
    state = FileState.of(work.layout, path)
    if not work.is_current(POST_ISR, name):
        for later in (EXTINCTION, SHIFTED):
            work.layout.product(later, name).unlink(missing_ok=True)
        require_member(work, read_facts(work.settings, path, size=state.size, mtime_ns=state.mtime_ns))
        raw = read_raw_image(work.settings, path, work.settings.instrument_of(work.group))
        airmass = require_sound(work, raw)
        reduce = _notebook_frame if work.notebook else _standard_frame
        frame = reduce(work, calibration, raw)
        tell_airmass(frame.header, airmass)
        passage.make(POST_ISR, frame)
    passage.at_last(lambda: _note_good(work, name, state))


def _note_good(work: Work, name: str, state: FileState) -> None:
    forget_loss(work.layout, name)
    if not work.inputs.knows(state):
        renew_raw(work.layout, state)


def require_sound(work: Work, raw: RawImage) -> Airmass:
    """Refuse a raw that is a colour mosaic, of another shape or without an airmass.

    Parameters
    ----------
    work : Work
        The group.
    raw : RawImage
        The raw; of its pixels the shape alone counts.

    Returns
    -------
    Airmass
        Of the exposure.

    Raises
    ------
    FrameError
        Saying what is wrong and what to do.
    """
    _refuse_mosaic(raw.path, raw.header)
    _check_shape(work, raw.path, raw.pixels)
    return find_airmass(work.settings, work.settings.instrument_of(work.group), raw.header, raw.path.name)


def require_member(work: Work, facts: RawFacts) -> None:
    """Refuse a raw that is cut short, or that is no longer of this group since it was mended.

    Parameters
    ----------
    work : Work
        The group.
    facts : RawFacts
        Of the raw as it is now.

    Raises
    ------
    FrameError
        Saying what is wrong and what to do.
    """
    file_name = facts.path.rpartition("/")[2]
    if facts.kind == "rejected":
        raise FrameError(f"{file_name}: {facts.reason}.")
    if not facts.complete:
        raise FrameError(
            f"{file_name}: it is cut short: {facts.size:,} bytes, at least {facts.missing:,} fewer than its headers "
            "say. Copy it again, then clear this task with its downstream."
        )
    if facts.kind != "science" or not _same_group(work, facts):
        is_now = f"{facts.night}/{facts.target}/{facts.filter_name}" if facts.kind == "science" else facts.kind
        raise FrameError(f"{file_name}: its header now says {is_now}, not {work.group.key}. Clear the whole run.")


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
            f"{path.name}: it is {size_words(pixels.shape)} pixels, the group's other frames are {size_words(shape)}. "
            "Remove it, or give it its own target name in the header."
        )


def tell_airmass(header: fits.Header, airmass: Airmass) -> None:
    """Say in a product's header which airmass was used.

    Parameters
    ----------
    header : Header
        Of the product.
    airmass : Airmass
        Of the exposure.
    """
    given = airmass.source == "configuration"
    put_card(header, "AIRMASS", airmass.value, "airmass given by configuration" if given else "effective airmass")
    put_card(header, "AIRMSRC", airmass.source, "where the airmass comes from")
    if airmass.warning:
        header[WARNING] = airmass.warning.encode("ascii", "replace").decode()
        add_step(header, f"Warning: {header[WARNING]}.")


def _notebook_frame(work: Work, calibration: Calibration, raw: RawImage) -> RowFrame:
    masters = calibration.masters(raw.pixels.shape)
    gain, product = describe_notebook(work, raw)

    def _block(first: int, last: int) -> Rows:
        planes = (raw.pixels, masters["bias"].data, masters["flat"].data)
        counts, bias, flat = (plane[first:last] for plane in planes)
        return Rows(*notebook.calibrate(counts, bias, flat, gain))

    return RowFrame(_shape_of(raw), product, _block, standard=False)


def _shape_of(raw: RawImage) -> tuple[int, int]:
    return raw.pixels.shape[0], raw.pixels.shape[1]


def describe_notebook(work: Work, raw: RawImage) -> tuple[float, fits.Header]:
    """Return a raw's gain and its product's header, as the notebook profile has them.

    Parameters
    ----------
    work : Work
        The group.
    raw : RawImage
        The raw.

    Returns
    -------
    gain : float
        In e-/ADU.
    header : Header
        Without the recipe.

    Raises
    ------
    FrameError
        If its header has no gain.
    """
    keywords = work.settings.instrument_of(work.group).keywords
    gain = raw.gain if raw.joined else None
    if gain is None:
        gain, _ = require_number(raw.header, raw.path.name, keywords.gain, what=GAIN, setting="gain", above=0)
    product = inherit_header(raw.header)
    raw.describe(product)
    return gain, product


def _standard_frame(work: Work, calibration: Calibration, raw: RawImage) -> Frame | RowFrame:
    arguments, product = describe_standard(work, calibration, raw)
    if work.settings.filter_of(work.group).cosmic_rays == "astroscrappy":
        planes = remove_signature(raw.pixels, **arguments)
        planes = _without_cosmic_rays(planes, float(np.sqrt(np.mean(np.square(arguments["read_noise"])))))
        add_step(product, "Cosmic rays: flagged by astroscrappy.")
        return Frame(planes.data, planes.variance, planes.shared_variance, planes.flags, product)

    def _block(first: int, last: int) -> Rows:
        rows = slice(first, last)
        part = {name: value[rows] if _has_rows(name, value) else value for name, value in arguments.items()}
        planes = remove_signature(raw.pixels[rows], **part)
        return Rows(planes.data, planes.variance, planes.shared_variance, planes.flags)

    return RowFrame(_shape_of(raw), product, _block, standard=True)


def _has_rows(name: str, value: Any) -> bool:
    """Tell whether an argument is a plane; what is scaled on reading is not to be asked how many axes it has."""
    return value is not None and (name in PLANES or (name in ("read_noise", "saturation") and np.ndim(value) == 2))


def describe_standard(work: Work, calibration: Calibration, raw: RawImage) -> tuple[dict[str, Any], fits.Header]:
    """Return what `remove_signature` takes for a raw, and the product's header; no pixel is looked at.

    Parameters
    ----------
    work : Work
        The group.
    calibration : Calibration
        Its masters.
    raw : RawImage
        The raw; of its pixels the shape alone counts.

    Returns
    -------
    arguments : dict
        Keyword arguments.
    header : Header
        Without the recipe.

    Raises
    ------
    FrameError
        If its header lacks a figure.
    SetupError
        If a master does not fit.
    """
    keywords = work.settings.instrument_of(work.group).keywords
    path, header, shape = raw.path, raw.header, raw.pixels.shape
    gain, noise, noise_source = calibration.amplifier(raw)
    exposure, _ = require_number(
        header, path.name, keywords.exposure, what="exposure time, s", setting="exposure", above=0
    )
    masters = calibration.masters(shape)
    bias, dark = masters.get("bias"), masters.get("dark")
    flat, flat_variance = calibration.flat(shape)
    contains_bias = dark is not None and dark.contains_bias
    arguments = {
        "gain": gain,
        "read_noise": noise,
        "bias": bias.data if bias else _no_bias(work, shape, contains_bias=contains_bias),
        "bias_variance": bias.variance if bias else None,
        "dark": dark.data if dark else None,
        "dark_variance": dark.variance if dark else None,
        "dark_contains_bias": contains_bias,
        "dark_scale": dark_scale(work, path, dark, exposure),
        "bias_in_dark": bias_in_dark(bias, dark),
        "flat": flat,
        "flat_variance": flat_variance,
        "saturation": raw.saturation,
        "bad_pixels": calibration.bad_pixels(shape),
        "flat_limit": work.settings.calibs.flat_limit,
    }
    product = inherit_header(header)
    raw.describe(product)
    typical = float(np.sqrt(np.mean(np.square(noise))))
    _describe(product, work, masters, gain=gain, noise=typical, noise_source=noise_source)
    return arguments, product


def _no_bias(work: Work, shape: tuple[int, ...], *, contains_bias: bool) -> NDArray[Any] | None:
    """Return a bias of zero where the configuration says that none is subtracted."""
    if contains_bias or work.settings.instrument_of(work.group).bias == "required":
        return None
    return np.broadcast_to(np.zeros(1), shape)


def _without_cosmic_rays(planes: Planes, noise: float) -> Planes:
    try:
        return flag_cosmic_rays(planes, read_noise=noise)
    except ValueError as error:
        raise SetupError(f'[filters.(name)] cosmic_rays = "astroscrappy": {error}') from error


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
    put_card(header, "EGAIN", 1.0, "e- per unit: the image is in electrons")
    put_card(header, "NDGAIN", gain, "e-/ADU that the raw was multiplied by")
    put_card(header, "RDNOISE", noise, "read noise (e-)")
    put_card(header, "RDNSRC", noise_source, "where the read noise stood")
    for role, keyword in (("bias", "BIAS"), ("dark", "DARK"), ("flat", "FLAT")):
        master = masters.get(role)
        put_card(header, f"{keyword}COR", master is not None, f"whether a master {role} was used")
        if master is not None:
            put_card(header, f"{keyword}FIL", work.layout.relative(master.path))
            if (days := work.masters.distances.get(role)) is not None:
                put_card(header, f"{keyword}DAY", days, f"days from the night to that of the {role}")
    if "dark" in masters:
        put_card(header, "DARKBIAS", masters["dark"].contains_bias, "whether that dark contains the bias")
    noiseless = [role for role, master in masters.items() if master.variance is None and role != BAD_PIXELS]
    put_card(header, "NOISECAL", not noiseless, "whether VAR contains the masters' noise")
    what = ", ".join(
        role if role in masters else f"no {role} (the configuration says so)"
        for role in ("bias", "dark", "flat")
        if role in masters or role == "flat" or (role == "bias" and "dark" not in masters)
    )
    add_step(header, f"ISR: {what}; gain {gain:g} e-/ADU, read noise {noise:g} e- ({noise_source}).")
    if BAD_PIXELS in masters:
        add_step(header, f"Bad pixels: flagged by {work.layout.relative(masters[BAD_PIXELS].path)}.")
