"""HDUs written strip by strip, with checksums that carry no date: no second copy of a plane, the same bytes each time.

astropy's own writing does the same in several passes over copies of all planes; its reading is what tests compare with.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from astropy.io import fits

from nightdesk.io.atomic import written_whole
from nightdesk.io.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK = 2880
STRIP_BYTES = 1 << 18  # what a processor's cache holds
SIGN = np.uint16(0x8000)  # FITS has no unsigned integers: uint16 is stored as int16 with BZERO = 32768
BY = "by nightdesk"
NOT_IN_A_CHECKSUM = frozenset(b":;<=>?@[\\]^_`")

Block = Callable[[int, int], Sequence["NDArray[Any]"]]
"""Makes rows, from the first to before the last, of images that are written side by side."""


def write_hdus(path: Path, hdus: Sequence[Any], block: Block | None = None, extra: Sequence[Any] = ()) -> None:
    """Write a file of HDUs, whole or not at all, with CHECKSUM and DATASUM in each.

    A `block` makes the rows of the images in `hdus` when they are written; of what these hold only shape and type
    count. `extra` follows them as it is.
    """
    listed = fits.HDUList([*hdus, *extra])
    made = 0 if block is None else len(hdus)
    with written_whole(path) as stream:
        with quiet():
            listed.update_extend()
            listed.verify("silentfix+ignore")
        if block is not None:
            _write_images(stream, listed[:made], block)
        for hdu in listed[made:]:
            if _is_plain(hdu):
                _write_images(stream, [hdu], _rows_of(hdu.data))
            else:
                _write_other(stream, hdu)


def _is_plain(hdu: Any) -> bool:
    return (
        isinstance(hdu, (fits.PrimaryHDU, fits.ImageHDU))
        and hdu.data is not None
        and hdu.data.dtype.newbyteorder("=").name in ("float32", "float64", "uint16", "uint8")
    )


def _rows_of(data: NDArray[Any]) -> Block:
    lines = np.ascontiguousarray(data).reshape(data.shape[0], math.prod(data.shape[1:]))
    return lambda first, last: (lines[first:last],)


@dataclass
class _Image:
    """An image as it is written: where its HDU and its pixels begin, and the sum of its pixels so far."""

    header: fits.Header
    start: int
    pixels: int
    datasum: int = 0


def _write_images(stream: BinaryIO, hdus: Sequence[Any], block: Block) -> None:
    """Write images side by side, block by block of rows, each to its place in the file."""
    images, end = [], stream.tell()
    for hdu in hdus:
        hdu.header["CHECKSUM"] = ("0" * 16, f"HDU checksum {BY}")
        hdu.header["DATASUM"] = ("0", f"data unit checksum {BY}")
        images.append(_Image(hdu.header, end, end + len(_text(hdu.header))))
        end = images[-1].pixels + hdu.data.nbytes
        end += -end % BLOCK
    lines = hdus[0].data.shape[0]
    step = max(4, STRIP_BYTES * lines // max(hdus[0].data.nbytes, 1) // 4 * 4)  # so that a sum's words stay whole
    for first in range(0, lines, step):
        for image, strip in zip(images, block(first, min(first + step, lines)), strict=True):
            _write_strip(stream, image, strip)
    for image in images:
        image.header["DATASUM"] = str(image.datasum)
        words = np.frombuffer(_text(image.header), ">u4").astype(np.uint32)
        image.header["CHECKSUM"] = _encoded(~_sum(words, image.datasum) & 0xFFFFFFFF)
        stream.seek(image.start)
        stream.write(_text(image.header))
    stream.truncate(end)
    stream.seek(end)


def _text(header: fits.Header) -> bytes:
    with quiet():
        return header.tostring().encode("ascii")  # type: ignore[no-any-return]


def _write_strip(stream: BinaryIO, image: _Image, strip: NDArray[Any]) -> None:
    """Write rows as FITS stores them behind those before them."""
    stored = strip.astype(strip.dtype.newbyteorder("="))
    if stored.dtype == np.uint16:
        stored ^= SIGN
    image.datasum = _sum(_words(stored.reshape(-1)), image.datasum)
    stream.seek(image.pixels)
    stream.write(stored.byteswap(inplace=True).data if stored.itemsize > 1 else stored.data)
    image.pixels += stored.nbytes


def _words(stored: NDArray[Any]) -> NDArray[Any]:
    """Return numbers whose sum is that of the 32-bit words in which FITS stores an array of native byte order."""
    if stored.itemsize >= 4:
        return stored.view(np.uint32)
    if stored.itemsize == 2:
        halves = stored.view(np.uint16)
        total = (int(halves[0::2].sum(dtype=np.uint64)) << 16) + int(halves[1::2].sum(dtype=np.uint64))
        return np.array([total], np.uint64)
    padded = np.concatenate([stored.view(np.uint8), np.zeros(-stored.size % 4, np.uint8)])
    return padded.view(">u4").astype(np.uint32)


def _sum(words: NDArray[Any], begin: int) -> int:
    """Add 32-bit words with the carry brought round, as FITS checksums do."""
    total = begin + int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encoded(number: int) -> str:
    """Return a checksum in letters and digits (FITS standard 4.0, appendix J)."""
    letters = bytearray(16)
    for place, byte in enumerate(number.to_bytes(4, "big")):
        quarter, rest = divmod(byte, 4)
        four = [quarter + rest + ord("0"), *[quarter + ord("0")] * 3]
        while NOT_IN_A_CHECKSUM & set(four):
            for pair in (0, 2):
                if NOT_IN_A_CHECKSUM & set(four[pair : pair + 2]):
                    four[pair] += 1
                    four[pair + 1] -= 1
        letters[place::4] = bytes(four)
    return (letters[-1:] + letters[:-1]).decode("ascii")


def _write_other(stream: BinaryIO, hdu: Any) -> None:
    """Write a table, or an image of another kind, by astropy."""
    buffer = io.BytesIO()
    with quiet():
        hdu.add_checksum(when=BY)  # last: anything that touches a header afterwards spoils its sum
        hdu.writeto(buffer, output_verify="ignore")
    written = buffer.getvalue()
    if isinstance(hdu, fits.PrimaryHDU):
        stream.write(written)
        return
    with fits.open(io.BytesIO(written)) as hdus:
        begin = hdus[1].fileinfo()["hdrLoc"]
    stream.write(written[begin:])
