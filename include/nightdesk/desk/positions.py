"""A person's positions: a star clicked in one frame, found in the others, and written as the sidecar."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nightdesk.desk.plane import find_planes
from nightdesk.desk.served import RAW, NotThereError
from nightdesk.desk.trend import find_shift
from nightdesk.errors import SetupError
from nightdesk.io.atomic import write_bytes
from nightdesk.io.layout import EXTINCTION
from nightdesk.science.star import find_stars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nightdesk.desk.served import Served

REACH: Final = 10.0
"""Pixels within which a star is looked for about a position."""

WINDOW: Final = 48


def centroid(served: Served, name: str, x: float, y: float) -> dict[str, Any]:
    """Return the centroid of the star nearest to a position in a frame (0-based), or the position with the reason."""
    step = EXTINCTION if served.present(EXTINCTION, name) else RAW
    planes = find_planes(served.file(step, name))
    if "SCI" not in planes:
        raise NotThereError(f"{name} cannot be shown as it is (it may be compressed).")
    ny, nx = planes["SCI"].shape
    if not (math.isfinite(x) and math.isfinite(y) and -0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        return {"name": name, "x": x, "y": y, "found": False, "reason": "it lies outside this frame"}
    x0, y0 = max(0, round(x) - WINDOW), max(0, round(y) - WINDOW)
    part = slice(y0, round(y) + WINDOW + 1), slice(x0, round(x) + WINDOW + 1)
    flags = planes["DQ"].read(*part) if "DQ" in planes else None
    stars = find_stars(planes["SCI"].read(*part), flags)
    near = np.hypot(stars.x + x0 - x, stars.y + y0 - y) if len(stars) else np.zeros(0)
    if not near.size or near.min() > REACH:
        return {"name": name, "x": x, "y": y, "found": False, "reason": f"no star within {REACH:g} pixels"}
    best = int(near.argmin())
    saturated = "saturated: its centre is uncertain" if stars.saturated[best] else ""
    found = {"x": round(float(stars.x[best]) + x0, 2), "y": round(float(stars.y[best]) + y0, 2)}
    return {"name": name, **found, "found": True, "reason": saturated}


def propose(served: Served, reference: str, x: float, y: float, name: str) -> dict[str, Any]:
    """Return where the star at a position of the reference frame is in another frame."""
    if name == reference:
        return centroid(served, name, x, y)
    shift = find_shift(served.frame_card(reference), served.frame_card(name))
    if shift is None:
        answer = centroid(served, name, x, y)
        return answer | {"found": False, "reason": "too few common stars: click it in this frame"}
    return centroid(served, name, x - shift[0], y - shift[1])


def version(path: Path) -> str:
    """Return what tells one content of the sidecar from another; empty when there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def sidecar_path(served: Served) -> Path:
    """Return where a group's own sidecar belongs; a link that leads out of ``xys`` is refused."""
    path = served.layout.sidecars[0]
    base = (served.settings.root / "xys").resolve()
    if not path.resolve().is_relative_to(base):
        raise NotThereError(f"{served.layout.relative(path)} does not lie in xys/.")
    return path


def write_positions(served: Served, rows: Sequence[Mapping[str, Any]], seen: str) -> str:
    """Write the sidecar of a group, whole or not at all.

    Parameters
    ----------
    served : Served
        The group.
    rows : sequence of mapping
        ``name``, ``x``, ``y`` (0-based) and ``use`` of each frame, the reference first.
    seen : str
        `version` of the sidecar that the person saw; another one is not overwritten.

    Returns
    -------
    str
        The file, below the data root.

    Raises
    ------
    SetupError
        If the rows are not positions in this group's frames, or the file was changed by somebody else.
    """
    path = sidecar_path(served)
    if version(path) != seen:
        raise SetupError(
            f"{served.layout.relative(path)} has been changed since this page was opened. Load the page again."
        )
    text = _as_table(served, rows)
    write_bytes(path, text.encode())
    return served.layout.relative(path)


def _as_table(served: Served, rows: Sequence[Mapping[str, Any]]) -> str:
    inputs = served.inputs
    if inputs is None:
        raise SetupError(f"{served.group.key} has no frames yet.")
    names = [row["name"] for row in rows]
    if not any(row["use"] for row in rows):
        raise SetupError("No frame is to be used. Give at least one a position.")
    if len(set(names)) != len(names) or not set(names) <= set(inputs.frames):
        raise SetupError("Each frame of the group may have one row, and no other file.")
    origin = served.settings.sidecar.origin
    lines = ["fname,x,y,use"]
    for row in rows:
        name, x, y = str(row["name"]), float(row["x"]), float(row["y"])
        if any(letter in name for letter in ',"\r\n') or name != name.strip():
            raise SetupError(f"The frame {name!r} cannot stand in a table with commas. Rename its raw file.")
        for value, axis in ((x, -1), (y, -2)):
            if inputs.shape and not -0.5 <= value <= inputs.shape[axis] - 0.5:
                raise SetupError(f"The position of {name} lies outside the frame.")
        lines.append(f"{name},{x + origin:.2f},{y + origin:.2f},{1 if row['use'] else 0}")
    return "\n".join(lines) + "\n"
