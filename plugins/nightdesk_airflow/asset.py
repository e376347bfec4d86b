"""The stack of a target and filter as an asset: what became of it, night by night, in Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

if TYPE_CHECKING:
    from nightdesk.group import Group


def stack_asset(group: Group) -> Asset:
    """Return the asset of the group's target and filter (and instrument, where there are several)."""
    name = "/".join(group.parts)
    return Asset(name=name, uri=f"nightdesk://stack/{name}")


def announce_stack(event: Any, group: Group, stack: dict[str, Any]) -> None:
    """Say that a new stack is there: of which night, of how many frames, how long exposed, and where."""
    facts = {key: stack[key] for key in ("frames", "exposure", "path")}
    event.add(stack_asset(group), extra={"night": group.night.isoformat()} | facts)
