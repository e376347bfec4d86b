"""Ask: which positions a person is to give, and the sidecar that their answer makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nightdesk.errors import SetupError
from nightdesk.io.atomic import create_bytes
from nightdesk.io.layout import EXTINCTION
from nightdesk.io.sidecar import HEADER_LINE
from nightdesk.io.signature import is_made_by_nightdesk
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightdesk.group import Group
    from nightdesk.settings import Settings

POSITION_PATTERN = r"^\s*\d+(\.\d+)?\s*[,; ]\s*\d+(\.\d+)?\s*$"


def frames_to_ask(settings: Settings, group: Group) -> list[str]:
    """Return the frames whose positions a person is to give.

    Parameters
    ----------
    settings : Settings
        The observatory's settings; only with ``[align] mode = "wait"`` anybody is asked.
    group : Group
        The group.

    Returns
    -------
    list of str
        Names, sorted; none when a sidecar is there, a single frame needs none, or nobody is to be asked.
    """
    work = Work.open(settings, group)
    if settings.align.mode != "wait" or not work.needs_positions or work.layout.person_sidecar is not None:
        return []
    return [name for name in work.inputs.frames if not work.loss(name) and work.is_current(EXTINCTION, name)]


def run(settings: Settings, group: Group, answers: Mapping[str, str | None]) -> str:
    """Write the sidecar that a person's answers make, in place of Nightdesk's own but not of one that a person wrote.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    answers : mapping of str to str
        ``x, y`` by frame name, counted as in a sidecar; blank for a frame without.

    Returns
    -------
    str
        A sentence for the log.

    Raises
    ------
    SetupError
        If an answer is no position, or lies outside its frame, naming the frame; nothing is written then, so that the
        question can be asked again.
    """
    work = Work.open(settings, group)
    path = work.layout.sidecars[0]
    given = {name: text for name, text in sorted(answers.items()) if text is not None and text.strip()}
    rows = [f"{name},{','.join(_position(work, name, text))}" for name, text in given.items()]
    if not rows:
        return "No position was given."
    if path.is_file() and is_made_by_nightdesk(path):
        path.unlink()  # of an earlier run that found the positions by itself
    try:
        create_bytes(path, "\n".join([HEADER_LINE, *rows, ""]).encode())
    except FileExistsError:
        return f"{work.layout.relative(path)} has come meanwhile; the answer is not used."
    return f"{work.layout.relative(path)}: {len(rows)} positions."


def _position(work: Work, name: str, text: str) -> list[str]:
    if not re.match(POSITION_PATTERN, text):
        raise SetupError(f"{name}: {text!r} is no position. Write x and y with a comma between: 252, 328.")
    position = re.split(r"[,; ]+", text.strip())
    ny, nx = work.inputs.raw_shape
    first = work.settings.sidecar.origin - 0.5
    if not all(first <= float(value) <= first + size for value, size in zip(position, (nx, ny), strict=True)):
        raise SetupError(
            f"{name}: {text!r} lies outside the frame, which is {nx} x {ny} pixels. Clear this task to be asked again."
        )
    return position
