"""Ask: which positions a person is to give, and the sidecar that their answer makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nightdesk.errors import SetupError
from nightdesk.io.atomic import create_bytes
from nightdesk.io.layout import EXTINCTION
from nightdesk.io.sidecar import HEADER_LINE
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
    """Write the sidecar that a person's answers make; one that came meanwhile is left as it is.

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
        If an answer is no position, naming the frame.
    """
    work = Work.open(settings, group)
    path = work.layout.sidecars[0]
    given = {name: text for name, text in sorted(answers.items()) if text is not None and text.strip()}
    rows = [f"{name},{','.join(_position(name, text))}" for name, text in given.items()]
    if not rows:
        return "No position was given."
    try:
        create_bytes(path, "\n".join([HEADER_LINE, *rows, ""]).encode())
    except FileExistsError:
        return f"{work.layout.relative(path)} has come meanwhile; the answer is not used."
    return f"{work.layout.relative(path)}: {len(rows)} positions."


def _position(name: str, text: str) -> list[str]:
    if not re.match(POSITION_PATTERN, text):
        raise SetupError(f"{name}: {text!r} is no position. Write x and y with a comma between: 252, 328.")
    return re.split(r"[,; ]+", text.strip())
