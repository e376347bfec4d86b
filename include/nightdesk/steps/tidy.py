"""Tidy: remove the folders before the stack, where and when the settings say so. Raws and stacks are never touched."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from nightdesk.io.atomic import read_json
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED
from nightdesk.readiness import tonight

if TYPE_CHECKING:
    from pathlib import Path

    from nightdesk.settings import Settings

INTERMEDIATE = (POST_ISR, EXTINCTION, SHIFTED)


def remove_intermediate(folder: Path) -> int:
    """Remove a group's products before its stack.

    Parameters
    ----------
    folder : Path
        The group's folder.

    Returns
    -------
    int
        How many files were removed.
    """
    files = [file for step in INTERMEDIATE for file in (folder / step).glob("*.fits")]
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def run(settings: Settings) -> int:
    """Remove intermediate products that are older than ``[products] keep`` days, of groups whose stack is whole.

    Parameters
    ----------
    settings : Settings
        The observatory's settings; ``keep = "all"`` keeps everything, ``"stack"`` is done by the verdict itself.

    Returns
    -------
    int
        How many files were removed.
    """
    keep = settings.products.keep
    if not isinstance(keep, int):
        return 0
    oldest = tonight(settings) - timedelta(days=keep)
    removed = 0
    for manifest in (settings.root / "processed").glob("**/combined/manifest.json"):
        values = read_json(manifest)
        if isinstance(values, dict) and values.get("state") == "done" and _night(values) < oldest:
            removed += remove_intermediate(manifest.parent.parent)
    return removed


def _night(manifest: dict[str, dict[str, str]]) -> date:
    return date.fromisoformat(manifest["group"]["night"])
