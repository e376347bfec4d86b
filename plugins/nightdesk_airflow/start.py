"""Operators that start a run of another Dag under a name of our choice, and never disturb an active one.

They do what the standard provider's TriggerDagRunOperator does, by the same exception; importing that
operator takes half a second, which every parse of a Dag file would pay.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException, DagRunTriggerException

from nightdesk_airflow.run import ACTIVE, active_runs, asking_runs, runs_in, skip
from nightdesk_airflow.task import nightdesk_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

POLL_SECONDS = 3


class StartedRunLink(BaseOperatorLink):
    """The button that leads from a starter's square to the run it started."""

    name = "Run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the page of the run."""
        from airflow.utils.helpers import build_airflow_dagrun_url

        return build_airflow_dagrun_url(dag_id=operator.trigger_dag_id, run_id=operator.trigger_run_id)


class StartRunOperator(BaseOperator):
    """Starts the run `trigger_run_id`, or clears it and starts it anew; skipped while that run is active."""

    template_fields = ("trigger_run_id", "conf")
    template_fields_renderers: ClassVar = {"conf": "json"}
    operator_extra_links = (StartedRunLink(),)

    def __init__(self, *, trigger_dag_id: str, trigger_run_id: str, conf: dict[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trigger_dag_id = trigger_dag_id
        self.trigger_run_id = trigger_run_id
        self.conf = conf

    def execute(self, context: Context) -> Any:
        """Start the run unless it is active: clearing it then would tear its tasks from under it."""
        if self.is_active():
            skip(f"{self.trigger_run_id} is active already and left alone.")
        self.start(wait=False)

    def is_active(self) -> bool:
        """Tell whether the run is queued or running."""
        return bool(active_runs(self.trigger_dag_id, [self.trigger_run_id]))

    def start(self, *, wait: bool) -> NoReturn:
        """Hand the start to Airflow; with `wait`, come back in `execute_complete` when the run is over."""
        raise DagRunTriggerException(
            trigger_dag_id=self.trigger_dag_id,
            dag_run_id=self.trigger_run_id,
            conf=self.conf,
            logical_date=None,  # several groups of a night would collide: it is unique within a Dag
            reset_dag_run=True,
            skip_when_already_exists=False,
            wait_for_completion=wait,
            allowed_states=["running", "success"],  # once it runs, `wait` goes on
            failed_states=["failed"],
            poke_interval=POLL_SECONDS,
            deferrable=wait,
        )


class ReduceGroupOperator(StartRunOperator):
    """Brings one group up to date, waits for it without holding a worker, and ends as the group ended.

    An active run is only waited for, unless it asks a person. A group whose inputs are those of its manifest
    is not run again: its state is reported. So a night's square that is cleared after a frame was mended turns
    green without touching the group.
    """

    def execute(self, context: Context, event: Any = None) -> Any:
        """Wait for the active run or for files that are being copied, report a finished run, or start."""
        from nightdesk.readiness import differs, needs_run, unfinished_seconds

        if self.is_active():
            self.wait()
        with nightdesk_errors():
            settings, group = self._settings_and_group()
            if (seconds := unfinished_seconds(settings, group)) > 0:
                self.come_back(seconds)
            if self.is_asking() and not differs(settings, group):
                self.leave_asking()
            fresh = not needs_run(settings, group)
        return self.report() if fresh else self.start(wait=True)

    def is_asking(self) -> bool:
        """Tell whether the run waits for a person's answer."""
        return bool(asking_runs(self.trigger_dag_id, runs_in(ACTIVE, self.trigger_dag_id, [self.trigger_run_id])))

    def leave_asking(self) -> NoReturn:
        """Skip: nobody knows when a person will answer, and the night's report must come."""
        skip(f"{self.trigger_run_id} asks for positions in the web UI, and is not waited for.")

    def come_back(self, seconds: float) -> NoReturn:
        """Look again later, without holding a worker: a file of the group is still being copied."""
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.log.info("A file of %s is not complete yet; looking again in %.0f s.", self.trigger_run_id, seconds)
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=max(seconds, POLL_SECONDS))), method_name="execute")
        raise AssertionError("defer() does not return")

    def wait(self) -> NoReturn:
        """Come back in `execute_complete` when the active run is over, or asks."""
        from nightdesk_airflow.trigger import RunEndTrigger

        self.defer(
            trigger=RunEndTrigger(
                dag_id=self.trigger_dag_id, run_id=self.trigger_run_id, poll_seconds=float(POLL_SECONDS)
            ),
            method_name="execute_complete",
        )
        raise AssertionError("defer() does not return")

    def execute_complete(self, context: Context, event: Any) -> str:
        """End as the run ended; go on waiting for one that has only begun."""
        if self.is_active():
            self.wait()
        if self.is_asking():
            self.leave_asking()
        return self.report(failed=bool(runs_in(["failed"], self.trigger_dag_id, [self.trigger_run_id])))

    def report(self, *, failed: bool = False) -> str:
        """Return the sentence of a group that is done; skip for one that waits, else fail."""
        from nightdesk.manifest import read_manifest

        with nightdesk_errors():
            settings, group = self._settings_and_group()
            manifest = read_manifest(settings, group) or {"state": "unknown", "reason": "it left no manifest"}
        state, reason = manifest["state"], f"{group.key}: {manifest['reason']}"
        if state in ("partial", "failed"):
            raise AirflowFailException(reason)
        if failed or state == "unknown":
            raise AirflowFailException(f"{reason}. The run {self.trigger_run_id} of {self.trigger_dag_id} tells more.")
        if state == "waiting":
            skip(reason)
        return reason

    def _settings_and_group(self) -> tuple[Any, Any]:
        from nightdesk.group import Group
        from nightdesk.settings import load_settings

        settings = load_settings()
        return settings, Group.from_params(settings, **self.conf)
