"""What `locate` found out about a group's frames, beside the sidecar: refusals, refined positions, notes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nightdesk.io.atomic import read_json, write_json

if TYPE_CHECKING:
    from nightdesk.io.layout import Layout

SCHEMA = 1


@dataclass(frozen=True)
class Location:
    """The outcome of `locate`; `recipe` says from which frames and settings.

    `refused` has the reason for each frame whose stars could not be matched. `refined` are centroids near a person's
    positions, in the sidecar's own count, and `notes` what is to be said of single frames. `placed` says of a person's
    frames that are turned against the reference how they lie on it (dx, dy, rotation, scale), and `reference` which is
    the best of them, where that is to be the reference.
    """

    recipe: str
    refused: dict[str, str] = field(default_factory=dict)
    refined: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    placed: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    reference: str | None = None


def write_location(layout: Layout, location: Location) -> None:
    """Write down what was found out."""
    write_json(layout.located, {"schema": SCHEMA, **asdict(location)})


def read_location(layout: Layout) -> Location | None:
    """Return what was found out last, or None."""
    values = read_json(layout.located)
    if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
        return None
    refined = {name: (float(x), float(y)) for name, (x, y) in values.pop("refined").items()}
    placed = {name: (dx, dy, rotation, scale) for name, (dx, dy, rotation, scale) in values.pop("placed", {}).items()}
    return Location(**values, refined=refined, placed=placed)
