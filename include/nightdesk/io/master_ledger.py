"""What became of a night's raw calibration frames: `calibs/<night>/masters.json`."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from nightdesk import __version__
from nightdesk.io.atomic import read_json, write_json
from nightdesk.io.calibration_set import CALIBRATION_KINDS, calibration_frames
from nightdesk.settings import digest

if TYPE_CHECKING:
    from pathlib import Path

    from nightdesk.io.inventory import Inventory
    from nightdesk.settings import Settings

SCHEMA = 1


def ledger_path(settings: Settings, night: date) -> Path:
    """Return where a night's masters are accounted for."""
    return settings.root / "calibs" / night.isoformat() / "masters.json"


def read_ledger(settings: Settings, night: date) -> dict[str, Any] | None:
    """Return a night's account, or None."""
    values = read_json(ledger_path(settings, night))
    return values if isinstance(values, dict) and values.get("schema") == SCHEMA else None


def begin_ledger(settings: Settings, inventory: Inventory, night: date) -> None:
    """Write down what a night's masters are about to be made from, so that a run that dies is not begun for ever."""
    known = read_ledger(settings, night) or {"masters": []}
    _write(settings, inventory, night, "begun", known["masters"])


def write_ledger(settings: Settings, inventory: Inventory, night: date, masters: list[dict[str, Any]]) -> None:
    """Write a night's account: what it was made from, and each master or why there is none."""
    _write(settings, inventory, night, "done", masters)


def _write(settings: Settings, inventory: Inventory, night: date, state: str, masters: list[dict[str, Any]]) -> None:
    values = {
        "schema": SCHEMA,
        "night": night.isoformat(),
        "state": state,
        "inputs": _inputs(inventory, night),
        "masters": masters,
        "settings": master_settings(settings),
        "code": __version__,
    }
    write_json(ledger_path(settings, night), values)


def master_settings(settings: Settings) -> str:
    """Return the hash of the settings that touch masters."""
    chosen = settings.model_dump(mode="json", include={"masters", "calibs", "instruments", "repairs", "aliases"})
    return digest(chosen)


def has_new_frames(settings: Settings, inventory: Inventory, night: date) -> bool:
    """Tell whether a night's calibration frames differ from those that a run set out with, whatever became of it."""
    frames = _inputs(inventory, night)
    ledger = read_ledger(settings, night)
    return bool(frames) and (ledger is None or ledger["inputs"] != frames)


def needs_building(settings: Settings, inventory: Inventory, night: date) -> bool:
    """Tell whether a night has calibration frames that its account does not know as they are now."""
    frames = _inputs(inventory, night)
    if not frames:
        return False
    ledger = read_ledger(settings, night)
    if (
        ledger is None
        or ledger["state"] != "done"
        or ledger["inputs"] != frames
        or ledger["settings"] != master_settings(settings)
    ):
        return True
    made = (one["path"] for one in ledger["masters"] if one["state"] == "made")
    return ledger["code"] != __version__ or not all((settings.root / path).is_file() for path in made)


def nights_to_build(settings: Settings, inventory: Inventory, night: date) -> list[date]:
    """Return the nights whose masters a night may need and that are still to be made: its own, and those near it."""
    window = max(settings.calibs.window.bias, settings.calibs.window.dark, settings.calibs.window.flat)
    nights = {date.fromisoformat(facts.night) for facts in inventory.raws if facts.kind in CALIBRATION_KINDS}
    near = [one for one in sorted(nights) if abs(one - night) <= timedelta(days=window)]
    return [one for one in near if needs_building(settings, inventory, one)]


def _inputs(inventory: Inventory, night: date) -> dict[str, list[int]]:
    return {facts.path: [facts.size, facts.mtime_ns] for facts in calibration_frames(inventory, night)}
