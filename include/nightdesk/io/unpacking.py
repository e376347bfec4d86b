"""Compressed files: those that would unpack to more than they say are refused before they do."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException  # what a damaged tile raises; no public name

from nightdesk.errors import FrameError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BYTES_OF_A_PIXEL = 8
UNPACKING_ERRORS = (zlib.error, CfitsioException)
_GZIP_COLUMNS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA")


@contextmanager
def open_unpacked(path: Path, most_bytes: int = -1) -> Iterator[BinaryIO]:
    """Open a file for astropy, one that is zipped as it was before: of a damaged zipped one astropy reads without end.

    Raises
    ------
    FrameError
        If a zipped file holds more than `most_bytes` (-1: any number).
    gzip.BadGzipFile, zlib.error, EOFError
        If it is damaged.
    """
    with path.open("rb") as stream:
        is_zipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not is_zipped:
            yield stream
            return
        with gzip.open(stream) as packed:
            content = packed.read(most_bytes + 1 if most_bytes >= 0 else -1)
    if 0 <= most_bytes < len(content):
        raise FrameError(
            f"{path.name}: it unpacks to more than {most_bytes:,} bytes, what max_pixels allows. Remove it."
        )
    yield io.BytesIO(content)


def check_tiles(path: Path, number: int) -> None:
    """Refuse a tile-compressed image whose tiles are larger than the image, or hold more than a tile.

    Rice, PLIO and HCOMPRESS unpack into a tile of the announced size; gzip unpacks whatever it holds, so its tiles are
    unpacked here first, up to what a tile may have.

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
        most = math.prod(tile) * BYTES_OF_A_PIXEL
        for column in _GZIP_COLUMNS:
            if column in hdu.columns.names and (column != "COMPRESSED_DATA" or _is_gzip(header)):
                for row, packed in enumerate(hdu.data[column], start=1):
                    _check_gzip(path, row, packed, most)


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
