"""Frames and products on disk: reading raws, writing planes, the same bytes for the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.io import fits

from nightdesk.errors import FrameError
from nightdesk.io.hdu import BLOCK, Content, write_together
from nightdesk.io.header import complete_header, mend_cards
from nightdesk.io.quiet import quiet
from nightdesk.io.raw import is_image
from nightdesk.io.rows import StoredRows
from nightdesk.io.unpacking import BYTES_OF_A_PIXEL, UNPACKING_ERRORS, check_tiles, open_unpacked
from nightdesk.science.flag import FLAG_MEANINGS, NO_DATA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nightdesk.settings import Instrument

CARD = 80
RECIPE = "NDRECIPE"
LONGEST_HEADERS = 10_000_000  # bytes that a file may have besides its pixels
WARNING = "NDWARN"


class Rows(NamedTuple):
    """Some rows of a frame's planes, or all of them."""

    data: NDArray[Any]
    variance: NDArray[Any]
    shared_variance: NDArray[Any] | None = None
    flags: NDArray[np.uint16] | None = None


@dataclass(frozen=True)
class Frame:
    """An image with its variance, the part of it that calibration shares, and its flags.

    All planes have the shape ``(ny, nx)``; data in electrons, variances in electrons squared, flags uint16.
    `shared_variance` and `flags` are None in the notebook profile, which has neither.
    """

    data: NDArray[Any]
    variance: NDArray[Any]
    shared_variance: NDArray[Any] | None
    flags: NDArray[np.uint16] | None
    header: fits.Header

    def __post_init__(self) -> None:
        shapes = {
            plane.shape for plane in (self.data, self.variance, self.shared_variance, self.flags) if plane is not None
        }
        if len(shapes) != 1 or self.data.ndim != 2:
            raise ValueError(f"the planes of a frame must share one shape (ny, nx), not {sorted(map(str, shapes))}")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx)."""
        return self.data.shape[0], self.data.shape[1]

    @property
    def standard(self) -> bool:
        """Whether it has all planes."""
        return self.flags is not None and self.shared_variance is not None

    def block(self, first: int, last: int) -> Rows:
        """Return rows of the planes."""
        rows = slice(first, last)
        return Rows(
            self.data[rows],
            self.variance[rows],
            None if self.shared_variance is None else self.shared_variance[rows],
            None if self.flags is None else self.flags[rows],
        )


def read_raw(path: Path, instrument: Instrument) -> tuple[NDArray[Any], fits.Header]:
    """Read a raw's pixels and header.

    Returns
    -------
    pixels : ndarray, shape (ny, nx)
        In ADU, as the file stores them (uint16 for most cameras).
    header : Header
        Of the image, completed by the primary's.

    Raises
    ------
    FrameError
        If it is no readable two-dimensional image of an allowed size, or its data are cut short.
    """
    try:
        with quiet():
            # opened here, for astropy leaves a file open at which it fails
            most_bytes = BYTES_OF_A_PIXEL * instrument.max_pixels + LONGEST_HEADERS
            with (
                open_unpacked(path, most_bytes) as stream,
                fits.open(stream, memmap=False, lazy_load_hdus=True) as hdus,
            ):
                hdu = _image_hdu(path, hdus, instrument)
                if isinstance(hdu, fits.CompImageHDU):
                    check_tiles(path, hdus.index_of(hdu))
                header = hdu.header.copy() if hdu is hdus[0] else complete_header(hdu.header, hdus[0].header)
                mend_cards(header)
                pixels = hdu.data
    except FrameError:
        raise
    except MemoryError as error:
        raise FrameError(f"{path.name}: its image does not fit into memory. Check NAXIS in its header.") from error
    except (
        OSError,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        fits.VerifyError,
        EOFError,
        ArithmeticError,
        *UNPACKING_ERRORS,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's trouble, not the file's: worth another try
        raise FrameError(f"{path.name}: it cannot be read as FITS ({_first_line(error)}). Copy it again.") from error
    if pixels is None or pixels.ndim != 2:
        raise FrameError(f"{path.name}: it holds no two-dimensional image. Remove it, or check the camera's settings.")
    return pixels, header


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _image_hdu(path: Path, hdus: fits.HDUList, instrument: Instrument) -> Any:
    if instrument.extension is not None:
        try:
            chosen = hdus[instrument.extension]
        except (IndexError, KeyError):
            raise FrameError(
                f"{path.name}: it has no extension {instrument.extension}; see [instruments.<name>] extension."
            ) from None
        if not _holds_image(chosen):
            raise FrameError(
                f"{path.name}: its extension {instrument.extension} holds no image; see [instruments.<name>] extension."
            )
    else:
        images = [hdu for hdu in hdus if _holds_image(hdu)]
        if not images:
            raise FrameError(f"{path.name}: it holds no image. Remove it, or check the camera's settings.")
        if len(images) > 1:
            raise FrameError(
                f"{path.name}: it holds {len(images)} images; say which by extension = (number) under "
                "[instruments.<name>] in the configuration."
            )
        chosen = images[0]
    _check_size(path, chosen, instrument)
    return chosen


def _holds_image(hdu: Any) -> bool:
    return isinstance(hdu, fits.CompImageHDU) or (
        isinstance(hdu, (fits.PrimaryHDU, fits.ImageHDU))
        and not isinstance(hdu, fits.GroupsHDU)
        and is_image(hdu.header)
    )


def _check_size(path: Path, hdu: Any, instrument: Instrument) -> None:
    axes = tuple(hdu.shape)
    if len(axes) != 2 or not all(axes):
        kind = "empty" if not all(axes) else "a colour image" if len(axes) == 3 and 3 in axes else "not two-dimensional"
        raise FrameError(f"{path.name}: its image has the axes {axes} (slowest first), which is {kind}. Remove it.")
    pixels = axes[0] * axes[1]
    if pixels > instrument.max_pixels:
        raise FrameError(
            f"{path.name}: NAXIS1 x NAXIS2 = {axes[1]} x {axes[0]} is more than max_pixels = {instrument.max_pixels}. "
            "If the detector is so large, raise max_pixels under [instruments.<name>]."
        )


@dataclass(frozen=True)
class RowFrame:
    """A frame whose rows are made when they are wanted: written block by block, it is never in memory as a whole.

    `block` takes the first row and that behind the last; `standard` frames have a shared variance and flags. The row
    `begin` is the one to begin with: it is made from the first row of another frame.
    """

    shape: tuple[int, int]
    header: fits.Header
    block: Callable[[int, int], Rows]
    standard: bool
    begin: int = 0


class Product:
    """A frame's file in the making: SCI first, then VAR, DQ and VARCAL as far as there are any, then `extra` HDUs.

    Parameters
    ----------
    path : Path
        The file.
    frame : Frame or RowFrame
        The frame.
    depth : str
        The number type in which planes are stored: "float32" or "float64".
    extra : sequence of HDU
        What else the file holds.
    """

    def __init__(self, path: Path, frame: Frame | RowFrame, *, depth: str, extra: Sequence[Any] = ()) -> None:
        header, flagged = frame.header, frame.standard or (isinstance(frame, Frame) and frame.flags is not None)
        pixels = np.broadcast_to(np.zeros(1, depth), frame.shape)  # of this size and type; the rows come when written
        hdus: list[Any] = [fits.PrimaryHDU(pixels, header=header, do_not_scale_image_data=True)]
        if not flagged:
            hdus.append(fits.ImageHDU(pixels, header=header))
        else:
            hdus[0].header["EXTNAME"] = "SCI"
            hdus[0].header["BUNIT"] = ("electron", "unit of the image")
            hdus.append(_plane(pixels, "VAR", "electron2"))
            hdus[-1].header["UTYPE"] = ("VarianceUncertainty", "for astropy's CCDData")
            hdus.append(_flag_hdu(np.broadcast_to(np.uint16(0), frame.shape)))
            if frame.standard:
                hdus.append(_plane(pixels, "VARCAL", "electron2"))
        begin = frame.begin if isinstance(frame, RowFrame) else 0
        self.path, self._frame, self._rows = path, frame, _LastRows(frame, depth)
        self.content = Content(path, hdus, self._rows.planes, extra, begin=begin)

    def read_back(self) -> RowFrame:
        """Return the frame as `open_frame` will; the rows that were written last are not made again."""
        return RowFrame(self._frame.shape, self.content.header, self._rows.block, standard=self._frame.standard)


class _LastRows:
    """A frame's rows as they are stored, and those that were wanted last."""

    def __init__(self, frame: Frame | RowFrame, depth: str) -> None:
        self._frame, self._depth = frame, depth
        self._first, self._rows = 0, Rows(np.empty((0, 0)), np.empty((0, 0)))

    def block(self, first: int, last: int) -> Rows:
        start, stop = first - self._first, last - self._first
        if start < 0 or stop > len(self._rows.data):
            self._first, self._rows = first, _storable(self._frame.block(first, last), self._depth)
            start, stop = 0, last - first
        data, variance, shared, flags = (None if plane is None else plane[start:stop] for plane in self._rows)
        assert data is not None
        assert variance is not None
        return Rows(data, variance, shared, flags)

    def planes(self, first: int, last: int) -> list[NDArray[Any]]:
        rows = self.block(first, last)
        return [plane for plane in (rows.data, rows.variance, rows.flags, rows.shared_variance) if plane is not None]


