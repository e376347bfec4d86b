"""A stack in tiles: binned by 2, 4, 8 ..., written once, so that the first picture needs no look at the whole file.

The file is a line that names its kind, eight digits of hexadecimal length, a JSON header, and then tiles of
256 x 256: for each level all tiles of the image (uint16, little-endian, coded), then all of the flags (one byte: every
flag that a pixel of the bin has). The full resolution is not in it; that is the product itself. Rows go upwards.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nightdesk.desk.coding import Coding
from nightdesk.desk.plane import halve_flags
from nightdesk.io.atomic import write_bytes
from nightdesk.science.flag import NO_DATA

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC: Final = b"nightdesk tiles 1\n"
TILE: Final = 256
PIXELS: Final = TILE * TILE
SCI_BYTES: Final = 2 * PIXELS
DQ_BYTES: Final = PIXELS


def levels_of(shape: tuple[int, ...]) -> int:
    """Return how many times an image is halved until it fits into one tile."""
    return max(0, int(np.ceil(np.log2(max(shape) / TILE))))


def halve(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return the means of 2 by 2 pixels, of those that are numbers; the last row or column of an odd shape is its own.

    Examples
    --------
    >>> halve(np.array([[1.0, 3.0, 5.0], [1.0, np.nan, 5.0]], np.float32))
    array([[1.6666666, 5.       ]], dtype=float32)
    """
    ny, nx = values.shape
    padded = np.full((ny + ny % 2, nx + nx % 2), np.nan, dtype=np.float32)
    padded[:ny, :nx] = values
    known = np.isfinite(padded)
    count = _quartets(known.astype(np.uint8), np.add)
    total = _quartets(np.where(known, padded, np.float32(0)), np.add)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(count > 0, total / count, np.nan), dtype=np.float32)


def _quartets(plane: NDArray[Any], join: Any) -> Any:
    return join(join(plane[::2, ::2], plane[1::2, ::2]), join(plane[::2, 1::2], plane[1::2, 1::2]))


def blank(data: NDArray[Any], flags: NDArray[Any] | None) -> NDArray[np.float32]:
    """Return an image as float32 in which pixels without data are no numbers."""
    values = data.astype(np.float32)
    if flags is not None:
        values[(flags & NO_DATA) != 0] = np.nan
    return values


def write_pyramid(
    path: Path, data: NDArray[Any], flags: NDArray[Any] | None, coding: Coding, recipe: str
) -> list[NDArray[np.float32]]:
    """Write the tiles of an image, and return its levels (the first one is the image itself).

    Parameters
    ----------
    path : Path
        The file.
    data : ndarray, shape (ny, nx)
        The image.
    flags : ndarray, shape (ny, nx), or None
        Its flags.
    coding : Coding
        How values become numbers.
    recipe : str
        Of the product they are made from.
    """
    values = blank(data, flags)
    bits = None if flags is None else flags.astype(np.uint8)
    images, parts, sizes = [values], [], []
    for _ in range(levels_of(values.shape)):
        values = halve(values)
        images.append(values)
        sizes.append(list(values.shape))
        parts.append(_tiles(coding.encode(values)).astype("<u2").tobytes())
        if bits is not None:
            bits = halve_flags(bits)
            parts.append(_tiles(bits).tobytes())
    header = {
        "recipe": recipe,
        "shape": list(data.shape),
        "levels": sizes,
        "flags": bits is not None,
        "coding": {"sky": coding.sky, "noise": coding.noise},
    }
    text = json.dumps(header).encode()
    write_bytes(path, b"".join([MAGIC, b"%08x" % len(text), text, *parts]))
    return images


def _tiles(plane: NDArray[Any]) -> NDArray[Any]:
    """Return a plane cut into tiles, shape (rows, columns, 256, 256), filled up with zeros."""
    rows, columns = (-(-length // TILE) for length in plane.shape)
    padded = np.zeros((rows * TILE, columns * TILE), dtype=plane.dtype)
    padded[: plane.shape[0], : plane.shape[1]] = plane
    return padded.reshape(rows, TILE, columns, TILE).swapaxes(1, 2)


@dataclass(frozen=True)
class Pyramid:
    """The tiles of a stack, as they are on disk."""

    path: Path
    start: int
    recipe: str
    shape: tuple[int, int]
    levels: tuple[tuple[int, int], ...]
    has_flags: bool
    coding: Coding

    @classmethod
    def open(cls, path: Path) -> Pyramid | None:
        """Read the header; None when there is no such file or it is not of this kind."""
        try:
            with path.open("rb") as stream:
                if stream.read(len(MAGIC)) != MAGIC:
                    return None
                length = int(stream.read(8), 16)
                header = json.loads(stream.read(length))
        except (OSError, ValueError):
            return None
        ny, nx = header["shape"]
        return cls(
            path,
            len(MAGIC) + 8 + length,
            header["recipe"],
            (ny, nx),
            tuple((rows, columns) for rows, columns in header["levels"]),
            header["flags"],
            Coding(**header["coding"]),
        )

    def tile(self, kind: str, level: int, row: int, column: int) -> bytes | None:
        """Return one tile (kind ``sci`` or ``dq``) of a level of 1 and more; None when there is no such tile."""
        if not 1 <= level <= len(self.levels) or (kind == "dq" and not self.has_flags):
            return None
        rows, columns = (-(-length // TILE) for length in self.levels[level - 1])
        if not (0 <= row < rows and 0 <= column < columns):
            return None
        offset = self.start
        for shape in self.levels[: level - 1]:
            offset += self._count(shape) * self._bytes_per_tile
        number = row * columns + column
        if kind == "dq":
            offset += rows * columns * SCI_BYTES
        size = DQ_BYTES if kind == "dq" else SCI_BYTES
        with self.path.open("rb") as stream:
            return os.pread(stream.fileno(), size, offset + number * size)

    @property
    def _bytes_per_tile(self) -> int:
        return SCI_BYTES + (DQ_BYTES if self.has_flags else 0)

    @staticmethod
    def _count(shape: tuple[int, int]) -> int:
        return -(-shape[0] // TILE) * -(-shape[1] // TILE)
