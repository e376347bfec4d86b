"""The fused pass: from raws to the stack in one go, block by block of rows, where no product between them is kept.

Every block of rows is read from every raw, calibrated, corrected for extinction, shifted and combined before the next
one is; the masters are held once. The stack has the bits of the one that the steps make by way of products on disk:
where those are float32, the values here are rounded as often.

The steps stay: `isr` checks what headers tell, `locate` finds the positions, `combine` does all the rest.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nightdesk.errors import FrameError, FrameLost, SetupError, StaleProduct
from nightdesk.io.association import hash_masters
from nightdesk.io.frame import RECIPE, Frame, RowFrame
from nightdesk.io.header import put_card
from nightdesk.io.inventory import FactsCache, hash_file
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED, Layout
from nightdesk.io.rows import RawRows, open_rows
from nightdesk.manifest import FileState, forget_loss, read_inputs, renew_raw
from nightdesk.science import compiled, notebook
from nightdesk.science.easy import Easy, clip_rule
from nightdesk.science.extinction import extinction_factor
from nightdesk.science.flag import NO_DATA
from nightdesk.science.isr import Prepared, apply_masters, prepare_masters
from nightdesk.science.sample import look_at_each, window_places
from nightdesk.steps.ahead import ROWS_AHEAD, RowsAhead
from nightdesk.steps.align import describe_shift, rolled, why_no_row
from nightdesk.steps.batch import run_batch
from nightdesk.steps.calibration import Calibration
from nightdesk.steps.coefficient import find_coefficient
from nightdesk.steps.combine import Aligned, notebook_header
from nightdesk.steps.extinction import above_atmosphere
from nightdesk.steps.grid import Grid
from nightdesk.steps.isr import describe_notebook, describe_standard, require_member, require_sound, tell_airmass
from nightdesk.steps.list_frames import batch_size
from nightdesk.steps.locate import locate
from nightdesk.steps.raw_image import raw_image, read_raw_image
from nightdesk.steps.recipe import Work
from nightdesk.steps.residual import measure_residual

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from astropy.io import fits
    from numpy.typing import NDArray

    from nightdesk.group import Group
    from nightdesk.science.combine import Columns, Recipe
    from nightdesk.science.sample import Look, Places
    from nightdesk.settings import Settings

CHUNK = 32
"""Rows for which the masters are prepared at once."""

BYTES_OF_MASTERS = 50
"""Of a pixel, prepared."""

_WHOLE_FILES = (".gz", ".fz")
_OF_ROWS = ("bias", "bias_variance", "dark", "dark_variance", "flat", "flat_variance", "bad_pixels")


def applies(settings: Settings, group: Group) -> bool:
    """Tell whether a group is reduced in one pass.

    Parameters
    ----------
    settings : Settings
        The observatory's settings: only the stack is kept, a task takes the whole group, and each pixel of the stack
        needs only its own pixel of each frame.
    group : Group
        The group, with its frames listed.

    Returns
    -------
    bool
        False also where the frames are not listed yet.
    """
    if settings.products.keep != "stack":
        return False
    instrument = settings.instrument_of(group)
    if instrument.overscan or instrument.trim or instrument.amplifiers or instrument.extension is not None:
        return False
    if settings.profile == "standard":
        plain = settings.align.resample == "integer" and settings.combine.scale != "stars"
        if not plain or settings.filter_of(group).cosmic_rays != "stack":
            return False
    inputs = read_inputs(Layout(settings, group))
    if inputs is None or not inputs.frames or batch_size(settings, group, len(inputs.frames)) < len(inputs.frames):
        return False
    return not any(path.lower().endswith(_WHOLE_FILES) for path in inputs.raws)


def check(settings: Settings, group: Group, names: Sequence[str]) -> None:
    """Do of `isr` what headers tell: the pixels come when the frames are combined.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    names : sequence of str
        The frames.

    Raises
    ------
    FrameError
        After the good frames are checked, naming the bad ones and what to do.
    SetupError
        If a master is missing or does not fit.
    """
    work = Fused.open(settings, group)
    own = {settings.root / path for path in work.inputs.raws}
    for recipe in [recipe for recipe, source in _sources.items() if source.rows.path not in own]:
        del _sources[recipe]  # of the group before, whose masters it keeps in memory
    work.open_batch(names)


def pass_over(settings: Settings, group: Group, names: Sequence[str]) -> None:
    """Leave the frames to `combine`.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    names : sequence of str
        The frames.

    Raises
    ------
    FrameLost
        If `isr` lost all of them.
    """
    work = Work.open(settings, group)
    losses = [(name, work.loss(name)) for name in names]
    if losses and all(loss for _, loss in losses):
        raise FrameLost(
            " ".join(f"{name} was lost in {loss['step']}: {loss['reason']}" for name, loss in losses if loss)
        )


def find_positions(settings: Settings, group: Group) -> str:
    """Do what `locate` does, with frames that are made in memory, one at a time.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.

    Returns
    -------
    str
        A sentence for the log.
    """
    return locate(Fused.open(settings, group))


@dataclass(frozen=True)
class Source:
    """One raw: where its rows are, what is done to them, and its header above the atmosphere."""

    name: str
    rows: RawRows
    header: fits.Header
    arguments: dict[str, Any]
    factor: float


MOST_SOURCES = 2000

_sources: OrderedDict[str, Source] = OrderedDict()
"""What this process has opened, by recipe: the steps of a run by hand follow one another."""


@dataclass
class Fused(Work):
    """A group whose frames are made in memory."""

    sources: dict[str, Source] = field(default_factory=dict)
    grid: Grid | None = None
    opened: bool = False
    headers: dict[str, fits.Header] = field(default_factory=dict)
    _facts: FactsCache | None = None
    _prepared: OrderedDict[tuple[float, float, int], tuple[Prepared, compiled.RowsOfMasters]] = field(
        default_factory=OrderedDict
    )
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def is_current(self, step: str, name: str) -> bool:
        """Tell whether a frame can be had: opened, and for the grid placed on it."""
        if step == SHIFTED:
            return name in self.headers
        if not self.opened:
            self.open_sources(self.inputs.frames)
        return name in self.sources

    def header(self, step: str, name: str) -> fits.Header:
        """Return a frame's header above the atmosphere."""
        return self._source(name).header

    def image(self, name: str) -> tuple[NDArray[Any], NDArray[np.uint16] | None]:
        """Return data and flags of a whole frame above the atmosphere, as its product would have them."""
        source = self._source(name)
        ny = source.rows.shape[0]
        data, flags = np.empty(source.rows.shape, self.settings.depth), np.empty(source.rows.shape, np.uint16)

        def _fill(first: int) -> None:
            rows = slice(first, min(first + CHUNK, ny))
            data[rows], _, _, flags[rows] = self.calibrated(source, rows.start, rows.stop)

        with ThreadPoolExecutor(self.settings.machine.workers) as pool:
            list(pool.map(_fill, range(0, ny, CHUNK)))
        return data, flags

    def look(self, step: str, name: str) -> Look:
        """Return what gives data and flags of small parts of a frame above the atmosphere."""
        source = self._source(name)
        return lambda rows, columns, size: self.windows(source, rows, columns, size)

    def _source(self, name: str) -> Source:
        try:
            return self.sources[name]
        except KeyError:
            raise StaleProduct(f"{name}: it was not opened. Clear the whole run.") from None

    def hash_raw(self, name: str) -> None:
        """Sum up a raw, if it can be: what is wrong with it is told when it is opened."""
        with suppress(FrameError, OSError):
            hash_file(self.raw_path(name))

    def open_batch(self, names: Sequence[str]) -> None:
        """Open frames: threads sum up the raws while the masters are read, then each is opened."""
        with ThreadPoolExecutor(self.settings.machine.workers) as pool:
            sums = pool.map(self.hash_raw, names)
            with suppress(SetupError):  # it is told with the first frame
                hash_masters(self.masters)
                self.calibration.masters(self.inputs.shape)
            list(sums)
        run_batch(self, "isr", names, self.open_source)

    @cached_property
    def calibration(self) -> Calibration:
        """The group's masters."""
        return Calibration(self)

    def open_sources(self, names: Sequence[str]) -> None:
        """Open the frames that `isr` found good; one that is bad by now is on record."""
        self.opened = True
        with suppress(FrameError, FrameLost):
            self.open_batch([name for name in names if not self.loss(name)])

    def open_source(self, name: str) -> None:
        """Check a raw by its header and note what is to be done with it."""
        path = self.raw_path(name)
        state = FileState.of(self.layout, path)
        self._opened(name, path, state)
        forget_loss(self.layout, name)
        raw = self.inputs.raws.get(state.path, {})
        if (raw.get("size"), raw.get("mtime_ns")) != (state.size, state.mtime_ns):
            renew_raw(self.layout, state)

    def _opened(self, name: str, path: Path, state: FileState) -> None:
        recipe = self.recipe(EXTINCTION, name)
        if (known := _sources.get(recipe)) is not None and known.rows.path == path:
            self.sources[name] = known
            return
        if self._facts is None:
            self._facts = FactsCache(self.settings)
        require_member(self, self._facts.facts(path, state.size, state.mtime_ns))
        instrument = self.settings.instrument_of(self.group)
        opened = open_rows(path, instrument)
        if opened is None:
            whole = read_raw_image(self.settings, path, instrument)  # says what is wrong with it, if anything is
            rows: RawRows = _Held.of(path, whole.pixels)
            raw = whole
        else:
            rows, header = opened
            raw = raw_image(self.settings, path, np.broadcast_to(np.uint16(0), rows.shape), header, instrument)
        airmass = require_sound(self, raw)
        if self.notebook:
            self.calibration.masters(rows.shape)
            gain, product = describe_notebook(self, raw)
            arguments: dict[str, Any] = {"gain": gain}
        else:
            arguments, product = describe_standard(self, self.calibration, raw)
        tell_airmass(product, airmass)
        product[RECIPE] = self.recipe(POST_ISR, name)
        product = _as_read_back(product, scientific=not self.notebook)
        corrected = product.get("EXTCORR") is True
        if not corrected:
            dot = np.zeros((1, 1))
            product = above_atmosphere(self, name, Frame(dot, dot, None, None, product)).header
        k = find_coefficient(self.settings, self.group).k
        factor = 1.0 if corrected else extinction_factor(float(product["AIRMASS"]), k)
        self.sources[name] = Source(name, rows, product, arguments, factor)
        if not isinstance(rows, _Held):
            _sources[recipe] = self.sources[name]
            while len(_sources) > MOST_SOURCES:
                _sources.popitem(last=False)

    def prepare(self, names: Sequence[str]) -> None:
        """Open the frames and lay them on the grid; those that do not fit are on record."""
        self.open_sources(names)
        positions = self.positions
        unused = {row.name for row in positions.rows if not row.use} if positions else set()
        self.grid = Grid.of(self)
        wanted = [name for name in names if name in self.sources and name not in unused]
        if wanted:
            with suppress(FrameError):
                run_batch(self, "align", wanted, self._place)

    def _place(self, name: str) -> None:
        """Note where a frame lies."""
        grid, source = self.grid, self.sources[name]
        assert grid is not None
        if name not in grid.shifts:
            raise FrameError(f"{name}: {why_no_row(self, name)}")
        if self.notebook:
            dot = np.zeros((1, 1))
            self.headers[name] = rolled(grid, name, Frame(dot, dot, None, None, source.header)).header
        else:
            residual = measure_residual(self, grid, name, _Live(self, source, source.header))
            self.headers[name] = describe_shift(self, grid, name, source.header, residual)

    def aligned(self, name: str) -> Aligned:
        """Return a frame on the grid."""
        return _Live(self, self.sources[name], self.headers[name])

    def calibrated(self, source: Source, first: int, last: int) -> tuple[NDArray[Any], ...]:
        """Return rows of data, variance, shared variance and flags above the atmosphere."""
        nx = source.rows.shape[1]
        counts = source.rows.rows(first, last)
        data, variance, shared = (np.empty((last - first, nx)) for _ in range(3))
        flags = np.empty((last - first, nx), np.uint16)
        for number in range(first // CHUNK, -(-last // CHUNK)):
            start, stop = max(first, number * CHUNK), min(last, (number + 1) * CHUNK)
            part = slice(start - first, stop - first)
            prepared = self._masters_of(source, number)[0].rows(start - number * CHUNK, stop - number * CHUNK)
            out = (data[part], variance[part], shared[part], flags[part])
            self._calibrate(source, counts[part], prepared, (slice(start, stop), slice(None)), out)
        return data, variance, shared, flags

    def windows(
        self, source: Source, rows: Places, columns: Places, size: int
    ) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Return data and flags of square windows of a frame above the atmosphere, by their first rows and columns."""
        corners = list(zip(rows.tolist(), columns.tolist(), strict=True))
        shape = (len(corners) * size, size)  # one below the other
        stored = [source.rows.stored_rows(row, row + size)[:, column : column + size] for row, column in corners]
        counts = source.rows.in_adu(np.concatenate(stored))
        y, x = window_places(rows, columns, size)
        place = y.reshape(-1, 1), np.repeat(x[:, 0], size, axis=0)
        data, variance, shared = (np.empty(shape) for _ in range(3))
        flags = np.empty(shape, np.uint16)
        prepared = self._prepare(source, place, shape).rows(0, shape[0])
        self._calibrate(source, counts, prepared, place, (data, variance, shared, flags))
        return data.reshape(-1, size, size), flags.reshape(-1, size, size)

    def _calibrate(
        self,
        source: Source,
        counts: NDArray[np.float64],
        masters: tuple[NDArray[Any], ...],
        place: Any,
        out: tuple[NDArray[Any], ...],
    ) -> None:
        """Fill data, variance, shared variance and flags of the part of a frame at `place`."""
        arguments = source.arguments
        noise, saturation = arguments["read_noise"], arguments["saturation"]
        simple = np.ndim(noise) == 0 and (saturation is None or np.ndim(saturation) == 0)
        if compiled.available() and simple and (source.rows.stored.kind != "f" or np.isfinite(counts).all()):
            compiled.calibrate(counts, masters, self._camera(source), out)
            return
        planes = apply_masters(
            counts,
            Prepared(*masters),
            gain=arguments["gain"],
            read_noise=noise[place] if np.ndim(noise) else noise,
            saturation=saturation[place] if np.ndim(saturation or 0.0) else saturation,
        )
        depth = self.settings.depth
        square = source.factor**2
        for plane, values, factor in (
            (out[0], planes.data, source.factor),
            (out[1], planes.variance, square),
            (out[2], planes.shared_variance, square),
        ):
            plane[:] = (values.astype(depth).astype(np.float64) * factor).astype(depth)
        out[3][:] = planes.flags

    def _camera(self, source: Source) -> compiled.Camera:
        """Return what is done to each pixel of a frame whose read noise and saturation are single figures."""
        limit = source.arguments["saturation"]
        return compiled.Camera.of(
            source.arguments["gain"],
            float(source.arguments["read_noise"]),
            None if limit is None else float(limit),
            source.factor,
            single=self.settings.depth == "float32",
        )

    def lays(self, frames: Sequence[Aligned]) -> bool:
        """Tell whether frames can go from their stored counts to the stack in one loop, which is compiled."""
        return compiled.available() and all(isinstance(frame, _Live) and frame.is_plain for frame in frames)

    def laid(self, frame: _Live, rows: slice) -> compiled.Laid:
        """Return what a frame has of some rows of the grid: as it is stored, and what is to be done with it."""
        source = frame.source
        first, last = (min(max(row - frame.dy, 0), source.rows.shape[0]) for row in (rows.start, rows.stop))
        parts = []
        for number in range(first // CHUNK, -(-last // CHUNK)):
            begin = number * CHUNK
            parts.append(self._masters_of(source, number)[1].part(max(first - begin, 0), min(last - begin, CHUNK)))
        camera = self._camera(source)
        camera.zero, camera.scale, camera.sky = source.rows.zero, frame.scale, frame.zero
        stored = source.rows.stored_rows(first, last)
        return compiled.Laid(stored, compiled.RowsOfMasters.joined(parts), first, frame.dx, frame.dy, camera)

    def _masters_of(self, source: Source, number: int) -> tuple[Prepared, compiled.RowsOfMasters]:
        """Return the masters of a chunk of rows; prepared once for all frames of one gain and dark scale."""
        arguments = source.arguments
        key = (arguments["gain"], arguments["dark_scale"], number)
        with self._guard:
            if key in self._prepared:
                self._prepared.move_to_end(key)
                return self._prepared[key]
        ny, nx = source.rows.shape
        rows = slice(number * CHUNK, min((number + 1) * CHUNK, ny))
        prepared = self._prepare(source, (rows, slice(None)), (rows.stop - rows.start, nx))
        made = prepared, compiled.RowsOfMasters.of(prepared.rows(0, rows.stop - rows.start))
        most = max(8, int(self.settings.machine.memory * 1e6) // (BYTES_OF_MASTERS * CHUNK * nx))
        with self._guard:
            self._prepared[key] = made
            while len(self._prepared) > most:
                self._prepared.popitem(last=False)
        return made

    def _prepare(self, source: Source, place: Any, shape: tuple[int, int]) -> Prepared:
        arguments = source.arguments
        part: dict[str, Any] = {name: None if arguments[name] is None else arguments[name][place] for name in _OF_ROWS}
        scalars: dict[str, Any] = {
            name: arguments[name] for name in ("gain", "dark_contains_bias", "dark_scale", "bias_in_dark", "flat_limit")
        }
        return prepare_masters(shape, **scalars, **part)

    def notebook_stack(self, names: Sequence[str]) -> RowFrame:
        """Return the stack as the notebook made it; its rows are computed while those before are written."""
        grid, machine = self.grid, self.settings.machine
        assert grid is not None
        sources = [self.sources[name] for name in names]
        ny, nx = sources[0].rows.shape
        masters = self.calibration.masters((ny, nx))
        bias, flat = masters["bias"].data, masters["flat"].data
        moves = [(int(grid.shifts[name][0]), int(grid.shifts[name][1])) for name in names]
        zeros = {source.rows.zero for source in sources}
        quick = compiled.available() and all(source.rows.is_count for source in sources) and len(zeros) == 1
        kind = "f4" if bias.dtype == flat.dtype == np.float32 else "f8"
        solid = [np.ascontiguousarray(plane, dtype=kind) for plane in (bias, flat)] if quick else []

        def _combine(rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            """Make some rows of the stack."""
            data, variance = (np.empty((rows.stop - rows.start, nx)) for _ in range(2))
            numbers = [(np.arange(rows.start, rows.stop) - dy) % ny for _, dy in moves]
            stored = [_stored(source, wanted) for source, wanted in zip(sources, numbers, strict=True)]
            hard = np.ones((rows.stop - rows.start, nx), bool)
            if quick:
                hard = compiled.notebook_rows(
                    stored,
                    np.array(numbers, np.int32),
                    zero=zeros.copy().pop(),
                    bias=solid[0],
                    flat=solid[1],
                    gains=np.array([source.arguments["gain"] for source in sources]),
                    factors=np.array([source.factor for source in sources]),
                    dx=np.array([dx for dx, _ in moves], np.int32),
                    data=data,
                    variance=variance,
                )
            lines = np.flatnonzero(hard.any(axis=1))
            if lines.size:
                cubes = [np.empty((len(sources), lines.size, nx)) for _ in range(2)]
                for number, (source, wanted) in enumerate(zip(sources, numbers, strict=True)):
                    place = wanted[lines]
                    counts = source.rows.in_adu(stored[number][lines])
                    signal, noise = notebook.calibrate(counts, bias[place], flat[place], source.arguments["gain"])
                    if source.factor != 1.0:
                        signal = signal * source.factor
                    cubes[0][number] = np.roll(signal, moves[number][0], axis=1)
                    cubes[1][number] = np.roll(noise, moves[number][0], axis=1)
                data[lines] = notebook.median(cubes[0])
                variance[lines] = notebook.median(cubes[1]) / len(sources)
            return data, variance

        bytes_of_a_value = 8 if quick else 40
        blocks = machine.blocks(ny, len(sources) * nx * bytes_of_a_value, most=ROWS_AHEAD)
        header = notebook_header(self.headers[names[0]], names)
        return RowFrame((ny, nx), header, RowsAhead(_combine, blocks, machine.workers), standard=False)


def _as_read_back(header: fits.Header, *, scientific: bool) -> fits.Header:
    """Return a header as it would be after writing and reading: the same cards in the same order and layout."""
    if scientific:
        put_card(header, "EXTNAME", "SCI")
        put_card(header, "BUNIT", "electron", "unit of the image")
    for keyword in ("CHECKSUM", "DATASUM"):
        put_card(header, keyword, "")
    return type(header).fromstring(header.tostring())


def _stored(source: Source, numbers: NDArray[np.intp]) -> NDArray[Any]:
    """Return rows as they are stored, of which the numbers rise but for one step back to the beginning."""
    first = int(numbers[0])
    run = min(len(numbers), source.rows.shape[0] - first)
    upper = source.rows.stored_rows(first, first + run)
    if run == len(numbers):
        return np.ascontiguousarray(upper)
    joined = np.empty((len(numbers), upper.shape[1]), upper.dtype)  # np.concatenate would turn the bytes round
    joined[:run], joined[run:] = upper, source.rows.stored_rows(0, len(numbers) - run)
    return joined


class _Live(Aligned):
    """A frame on the grid, made from its raw whenever rows are wanted; its first pixel lies at `dx`, `dy`."""

    def __init__(self, work: Fused, source: Source, header: fits.Header) -> None:
        assert work.grid is not None
        grid = work.grid
        super().__init__(source.name, header, (grid.shape[0], grid.shape[1]))
        self._work, self.source, self._motion = work, source, grid.motions[source.name]
        dx, dy = self._motion.whole
        self.dx, self.dy = dx - grid.origin[0], dy - grid.origin[1]

    @property
    def is_plain(self) -> bool:
        """Whether it is stored as counts, not turned, and has one read noise and one saturation."""
        figures = (self.source.arguments["read_noise"], self.source.arguments["saturation"] or 0.0)
        return self.source.rows.is_count and not self._motion.flipped and not any(map(np.ndim, figures))

    def block(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return rows of the grid; what the frame does not cover has no data."""
        nx = self.shape[1]
        empty = [np.zeros((last - first, nx)) for _ in range(3)]
        cubes = (empty[0], empty[1], empty[2], np.full((last - first, nx), NO_DATA, np.uint16))
        self._lay(first, last, cubes)
        return cubes

    def sample(self, rows: Sequence[slice]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return data, variance and flags of strips of rows of the grid, one below the other."""
        if not (compiled.available() and self.is_plain):
            return super().sample(rows)
        return compiled.laid_rows([self._work.laid(self, part) for part in rows], rows, self.shape[1])

    def image(self) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Return data and flags on the grid."""
        return self._window(slice(0, self.shape[0]), slice(None))

    def windows(self, rows: Places, columns: Places, size: int) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        """Return data and flags of square windows of the grid, by their first rows and columns."""
        y, x = rows - self.dy, columns - self.dx
        ny, nx = self.source.rows.shape
        whole = (y >= 0) & (x >= 0) & (y + size <= ny) & (x + size <= nx) & (not self._motion.flipped)
        data, flags = np.empty((len(rows), size, size)), np.empty((len(rows), size, size), np.uint16)
        if whole.any():
            data[whole], flags[whole] = self._work.windows(self.source, y[whole], x[whole], size)
        if not whole.all():  # partly beyond the frame's edge, or turned
            data[~whole], flags[~whole] = look_at_each(self._window)(rows[~whole], columns[~whole], size)
        return data, flags

    def _window(self, rows: slice, columns: slice) -> tuple[NDArray[Any], NDArray[np.uint16]]:
        data, _, _, flags = self.block(rows.start, rows.stop)
        return data[:, columns], flags[:, columns]

    def fill(self, number: int, first: int, last: int, cubes: Any) -> None:
        """Lay rows into the cubes without a copy between."""
        planes = tuple(cube[number] for cube in cubes)
        for plane, nothing in zip(planes, (0.0, 0.0, 0.0, NO_DATA), strict=True):
            plane[:] = nothing
        self._lay(first, last, planes)
        if self.scale != 1.0:
            planes[0][:] *= self.scale
            planes[1][:] *= self.scale**2
            planes[2][:] *= self.scale**2
        planes[0][:] -= self.zero

    def _lay(self, first: int, last: int, planes: tuple[NDArray[Any], ...]) -> None:
        """Copy what the frame has of some rows of the grid."""
        ny, nx = self.source.rows.shape
        bottom, top = max(first - self.dy, 0), min(last - self.dy, ny)
        left, right = max(self.dx, 0), min(self.dx + nx, self.shape[1])
        if bottom >= top or left >= right:
            return
        there = (slice(bottom + self.dy - first, top + self.dy - first), slice(left, right))
        flipped = self._motion.flipped
        wanted = (ny - top, ny - bottom) if flipped else (bottom, top)
        columns = slice(left - self.dx, right - self.dx)
        for plane, values in zip(planes, self._work.calibrated(self.source, *wanted), strict=True):
            plane[there] = (values[::-1, ::-1] if flipped else values)[:, columns]


class LaidRows:
    """Some rows of all frames, from their stored counts.

    Parameters
    ----------
    work : Fused
        The group.
    frames : sequence of Aligned
        Its frames, all of which the compiled loop takes.
    rows : slice
        Rows of the grid.
    """

    def __init__(self, work: Fused, frames: Sequence[Aligned], rows: slice) -> None:
        self._frames = [work.laid(frame, rows) for frame in frames if isinstance(frame, _Live)]
        self._rows = rows
        self.n, self.shape = len(frames), (rows.stop - rows.start, frames[0].shape[1])

    def easy(self, recipe: Recipe, clip_sigma: float | None) -> Easy:
        """Return the easy pixels."""
        rule = clip_rule(recipe.sigmas, clip_sigma=clip_sigma, level=recipe.level, tolerance=recipe.tolerance)
        return Easy(*compiled.laid_easy_pixels(self._frames, self._rows, self.shape[1], **rule))

    def mean(self, recipe: Recipe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Refuse: means are made from cubes."""
        raise NotImplementedError(f"{recipe.method} needs cubes.")

    def columns(self, places: NDArray[np.intp]) -> Columns:
        """Return the values of some pixels, counted row by row, shape (n, 1, pixels)."""
        return compiled.laid_columns(self._frames, self._rows.start, self.shape[1], places)


@dataclass(frozen=True)
class _Held(RawRows):
    """A raw that cannot be read by rows, held whole."""

    pixels: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))

    @classmethod
    def of(cls, path: Any, pixels: NDArray[Any]) -> _Held:
        return cls(path, 0, (pixels.shape[0], pixels.shape[1]), pixels.dtype, 1.0, 0.0, pixels)

    @property
    def is_count(self) -> bool:
        return False

    def stored_rows(self, first: int, last: int) -> NDArray[Any]:
        return self.pixels[first:last]
