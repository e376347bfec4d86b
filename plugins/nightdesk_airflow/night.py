"""Which night a run is about, and which of the night's groups are live or archived."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from nightdesk_airflow.run import fail_for, failed_tasks, task_states
from nightdesk_airflow.task import nightdesk_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from nightdesk.group import Group
    from nightdesk.settings import Settings

ARCHIVE_POOL = "archive"
BUILDERS = "masters.build_masters"  # the mapped task of reduce_night

log = logging.getLogger(__name__)


def settings_and_night() -> tuple[Settings, date]:
    """Return the settings and the run's night: its param, else its data interval's, else the last one."""
    from nightdesk.night import night_of, parse_night
    from nightdesk.settings import load_settings

    settings = load_settings()
    context = get_current_context()
    if named := context["params"].get("night"):
        return settings, parse_night(named)
    if begin := context.get("data_interval_start"):
        return settings, night_of(begin, settings.site.zone)
    return settings, last_night(settings)


def last_night(settings: Settings) -> date:
    """Return the last night that is over."""
    from datetime import UTC, datetime

    from nightdesk.night import night_of

    return night_of(datetime.now(UTC), settings.site.zone) - timedelta(days=1)


def nights_to_calibrate() -> list[str]:
    """Return the nights near the run's own whose masters it may need and that are still to be made.

    So it does not matter in which order archived nights are reduced.
    """
    from nightdesk.io.inventory import take_inventory
    from nightdesk.io.master_ledger import nights_to_build

    with nightdesk_errors():
        settings, night = settings_and_night()
        return [one.isoformat() for one in nights_to_build(settings, take_inventory(settings), night)]


def build_masters_of(night: str | None = None) -> list[str]:
    """Make a night's masters (the run's, when none is named) and say what became of each."""
    from nightdesk.night import parse_night
    from nightdesk.steps import build_masters

    with nightdesk_errors():
        settings, own = settings_and_night()
        told = build_masters.run(settings, parse_night(night) if night else own)
    sentences = [build_masters.describe(master) for master in told]
    for master, sentence in zip(told, sentences, strict=True):
        log.info("%s", sentence)
        for path, reason in master["left_out"].items():
            log.info("  left out: %s: %s", path, reason)
    return sentences or ["The night has no raw calibration frame."]


def groups_to_reduce(*, archived: bool) -> list[dict[str, Any]]:
    """Return the run of each of the night's groups, or none when the night is not of the kind asked for.

    An archived night is any before the last one.
    """
    from nightdesk.readiness import groups_of_night

    with nightdesk_errors():
        settings, night = settings_and_night()
        if (night < last_night(settings)) is not archived:
            return []
        return [run_of(group) for group in groups_of_night(settings, night)]


def run_of(group: Group) -> dict[str, Any]:
    """Return what a starter must know of a group's run."""
    return {"trigger_run_id": group.run_id, "conf": group.params}


def nights_to_open() -> list[dict[str, Any]]:
    """Return the runs of `reduce_night` for the archive's next nights."""
    from nightdesk.settings import load_settings
    from nightdesk.steps import archive

    with nightdesk_errors():
        nights = [night.isoformat() for night in archive.next_nights(load_settings())]
    return [{"trigger_run_id": f"archive__{night}", "conf": {"night": night}} for night in nights]


def write_report() -> str:
    """Write the night's report and return its path."""
    from nightdesk.steps import report

    with nightdesk_errors():
        return str(report.run(*settings_and_night()))


def notify_night() -> str:
    """Send the night's report to whoever the configuration names."""
    from nightdesk_airflow.notify import tell_night

    with nightdesk_errors():
        settings, night = settings_and_night()
        if night < last_night(settings):
            return f"{night} is an archived night: nobody is told."
        return tell_night(settings, night, get_current_context())


def judge_night(ti: Any, finders: Mapping[str, str]) -> str:
    """Say how the night's groups ended; fail with the names of those that are not well.

    `finders` maps each task that reduces groups to the one that found them.
    """
    besides = ["masters.find_calibrations", *finders.values(), "report", "notify"]
    states = task_states(ti, [*finders, *besides])
    ended = {
        run["trigger_run_id"]: states.get(f"{task_id}_{index}", "none")
        for task_id, finder in finders.items()
        for index, run in enumerate(ti.xcom_pull(task_ids=finder, map_indexes=None) or [])
    }
    named = [run_id for run_id, state in ended.items() if state not in ("success", "skipped")]
    if named:
        raise AirflowFailException(
            f"Of {len(ended)} groups {len(named)} need a hand: {', '.join(named)}. Mend each group first "
            "(its own run says how), then clear its square here with its downstream."
        )
    fail_for(failed_tasks(ti, besides))
    fail_for(sorted(name for name, state in task_states(ti, [BUILDERS]).items() if state not in ("success", "skipped")))
    waiting = sum(state == "skipped" for state in ended.values())
    return f"{len(ended)} groups: {len(ended) - waiting} reduced, {waiting} waiting for positions."
