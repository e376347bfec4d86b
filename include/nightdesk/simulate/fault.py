"""Write a frame slowly, as a camera does, and break frames, as disks and people do."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from pathlib import Path

from astropy.io import fits


def expose_slowly(
    source: Path,
    destination: Path,
    *,
    seconds: float = 3.0,
    chunks: int = 8,
    pause: Callable[[float], None] = clock.sleep,
) -> Path:
    """Write a copy of a frame in place as a camera does: the header first, then its rows, with pauses."""
    content = source.read_bytes()
    with fits.open(source, lazy_load_hdus=True) as hdus:
        start = int(hdus[0].fileinfo()["datLoc"])
    ends = [start + (len(content) - start) * part // chunks for part in range(chunks + 1)]
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.open("wb", buffering=0) as file:
        for begin, end in zip([0, *ends], ends, strict=False):
            file.write(content[begin:end])
            if end < len(content):
                pause(seconds / chunks)
    return destination


def truncate(path: Path, keep: float = 0.5) -> Path:
    """Cut a file after a fraction of its length, as an interrupted copy leaves it."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * keep))
    return path


def drop_keyword(path: Path, keyword: str) -> Path:
    """Take a keyword out of a frame's header."""
    pixels, header = fits.getdata(path, header=True)
    del header[keyword]
    fits.writeto(path, pixels, header, overwrite=True)
    return path


def crop(path: Path, columns: int = 4, rows: int = 0) -> Path:
    """Take columns and rows off a frame, so that it fits no master."""
    pixels, header = fits.getdata(path, header=True)
    ny, nx = pixels.shape
    fits.writeto(path, pixels[: ny - rows, : nx - columns], header, overwrite=True)
    return path
