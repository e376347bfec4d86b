"""Combine: the aligned frames of a group become one image with its variance, flags and coverage."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from nightdesk.errors import FrameError, GroupError, StaleProduct, Waiting
from nightdesk.io.atomic import locked
from nightdesk.io.frame import RECIPE, Frame, RowFrame, open_planes, read_recipe, write_frame
from nightdesk.io.header import add_step
from nightdesk.io.inventory import hash_file
from nightdesk.io.layout import SHIFTED
from nightdesk.io.rows import StoredRows
from nightdesk.manifest import record_loss
from nightdesk.science import notebook
from nightdesk.science.combine import Combined, Cubes, combine_block, recipe_of
from nightdesk.science.median import median_variance_factor
from nightdesk.science.noise_ratio import noise_ratio
from nightdesk.science.shift import whole_pixels
from nightdesk.science.sky import noise_of_rows, sky_of_rows
from nightdesk.steps.ahead import ROWS_AHEAD, RowsAhead
from nightdesk.steps.calibration import BIAS_PAIR
from nightdesk.steps.recipe import Work
from nightdesk.steps.stack_header import add_names, exposures, read_noise_of, stack_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.science.combine import Block
    from nightdesk.settings import Settings

BYTES_OF_A_VALUE = 26  # three float64 and a uint16
BYTES_OF_A_NOTEBOOK_VALUE = 16  # a float64, and what the median needs beside it
BYTES_OF_A_COUNT = 4  # the count, and its share of the values of pixels that need care
BYTES_OF_A_PIXEL = 150  # of the stack: the masters' planes, and those that its variance is made from
NOISE_BOX = 10


def run(settings: Settings, group: Group, names: Sequence[str]) -> dict[str, Any]:
    """Combine the frames that are through, and write the stack to ``combined/combined.fits``.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    names : sequence of str
        Frames whose alignment succeeded; those whose product is not current, or that the sidecar leaves out, are not
        used.

    Returns
    -------
    dict
        ``frames`` (used), ``exposure`` (their sum, s), ``path`` (of the stack, below the data root) and ``left_out``
        (names with reasons).

    Raises
    ------
    GroupError
        If no frame can be used.
    Waiting
        If the group waits for positions.
    StaleProduct
        If a frame that nobody lost has no current product: a later try finds it.
    """
    from nightdesk.steps import fused  # which builds on this module

    work = fused.Fused.open(settings, group) if fused.applies(settings, group) else Work.open(settings, group)
    if work.positions is None and work.needs_positions:
        raise Waiting(f"{group.key} waits for positions; the log of find_sidecar says which file to write.")
    if isinstance(work, fused.Fused):
        work.prepare(names)
    with locked(work.layout.lock, shared=True):
        chosen, left_out = _choose(work, names)
        if not chosen:
            reasons = " ".join(f"{name}: {reason.rstrip('.')}." for name, reason in sorted(left_out.items()))
            raise GroupError(f"{group.key}: there is no frame to combine. {reasons}")
        if read_recipe(work.layout.stack) != work.stack_recipe(chosen):
            if isinstance(work, fused.Fused) and work.notebook:
                made: _Stack = work.notebook_stack(chosen), [], chosen
            else:
                made = (_notebook_stack if work.notebook else _standard_stack)(work, chosen)
            frame, extra, chosen = made
            frame.header[RECIPE] = work.stack_recipe(chosen)
            write_frame(work.layout.stack, frame, depth=settings.depth, extra=extra)
    exposure = _total_exposure(work, chosen)
    return {
        "frames": len(chosen),
        "exposure": exposure,
        "path": work.layout.relative(work.layout.stack),
        "left_out": left_out,
    }


def _choose(work: Work, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the frames to combine, in order, and why others are not among them."""
    chosen, left_out = [], {}
    positions = work.positions
    unused = {row.name for row in positions.rows if not row.use} if positions else set()
    order = work.order
    for name in [*order, *(name for name in work.inputs.frames if name not in order)]:
        if name in unused:
            left_out[name] = "the sidecar leaves it out (use = 0)"
        elif loss := work.loss(name):
            left_out[name] = loss["reason"]
        elif name not in order:
            left_out[name] = "the sidecar has no row for it"
        elif name not in names:
            left_out[name] = "its tasks did not succeed"
        elif not work.is_current(SHIFTED, name):
            raise StaleProduct(
                f"{name}: its aligned product is not made from the raw, masters and settings as they are now. If "
                "trying again does not help, clear the whole run."
            )
        else:
            chosen.append(name)
    return chosen, left_out


