"""Align: each frame on the grid of the reference frame, by the sidecar's positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

from nightdesk.errors import FrameError
from nightdesk.io.frame import RECIPE, Frame, read_frame, write_frame
from nightdesk.io.layout import EXTINCTION, SHIFTED
from nightdesk.science import notebook
from nightdesk.science.planes import Planes
from nightdesk.science.shift import shift_planes
from nightdesk.steps.batch import run_batch
from nightdesk.steps.grid import Grid, place_wcs
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    work = Work.open(settings, group)
    grid = Grid.of(work)
    positions = work.positions
    unused = {row.name for row in positions.rows if not row.use} if positions else set()
    wanted = [name for name in names if name not in unused]
    if wanted:
        run_batch(work, "align", wanted, lambda name: _align(work, grid, name))


def _align(work: Work, grid: Grid, name: str) -> None:
    if name not in grid.shifts:
        place = work.layout.sidecar
        where = work.layout.relative(place) if place else "the sidecar"
        raise FrameError(f"{name}: {where} has no row for it. Add one, or add a column use with 0 to leave it out.")
    if work.is_current(SHIFTED, name):
        return
    frame = read_frame(work.require(EXTINCTION, name))
    aligned = _rolled(grid, name, frame) if work.notebook else _shifted(work, grid, name, frame)
    aligned.header[RECIPE] = work.recipe(SHIFTED, name)
    write_frame(work.layout.product(SHIFTED, name), aligned, depth=work.settings.depth)


def _rolled(grid: Grid, name: str, frame: Frame) -> Frame:
    dx, dy = grid.shifts[name]
    header = frame.header.copy()
    header.add_history(f"Align: rolled by {int(dx)} pixels in x and {int(dy)} in y.")
    return Frame(notebook.roll(frame.data, dx, dy), notebook.roll(frame.variance, dx, dy), None, None, header)


def _shifted(work: Work, grid: Grid, name: str, frame: Frame) -> Frame:
    dx, dy = (int(shift) for shift in grid.shifts[name])
    planes = _planes_of(frame)
    moved = shift_planes(planes, dx, dy, (grid.shape[0], grid.shape[1]), grid.origin)
    header = frame.header.copy()
    if grid.wcs_name is not None:
        source = fits.getheader(work.layout.product(EXTINCTION, grid.wcs_name))
        if "CRPIX1" in source:
            sx, sy = (int(shift) for shift in grid.shifts[grid.wcs_name])
            place_wcs(header, source, shift=(sx, sy), origin=grid.origin)
    header["XSHIFT"] = (dx, "whole pixels the frame was moved to the right")
    header["YSHIFT"] = (dy, "whole pixels the frame was moved up")
    header.add_history(f"Align: moved by {dx} pixels in x and {dy} in y, by whole pixels; VAR is per pixel.")
    return Frame(moved.data, moved.variance, moved.shared_variance, moved.flags, header)


def _planes_of(frame: Frame) -> Planes:
    assert frame.shared_variance is not None
    assert frame.flags is not None  # the standard profile writes all planes
    return Planes(
        frame.data.astype(np.float64),
        frame.variance.astype(np.float64),
        frame.shared_variance.astype(np.float64),
        frame.flags,
    )
