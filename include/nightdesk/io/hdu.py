"""HDUs written strip by strip, with checksums that carry no date: no second copy of a plane, the same bytes each time.

astropy's own writing does the same in several passes over copies of all planes; its reading is what tests compare with.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from astropy.io import fits

from nightdesk.io.atomic import written_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK = 2880
STRIP_BYTES = 1 << 18  # what a processor's cache holds
SIGN = np.uint16(0x8000)  # FITS has no unsigned integers: uint16 is stored as int16 with BZERO = 32768
BY = "by nightdesk"
NOT_IN_A_CHECKSUM = frozenset(b":;<=>?@[\\]^_`")


def write_hdus(path: Path, hdus: Sequence[Any]) -> None:
    """Write a file of HDUs, whole or not at all, with CHECKSUM and DATASUM in each."""
    listed = fits.HDUList(list(hdus))
    with warnings.catch_warnings(), written_whole(path) as stream:
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        listed.update_extend()
        listed.verify("silentfix+ignore")
        for hdu in listed:
            if _is_plain(hdu):
                _write_image(stream, hdu)
            else:
                _write_other(stream, hdu)


def _is_plain(hdu: Any) -> bool:
    return (
        isinstance(hdu, (fits.PrimaryHDU, fits.ImageHDU))
        and hdu.data is not None
        and hdu.data.dtype.newbyteorder("=").name in ("float32", "float64", "uint16", "uint8")
    )


def _write_image(stream: BinaryIO, hdu: Any) -> None:
    data: NDArray[Any] = np.ascontiguousarray(hdu.data)
    header = hdu.header
    header["CHECKSUM"] = ("0" * 16, f"HDU checksum {BY}")
    header["DATASUM"] = ("0", f"data unit checksum {BY}")
    start = stream.tell()
    stream.write(header.tostring().encode("ascii"))
    datasum, size = _write_data(stream, data)
    stream.write(bytes(-size % BLOCK))
    header["DATASUM"] = str(datasum)
    text = header.tostring().encode("ascii")
    header["CHECKSUM"] = _encoded(~_sum(np.frombuffer(text, ">u4").astype(np.uint32), datasum) & 0xFFFFFFFF)
    end = stream.seek(0, io.SEEK_END)
    stream.seek(start)
    stream.write(header.tostring().encode("ascii"))
    stream.seek(end)


def _write_data(stream: BinaryIO, data: NDArray[Any]) -> tuple[int, int]:
    """Write an array as FITS stores it; return its ones' complement sum and its size in bytes."""
    flat = data.reshape(-1)
    step = STRIP_BYTES // data.itemsize
    datasum = 0
    for first in range(0, flat.size, step):
        strip = flat[first : first + step]
        stored = strip.astype(strip.dtype.newbyteorder("="))
        if stored.dtype == np.uint16:
            stored ^= SIGN
        datasum = _sum(_words(stored), datasum)
        stream.write(stored.byteswap(inplace=True).data if stored.itemsize > 1 else stored.data)
    return datasum, data.nbytes


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
    hdu.add_checksum(when=BY)  # last: anything that touches a header afterwards spoils its sum
    buffer = io.BytesIO()
    hdu.writeto(buffer, output_verify="ignore")
    written = buffer.getvalue()
    if isinstance(hdu, fits.PrimaryHDU):
        stream.write(written)
        return
    with fits.open(io.BytesIO(written)) as hdus:
        begin = hdus[1].fileinfo()["hdrLoc"]
    stream.write(written[begin:])
