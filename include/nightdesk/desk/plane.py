"""Rectangles out of a FITS file, read where they stand: a viewer's tiles and pixels need no whole image in memory."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

STRIP_BYTES = 4_000_000

_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True)
class Plane:
    """One uncompressed image in a FITS file: where its numbers begin and what they mean."""

    path: Path
    offset: int
    shape: tuple[int, int]
    bitpix: int
    scale: float = 1.0
    zero: float = 0.0

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a rectangle; parts beyond the image are left away. Of a cube it is the first image's."""
        ny, nx = self.shape
        y0, y1 = max(0, rows.start), min(ny, rows.stop)
        x0, x1 = max(0, columns.start), min(nx, columns.stop)
        if y1 <= y0 or x1 <= x0:
            return np.zeros((0, 0), dtype=np.float32)
        return self._values(self._stored(y0, y1, x0, x1))

    def _stored(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        kind = np.dtype(_TYPES[self.bitpix])
        row, ends = self.shape[1] * kind.itemsize, (x0 * kind.itemsize, x1 * kind.itemsize)
        with self.path.open("rb") as stream:
            raw = _rectangle(stream.fileno(), self.offset, row, y0, y1, *ends)
        stored = np.frombuffer(raw, dtype=kind)
        if stored.size != (y1 - y0) * (x1 - x0):
            raise EOFError(f"{self.path.name} is cut short.")
        return stored.reshape(y1 - y0, x1 - x0)

    def _values(self, stored: NDArray[Any]) -> NDArray[Any]:
        native = stored.astype(stored.dtype.newbyteorder("="))
        if (self.scale, self.zero) == (1.0, 0.0):
            return native
        if (self.scale, self.zero, self.bitpix) == (1.0, 32768.0, 16):
            return np.asarray((native.astype(np.int32) + 32768).astype(np.uint16))
        return np.asarray(native * self.scale + self.zero)

    def binned(self, level: int, rows: slice, columns: slice, *, most: bool = False) -> NDArray[np.float32]:
        """Return a rectangle of the image binned by 2 to the power of `level`: means of what is a number, or `most`."""
        factor = 2**level
        join = _greatest if most else _means
        step = max(1, STRIP_BYTES // (factor * (columns.stop - columns.start) * factor * abs(self.bitpix) // 8))
        strips = [
            join(self.read(_times(row, min(row + step, rows.stop), factor), _times(*_ends(columns), factor)), factor)
            for row in range(rows.start, rows.stop, step)
        ]
        filled = [strip for strip in strips if strip.size]
        return np.concatenate(filled) if filled else np.zeros((0, 0), np.float32)

    def binned_flags(self, level: int, rows: slice, columns: slice) -> NDArray[np.uint8]:
        """Return every flag that a pixel of each bin has, in one byte."""
        factor = 2**level
        ny, nx = self.shape
        y0, y1, x0, x1 = (
            min(end * factor, length)
            for end, length in ((rows.start, ny), (rows.stop, ny), (columns.start, nx), (columns.stop, nx))
        )
        if y1 <= y0 or x1 <= x0:
            return np.zeros((0, 0), dtype=np.uint8)
        stored = self._stored(y0, y1, x0, x1)
        # The low byte of a 16-bit number is the same with and without the zero point of 32768.
        bits = stored.view(np.uint8)[:, stored.itemsize - 1 :: stored.itemsize]
        for _ in range(level):
            bits = halve_flags(bits)
        return np.ascontiguousarray(bits)

    def sample(self, about: int = 64) -> NDArray[Any]:
        """Return a coarse sample of the image: some of its rows, some of their pixels."""
        ny, nx = self.shape
        every = max(1, ny // about)
        rows = [self.read(slice(y, y + 1), slice(0, nx)) for y in range(0, ny, every)]
        return np.concatenate(rows)[:, :: max(1, nx // about)]


def halve_flags(flags: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return every flag that one of 2 by 2 pixels has."""
    if flags.shape[0] % 2 or flags.shape[1] % 2:
        flags = np.pad(flags, [(0, length % 2) for length in flags.shape])
    return np.asarray((flags[::2, ::2] | flags[1::2, ::2]) | (flags[::2, 1::2] | flags[1::2, 1::2]))


def _ends(part: slice) -> tuple[int, int]:
    return part.start, part.stop


def _times(first: int, last: int, factor: int) -> slice:
    return slice(first * factor, last * factor)


def _greatest(values: NDArray[Any], factor: int) -> NDArray[np.float32]:
    if not values.size or factor == 1:
        return values.astype(np.float32)
    starts = [np.arange(0, length, factor) for length in values.shape]
    return np.maximum.reduceat(np.maximum.reduceat(values, starts[1], 1), starts[0], 0).astype(np.float32)


def _means(values: NDArray[Any], factor: int) -> NDArray[np.float32]:
    if not values.size or factor == 1:
        return values.astype(np.float32)
    starts = [np.arange(0, length, factor) for length in values.shape]
    numbers = values.astype(np.float32)
    known = np.isfinite(numbers)
    if known.all():
        total = np.add.reduceat(np.add.reduceat(numbers, starts[1], 1), starts[0], 0)
        counts = [
            np.minimum(start + factor, length) - start for start, length in zip(starts, values.shape, strict=True)
        ]
        return np.asarray(total / np.outer(*counts), dtype=np.float32)
    total = np.add.reduceat(np.add.reduceat(np.where(known, numbers, np.float32(0)), starts[1], 1), starts[0], 0)
    count = np.add.reduceat(np.add.reduceat(known.astype(np.float32), starts[1], 1), starts[0], 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(count > 0, total / count, np.nan), dtype=np.float32)


def _rectangle(file: int, begin: int, row_bytes: int, y0: int, y1: int, x0: int, x1: int) -> bytes:
    if x1 - x0 == row_bytes or (x1 - x0) * 4 > row_bytes:
        # Wide enough that one read of whole rows costs less than a read for each.
        whole = os.pread(file, (y1 - y0) * row_bytes, begin + y0 * row_bytes)
        if x1 - x0 == row_bytes:
            return whole
        return b"".join(whole[start + x0 : start + x1] for start in range(0, len(whole), row_bytes))
    return b"".join(os.pread(file, x1 - x0, begin + y * row_bytes + x0) for y in range(y0, y1))


def find_planes(path: Path) -> dict[str, Plane]:
    """Return a file's uncompressed images by name (the first one as SCI), remembered while the file is the same."""
    status = path.stat()
    return _find_planes(path, status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _find_planes(path: Path, inode: int, mtime_ns: int, size: int) -> dict[str, Plane]:
    from astropy.io import fits

    planes: dict[str, Plane] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            for number, hdu in enumerate(hdus):
                header = hdu.header
                if isinstance(hdu, fits.CompImageHDU) or not hdu.is_image or header.get("NAXIS") not in (2, 3):
                    continue
                name = "SCI" if not planes else hdu.name or ("VAR" if number == 1 else f"HDU{number}")
                planes[name] = Plane(
                    path,
                    hdu.fileinfo()["datLoc"],
                    (header["NAXIS2"], header["NAXIS1"]),
                    header["BITPIX"],
                    float(header.get("BSCALE", 1.0)),
                    float(header.get("BZERO", 0.0)),
                )
    return planes