def _total_exposure(work: Work, chosen: list[str]) -> float:
    header = fits.getheader(work.layout.stack)
    value = header.get("TEXPTIME", 0.0 if len(chosen) > 1 else header.get("EXPTIME", 0.0))
    return float(value) if isinstance(value, (int, float)) else 0.0


_Stack = tuple[Frame | RowFrame, list[Any], list[str]]


def _notebook_stack(work: Work, names: list[str]) -> _Stack:
    opened = [open_planes(work.layout.product(SHIFTED, name)) for name in names]
    ny, nx = opened[0][1]["SCI"].shape

    def _median(plane: str, rows: slice) -> NDArray[np.float64]:
        stored = [planes[plane] for _, planes in opened]
        cube = np.empty((len(stored), rows.stop - rows.start, nx), stored[0].stored)
        for place, frame in zip(cube, stored, strict=True):
            frame.read_into(place, rows.start, once=True)
        return notebook.median(cube.byteswap(inplace=True).view(np.float64))

    def _combine(rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return _median("SCI", rows), _median("VAR", rows) / len(names)

    machine = work.settings.machine
    blocks = machine.blocks(ny, len(names) * nx * BYTES_OF_A_NOTEBOOK_VALUE, most=ROWS_AHEAD)
    header = notebook_header(opened[0][0], names)
    return RowFrame((ny, nx), header, RowsAhead(_combine, blocks, machine.workers), standard=False), [], names


def notebook_header(first: fits.Header, names: Sequence[str]) -> fits.Header:
    """Return the header of the notebook's stack.

    Parameters
    ----------
    first : Header
        Of the first frame, aligned.
    names : sequence of str
        The frames.

    Returns
    -------
    Header
        Without the recipe.
    """
    header = first.copy()
    add_names(header, names)
    header.add_history(f"Combine: median of {len(names)} frames.")
    return header


class Aligned:
    """A frame on the grid, from which rows can be had.

    Parameters
    ----------
    name : str
        The frame.
    header : Header
        Of the aligned frame.
    shape : tuple of int
        Shape (ny, nx) of the grid.
    """

    def __init__(self, name: str, header: fits.Header, shape: tuple[int, int]) -> None:
        self.name, self.header, self.shape = name, header, shape
        self.scale, self.sky, self.zero, self.noise = 1.0, 0.0, 0.0, 0.0

    @property
    def offset(self) -> tuple[int, int, bool, int]:
        """Where the detector lies, to a pixel, its turn included: frames that share it share the masters' noise."""
        header = self.header
        corner = math.radians(header["ROTATED"]) * 0.5 * math.hypot(*self.shape)
        return whole_pixels(header["XSHIFT"]), whole_pixels(header["YSHIFT"]), header["FLIPPED"], whole_pixels(corner)

    @property
    def correlation(self) -> float:
        """By what the variance of a large area exceeds the sum of VAR: above 1 where it was interpolated."""
        return float(self.header["CORRFACT"])

    def block(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return rows of data, variance, shared variance and flags, as they are."""
        raise NotImplementedError

    def sample(self, rows: Sequence[slice]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return data, variance and flags of strips of rows, one below the other, as they are."""
        blocks = [self.block(part.start, part.stop) for part in rows]
        data, variance, _, flags = blocks[0] if len(blocks) == 1 else map(np.concatenate, zip(*blocks, strict=True))
        return data, variance, flags

    def measure(self) -> None:
        """Measure the sky and its noise, as the frame's own units have them."""
        looks: dict[tuple[tuple[int, int], ...], tuple[NDArray[Any], ...]] = {}

        def _look(rows: Sequence[slice], plane: int) -> tuple[NDArray[Any], NDArray[Any]]:
            strips = tuple((part.start, part.stop) for part in rows)
            if strips not in looks:
                looks[strips] = self.sample(rows)
            return looks[strips][plane], looks[strips][2]

        try:
            self.sky, _ = sky_of_rows(lambda rows: _look(rows, 0), self.shape)
        except ValueError as error:
            raise FrameError(f"{self.name}: its sky cannot be measured: {error} Remove the frame.") from error
        self.noise = noise_of_rows(lambda rows: _look(rows, 1), self.shape)

    def plane(self, number: int) -> NDArray[Any]:
        """Return a whole plane: 0 data, 1 variance, 2 shared variance, 3 flags."""
        return self.block(0, self.shape[0])[number]

    def fill(self, number: int, first: int, last: int, cubes: _Cubes) -> None:
        """Lay rows, on the reference's scale and sky, into the cubes as their frame of this number."""
        data, variance, shared, flags = self.block(first, last)
        np.multiply(data, self.scale, out=cubes[0][number], dtype=np.float64)
        cubes[0][number] -= self.zero
        np.multiply(variance, self.scale**2, out=cubes[1][number], dtype=np.float64)
        np.multiply(shared, self.scale**2, out=cubes[2][number], dtype=np.float64)
        cubes[3][number] = flags


_Cubes = tuple["NDArray[np.float64]", "NDArray[np.float64]", "NDArray[np.float64]", "NDArray[np.uint16]"]


class _Product(Aligned):
    """An aligned product on disk."""

    def __init__(self, work: Work, name: str) -> None:
        path = work.layout.product(SHIFTED, name)
        with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            super().__init__(name, hdus[0].header.copy(), hdus[0].shape)
            self._planes = [StoredRows.of(path, hdus[name]) for name in ("SCI", "VAR", "VARCAL")]
            self._flags = StoredRows.of(path, hdus["DQ"])

    def block(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Read rows of the product."""
        sci, variance, shared = (plane.stored_rows(first, last) for plane in self._planes)
        return sci, variance, shared, self._flags.flag_rows(first, last)


def _standard_stack(work: Work, names: list[str]) -> _Stack:
    from nightdesk.steps import fused

    settings = work.settings.combine
    opened: list[Aligned] = (
        [work.aligned(name) for name in names]
        if isinstance(work, fused.Fused)
        else [_Product(work, name) for name in names]
    )
    frames = _measured(work, opened)
    _set_scales(work, frames)
    if settings.match_sky:
        for frame in frames:
            frame.zero = frame.sky * frame.scale - frames[0].sky
    combined = _in_blocks(work, frames)
    header = stack_header(work, [frame.name for frame in frames], [frame.header for frame in frames])
    header["RDNOISE"] = _read_noise(frames, settings.method)
    for number, frame in enumerate(frames, start=1):
        if settings.scale != "none":
            header[f"SCAL{number:04d}"] = (frame.scale, "factor it was multiplied by")
        header[f"SKYZ{number:04d}"] = (frame.zero, "e- taken from its sky")
    header["SKYLEVEL"] = (frames[0].sky, "sky of the stack (e-)")
    header["NREJ"] = (int(combined.rejected_by_frame.sum()), "values clipped")
    correlation = _correlation(frames, settings.method)
    header["VARCONV"] = ("pixel", "VAR is that of the single pixel")
    header["CORRFACT"] = (correlation, "x sum of VAR: variance of a large area")
    resampled = any(frame.correlation > 1.0 for frame in frames)
    box = NOISE_BOX if resampled else 1  # neighbours of an interpolated frame share their noise, boxes do not
    predicted = combined.variance * correlation if resampled else combined.variance
    ratio = noise_ratio(combined.data, predicted, combined.flags, box)
    header["NOISERAT"] = (ratio if math.isfinite(ratio) else None, "measured over predicted noise of the sky")
    scaled = "" if settings.scale == "none" else f", scaled by {settings.scale}"
    matched = "sky matched" if settings.match_sky else "sky as it was"
    clipped = "" if settings.method == "mean" else f", clipped at {settings.clip_sigma:g} sigma"
    add_step(header, f"Combine: {settings.method} of {len(frames)} frames{scaled}, {matched}{clipped}.")
    stack = Frame(combined.data, combined.variance, None, combined.flags, header)
    extra = [_coverage_hdu(combined), _provenance_hdu(work, frames)]
    extra += [_shared_hdu(combined.shared_variance), _clipped_hdu(combined)]
    if combined.rejection_map is not None:
        extra.append(fits.ImageHDU(combined.rejection_map.astype(np.uint8), name="REJECTED"))
    return stack, extra, [frame.name for frame in frames]


def _measured(work: Work, frames: list[Aligned]) -> list[Aligned]:
    """Measure each frame's sky; a frame without any is lost, not the group."""

    def _measure(frame: Aligned) -> Aligned | None:
        try:
            frame.measure()
        except FrameError as error:
            record_loss(work.layout, frame.name, "combine", error, work.raw_state(frame.name))
            return None
        return frame

    with ThreadPoolExecutor(work.settings.machine.workers) as pool:
        good = [frame for frame in pool.map(_measure, frames) if frame is not None]
    if not good:
        raise GroupError(f"{work.group.key}: no frame has a sky that can be measured; see the frames in postISR.")
    return good


def _set_scales(work: Work, frames: list[Aligned]) -> None:
    """Bring frames to the reference's exposure time, or to the brightness of its stars, where the settings say so."""
    how = work.settings.combine.scale
    if how == "none" or len(frames) == 1:
        return
    from nightdesk.science.scale import exposure_scales, star_scales

    try:
        if how == "exposure":
            names = [frame.name for frame in frames]
            scales = exposure_scales(exposures(work, names, [frame.header for frame in frames]))
        else:
            scales = star_scales([frame.plane(0) for frame in frames], [frame.plane(3) for frame in frames])
    except ValueError as error:
        raise GroupError(f"{work.group.key}: [combine] scale = {how!r}: {error}") from error
    for frame, scale in zip(frames, scales, strict=True):
        frame.scale = float(scale)


def _in_blocks(work: Work, frames: Sequence[Aligned]) -> Combined:
    """Combine by blocks of rows, so that memory does not grow with the number or size of frames.

    Returns
    -------
    Combined
        The stack, in the number type of its product.
    """
    settings, machine = work.settings.combine, work.settings.machine
    ny, nx = frames[0].shape
    n = len(frames)
    offsets = {offset: number for number, offset in enumerate(dict.fromkeys(frame.offset for frame in frames))}
    recipe = recipe_of(
        n,
        offset_groups=[offsets[frame.offset] for frame in frames],
        sigmas=[frame.noise * frame.scale for frame in frames],
        method=settings.method,
        clip_sigma=settings.clip_sigma,
        weights=_weights(frames) if settings.method == "weighted" else None,
        level=frames[0].sky,
    )
    block_of, bytes_of_a_pixel = _blocks_of(work, frames, settings.method)
    data, variance, shared = (np.empty((ny, nx), work.settings.depth) for _ in range(3))
    flags, coverage, rejected = (np.empty((ny, nx), np.uint16) for _ in range(3))
    rejections = np.zeros((n, ny, nx), bool) if settings.map_rejections else None

    def _combine(rows: slice) -> NDArray[np.intp]:
        block = combine_block(block_of(rows), recipe, map_rejections=settings.map_rejections)
        data[rows], variance[rows], flags[rows] = block.data, block.variance, block.flags
        coverage[rows], rejected[rows] = block.coverage, block.rejected
        shared[rows] = block.shared_variance
        if rejections is not None:
            rejections[:, rows] = block.rejection_map
        return block.rejected_by_frame

    blocks = machine.blocks(ny, nx * bytes_of_a_pixel)
    with ThreadPoolExecutor(machine.workers) as pool:
        by_frame = np.sum(list(pool.map(_combine, blocks)), axis=0)
    return Combined(data, variance, flags, coverage, rejected, by_frame, shared, rejections)


def _blocks_of(work: Work, frames: Sequence[Aligned], method: str) -> tuple[Callable[[slice], Block], int]:
    """Return what makes a block of rows, and the bytes that it takes for each pixel of the stack."""
    from nightdesk.steps import fused

    if method == "median" and isinstance(work, fused.Fused) and work.lays(frames):
        return lambda rows: fused.LaidRows(work, frames, rows), len(frames) * BYTES_OF_A_COUNT + BYTES_OF_A_PIXEL
    nx = frames[0].shape[1]

    def _cubes(rows: slice) -> Cubes:
        shape = (len(frames), rows.stop - rows.start, nx)
        cubes = (np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape, np.uint16))
        for number, frame in enumerate(frames):
            frame.fill(number, rows.start, rows.stop, cubes)
        return Cubes(*cubes)

    return _cubes, len(frames) * BYTES_OF_A_VALUE + BYTES_OF_A_PIXEL


def _read_noise(frames: Sequence[Aligned], method: str) -> float:
    """Return the read noise that the stack's pixels carry above the atmosphere, by the frames' scales and weights."""
    noises = [read_noise_of(frame.header) * frame.scale for frame in frames]
    weights = [1.0] * len(frames)
    if method == "weighted":
        given = _weights(frames)
        weights = [1.0 / (f.noise * f.scale) ** 2 for f in frames] if given is None else given.tolist()
    c_n = median_variance_factor(len(frames)) if method == "median" else 1.0
    squares = math.fsum((weight * noise) ** 2 for weight, noise in zip(weights, noises, strict=True))
    return math.sqrt(c_n * squares) / math.fsum(weights)


def _weights(frames: Sequence[Aligned]) -> NDArray[np.float64] | None:
    """Return one weight per frame; None for the usual ones, where no interpolation has smoothed the noise."""
    if all(frame.correlation == 1.0 for frame in frames):
        return None
    return np.array([1.0 / (frame.noise**2 * frame.scale**2 * frame.correlation) for frame in frames])


def _correlation(frames: list[Aligned], method: str) -> float:
    """Return by what the variance of a large area of the stack exceeds the sum of VAR.

    What interpolation makes neighbours share is shared by their mean. A median is the mean and noise of its own, which
    neighbours do not share: c_n - 1 times the variance of the mean.
    """
    noises = [frame.noise**2 * frame.scale**2 for frame in frames]
    mean = math.fsum(frame.correlation * noise for frame, noise in zip(frames, noises, strict=True)) / (
        math.fsum(noises) or 1.0
    )
    c_n = median_variance_factor(len(frames)) if method == "median" else 1.0
    return (c_n + mean - 1.0) / c_n


def _shared_hdu(shared: NDArray[Any]) -> fits.ImageHDU:
    hdu = fits.ImageHDU(shared, name="VARCAL")
    hdu.header["BUNIT"] = ("electron2", "part of VAR that came from the masters")
    return hdu


def _coverage_hdu(combined: Combined) -> fits.ImageHDU:
    hdu = fits.ImageHDU(combined.coverage, name="COVERAGE")
    hdu.header["BUNIT"] = ("count", "frames used at each pixel")
    return hdu


def _clipped_hdu(combined: Combined) -> fits.ImageHDU:
    hdu = fits.ImageHDU(np.minimum(combined.rejected, 255).astype(np.uint8), name="NREJ")
    hdu.header["BUNIT"] = ("count", "values clipped at each pixel")
    return hdu


def _provenance_hdu(work: Work, frames: list[Aligned]) -> fits.BinTableHDU:
    rows = [("science", work.raw_path(frame.name), frame.zero) for frame in frames]
    rows += [(f"master {role}", path, 0.0) for role, path in work.masters.by_role.items()]
    if any(frame.header.get("RDNSRC") == BIAS_PAIR for frame in frames):
        rows += [("raw bias", work.settings.root / path, 0.0) for path in work.bias_pair]
    if (sidecar := work.sidecar) is not None:
        rows.append(("sidecar", sidecar, 0.0))
    columns = [
        fits.Column("ROLE", _text_format(role for role, _, _ in rows), array=[role for role, _, _ in rows]),
        fits.Column("FILE", _text_format(path.name for _, path, _ in rows), array=[path.name for _, path, _ in rows]),
        fits.Column("SHA256", "64A", array=[hash_file(path) for _, path, _ in rows]),
        fits.Column("SKYZERO", "D", unit="electron", array=[zero for _, _, zero in rows]),
    ]
    hdu = fits.BinTableHDU(name="PROVENANCE")
    hdu.data = fits.FITS_rec.from_columns(fits.ColDefs(columns))  # from_columns of the HDU imports all of astropy.table
    return hdu


def _text_format(texts: Any) -> str:
    return f"{max(len(text) for text in texts)}A"
