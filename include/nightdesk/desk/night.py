"""A night at a glance: one small file per night, from which the page of all nights is made without opening a product.

The files are derived from manifests, figures and reports, and may be deleted at will: `restore_night` makes one anew.
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from nightdesk import manifest as ledger
from nightdesk.desk.place import night_file, nights_folder, stack_thumbnail, told_file
from nightdesk.desk.served import Served
from nightdesk.errors import SetupError
from nightdesk.group import Group
from nightdesk.io.atomic import locked, read_json, write_json
from nightdesk.io.layout import Layout, report_path
from nightdesk.io.raw import is_raw_name, raw_places
from nightdesk.night import parse_night
from nightdesk.quality import not_judged

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nightdesk.settings import Settings

SCHEMA: Final = 2
FOLDERS_LOOKED_AT: Final = 3


def note_group(settings: Settings, group: Group) -> None:
    """Write what is known of a group into its night's file; one that is mended is told of again when it fails again."""
    row = group_row(settings, group)
    with locked(nights_folder(settings) / ".lock"):
        night = _read(settings, group.night) or _gathered(settings, group.night)
        night["groups"][group.key] = row
        write_json(night_file(settings, group.night), night)
    if row["state"] in ("done", "waiting"):
        told_file(Layout(settings, group)).unlink(missing_ok=True)


def note_night(settings: Settings, night: date, report: dict[str, Any]) -> None:
    """Write what the night's report says, and all its groups, into the night's file."""
    groups = [group for entry in report["groups"] if (group := group_of_key(settings, entry["group"]))]
    with locked(nights_folder(settings) / ".lock"):
        values = _empty(night)
        values["groups"] = {group.key: group_row(settings, group) for group in groups}
        _add_report(values, report)
        write_json(night_file(settings, night), values)


def read_night(settings: Settings, night: date) -> dict[str, Any]:
    """Return a night at a glance, gathered anew where its file is gone."""
    return _read(settings, night) or _gathered(settings, night)


def restore_night(settings: Settings, night: date) -> bool:
    """Make a night's file anew, and tell whether there was anything to say; the lock is held for the writing alone."""
    values = _gathered(settings, night)
    if not values["groups"] and not values["report"]:
        return False
    with locked(nights_folder(settings) / ".lock"):
        if _read(settings, night) is None:
            write_json(night_file(settings, night), values)
    return True


