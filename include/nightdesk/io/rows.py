"""Rows of a raw, read when they are wanted: no copy of the whole frame, no file kept open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from astropy.io import fits

from nightdesk.errors import FrameError
from nightdesk.io.atomic import let_go
from nightdesk.io.hdu import BLOCK, SIGN
from nightdesk.io.header import ends_header, parse_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nightdesk.instrument import Instrument

_STORED = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True)
class StoredRows:
    """An image in a file: where its rows stand, and how their numbers are stored."""

    path: Path
    start: int
    shape: tuple[int, int]
    stored: np.dtype[Any]

    @classmethod
    def of(cls, path: Path, hdu: Any) -> StoredRows:
        """Return the rows of an HDU of an open file, plain and two-dimensional."""
        return cls(path, hdu.fileinfo()["datLoc"], hdu.shape, np.dtype(_STORED[hdu.header["BITPIX"]]))

    def stored_rows(self, first: int, last: int) -> NDArray[Any]:
        """Return rows as they are stored."""
        rows = np.empty((last - first, self.shape[1]), self.stored)
        self.read_into(rows, first)
        return rows

    def read_into(self, rows: NDArray[Any], first: int, *, once: bool = False) -> None:
        """Read rows as they are stored into an array of as many; `once` if they will not be read again soon."""
        place = self.start + first * self.shape[1] * self.stored.itemsize
        handle = os.open(self.path, os.O_RDONLY)
        try:
            read = os.preadv(handle, [rows.data], place)
            if once:
                let_go(handle, place, rows.nbytes)
        finally:
            os.close(handle)
        if read != rows.nbytes:
            raise FrameError(f"{self.path.name}: it was cut short while it was read. Copy it again.")

    def flag_rows(self, first: int, last: int) -> NDArray[np.uint16]:
        """Return rows of flags, which FITS stores as signed numbers."""
        return self.stored_rows(first, last).astype(np.int16).view(np.uint16) ^ SIGN


@dataclass(frozen=True)
class RawRows(StoredRows):
    """The image of an uncompressed raw, and what its stored numbers mean."""

    scale: float
    zero: float

    @property
    def is_count(self) -> bool:
        """Whether it holds 16-bit counts, as most cameras write them: stored numbers plus a constant."""
        return self.stored == np.dtype(">i2") and self.scale == 1.0

    def rows(self, first: int, last: int) -> NDArray[np.float64]:
        """Return rows in ADU."""
        return self.in_adu(self.stored_rows(first, last))

    def in_adu(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Return what stored numbers mean."""
        pixels = stored.astype(np.float64)
        if self.scale != 1.0:
            pixels *= self.scale
        if self.zero:
            pixels += self.zero
        return pixels


def open_rows(path: Path, instrument: Instrument) -> tuple[RawRows, fits.Header] | None:
    """Find the rows of a raw whose first HDU is its image, plain and alone; None for any other, to be read whole.

    Only the header is read. It is that of `read_raw`.
    """
    if instrument.extension is not None or not path.name.lower().endswith((".fits", ".fit", ".fts")):
        return None
    try:
        with path.open("rb") as stream:
            header = _read_header(stream)
            start = stream.tell()
            rest = stream.seek(0, os.SEEK_END) - start
        depth, axes = header.get("BITPIX"), header.get("NAXIS")
        shape = (header.get("NAXIS2"), header.get("NAXIS1"))
        scale, zero = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
    except (OSError, EOFError, TypeError, ValueError, fits.VerifyError):
        return None  # read_raw says what is wrong
    if axes != 2 or depth not in _STORED or not all(isinstance(n, int) and n > 0 for n in shape):
        return None
    stored = np.dtype(_STORED[depth])
    size = shape[0] * shape[1] * stored.itemsize
    others = rest - -(-size // 2880) * 2880 >= 2880  # another HDU follows: which one counts is for read_raw to say
    if rest < size or others or header.get("GROUPS") is True or "BLANK" in header:
        return None
    if shape[0] * shape[1] > instrument.max_pixels:
        return None
    return RawRows(path, start, (shape[0], shape[1]), stored, scale, zero), header


def _read_header(stream: BinaryIO) -> fits.Header:
    """Return the header with which a file begins, of the characters that astropy takes it to be of."""
    blocks: list[bytes] = []
    while not blocks or not ends_header(blocks[-1]):
        blocks.append(stream.read(BLOCK))
        if len(blocks[-1]) < BLOCK:
            raise EOFError
    return parse_header(b"".join(blocks).decode("ascii", "replace").replace("\ufffd", "?"))
