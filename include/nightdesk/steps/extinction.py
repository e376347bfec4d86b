"""Extinction: each frame as it would be above the atmosphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightdesk.desk.card import has_frame_card, write_frame_card
from nightdesk.io.frame import RECIPE, Frame, read_frame, write_frame
from nightdesk.io.header import add_step
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED
from nightdesk.science import notebook
from nightdesk.science.extinction import correct_extinction, extinction_factor
from nightdesk.steps.batch import run_batch
from nightdesk.steps.coefficient import find_coefficient
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightdesk.group import Group
    from nightdesk.settings import Settings


def run(settings: Settings, group: Group, names: Sequence[str]) -> None:
    """Correct a batch of frames for extinction and write them to ``extinction``.

    Parameters
    ----------
    settings : Settings
        The observatory's settings; the coefficient (mag/airmass) is the filter's.
    group : Group
        The group.
    names : sequence of str
        Frame names; those that `isr` lost are passed over.

    Raises
    ------
    FrameError
        After the good frames are written, naming the bad ones.
    FrameLost
        If `isr` lost all of them.
    StaleProduct
        If `isr` has not yet made a frame's product from its raw as it is now.
    """
    from nightdesk.steps import fused

    if fused.applies(settings, group):
        fused.pass_over(settings, group, names)
        return
    work = Work.open(settings, group)
    run_batch(work, "extinction", names, lambda name: _correct(work, name))


def _correct(work: Work, name: str) -> None:
    if work.is_current(EXTINCTION, name):
        if not has_frame_card(work.layout, name):
            _describe(work, name, read_frame(work.layout.product(EXTINCTION, name)))
        return
    frame = read_frame(work.require(POST_ISR, name))
    work.layout.product(SHIFTED, name).unlink(missing_ok=True)
    corrected = frame if frame.header.get("EXTCORR") is True else above_atmosphere(work, name, frame)
    corrected.header[RECIPE] = work.recipe(EXTINCTION, name)
    write_frame(work.layout.product(EXTINCTION, name), corrected, depth=work.settings.depth)
    _describe(work, name, corrected)


def _describe(work: Work, name: str, frame: Frame) -> None:
    write_frame_card(work.layout, name, frame, file_name=work.raw_path(name).name)


def above_atmosphere(work: Work, name: str, frame: Frame) -> Frame:
    """Correct a frame for extinction, and say so in its header.

    Parameters
    ----------
    work : Work
        The group.
    name : str
        The frame.
    frame : Frame
        Of any shape, as `isr` left it.

    Returns
    -------
    Frame
        Without the recipe.
    """
    coefficient = find_coefficient(work.settings, work.group)
    airmass, k = float(frame.header["AIRMASS"]), coefficient.k
    header = frame.header.copy()
    header["EXTCORR"] = (True, "corrected for atmospheric extinction")
    header["EXTK"] = (k, "extinction coefficient (mag/airmass)")
    header["EXTSIG"] = (coefficient.sigma, "its error, common to all pixels, not in VAR")
    header["EXTSRC"] = (coefficient.source, "where it comes from")
    header["EXTREF"] = ("TOA", "the image is as above the atmosphere")
    factor = extinction_factor(airmass, k)
    add_step(
        header,
        f"Extinction: k = {k:g} mag/airmass at airmass {airmass:g}, a factor of {factor:.6f} ({coefficient.source}).",
    )
    if work.notebook:
        return Frame(notebook.correct(frame.data, airmass, k), frame.variance, None, None, header)
    data, variance = correct_extinction(frame.data, frame.variance, airmass=airmass, extinction_coefficient=k)
    shared = None if frame.shared_variance is None else frame.shared_variance.astype("f8") * factor**2
    return Frame(data, variance, shared, frame.flags, header)
