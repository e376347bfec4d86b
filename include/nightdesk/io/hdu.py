"""HDUs written strip by strip, with checksums that carry no date: no second copy of a plane, the same bytes each time.

astropy's own writing does the same in several passes over copies of all planes; its reading is what tests compare with.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from astropy.io import fits

from nightdesk.io.atomic import let_go, written_whole
from nightdesk.io.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK = 2880
STRIP_BYTES = 1 << 19  # what a processor's cache holds, and a thread does not wait long for its next turn
BEGUN_BYTES = 1 << 21  # of an image, before its way to the disk begins
SIGN = np.uint16(0x8000)  # FITS has no unsigned integers: uint16 is stored as int16 with BZERO = 32768
BY = "by nightdesk"
NOT_IN_A_CHECKSUM = frozenset(b":;<=>?@[\\]^_`")

Block = Callable[[int, int], Sequence["NDArray[Any]"]]
"""Makes rows, from the first to before the last, of images that are written side by side."""


class Content:
    """What a file is to hold: HDUs, whose headers have the cards of their sums.

    A `block` makes the rows of the images in `hdus` when they are written; of what these hold only shape and type
    count. The row `begin` is written first, those before it come last. `extra` follows the images as it is.
    """

    def __init__(
        self, path: Path, hdus: Sequence[Any], block: Block | None = None, extra: Sequence[Any] = (), *, begin: int = 0
    ) -> None:
        self.path, self.block, self.begin = path, block, begin
        made = 0 if block is None else len(hdus)
        listed = fits.HDUList([*hdus, *extra])
        with quiet():
            listed.update_extend()
            listed.verify("silentfix+ignore")
        self.made, self.others = list(listed[:made]), list(listed[made:])
        for hdu in listed:
            if hdu in self.made or _is_plain(hdu):
                hdu.header["CHECKSUM"] = ("0" * 16, f"HDU checksum {BY}")
                hdu.header["DATASUM"] = ("0", f"data unit checksum {BY}")

    @property
    def header(self) -> fits.Header:
        """The first header as it will be read back, but for its sums."""
        return fits.Header.fromstring(_text(self.made[0].header))


def write_hdus(path: Path, hdus: Sequence[Any]) -> None:
    """Write a file of HDUs, whole or not at all, with CHECKSUM and DATASUM in each."""
    write_together([Content(path, hdus)])


def write_together(contents: Sequence[Content]) -> None:
    """Write some files, each whole or not at all: the first rows of each one, then the next rows.

    So the rows of a file can be made from those of the one before it while these are at hand.
    """
    with ExitStack() as stack:  # the first is closed first
        streams = [stack.enter_context(written_whole(content.path)) for content in reversed(contents)][::-1]
        pairs = list(zip(streams, contents, strict=True))
        _write_images([_Images(stream, c.made, c.block, c.begin) for stream, c in pairs if c.block is not None])
        for stream, content in pairs:
            for hdu in content.others:
                if _is_plain(hdu):
                    _write_images([_Images(stream, [hdu], _rows_of(hdu.data))])
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
    """An image as it is written: where its HDU and its pixels begin, the bytes of a row, and the sum so far.

    What stands from `waiting` to `place` is not yet on its way to the disk.
    """

    header: fits.Header
    start: int
    pixels: int
    row: int
    datasum: int = 0
    waiting: int = 0
    place: int = 0


class _Images:
    """Images that are written side by side into one file, rows to their places."""

    def __init__(self, stream: BinaryIO, hdus: Sequence[Any], block: Block, begin: int = 0) -> None:
        self._stream, self._block = stream, block
        self.lines = hdus[0].data.shape[0]
        self.step = max(4, STRIP_BYTES * self.lines // max(hdus[0].data.nbytes, 1) // 4 * 4)  # whole words of a sum
        self._images, self._end = [], stream.tell()
        for hdu in hdus:
            pixels = self._end + len(_text(hdu.header))
            self._images.append(_Image(hdu.header, self._end, pixels, hdu.data.nbytes // self.lines))
            self._end = pixels + hdu.data.nbytes
            self._end += -self._end % BLOCK
        self._begin = 0 if any(image.row % 4 for image in self._images) else begin
        self._stored = np.empty(max(image.row for image in self._images) * min(self.step, self.lines), np.uint8)
        stream.flush()

    def write(self, first: int, last: int) -> None:
        """Write rows, counted from the one that is the first to be written."""
        while first < min(last, self.lines):
            start = (self._begin + first) % self.lines
            stop = min(start + min(last, self.lines) - first, self.lines)  # behind the last row comes the first
            for image, strip in zip(self._images, self._block(start, stop), strict=True):
                self._write_strip(image, start, strip)
            first += stop - start

    def _write_strip(self, image: _Image, start: int, strip: NDArray[Any]) -> None:
        """Write rows as FITS stores them."""
        native = np.ascontiguousarray(strip, strip.dtype.newbyteorder("=")).reshape(-1)
        if native.dtype == np.uint16:
            native = native ^ SIGN
        image.datasum = _sum(_words(native), image.datasum)
        stored = self._stored[: native.nbytes].view(native.dtype.newbyteorder(">"))
        stored[:] = native
        place = image.pixels + start * image.row
        if place != image.place:
            self._begin_writing(image)
            image.waiting = place
        _put(self._stream, stored.data, place)
        image.place = place + stored.nbytes
        if image.place - image.waiting >= BEGUN_BYTES:
            self._begin_writing(image)

    def _begin_writing(self, image: _Image) -> None:
        if image.place > image.waiting:  # of no bytes at all the system would take the whole file
            let_go(self._stream.fileno(), image.waiting, image.place - image.waiting)
        image.waiting = image.place

    def end(self) -> None:
        """Write the headers, which have the sums of all rows."""
        for image in self._images:
            self._begin_writing(image)
            image.header["DATASUM"] = str(image.datasum)
            words = np.frombuffer(_text(image.header), ">u4").astype(np.uint32)
            image.header["CHECKSUM"] = _encoded(~_sum(words, image.datasum) & 0xFFFFFFFF)
            self._stream.seek(image.start)
            self._stream.write(_text(image.header))
        self._stream.truncate(self._end)
        self._stream.seek(self._end)


def _write_images(files: Sequence[_Images]) -> None:
    step = min((images.step for images in files), default=1)
    for first in range(0, max((images.lines for images in files), default=0), step):
        for images in files:
            images.write(first, first + step)
    for images in files:
        images.end()


def _put(stream: BinaryIO, content: memoryview, place: int) -> None:
    content = content.cast("B")
    while content:
        written = os.pwrite(stream.fileno(), content, place)
        content, place = content[written:], place + written


def _text(header: fits.Header) -> bytes:
    with quiet():
        return header.tostring().encode("ascii")  # type: ignore[no-any-return]


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
