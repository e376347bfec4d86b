"""The night's report: every raw file of a night with its fate."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from nightdesk.desk.night import note_night, why_empty
from nightdesk.desk.night_page import draw_night
from nightdesk.io.association import distance_words
from nightdesk.io.atomic import write_bytes, write_json
from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import report_path
from nightdesk.io.master_ledger import read_ledger
from nightdesk.io.raw import folder_night
from nightdesk.io.rejection import night_of_raw, write_rejections
from nightdesk.io.repair import idle_repairs
from nightdesk.manifest import SCHEMA, read_manifest
from nightdesk.readiness import differs, out_of_date, unmade_masters
from nightdesk.steps import tidy

if TYPE_CHECKING:
    from datetime import date

    from nightdesk.group import Group
    from nightdesk.io.inventory import Inventory
    from nightdesk.io.raw import RawFacts
    from nightdesk.settings import Settings

CALIBRATION = ("bias", "dark", "flat")


def run(settings: Settings, night: date) -> str:
    """Write a night's report as JSON, as text and as a page that can be mailed; then tidy what is older than is kept.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    night : date
        The night.

    Returns
    -------
    str
        Path of the report, below the data root.
    """
    inventory = take_inventory(settings)
    raws = [facts for facts in inventory.raws if night_of_raw(settings, facts) == night]
    write_rejections(settings, raws)
    groups = [_group(settings, group, inventory) for group in inventory.groups_of(night)]
    fates = {raw["path"]: raw for entry in groups for raw in entry["raws"]}
    calibrations = _calibrations(settings, night)
    report = {
        "schema": SCHEMA,
        "night": night.isoformat(),
        "counts": dict(sorted(Counter(entry["state"] for entry in groups).items())),
        "groups": [{key: value for key, value in entry.items() if key != "raws"} for entry in groups],
        "raws": [_raw(facts, fates.get(facts.path), calibrations.get(facts.path), night) for facts in raws],
        "repairs": idle_repairs(settings, inventory.raws, night),
        "nothing": "" if raws else why_empty(settings, night, {facts.night for facts in inventory.raws}),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = report_path(settings, night)
    write_json(path, report)
    write_bytes(path.with_suffix(".txt"), _as_text(report).encode())
    note_night(settings, night, report)
    write_bytes(path.with_suffix(".html"), draw_night(settings, night).encode())
    tidy.run(settings)
    return path.relative_to(settings.root).as_posix()


def _group(settings: Settings, group: Group, inventory: Inventory) -> dict[str, Any]:
    manifest = read_manifest(settings, group)
    stale = [*out_of_date(settings, group), *unmade_masters(settings, group, inventory).values()]
    if manifest is None:
        state, reason = "not reduced", "it has not been reduced yet"
    else:
        state, reason = manifest["state"], manifest["reason"]
        if differs(settings, group, inventory):
            reason += " Its raws or sidecar have changed since."
    return {
        "group": group.key,
        "state": state,
        "reason": reason,
        "out_of_date": stale,
        "stack": manifest["stack"] if manifest else None,
        "masters": _masters_of(manifest),
        "raws": manifest["raws"] if manifest else [],
    }


def _masters_of(manifest: dict[str, Any] | None) -> dict[str, str]:
    """Return which masters a stack was made with, and how far from its night they are."""
    return {
        entry["role"].removeprefix("master "): f"{entry['path']} ({distance_words(entry.get('days'))})"
        for entry in (manifest["inputs"] if manifest else [])
        if entry["role"].startswith("master ")
    }


def _calibrations(settings: Settings, night: date) -> dict[str, dict[str, Any]]:
    """Return the fate of each of the night's calibration frames, by path, as its masters' account has it."""
    ledger = read_ledger(settings, night) or {"masters": []}
    fates: dict[str, dict[str, Any]] = {}
    for master in ledger["masters"]:
        for path in master["frames"]:
            fates[path] = {"fate": "calibration", "reason": f"in {master['path']}"}
        for path, reason in master["left_out"].items():
            fates[path] = {"fate": "left out", "reason": f"not in {master['path']}: {reason}"}
    return fates


def _raw(
    facts: RawFacts, fate: dict[str, Any] | None, calibration: dict[str, Any] | None, night: date
) -> dict[str, Any]:
    notes = []
    claimed = folder_night(facts.path)
    if claimed is not None and claimed != night and facts.night:
        notes.append(f"its folder says {claimed}, its header {facts.night}")
    if fate is not None and (fate["size"], fate["mtime_ns"]) == (facts.size, facts.mtime_ns):
        became, reason = fate["fate"], fate["reason"]
    elif facts.kind == "science":
        became, reason = "not reduced", "its group has not been reduced with it yet"
    elif facts.kind in CALIBRATION and calibration is not None:
        became, reason = calibration["fate"], calibration["reason"]
    elif facts.kind in CALIBRATION:
        became, reason = "calibration", f"a {facts.kind} frame"
    else:
        became, reason = facts.kind, facts.reason
    return {"path": facts.path, "fate": became, "reason": reason, "notes": notes}


def _as_text(report: dict[str, Any]) -> str:
    lines = [f"Night of {report['night']}", ""]
    if not report["raws"]:
        lines.append(report["nothing"])
    for entry in report["groups"]:
        lines.append(f"{entry['state']:<12} {entry['group']}: {entry['reason']}")
        lines += [f"{'':<12} out of date: {reason}" for reason in entry["out_of_date"]]
        lines += [f"{'':<12} {role}: {place}" for role, place in entry["masters"].items()]
    lines += [f"{'warning':<12} {sentence}." for sentence in report["repairs"]]
    lines.append("")
    for raw in report["raws"]:
        notes = "; ".join([*([raw["reason"]] if raw["reason"] else []), *raw["notes"]])
        lines.append(f"{raw['fate']:<12} {_printable(raw['path'])}{': ' + notes if notes else ''}")
    return "\n".join(lines) + "\n"


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
