"""What the database knows of runs: whether they are active, and how their tasks ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

ACTIVE = ["queued", "running"]
ASK = "ask"  # the task of a group that waits for a person's answer
ASKING = "awaiting_input"
MASTERS_DAG = "build_masters"
REASON = "reason"  # XCom key under which a step leaves why it failed, for its run's verdict
FRAME_TASKS = {"isr": "frame.isr", "extinction": "frame.extinction", "align": "align"}


def skip(reason: str) -> NoReturn:
    """Skip this task; Airflow itself keeps the reason out of the log."""
    log.warning("%s", reason)
    raise AirflowSkipException(reason)


def dag_of(params: Mapping[str, Any], group_dag_id: str) -> str:
    """Return the Dag that starts with these params: a group's, or that of a night's masters, which names no target."""
    return group_dag_id if "target" in params else MASTERS_DAG


def active_runs(dag_id: str, run_ids: Iterable[str]) -> list[str]:
    """Return those of `run_ids` that are queued or running. It blocks: in a trigger, use `sync_to_async`.

    One that asks a person for positions is not among them: nothing of it runs, and it may be started anew.
    """
    begun = runs_in(ACTIVE, dag_id, run_ids)
    asking = asking_runs(dag_id, begun)
    return [run_id for run_id in begun if run_id not in asking]


def runs_in(states: list[str], dag_id: str, run_ids: Iterable[str]) -> list[str]:
    """Return those of `run_ids` that are in one of these states. It blocks."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def count(ids: list[str]) -> int:
        return RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=ids, states=states)

    wanted = list(run_ids)
    if not wanted or not count(wanted):
        return []
    return [run_id for run_id in wanted if count([run_id])]


def asking_runs(dag_id: str, run_ids: list[str]) -> list[str]:
    """Return those of these runs that wait for a person's answer. It blocks."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    if not run_ids or dag_id == MASTERS_DAG:
        return []
    found = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=[ASK], run_ids=run_ids)
    states = {run_id: found.get(run_id, {}).get(ASK) for run_id in run_ids}
    return [run_id for run_id, state in states.items() if str(getattr(state, "value", state)) == ASKING]


def task_states(ti: Any, task_ids: list[str]) -> dict[str, str]:
    """Return the states of this run's tasks, mapped ones by index: ``{"align_0": "success", ...}``.

    XComs are no witness: a cleared run keeps those of tasks that did not start again.
    """
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=task_ids, run_ids=[ti.run_id]).get(ti.run_id, {})
    return {task_id: str(getattr(state, "value", state) or "none") for task_id, state in states.items()}


def by_frame(batches: Iterable[Iterable[str]], states: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Give each frame of each batch the states of the batch's mapped tasks."""
    return {
        name: {step: states.get(f"{task_id}_{index}", "none") for step, task_id in FRAME_TASKS.items()}
        for index, batch in enumerate(batches)
        for name in batch
    }


def frame_states(ti: Any) -> dict[str, dict[str, str]]:
    """Return how each frame's tasks ended in this run: ``{"r0743053": {"isr": "success", ...}}``."""
    states = task_states(ti, ["list_frames", *FRAME_TASKS.values()])
    if states.get("list_frames") != "success":
        return {}
    return by_frame(ti.xcom_pull(task_ids="list_frames", map_indexes=None) or [], states)


def aligned_frames(ti: Any) -> list[str]:
    """Return the frames that `align` has done in this run; skip this task when there are no positions.

    A batch is red for a single bad frame: the others of it are asked about one by one.
    """
    skip_unless_succeeded(ti, ["list_frames", "find_sidecar"])
    ended = {name: states["align"] for name, states in frame_states(ti).items()}
    red = [name for name, state in ended.items() if state == "failed"]
    aligned = {name for name, state in ended.items() if state == "success"}.union(_aligned_of(red) if red else ())
    return [name for name in ended if name in aligned]


def _aligned_of(names: list[str]) -> list[str]:
    from nightdesk.steps import batch
    from nightdesk_airflow.task import run_step

    return run_step(batch.aligned_of, names)


def skip_unless_succeeded(ti: Any, task_ids: list[str]) -> None:
    """Skip this task, which runs whatever became of the frames, when one of these did not succeed."""
    states = task_states(ti, task_ids)
    for task_id in task_ids:
        if (state := states.get(task_id, "none")) != "success":
            skip(f"Nothing to do: {task_id} ended as {state}; its log says why.")


def failed_tasks(ti: Any, task_ids: list[str]) -> dict[str, str]:
    """Return those of these tasks that failed in this run, each with its reason where it left one."""
    states = task_states(ti, task_ids)
    return {task_id: _reason(ti, task_id) for task_id in task_ids if states.get(task_id) == "failed"}


def _reason(ti: Any, task_id: str) -> str:
    # A task that failed has begun, so what an earlier start had left is gone.
    return str(ti.xcom_pull(task_ids=task_id, key=REASON, map_indexes=None) or "")


def fail_for(failed: Iterable[str]) -> None:
    """Fail this task when there are any."""
    if names := ", ".join(failed):
        raise AirflowFailException(f"Failed: {names}. The log of the red square says what to do.")
