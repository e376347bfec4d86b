"""The mark by which a sidecar that Nightdesk wrote is told from a person's: a hash of what it says."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MADE_BY = "made_by"


def signature(lines: list[str]) -> str:
    """Return what marks a sidecar of these lines (without the column that bears it) as made by Nightdesk."""
    text = "\n".join(lines)
    return f"nightdesk {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def is_made_by_nightdesk(path: Path) -> bool:
    """Tell whether a sidecar is as Nightdesk wrote it; one that a person has changed since is the person's."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    if len(lines) < 2 or not lines[0].endswith(f",{MADE_BY}"):
        return False
    split = [line.rpartition(",") for line in lines]
    mark = signature([body for body, _, _ in split])
    return all(end == mark for _, _, end in split[1:])
