"""What the viewer asks for: how an image is to be shown, its tiles, and a pixel's exact value."""

from __future__ import annotations

import math
import warnings
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nightdesk.desk.card import COUNTS, first_limits
from nightdesk.desk.coding import Coding
from nightdesk.desk.place import stack_tiles
from nightdesk.desk.plane import Plane, find_planes
from nightdesk.desk.pyramid import TILE, Pyramid, as_counts, levels_of
from nightdesk.desk.served import RAW, STACK, NotThereError
from nightdesk.desk.words import printable
from nightdesk.errors import SetupError
from nightdesk.io.frame import read_recipe
from nightdesk.io.layout import EXTINCTION, SHIFTED
from nightdesk.io.sidecar import read_sidecar
from nightdesk.science.flag import FLAG_MEANINGS, NO_DATA

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from nightdesk.desk.served import Served

KINDS: Final = {"sci": "SCI", "dq": "DQ"} | COUNTS


def describe(served: Served, step: str, name: str) -> dict[str, Any]:
    """Return what a viewer must know of an image before its first tile."""
    path = served.file(step, name)
    planes = _planes(path)
    science = planes["SCI"]
    card = _card(served, path, step, name)
    coding = _coding(served, step, name)
    return {
        "group": served.group.run_id,
        "step": step,
        "name": name,
        "label": "stack" if step == STACK else f"{printable(name)}, {_STEP_WORDS[step]}",
        "version": version(served, step, name),
        "shape": list(science.shape),
        "levels": levels_of(science.shape),
        "tile": TILE,
        "coding": coding.to_json(),
        "unit": "ADU" if step == RAW else "e\N{SUPERSCRIPT MINUS}",
        "limits": _limits(science, card, coding),
        "histogram": card.get("histogram") or _histogram(science, coding),
        "planes": [kind for kind, plane in KINDS.items() if plane in planes],
        "flags": [{"bit": bit, "meaning": meaning} for bit, meaning in FLAG_MEANINGS.items()],
        "star": _alignment_star(served, step, name),
    }


def version(served: Served, step: str, name: str) -> str:
    """Return what an image's tiles depend on: its file, and how its values are coded."""
    path = served.file(step, name)
    status, coding = path.stat(), _coding(served, step, name)
    return f"{status.st_mtime_ns:x}-{status.st_ino:x}-{zlib.crc32(repr(coding).encode()):08x}"


_STEP_WORDS: Final = {
    RAW: "raw",
    "postISR": "after ISR",
    EXTINCTION: "before alignment",
    SHIFTED: "aligned",
}


def tile(served: Served, step: str, name: str, kind: str, level: int, row: int, column: int) -> bytes:
    """Return a tile of 256 by 256 numbers: uint16, little-endian, for the image, else one byte a pixel; rows go up."""
    planes = _planes(served.file(step, name))
    if KINDS.get(kind) not in planes:
        raise NotThereError(f"This image has no {kind} plane.")
    if not (0 <= level <= levels_of(planes["SCI"].shape) and 0 <= row < 4096 and 0 <= column < 4096):
        raise NotThereError("There is no such tile.")
    if step == STACK and level > 0 and (pyramid := _pyramid(served)):
        made = pyramid.tile(kind, level, row, column)
        if made is not None:
            return made
    rows, columns = (slice(number * TILE, (number + 1) * TILE) for number in (row, column))
    if kind == "sci":
        values = _without_blanks(planes, level, rows, columns)
        return _padded(_coding(served, step, name).encode(values)).astype("<u2").tobytes()
    if kind == "dq":
        return _padded(planes["DQ"].binned_flags(level, rows, columns)).tobytes()
    return _padded(as_counts(planes[KINDS[kind]].binned(level, rows, columns, most=kind == "rejected"))).tobytes()


def pixel(served: Served, step: str, name: str, x: int, y: int) -> dict[str, Any]:
    """Return everything that is known of one pixel (0-based x and y)."""
    path = served.file(step, name)
    planes = _planes(path)
    ny, nx = planes["SCI"].shape
    if not (0 <= x < nx and 0 <= y < ny):
        raise NotThereError("There is no such pixel.")
    here = slice(y, y + 1), slice(x, x + 1)
    value = planes["SCI"].read(*here)[0, 0]
    bits = int(planes["DQ"].read(*here)[0, 0]) if "DQ" in planes else 0
    variance = planes["VAR"].read(*here)[0, 0] if "VAR" in planes else None
    return {
        "x": x,
        "y": y,
        "value": _text(value),
        "variance": None if variance is None else _text(variance),
        "sigma": None if variance is None or not variance >= 0 else f"{math.sqrt(float(variance)):.6g}",
        "flags": [meaning for bit, meaning in FLAG_MEANINGS.items() if bits & bit],
        **{kind: int(planes[plane].read(*here)[0, 0]) if plane in planes else None for kind, plane in COUNTS.items()},
        "position": _sky_position(path, path.stat().st_mtime_ns, x, y),
    }


def _text(value: Any) -> str:
    """Return a number with every digit that the file has."""
    return str(value) if np.isfinite(value) else "no number"


def _planes(path: Path) -> dict[str, Plane]:
    try:
        planes = find_planes(path)
    except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise NotThereError(f"{path.name} cannot be read as FITS.") from error
    if "SCI" not in planes:
        raise NotThereError(f"{path.name} holds no image that can be shown as it is (it may be compressed).")
    return planes


def _pyramid(served: Served) -> Pyramid | None:
    try:
        path = served.safe(stack_tiles(served.layout), "processed")
    except NotThereError:
        return None
    status = path.stat()
    pyramid = _opened_pyramid(path, status.st_mtime_ns, status.st_ino)
    return pyramid if pyramid and pyramid.recipe == _recipe(served.layout.stack) else None


