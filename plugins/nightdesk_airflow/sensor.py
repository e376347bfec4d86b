"""The sensor of `watch_raws`: waits for groups that are ready, without holding a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from nightdesk_airflow.run import MASTERS_DAG

if TYPE_CHECKING:
    from airflow.sdk import Context

    from nightdesk.calibration_night import CalibrationNight


def require_open_folders() -> str:
    """Fail with the names of raw folders that may not be looked into: their frames would be missed in silence."""
    from nightdesk.errors import SetupError
    from nightdesk.io.inventory import closed_folders
    from nightdesk.settings import load_settings
    from nightdesk_airflow.task import nightdesk_errors

    with nightdesk_errors():
        if told := closed_folders(load_settings()):
            raise SetupError(" ".join(told))
    return "All raw folders can be looked into."


class ReadyGroupsSensor(BaseSensorOperator):
    """Returns Dag, run id and params of each group and each night of calibrations to start; now and then none.

    It must never fail at once: `watch_raws` would begin anew the same second. Whatever goes wrong is left
    to its retries, a wrong configuration too.
    """

    def __init__(self, *, group_dag_id: str, listen_seconds: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group_dag_id = group_dag_id
        self.listen_seconds = listen_seconds

    def execute(self, context: Context) -> None:
        """Check the settings, so that their errors stand in this log; leave the waiting to the trigger."""
        from nightdesk.settings import load_settings
        from nightdesk_airflow.trigger import LISTEN_SECONDS, ReadyGroupsTrigger

        settings = load_settings()
        self.log.info("Watching %s by %s.", settings.root, settings.watch.observer)
        # No defer timeout: it would fail the task in spite of its retries. The trigger comes back by itself.
        self.defer(
            trigger=ReadyGroupsTrigger(dag_id=self.group_dag_id, listen_seconds=self.listen_seconds or LISTEN_SECONDS),
            method_name="start_of",
        )

    def start_of(self, context: Context, event: list[dict[str, str]]) -> list[dict[str, Any]]:
        """Return what still holds: events grow old, when the Dag was paused or a run was started by hand."""
        from nightdesk.group import Group
        from nightdesk.readiness import differs
        from nightdesk.settings import load_settings
        from nightdesk_airflow.run import active_runs

        settings = load_settings()
        groups = [Group.from_params(settings, **params) for params in event if "target" in params]
        active = active_runs(self.group_dag_id, [group.run_id for group in groups])
        chosen = [group for group in groups if group.run_id not in active and differs(settings, group)]
        nights = self._nights_of(event)
        keys = [night.key for night in nights] + [group.key for group in chosen]
        self.log.info("To start: %s.", ", ".join(keys) or "nothing")
        return [
            {"trigger_dag_id": dag_id, "trigger_run_id": one.run_id, "conf": one.params}
            for dag_id, works in ((MASTERS_DAG, nights), (self.group_dag_id, chosen))
            for one in works
        ]

    def _nights_of(self, event: list[dict[str, str]]) -> list[CalibrationNight]:
        """Return the nights whose masters are still to be made, unless a run of them is active."""
        from nightdesk.calibration_night import CalibrationNight
        from nightdesk.io.inventory import take_inventory
        from nightdesk.io.master_ledger import has_new_frames
        from nightdesk.night import parse_night
        from nightdesk.settings import load_settings
        from nightdesk_airflow.run import active_runs

        nights = [CalibrationNight(parse_night(params["night"])) for params in event if "target" not in params]
        if not nights:
            return []
        settings = load_settings()
        inventory = take_inventory(settings)
        active = active_runs(MASTERS_DAG, [one.run_id for one in nights])
        return [one for one in nights if one.run_id not in active and has_new_frames(settings, inventory, one.night)]