def write_frame(path: Path, frame: Frame | RowFrame, *, depth: str, extra: Sequence[Any] = ()) -> None:
    """Write a product.

    The same frame gives the same bytes on any day and machine.
    """
    write_products([Product(path, frame, depth=depth, extra=extra)])


def write_products(products: Sequence[Product]) -> None:
    """Write some products in one pass over their rows, of which each may be made from the one before."""
    write_together([product.content for product in products])


def _storable(rows: Rows, depth: str) -> Rows:
    """Bring the planes to their number type.

    What that cannot hold is flagged as NO_DATA: a raw's garbage of 1e38 must not be infinite in a product.
    """
    with np.errstate(over="ignore"):
        data, variance = rows.data.astype(depth, copy=False), rows.variance.astype(depth, copy=False)
        shared = None if rows.shared_variance is None else rows.shared_variance.astype(depth, copy=False)
    flags = rows.flags
    if flags is not None:
        finite = [np.isfinite(plane) for plane in (data, variance, shared) if plane is not None]
        sound = np.logical_and.reduce(finite)
        if not sound.all():
            data, variance = (np.where(sound, plane, plane.dtype.type(0)) for plane in (data, variance))
            shared = None if shared is None else np.where(sound, shared, shared.dtype.type(0))
            flags = np.where(sound, flags, flags | NO_DATA)
    return Rows(data, variance, shared, flags)