def nights_on_disk(settings: Settings) -> set[str]:
    """Return the nights of which there are products or reports, by the names of folders and files."""
    processed = settings.root / "processed"
    nights = {path.stem for path in (processed / "reports").glob("*.json")}
    if settings.profile == "notebook":
        nights |= {group.night.isoformat() for group in _groups_on_disk(settings)}
    else:
        for folder in processed.glob(_EACH_FILTER[len(settings.instruments) > 1]):
            nights |= {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
    return {night for night in nights if _is_night(night)}


def _is_night(name: str) -> bool:
    try:
        parse_night(name)
    except ValueError:
        return False
    return True


_EACH_FILTER: Final = {False: "*/*", True: "*/*/*"}


def group_row(settings: Settings, group: Group) -> dict[str, Any]:
    """Return what a person wants to know of a group at a glance."""
    served = Served(settings, group)
    manifest, card, inputs = served.manifest, served.stack_card, served.inputs
    raws = manifest["raws"] if manifest else []
    names = {raw["name"]: raw for raw in raws}
    used = [name for name, raw in names.items() if raw["fate"] == "used"]
    airmasses = [value for name in used if (value := served.frame_card(name).get("airmass"))]
    has_stack = bool(manifest and manifest["stack"])
    return {
        **group.params,
        "key": group.key,
        "run_id": group.run_id,
        "last_run": inputs.run_id if inputs else group.run_id,
        "state": manifest["state"] if manifest else "started",
        "reason": manifest["reason"] if manifest else "its reduction has begun",
        "quality": manifest["quality"] if manifest else None,
        "not_judged": not_judged(settings, group.filter_name) if has_stack else [],
        "stack": has_stack,
        "thumbnail": has_stack and served.holds(stack_thumbnail(served.layout)),
        "used": len(used),
        "frames": len(names) if names else len(inputs.frames) if inputs else 0,
        "exposure": card.get("total_exposure") or card.get("exposure") if has_stack else None,
        "airmass": [min(airmasses), max(airmasses)] if airmasses else None,
        "losses": [
            {"name": raw["name"], "fate": raw["fate"], "reason": raw["reason"]}
            for raw in raws
            if raw["fate"] not in ("used", "waiting")
        ],
        "written": manifest["written"] if manifest else None,
        **{
            key: card.get(key) if has_stack else None
            for key in (
                "fwhm",
                "ellipticity",
                "sky",
                "noise",
                "depth",
                "stars",
                "noise_ratio",
                "pixel_scale",
                "zero_point",
            )
        },
    }


def counts_of(values: dict[str, Any]) -> dict[str, int]:
    """Return how many raws a night has, how many groups were reduced, wait and are red."""
    states = [row["state"] for row in values["groups"].values()]
    return {
        "raws": sum((values["raws"] or {}).values()),
        "groups": len(states),
        "reduced": sum(state in ("done", "partial") for state in states),
        "waiting": states.count("waiting"),
        "red": sum(state in ("failed", "partial") for state in states),
    }


def group_of_key(settings: Settings, key: str) -> Group | None:
    """Return the group of a key such as ``2026-11-21/NGC5949/R``; None when there can be none."""
    night, *instrument, target, filter_name = key.split("/")
    try:
        return Group.from_params(
            settings,
            target=target,
            filter_name=filter_name,
            night=night,
            instrument=instrument[0] if instrument else None,
        )
    except SetupError:
        return None


def last_raw(settings: Settings) -> tuple[float, str] | None:
    """Return when the newest raw was written (seconds since the epoch) and its path below the data root.

    Only the folders that changed last are looked at.
    """
    folders = []
    for place in raw_places(settings):
        folders += [place, *_folders_in(place)]
    latest: tuple[float, str] | None = None
    for folder in sorted(folders, key=_changed, reverse=True)[:FOLDERS_LOOKED_AT]:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if is_raw_name(settings, entry.name) and entry.is_file():
                written = entry.stat().st_mtime
                if latest is None or written > latest[0]:
                    latest = (written, f"{folder.relative_to(settings.root).as_posix()}/{entry.name}")
    return latest


def why_empty(settings: Settings, night: date, nights_with_raws: Iterable[str]) -> str:
    """Return, as far as it can be known, why a night has no raws."""
    place = settings.root / "raw"
    if not place.is_dir():
        return f"No raw files of this night: the folder {place.name}/ is not there. Is the camera's disk mounted?"
    earlier = max((one for one in nights_with_raws if one and one < night.isoformat()), default=None)
    before = f"The last night before it with raws is {earlier}." if earlier else "No night before it has any."
    return f"No raw files of this night are on disk. {before}"


def _folders_in(place: Path) -> list[Path]:
    try:
        return [place / entry.name for entry in os.scandir(place) if entry.is_dir()]
    except OSError:
        return []


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _empty(night: date) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "night": night.isoformat(),
        "groups": {},
        "raws": None,
        "rejected": [],
        "nothing": "",
        "report": False,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _read(settings: Settings, night: date) -> dict[str, Any] | None:
    values = read_json(night_file(settings, night))
    return values if is_current(values) else None


def is_current(values: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a night's file is as this version writes it; any other is as good as deleted."""
    return isinstance(values, dict) and values.get("schema") == SCHEMA


def _gathered(settings: Settings, night: date) -> dict[str, Any]:
    """Return a night's file as manifests and the report make it."""
    values = _empty(night)
    for group in _groups_on_disk(settings, night):
        values["groups"][group.key] = group_row(settings, group)
    report = read_json(report_path(settings, night))
    if isinstance(report, dict) and report.get("schema") == ledger.SCHEMA:
        _add_report(values, report)
    return values


def _add_report(values: dict[str, Any], report: dict[str, Any]) -> None:
    stale = {entry["group"]: entry["out_of_date"] for entry in report["groups"]}
    for key, row in values["groups"].items():
        row["out_of_date"] = stale.get(key, [])
    values["raws"] = dict(sorted(Counter(raw["fate"] for raw in report["raws"]).items()))
    values["rejected"] = [
        {"path": raw["path"], "reason": raw["reason"]} for raw in report["raws"] if raw["fate"] == "rejected"
    ]
    values["nothing"] = report.get("nothing", "")
    values["report"] = True


def _groups_on_disk(settings: Settings, night: date | None = None) -> list[Group]:
    """Return the groups that were begun, of one night or of all."""
    middle = "" if settings.profile == "notebook" else f"{night.isoformat() if night else '*'}/"
    pattern = f"{_EACH_FILTER[len(settings.instruments) > 1]}/{middle}combined/inputs.json"
    found = []
    for path in sorted((settings.root / "processed").glob(pattern)):
        values = read_json(path)
        key = str(values.get("group", "")) if isinstance(values, dict) else ""
        group = group_of_key(settings, key) if key.count("/") >= 2 else None
        if group is not None and (night is None or group.night == night):
            found.append(group)
    return found
