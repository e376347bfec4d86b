"""Compressed files: those that would unpack to more than they say are refused before they do."""

from __future__ import annotations

import gzip
import io
import itertools
import math
import struct
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException  # what a damaged tile raises; no public name

from nightdesk.errors import FrameError
from nightdesk.io.raw import NotFitsError, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BYTES_OF_A_PIXEL = 8
MOST_BYTES = 4_000_000_000  # where no instrument's max_pixels tells: image, variance and flags of 200 million pixels
UNPACKING_ERRORS = (zlib.error, CfitsioException)
_HCOMPRESS = struct.Struct(">2sii")  # magic, nx, ny
_GZIP_COLUMNS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")


@contextmanager
def open_unpacked(path: Path, most_bytes: int = MOST_BYTES) -> Iterator[BinaryIO]:
    """Open a file for astropy, one that is zipped as it was before: of a damaged zipped one astropy reads without end.

    A zipped one is unpacked as far as its headers announce, and not at all if they announce more than `most_bytes`.

    Raises
    ------
    FrameError
        If they do.
    gzip.BadGzipFile, zlib.error, EOFError
        If it is damaged.
    """
    with path.open("rb") as stream:
        is_zipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not is_zipped:
            yield stream
            return
        content = io.BytesIO()
        with _Kept(stream, content) as packed:
            try:
                walk(packed, None, most_bytes=most_bytes)
            except NotFitsError as error:
                raise FrameError(f"{path.name}: {error}. Remove it.") from error
    content.seek(0)
    yield content


class _Kept(gzip.GzipFile):
    """A zipped stream of which all that was read is kept."""

    def __init__(self, stream: BinaryIO, content: io.BytesIO) -> None:
        super().__init__(fileobj=stream)
        self._content = content

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._content.write(data)
        return data


def check_tiles(path: Path, number: int) -> None:
    """Refuse a tile-compressed image whose tiles are larger than the image, or hold more than a tile.

    Rice and PLIO unpack into a tile of the announced size; gzip unpacks whatever it holds, so its tiles are unpacked
    here first, up to what a tile may have; a stream of HCOMPRESS begins with a size of its own, which is compared.

    Raises
    ------
    FrameError
        Naming the file and the keyword or tile.
    """
    with path.open("rb") as stream, fits.open(stream, memmap=False, disable_image_compression=True) as hdus:
        hdu = hdus[number]
        header = hdu.header
        axes = [int(header[f"ZNAXIS{axis}"]) for axis in range(1, int(header["ZNAXIS"]) + 1)]
        tile = [int(header.get(f"ZTILE{axis}", 1 if axis > 1 else axes[0])) for axis in range(1, len(axes) + 1)]
        for axis, (side, length) in enumerate(zip(tile, axes, strict=True), start=1):
            if not 1 <= side <= max(length, 1):
                raise FrameError(
                    f"{path.name}: ZTILE{axis} = {side} does not fit ZNAXIS{axis} = {length}. Copy it again."
                )
        if str(header.get("ZCMPTYPE", "")).upper().startswith("HCOMPRESS"):
            tiles = zip(hdu.data["COMPRESSED_DATA"], _tiles(axes, tile), strict=False)
            for row, (packed, sides) in enumerate(tiles, start=1):
                _check_hcompress(path, row, bytes(packed[: _HCOMPRESS.size]), math.prod(sides))
        most = math.prod(tile) * BYTES_OF_A_PIXEL
        for column in _GZIP_COLUMNS:
            if column in hdu.columns.names and (column != "COMPRESSED_DATA" or _is_gzip(header)):
                for row, packed in enumerate(hdu.data[column], start=1):
                    _check_gzip(path, row, packed, most)


def _tiles(axes: list[int], tile: list[int]) -> Iterable[tuple[int, ...]]:
    """Yield the sides of each tile in the order of the table, the first axis fastest; at the edges they are shorter."""
    spans = [
        [min(side, length - first) for first in range(0, length, side)]
        for side, length in zip(reversed(tile), reversed(axes), strict=True)
    ]
    return itertools.product(*spans)


def _check_hcompress(path: Path, row: int, begin: bytes, pixels: int) -> None:
    if not begin:
        return  # this tile is in another column
    if len(begin) < _HCOMPRESS.size:
        raise FrameError(f"{path.name}: its tile {row} is cut short. Copy it again.")
    _, nx, ny = _HCOMPRESS.unpack(begin)
    if nx < 1 or ny < 1 or nx * ny > pixels:
        raise FrameError(
            f"{path.name}: its tile {row} says that it is of {nx} x {ny} pixels, where {pixels:,} belong. Remove it."
        )


def _is_gzip(header: fits.Header) -> bool:
    return str(header.get("ZCMPTYPE", "")).upper().startswith("GZIP")


def _check_gzip(path: Path, row: int, packed: Any, most: int) -> None:
    content = bytes(packed)
    if not content:
        return
    unpacker = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    try:
        size = len(unpacker.decompress(content, most + 1))
    except zlib.error:
        return  # broken, not too large: reading it says so
    if size > most:
        raise FrameError(
            f"{path.name}: its tile {row} unpacks to more than the {most:,} bytes that a tile can have. Remove it."
        )