def _plane(plane: NDArray[Any], name: str, unit: str) -> fits.ImageHDU:
    hdu = fits.ImageHDU(plane, name=name)
    hdu.header["BUNIT"] = (unit, "unit of the image")
    return hdu


def _flag_hdu(flags: NDArray[np.uint16]) -> fits.ImageHDU:
    hdu = fits.ImageHDU(flags, name="DQ")
    for number, (bit, meaning) in enumerate(FLAG_MEANINGS.items()):
        hdu.header[f"MSKN{number:04d}"] = (meaning, "meaning of a flag")
        hdu.header[f"MSKM{number:04d}"] = (bit, f"its bit in DQ: {meaning}")
    return hdu


def read_frame(path: Path) -> Frame:
    """Read a product back; its planes are native floats and writable.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    with fits.open(path, memmap=False) as hdus:
        names = {hdu.name: hdu for hdu in hdus}
        variance = names["VAR"] if "VAR" in names else hdus[1]
        flags = names["DQ"].data.astype(np.uint16) if "DQ" in names else None
        shared = _native(names["VARCAL"].data) if "VARCAL" in names else None
        return Frame(_native(hdus[0].data), _native(variance.data), shared, flags, hdus[0].header.copy())


def open_planes(path: Path) -> tuple[fits.Header, dict[str, StoredRows]]:
    """Return a product's header and where its planes stand: SCI and VAR, DQ and VARCAL if it has them.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
        names = {hdu.name: hdu for hdu in hdus}
        planes = {name: StoredRows.of(path, names[name]) for name in ("VAR", "DQ", "VARCAL") if name in names}
        planes = {"SCI": StoredRows.of(path, hdus[0]), "VAR": StoredRows.of(path, hdus[1])} | planes
        return hdus[0].header.copy(), planes


def open_frame(path: Path) -> RowFrame:
    """Open a product whose rows are read when they are wanted, floats as they are stored.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    header, planes = open_planes(path)
    data, variance, shared, flags = (planes.get(name) for name in ("SCI", "VAR", "VARCAL", "DQ"))
    assert data is not None
    assert variance is not None

    def _block(first: int, last: int) -> Rows:
        return Rows(
            data.stored_rows(first, last),
            variance.stored_rows(first, last),
            None if shared is None else shared.stored_rows(first, last),
            None if flags is None else flags.flag_rows(first, last),
        )

    return RowFrame(data.shape, header, _block, standard=shared is not None)


def _native(plane: NDArray[Any]) -> NDArray[Any]:
    return plane.astype(plane.dtype.newbyteorder("="))


def read_recipe(path: Path) -> str | None:
    """Return the recipe that a product was made by, or None when there is no whole product."""
    recipe = None
    with suppress(OSError), path.open("rb") as stream:
        while len(block := stream.read(BLOCK)) == BLOCK:
            for place in range(0, BLOCK, CARD):  # a header is long, and of this one card is wanted
                card = block[place : place + CARD]
                if card.startswith(f"{RECIPE}=".encode()):
                    recipe = fits.Card.fromstring(card).value
                elif card.rstrip() == b"END":
                    return recipe if isinstance(recipe, str) else None
    return None
