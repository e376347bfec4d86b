"""A stack in tiles: binned by 2, 4, 8 ..., written once, so that the first picture needs no look at the whole file.

The file is a line that names its kind, eight digits of hexadecimal length, a JSON header, and then tiles of
256 x 256: for each level all tiles of the image (uint16, little-endian, coded), then all of each further plane in the
header's order, one byte a pixel: ``dq`` (every flag that a pixel of the bin has), ``coverage`` (the mean number of
frames) and ``rejected`` (the most values clipped). The full resolution is not in it; that is the product itself. Rows
go upwards.
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
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC: Final = b"nightdesk tiles 2\n"
TILE: Final = 256
PIXELS: Final = TILE * TILE
SCI_BYTES: Final = 2 * PIXELS
BYTE_PLANES: Final = ("dq", "coverage", "rejected")


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


def halve_counts(counts: NDArray[Any]) -> NDArray[Any]:
    """Return the greatest of 2 by 2 counts."""
    return np.asarray(_quartets(np.pad(counts, [(0, length % 2) for length in counts.shape]), np.maximum))


def as_counts(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return counts, or means of counts, in one byte; more than 255 are 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def _quartets(plane: NDArray[Any], join: Any) -> Any:
    return join(join(plane[::2, ::2], plane[1::2, ::2]), join(plane[::2, 1::2], plane[1::2, 1::2]))


def blank(data: NDArray[Any], flags: NDArray[Any] | None) -> NDArray[np.float32]:
    """Return an image as float32 in which pixels without data are no numbers."""
    values = data.astype(np.float32)
    if flags is not None:
        values[(flags & NO_DATA) != 0] = np.nan
    return values


def write_pyramid(
    path: Path,
    data: NDArray[Any],
    flags: NDArray[Any] | None,
    coding: Coding,
    recipe: str,
    counts: Mapping[str, NDArray[Any]] | None = None,
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
    counts : mapping of ndarray, shape (ny, nx), optional
        How many frames there are (``coverage``) and how many values were clipped (``rejected``) at each pixel.
    """
    values = blank(data, flags)
    planes = ({} if flags is None else {"dq": flags.astype(np.uint8)}) | dict(counts or {})
    planes = {kind: planes[kind] for kind in BYTE_PLANES if kind in planes}
    images, parts, sizes = [values], [], []
    for _ in range(levels_of(values.shape)):
        values = halve(values)
        images.append(values)
        sizes.append(list(values.shape))
        parts.append(_tiles(coding.encode(values)).astype("<u2").tobytes())
        for kind, plane in planes.items():
            planes[kind] = _HALVES[kind](plane)
            parts.append(_tiles(as_counts(planes[kind])).tobytes())
    header = {
        "recipe": recipe,
        "shape": list(data.shape),
        "levels": sizes,
        "planes": list(planes),
        "coding": {"sky": coding.sky, "noise": coding.noise},
    }
    text = json.dumps(header).encode()
    write_bytes(path, b"".join([MAGIC, b"%08x" % len(text), text, *parts]))
    return images


_HALVES: Final = {"dq": halve_flags, "coverage": halve, "rejected": halve_counts}


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
    planes: tuple[str, ...]
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
            tuple(header["planes"]),
            Coding(**header["coding"]),
        )

    def tile(self, kind: str, level: int, row: int, column: int) -> bytes | None:
        """Return one tile of a level of 1 and more; None when there is no such tile or plane."""
        if not 1 <= level <= len(self.levels) or kind not in ("sci", *self.planes):
            return None
        rows, columns = (-(-length // TILE) for length in self.levels[level - 1])
        if not (0 <= row < rows and 0 <= column < columns):
            return None
        offset = self.start
        for shape in self.levels[: level - 1]:
            offset += self._count(shape) * self._bytes_per_tile
        size = SCI_BYTES if kind == "sci" else PIXELS
        if kind != "sci":
            offset += rows * columns * (SCI_BYTES + self.planes.index(kind) * PIXELS)
        with self.path.open("rb") as stream:
            return os.pread(stream.fileno(), size, offset + (row * columns + column) * size)

    @property
    def _bytes_per_tile(self) -> int:
        return SCI_BYTES + len(self.planes) * PIXELS

    @staticmethod
    def _count(shape: tuple[int, int]) -> int:
        return -(-shape[0] // TILE) * -(-shape[1] // TILE)
