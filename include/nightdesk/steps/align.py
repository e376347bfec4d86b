"""Align: each frame on the grid of the reference frame, by the sidecar's positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nightdesk.errors import FrameError
from nightdesk.io.frame import Frame, RowFrame, Rows
from nightdesk.io.header import add_step, put_card
from nightdesk.io.layout import EXTINCTION, SHIFTED
from nightdesk.manifest import forget_loss
from nightdesk.science import notebook
from nightdesk.science.planes import Planes
from nightdesk.science.sample import look_at_each
from nightdesk.science.shift import shift_planes
from nightdesk.steps.batch import Passage, Step, run_steps
from nightdesk.steps.grid import Grid, place_wcs, remove_wcs
from nightdesk.steps.recipe import Work
from nightdesk.steps.residual import Residual, measure_residual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from astropy.io import fits
    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.science.sample import Places
    from nightdesk.settings import Settings
    from nightdesk.steps.motion import Motion


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
    aligning = step(work)
    run_steps(work, [aligning], [name for name in names if name not in aligning.unused])


def step(work: Work) -> Step:
    """Return what the step does for each frame.

    Parameters
    ----------
    work : Work
        The group.

    Returns
    -------
    Step
        Those that the sidecar leaves out with use = 0 are passed over.
    """
    grid, positions = Grid.of(work), work.positions
    unused = frozenset(row.name for row in positions.rows if not row.use) if positions else frozenset()
    return Step("align", lambda passage: _align(passage, grid), unused)


def _align(passage: Passage, grid: Grid) -> None:
    work, name = passage.work, passage.name
    if name not in grid.shifts:
        raise FrameError(f"{name}: {why_no_row(work, name)}")
    if not work.is_current(SHIFTED, name):
        frame = passage.frame(EXTINCTION)
        passage.make(SHIFTED, rolled(grid, name, frame) if work.notebook else _shifted(work, grid, name, frame))
    # of an earlier try of this step; those of others have been passed over
    passage.at_last(lambda: forget_loss(work.layout, name))


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


def rolled(grid: Grid, name: str, frame: Frame | RowFrame) -> RowFrame:
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
    RowFrame
        Without the recipe.
    """
    dx, dy = grid.shifts[name]
    header = frame.header.copy()
    header.add_history(f"Align: rolled by {int(dx)} pixels in x and {int(dy)} in y.")
    ny = frame.shape[0]

    def _block(first: int, last: int) -> Rows:
        start = (first - int(dy)) % ny
        split = min(start + last - first, ny)  # behind the last row comes the first
        rows = frame.block(start, split)
        data, variance = rows.data, rows.variance
        if split - start < last - first:
            rest = frame.block(0, last - first - (split - start))
            data, variance = np.concatenate([data, rest.data]), np.concatenate([variance, rest.variance])
        return Rows(notebook.roll(data, dx, 0), notebook.roll(variance, dx, 0))

    return RowFrame(frame.shape, header, _block, standard=False, begin=int(dy) % ny)


def _shifted(work: Work, grid: Grid, name: str, frame: RowFrame) -> Frame | RowFrame:
    motion = grid.motions[name]
    if motion.way == "integer":
        moved: _Moved | Planes = _Moved(frame, motion, grid)
    else:
        moved = motion.apply(_planes_of(frame.block(0, frame.shape[0])), (grid.shape[0], grid.shape[1]), grid.origin)
    with work.once:  # the stars that all are compared with are found
        if grid.wcs_name is not None and grid.wcs_name != name:
            work.stars(grid.wcs_name)
    residual = measure_residual(work, grid, name, moved)
    header = describe_shift(work, grid, name, frame.header, residual)
    if isinstance(moved, Planes):
        return Frame(moved.data, moved.variance, moved.shared_variance, moved.flags, header)
    return RowFrame(moved.shape, header, moved.block, standard=True)


class _Moved:
    """A frame on the grid, moved by whole pixels when rows are wanted."""

    def __init__(self, frame: RowFrame, motion: Motion, grid: Grid) -> None:
        self.shape = grid.shape[0], grid.shape[1]
        self._frame, self._flipped = frame, motion.flipped
        dx, dy = motion.whole
        self._dx, self._dy = dx - grid.origin[0], dy - grid.origin[1]

    def block(self, first: int, last: int) -> Rows:
        """Return rows of the grid; what the frame does not cover has no data."""
        ny = self._frame.shape[0]
        bottom = min(max(first - self._dy, 0), ny)
        top = max(min(last - self._dy, ny), bottom)
        wanted = (ny - top, ny - bottom) if self._flipped else (bottom, top)
        planes = _planes_of(self._frame.block(*wanted))
        if self._flipped:
            from nightdesk.science.resample import turn_planes

            planes = turn_planes(planes)
        moved = shift_planes(planes, self._dx, self._dy + bottom - first, (last - first, self.shape[1]))
        return Rows(moved.data, moved.variance, moved.shared_variance, moved.flags)

    def image(self) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Return data and flags."""
        return self._window(slice(0, self.shape[0]), slice(None))

    def windows(self, rows: Places, columns: Places, size: int) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Return data and flags of square windows of the grid, by their first rows and columns."""
        return look_at_each(self._window)(rows, columns, size)

    def _window(self, rows: slice, columns: slice) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        part = self.block(rows.start, rows.stop)
        assert part.flags is not None
        return part.data[:, columns], part.flags[:, columns]


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
    put_card(header, "XSHIFT", dx, "pixels the frame was moved to the right")
    put_card(header, "YSHIFT", dy, "pixels the frame was moved up")
    put_card(header, "FLIPPED", motion.flipped, "whether it was turned by 180 degrees first")
    put_card(header, "ROTATED", motion.rotation, "degrees it was turned about its centre")
    put_card(header, "RESCALED", motion.scale, "by which it was scaled about its centre")
    put_card(header, "ALIGNWAY", motion.way, "integer, subpixel or similarity")
    put_card(header, "VARCONV", "pixel", "VAR is that of the single pixel")
    correlation = motion.correlation((grid.frame_shape[0], grid.frame_shape[1]))
    put_card(header, "CORRFACT", correlation, "x sum of VAR: variance of a large area")
    put_card(header, "ARESKNWN", residual.pixels is not None, "whether its stars have confirmed its place")
    if residual.pixels is not None:
        put_card(header, "ARESID", residual.pixels, "px at most left to the reference's stars")
        put_card(header, "ARESN", residual.matches, "stars that told it; 0: the reference frame")
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


def _planes_of(rows: Rows) -> Planes:
    assert rows.shared_variance is not None
    assert rows.flags is not None  # the standard profile writes all planes
    data, variance, shared = (plane.astype(np.float64) for plane in (rows.data, rows.variance, rows.shared_variance))
    return Planes(data, variance, shared, rows.flags)
