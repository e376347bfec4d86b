"""The quality of a stack, graded by the limits in the settings, with the reason in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nightdesk.settings import Settings

GREEN, ORANGE = "green", "orange"


@dataclass(frozen=True)
class Quality:
    """A grade, and why it is not better ('' when it is green)."""

    grade: str
    reason: str


def grade_stack(settings: Settings, header: Mapping[str, Any]) -> Quality:
    """Grade a stack by its header; what it does not tell (as in the notebook profile) is not held against it."""
    low, high = settings.quality.noise_ratio
    ratio = header.get("NOISERAT")
    if isinstance(ratio, (int, float)) and not low <= ratio <= high:
        told = "more" if ratio > high else "less"
        return Quality(
            ORANGE,
            f"the sky is {told} noisy than VAR says: NOISERAT = {ratio:.3f}, the limits are {low:g} and {high:g}.",
        )
    return Quality(GREEN, "")