@lru_cache(maxsize=16)
def _opened_pyramid(path: Path, mtime_ns: int, inode: int) -> Pyramid | None:
    return Pyramid.open(path)


def _recipe(path: Path) -> str | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _read_recipe(path, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=64)
def _read_recipe(path: Path, mtime_ns: int, inode: int) -> str | None:
    return read_recipe(path)


def _card(served: Served, path: Path, step: str, name: str) -> dict[str, Any]:
    """Return an image's figures; those of the raw and of the frame after ISR are made from the image itself."""
    if step == STACK:
        card = served.stack_card
        return card if card.get("recipe") == _recipe(path) else {}
    return served.frame_card(name) if step in (EXTINCTION, SHIFTED) else {}


def _coding(served: Served, step: str, name: str) -> Coding:
    if step == STACK and (pyramid := _pyramid(served)):
        return pyramid.coding  # level 0 must be coded as the tiles are
    path = served.file(step, name)
    status = path.stat()
    return _guessed(path, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=128)
def _guessed(path: Path, mtime_ns: int, inode: int) -> Coding:
    return Coding.guess(_planes(path)["SCI"].sample())


def _limits(plane: Plane, card: dict[str, Any], coding: Coding) -> dict[str, list[float]]:
    shares = card.get("percentiles") or _sampled_shares(plane)
    limits = {
        label: [shares[low], shares[high]]
        for label, low, high in (("90 %", "5", "95"), ("98 %", "1", "99"), ("99.4 %", "0.5", "99.9"))
        if low in shares and high in shares
    }
    if card.get("zscale"):
        limits = {"ZScale": card["zscale"]} | limits
    first = list(first_limits(coding, shares.get("99.9", 0.0)))
    return {"sky to stars": first} | limits


def _sampled_shares(plane: Plane) -> dict[str, float]:
    values = plane.sample(256)
    values = values[np.isfinite(values)]
    if not values.size:
        return {}
    shares = (0.5, 1, 5, 95, 99, 99.9)
    return {f"{share:g}": float(value) for share, value in zip(shares, np.percentile(values, shares), strict=True)}


def _histogram(plane: Plane, coding: Coding) -> list[int]:
    numbers = np.bincount(coding.encode(plane.sample(256)).ravel(), minlength=65536)
    numbers[0] = 0
    found: list[int] = numbers.reshape(-1, 64).sum(axis=1).tolist()
    return found


def _without_blanks(planes: dict[str, Plane], level: int, rows: slice, columns: slice) -> NDArray[np.float32]:
    if level or "DQ" not in planes:
        return planes["SCI"].binned(level, rows, columns)
    values = planes["SCI"].read(rows, columns).astype(np.float32)
    if values.size:
        values[(planes["DQ"].read(rows, columns) & NO_DATA) != 0] = np.nan
    return values


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    if values.shape == (TILE, TILE):
        return values
    if not values.size:
        raise NotThereError("There is no such tile.")
    whole = np.zeros((TILE, TILE), dtype=values.dtype)
    whole[: values.shape[0], : values.shape[1]] = values
    return whole


def _alignment_star(served: Served, step: str, name: str) -> dict[str, float] | None:
    """Return where the sidecar's star is in an image, 0-based."""
    rows = sidecar_rows(served)
    if not rows:
        return None
    reference = next(iter(rows))
    chosen = reference if step in (STACK, SHIFTED) else name
    return {"x": rows[chosen][0], "y": rows[chosen][1]} if chosen in rows else None


def sidecar_rows(served: Served) -> dict[str, tuple[float, float, bool]]:
    """Return the sidecar's positions of this group's frames, 0-based, the reference first; empty when it is wrong."""
    path, inputs = served.layout.sidecar, served.inputs
    if path is None or inputs is None or not served.holds(path, "xys"):
        return {}
    try:
        positions = read_sidecar(served.settings, path, names=inputs.frames, shape=inputs.shape)
    except (SetupError, OSError):
        return {}
    origin = served.settings.sidecar.origin
    ordered = sorted(positions.rows, key=lambda row: not row.use)
    return {row.name: (row.x - origin, row.y - origin, row.use) for row in ordered}


def _sky_position(path: Path, mtime_ns: int, x: int, y: int) -> dict[str, str] | None:
    wcs = _wcs(path, mtime_ns)
    if wcs is None:
        return None
    try:
        right_ascension, declination = (float(value) for value in wcs.all_pix2world(x, y, 0))
    except Exception:  # noqa: BLE001 - a WCS of somebody else's making can fail in any way, and is only shown
        return None
    if not (math.isfinite(right_ascension) and math.isfinite(declination)):
        return None
    return {"ra": _sexagesimal(right_ascension / 15.0, 2, ""), "dec": _sexagesimal(declination, 1, "+")}


def _sexagesimal(value: float, digits: int, plus: str) -> str:
    sign = "\N{MINUS SIGN}" if value < 0 else plus
    total = round(abs(value) * 3600.0, digits)
    hours, rest = divmod(total, 3600.0)
    minutes, seconds = divmod(rest, 60.0)
    return f"{sign}{int(hours):02d}:{int(minutes):02d}:{seconds:0{digits + 3}.{digits}f}"


@lru_cache(maxsize=8)
def _wcs(path: Path, mtime_ns: int) -> Any:
    from astropy.io import fits
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
                header = next(hdu.header for hdu in hdus if hdu.header.get("NAXIS") in (2, 3))
            wcs = WCS(header, naxis=2) if "CTYPE1" in header else None
        except Exception:  # noqa: BLE001 - as above
            return None
    return wcs if wcs is not None and wcs.has_celestial else None
