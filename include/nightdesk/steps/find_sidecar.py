"""Find the sidecar `xy.csv` of a group, or say which file is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightdesk.errors import SetupError, Waiting
from nightdesk.io.sidecar import HEADER_LINE, read_sidecar
from nightdesk.manifest import FileState, renew_sidecar
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from nightdesk.group import Group
    from nightdesk.settings import Settings


def run(settings: Settings, group: Group) -> str:
    """Check the sidecar in force and say what it holds.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.

    Returns
    -------
    str
        A sentence for the log.

    Raises
    ------
    Waiting
        If there are several frames and no sidecar, or one that has only other nights' rows, naming the file to write
        and how it begins.
    SetupError
        If the sidecar is wrong, naming the line, or the night's own has no row of this group.
    """
    work = Work.open(settings, group)
    path = work.sidecar
    state = FileState.of(work.layout, path) if path else None
    positions = work.positions
    if path is None or state is None or positions is None:
        if not work.needs_positions:
            return "A single frame needs no positions."
        raise Waiting(_request(work))
    place = work.layout.relative(path)
    if not positions.rows:
        if not work.needs_positions:
            return f"A single frame needs no positions; {place} has none of it."
        raise SetupError(
            f"{place}: none of its rows is a frame of {group.key} ({', '.join(work.inputs.frames[:5])} ...). "
            "Add a row for each frame."
        )
    if path == work.layout.person_sidecar:
        renew_sidecar(work.layout, state)
    missing = sorted(set(work.inputs.frames) - {row.name for row in positions.rows})
    notes = [
        f"{place}: {len(positions.rows)} of {len(work.inputs.frames)} frames, reference {positions.reference.name}."
    ]
    if missing:
        notes.append(f"Without a row, and so left out: {', '.join(missing)}.")
    if positions.unknown:
        notes.append(f"Rows of frames that are not this group's: {', '.join(positions.unknown)}.")
    return " ".join(notes)


def _request(work: Work) -> str:
    example = "\n".join(f"{name},(x),(y)" for name in work.inputs.frames[:3])
    place = work.layout.relative(work.layout.sidecars[0])
    count = "as DS9 shows it, counting from 1" if work.settings.sidecar.origin else "counting from 0"
    return (
        f"{work.group.key} waits for positions: write {place} with one star's position in each of its "
        f"{len(work.inputs.frames)} frames ({count}). It begins:\n{HEADER_LINE}\n{example}"
        f"{told_by_locate(work)}{told_by_sidecar(work)}"
    )


def told_by_sidecar(work: Work) -> str:
    """Return that a sidecar is there which names none of the group's frames.

    Parameters
    ----------
    work : Work
        The group, waiting for positions.

    Returns
    -------
    str
        A sentence with a blank before it; empty if there is no sidecar.
    """
    path = work.layout.person_sidecar
    if path is None:
        return ""
    named = read_sidecar(work.settings, path, names=(), shape=()).unknown
    return (
        f" {work.layout.relative(path)} is there, but none of its rows ({', '.join(named[:3]) or 'it has none'}) is a "
        f"frame of this group ({', '.join(work.inputs.frames[:3])})."
    )


def told_by_locate(work: Work) -> str:
    """Return why the positions could not be found from the stars.

    Parameters
    ----------
    work : Work
        The group.

    Returns
    -------
    str
        Sentences with a blank before them; empty if it was not tried.
    """
    location = work.location
    if location is None or work.settings.align.mode != "auto" or not location.refused:
        return ""
    return " " + " ".join(f"{name}: {reason}." for name, reason in sorted(location.refused.items()))
