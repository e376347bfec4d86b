"""Solve: astrometry of the stack, where astrometry.net's solve-field is installed with index files; never fatal."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nightdesk.io.atomic import write_bytes
from nightdesk.io.layout import Layout

if TYPE_CHECKING:
    from nightdesk.group import Group
    from nightdesk.settings import Settings

PROGRAM = "solve-field"
SECONDS = 120


def run(settings: Settings, group: Group) -> str:
    """Solve the stack and write its WCS to ``combined/combined.wcs``; the stack itself is not changed.

    Parameters
    ----------
    settings : Settings
        The observatory's settings; ``[align] solve = "never"`` leaves it out.
    group : Group
        The group.

    Returns
    -------
    str
        A sentence for the log, also when nothing came of it.
    """
    layout = Layout(settings, group)
    solution = layout.stack.with_suffix(".wcs")
    if solution.is_file() and solution.stat().st_mtime_ns < layout.stack.stat().st_mtime_ns:
        solution.unlink()  # of an earlier stack: its pixels were others
    if settings.align.solve == "never" or settings.profile == "notebook":
        return "The stack is not solved: the settings say so."
    program = shutil.which(PROGRAM)
    if program is None:
        return f"The stack is not solved: {PROGRAM} is not installed."
    if solution.is_file():
        return f"{layout.relative(solution)} is there already."
    return _solve(program, layout, solution)


def _solve(program: str, layout: Layout, solution: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "stack.wcs"
        command = [program, "--no-plots", "--overwrite", "--cpulimit", str(SECONDS), "--dir", folder]
        command += ["--new-fits", "none", "--out", "stack", "--wcs", str(made), str(layout.stack)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"The stack is not solved: {PROGRAM}: {type(error).__name__}."
        if ended.returncode != 0 or not made.is_file():
            last = (ended.stderr.strip() or ended.stdout.strip() or "no solution was found").splitlines()[-1]
            return f"The stack is not solved: {PROGRAM} says: {last}"
        write_bytes(solution, made.read_bytes())
    return f"{layout.relative(solution)}: the stack is solved."
