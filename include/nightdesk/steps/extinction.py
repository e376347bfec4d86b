"""Extinction: each frame as it would be above the atmosphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightdesk.desk.card import has_frame_card, write_frame_card
from nightdesk.io.frame import Frame, RowFrame, Rows, read_frame
from nightdesk.io.header import add_step, put_card
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED
from nightdesk.science import notebook
from nightdesk.science.extinction import correct_extinction, extinction_factor
from nightdesk.steps.batch import Passage, Step, run_steps
from nightdesk.steps.coefficient import find_coefficient
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightdesk.group import Group
    from nightdesk.settings import Settings


def run(settings: Settings, group: Group, names: Sequence[str], *, pictures: bool = True) -> None:
    """Correct a batch of frames for extinction and write them to ``extinction``.

    Parameters
    ----------
    settings : Settings
        The observatory's settings; the coefficient (mag/airmass) is the filter's.
    group : Group
        The group.
    names : sequence of str
        Frame names; those that `isr` lost are passed over.
    pictures : bool
        Whether the frames are measured and drawn for the web pages.

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
    run_steps(work, [step(pictures=pictures)], names)


def step(*, pictures: bool) -> Step:
    """Return what the step does for each frame.

    Parameters
    ----------
    pictures : bool
        Whether the frames are measured and drawn for the web pages.

    Returns
    -------
    Step
        To be run.
    """

    def _one(passage: Passage) -> None:
        _correct(passage)
        if pictures:
            passage.at_last(lambda: _draw(passage.work, passage.name))

    return Step("extinction", _one)


def _correct(passage: Passage) -> None:
    work, name = passage.work, passage.name
    if work.is_current(EXTINCTION, name):
        return
    frame = passage.frame(POST_ISR)
    work.layout.product(SHIFTED, name).unlink(missing_ok=True)
    passage.make(EXTINCTION, frame if frame.header.get("EXTCORR") is True else above_atmosphere(work, name, frame))


def _draw(work: Work, name: str) -> None:
    if not has_frame_card(work.layout, name, work.recipe(EXTINCTION, name)):
        frame = read_frame(work.layout.product(EXTINCTION, name))
        write_frame_card(work.layout, name, frame, file_name=work.raw_path(name).name)


def above_atmosphere(work: Work, name: str, frame: Frame | RowFrame) -> RowFrame:
    """Correct a frame for extinction, and say so in its header.

    Parameters
    ----------
    work : Work
        The group.
    name : str
        The frame.
    frame : Frame
        Of any shape, as `isr` left it; its header is changed.

    Returns
    -------
    RowFrame
        Without the recipe.
    """
    coefficient = find_coefficient(work.settings, work.group)
    airmass, k = float(frame.header["AIRMASS"]), coefficient.k
    header = frame.header
    put_card(header, "EXTCORR", True, "corrected for atmospheric extinction")
    put_card(header, "EXTK", k, "extinction coefficient (mag/airmass)")
    put_card(header, "EXTSIG", coefficient.sigma, "its error, common to all pixels, not in VAR")
    put_card(header, "EXTSRC", coefficient.source, "where it comes from")
    put_card(header, "EXTREF", "TOA", "the image is as above the atmosphere")
    factor = extinction_factor(airmass, k)
    add_step(
        header,
        f"Extinction: k = {k:g} mag/airmass at airmass {airmass:g}, a factor of {factor:.6f} ({coefficient.source}).",
    )

    def _block(first: int, last: int) -> Rows:
        rows = frame.block(first, last)
        if work.notebook:
            return Rows(notebook.correct(rows.data, airmass, k), rows.variance)
        data, variance = correct_extinction(rows.data, rows.variance, airmass=airmass, extinction_coefficient=k)
        shared = None if rows.shared_variance is None else rows.shared_variance.astype("f8") * factor**2
        return Rows(data, variance, shared, rows.flags)

    return RowFrame(frame.shape, header, _block, standard=frame.standard)
