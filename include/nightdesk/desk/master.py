"""Which masters a group was reduced with, and why the others that there are were not taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nightdesk.errors import NightdeskError
from nightdesk.io.association import KINDS, list_candidates, unused_kinds, wanted_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightdesk.desk.served import Served
    from nightdesk.io.association import Candidate

NOT_YET = "it fits, but the stack was made before it came"


def masters_of(served: Served) -> list[dict[str, Any]]:
    """Return the masters of each kind, the one that was used first, and why the others were not; a line for none."""
    inputs = served.inputs
    if inputs is None:
        return []
    used = {entry["path"] for entry in (served.manifest or {}).get("inputs", [])}
    try:
        wanted = wanted_of(served.layout, inputs)
        unused = unused_kinds(served.settings, served.layout)
        found = []
        for kind in KINDS:
            candidates = list(list_candidates(served.settings, wanted, kind))
            found += _lines(served, kind, candidates, used, unused.get(kind, ""))
    except NightdeskError as error:
        return [_line("none", why=str(error))]
    return found


def _lines(
    served: Served, kind: str, candidates: Sequence[Candidate], used: set[str], setting: str
) -> list[dict[str, Any]]:
    name = kind.replace("_", " ")
    if not candidates:
        return [_line(name, why=f"not wanted: {setting}" if setting else "there is none")]
    paths = [served.layout.relative(candidate.path) for candidate in candidates]
    place = next((number for number, path in enumerate(paths) if path in used), None)
    lines: list[dict[str, Any]] = []
    for number, (candidate, path) in enumerate(zip(candidates, paths, strict=True)):
        if number == place:
            lines.insert(0, _line(name, path, candidate.distance, used=True))
            continue
        why = "; ".join(candidate.failed) or (f"not wanted: {setting}" if setting else NOT_YET)
        if candidate.fits and place is not None and place < number:
            why = _nearer(candidates[place], candidate)
        lines.append(_line(name, path, candidate.distance, why=why))
    return lines


def _nearer(chosen: Candidate, other: Candidate) -> str:
    """Return why of two that fit the one comes before the other."""
    if chosen.days is not None and other.days is None:
        return "it fits, but the one that was used has a night"
    if chosen.days == other.days:
        return (
            "it fits, but the one that was used is more alike in exposure and temperature"
            if chosen.kind == "dark"
            else "it fits, but the one that was used comes before it by its name"
        )
    return "it fits, but the one that was used is nearer in time"


def _line(kind: str, path: str = "", distance: str = "", *, used: bool = False, why: str = "") -> dict[str, Any]:
    return {"kind": kind, "path": path, "distance": distance, "used": used, "why": why}
