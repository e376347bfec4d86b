"""Align: each frame on the grid of the reference frame, by the sidecar's positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nightdesk.errors import FrameError
from nightdesk.io.frame import RECIPE, Frame, write_frame
from nightdesk.io.header import add_step
from nightdesk.io.layout import EXTINCTION, SHIFTED
from nightdesk.manifest import forget_loss
from nightdesk.science import notebook
from nightdesk.science.planes import Planes
from nightdesk.steps.batch import run_batch
from nightdesk.steps.grid import Grid, place_wcs, remove_wcs
from nightdesk.steps.recipe import Work
from nightdesk.steps.residual import Residual, measure_residual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.io import fits

    from nightdesk.group import Group
    from nightdesk.settings import Settings


def run(settings: Settings, group: Group, names: Sequence[str]) -> None:
    """Shift a batch of frames onto the reference frame's grid and write them to ``shifted``.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    names : sequence of str
        Frame names; those lost earlier, and those the sidecar leaves out with use = 0, are passed over.

    Raises
    ------
    FrameError
        After the good frames are written, naming those without a row.
    FrameLost
        If an earlier step lost all of them.
    StaleProduct
        If `extinction` has not yet made a frame's product from its raw as it is now.
    """
    from nightdesk.steps import fused

    if fused.applies(settings, group):
        fused.pass_over(settings, group, names)
        return
    work = Work.open(settings, group)
    grid = Grid.of(work)
    positions = work.positions
    unused = {row.name for row in positions.rows if not row.use} if positions else set()
    wanted = [name for name in names if name not in unused]
    if wanted:
        run_batch(work, "align", wanted, lambda name: _align(work, grid, name))


def _align(work: Work, grid: Grid, name: str) -> None:
    if name not in grid.shifts:
        raise FrameError(f"{name}: {why_no_row(work, name)}")
    if not work.is_current(SHIFTED, name):
        frame = work.frame(EXTINCTION, name)
        aligned = rolled(grid, name, frame) if work.notebook else _shifted(work, grid, name, frame)
        aligned.header[RECIPE] = work.recipe(SHIFTED, name)
        write_frame(work.layout.product(SHIFTED, name), aligned, depth=work.settings.depth)
    forget_loss(work.layout, name)  # of an earlier try of this step; those of others have been passed over


def why_no_row(work: Work, name: str) -> str:
    """Return why a frame has no position, and what to do.

    Parameters
    ----------
    work : Work
        The group.
    name : str
        The frame.

    Returns
    -------
    str
        A sentence or two.
    """
    place = work.sidecar
    location = work.location
    if location is not None and place is not None and place == work.layout.own_sidecar and name in location.refused:
        place_words = work.layout.relative(place)
        return f"{location.refused[name]}. Remove the frame; or write {place_words} yourself, with its position."
    where = work.layout.relative(place) if place else "the sidecar"
    return f"{where} has no row for it. Add one, or add a column use with 0 to leave it out."


def rolled(grid: Grid, name: str, frame: Frame) -> Frame:
    """Roll a frame as the notebook did, and say so in its header.

    Parameters
    ----------
    grid : Grid
        Its grid.
    name : str
        The frame.
    frame : Frame
        Above the atmosphere.

    Returns
    -------
    Frame
        Without the recipe.
    """
    dx, dy = grid.shifts[name]
    header = frame.header.copy()
    header.add_history(f"Align: rolled by {int(dx)} pixels in x and {int(dy)} in y.")
    return Frame(notebook.roll(frame.data, dx, dy), notebook.roll(frame.variance, dx, dy), None, None, header)


def _shifted(work: Work, grid: Grid, name: str, frame: Frame) -> Frame:
    moved = grid.motions[name].apply(_planes_of(frame), (grid.shape[0], grid.shape[1]), grid.origin)
    residual = measure_residual(work, grid, name, moved)
    header = describe_shift(work, grid, name, frame.header, residual)
    return Frame(moved.data, moved.variance, moved.shared_variance, moved.flags, header)


def describe_shift(work: Work, grid: Grid, name: str, before: fits.Header, residual: Residual) -> fits.Header:
    """Return the header of an aligned frame.

    Parameters
    ----------
    work : Work
        The group.
    grid : Grid
        Its grid.
    name : str
        The frame.
    before : Header
        Of the frame above the atmosphere.
    residual : Residual
        What its stars said after the shift.

    Returns
    -------
    Header
        Without the recipe.
    """
    motion = grid.motions[name]
    header = before.copy()
    _set_wcs(work, grid, header)
    dx, dy = motion.whole if motion.way == "integer" else (motion.dx, motion.dy)
    header["XSHIFT"] = (dx, "pixels the frame was moved to the right")
    header["YSHIFT"] = (dy, "pixels the frame was moved up")
    header["FLIPPED"] = (motion.flipped, "whether it was turned by 180 degrees first")
    header["ROTATED"] = (motion.rotation, "degrees it was turned about its centre")
    header["RESCALED"] = (motion.scale, "by which it was scaled about its centre")
    header["ALIGNWAY"] = (motion.way, "integer, subpixel or similarity")
    header["VARCONV"] = ("pixel", "VAR is that of the single pixel")
    header["CORRFACT"] = (
        motion.correlation((grid.frame_shape[0], grid.frame_shape[1])),
        "x sum of VAR: variance of a large area",
    )
    header["ARESKNWN"] = (residual.pixels is not None, "whether its stars have confirmed its place")
    if residual.pixels is not None:
        header["ARESID"] = (residual.pixels, "px at most left to the reference's stars")
        header["ARESN"] = (residual.matches, "stars that told it; 0: the reference frame")
    add_step(header, f"Align: {motion.words}.")
    return header


def _set_wcs(work: Work, grid: Grid, header: fits.Header) -> None:
    """Give a frame the WCS of the grid, which is the first good frame's; none, if that one has none or was turned."""
    name = grid.wcs_name
    if name is None:
        return
    motion = grid.motions[name]
    if motion.only_moves:
        shift = motion.whole if motion.way == "integer" else (motion.dx, motion.dy)
        place_wcs(header, work.header(EXTINCTION, name), shift=shift, origin=grid.origin)
    else:
        remove_wcs(header)


def _planes_of(frame: Frame) -> Planes:
    assert frame.shared_variance is not None
    assert frame.flags is not None  # the standard profile writes all planes
    return Planes(
        frame.data.astype(np.float64),
        frame.variance.astype(np.float64),
        frame.shared_variance.astype(np.float64),
        frame.flags,
    )
