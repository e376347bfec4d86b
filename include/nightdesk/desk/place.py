"""Where the desk's own files stand: beside the stack, and per night in ``.nightdesk``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from nightdesk.io.layout import Layout
    from nightdesk.settings import Settings


def desk_folder(layout: Layout) -> Path:
    """Where a group's figures, small pictures and tiles are."""
    return layout.stack.parent / "desk"


def stack_card(layout: Layout) -> Path:
    """The figures of a stack."""
    return desk_folder(layout) / "stack.json"


def stack_thumbnail(layout: Layout) -> Path:
    """The small picture of a stack."""
    return desk_folder(layout) / "stack.jpg"


def stack_tiles(layout: Layout) -> Path:
    """The tiles of a stack."""
    return desk_folder(layout) / "stack.tiles"


def frame_card(layout: Layout, name: str) -> Path:
    """The figures of a frame."""
    return desk_folder(layout) / "frames" / f"{name}.json"


def frame_thumbnail(layout: Layout, name: str) -> Path:
    """The small picture of a frame."""
    return desk_folder(layout) / "frames" / f"{name}.jpg"


def told_file(layout: Layout) -> Path:
    """Which failure of a group people were told of, and how."""
    return desk_folder(layout) / "told.json"


def nights_folder(settings: Settings) -> Path:
    """Where the nights at a glance are."""
    return settings.root / ".nightdesk" / "nights"


def night_file(settings: Settings, night: date) -> Path:
    """A night at a glance."""
    return nights_folder(settings) / f"{night.isoformat()}.json"
