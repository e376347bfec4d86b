"""Operators that start a run of another Dag under a name of our choice, and never disturb an active one.

They do what the standard provider's TriggerDagRunOperator does, by the same exception; importing that
operator takes half a second, which every parse of a Dag file would pay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException, DagRunTriggerException

from nightdesk_airflow.note import group_note
from nightdesk_airflow.run import active_runs, skip
from nightdesk_airflow.task import nightdesk_errors

if TYPE_CHECKING:
    from airflow.sdk import Context

POLL_SECONDS = 3
GROUP_DAG = "reduce_group"


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
            allowed_states=["success"],
            failed_states=["failed"],
            poke_interval=POLL_SECONDS,
            deferrable=wait,
            note=group_note(self.trigger_run_id) if self.trigger_dag_id == GROUP_DAG else None,
        )


class ReduceGroupOperator(StartRunOperator):
    """Brings one group up to date, waits for it without holding a worker, and ends as the group ended.

    An active run is only waited for. A group whose inputs are those of its manifest is not run again: its
    state is reported. So a night's square that is cleared after a frame was mended turns green without
    touching the group.
    """

    def execute(self, context: Context) -> Any:
        """Wait for the active run, report a finished one, or start."""
        from nightdesk.readiness import needs_run

        if self.is_active():
            self.wait()
        with nightdesk_errors():
            fresh = not needs_run(*self._settings_and_group())
        return self.report() if fresh else self.start(wait=True)

    def wait(self) -> NoReturn:
        """Come back in `execute_complete` when the active run is over."""
        from airflow.providers.standard.triggers.external_task import DagStateTrigger
        from airflow.utils.state import DagRunState

        self.defer(
            trigger=DagStateTrigger(
                dag_id=self.trigger_dag_id,
                run_ids=[self.trigger_run_id],
                states=[DagRunState.SUCCESS, DagRunState.FAILED],
                poll_interval=POLL_SECONDS,
            ),
            method_name="execute_complete",
        )
        raise AssertionError("defer() does not return")

    def execute_complete(self, context: Context, event: tuple[str, dict[str, Any]]) -> str:
        """End as the run ended."""
        state = event[1].get(self.trigger_run_id)
        return self.report(failed=str(getattr(state, "value", state)) == "failed")

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
