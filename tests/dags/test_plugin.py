"""What Nightdesk adds to Airflow, without a scheduler: errors, states of frames, starters, nights."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DagRunTriggerException,
    TaskDeferred,
)

from nightdesk.errors import FrameError, FrameLost, GroupError, SetupError, StaleProduct, Waiting
from nightdesk.group import Group
from nightdesk.settings import load_settings
from tests.dags.conftest import CHECKOUT, ENVIRONMENT

GROUP = Group(date(2026, 11, 21), "NGC5949", "R")


class TaskInstance:
    """A task instance that knows the states and XComs of its run."""

    dag_id, run_id = "reduce_group", GROUP.run_id

    def __init__(self, states: dict[str, str | None], xcoms: dict[str, Any]) -> None:
        self.states, self.xcoms = states, xcoms

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        assert (dag_id, run_ids) == (self.dag_id, [self.run_id])
        chosen = {key: state for key, state in self.states.items() if key.rstrip("0123456789_") in task_ids}
        return {self.run_id: chosen}

    def xcom_pull(self, *, task_ids: str, map_indexes: None, key: str = "return_value") -> Any:
        return self.xcoms.get(task_ids if key == "return_value" else f"{task_ids}.{key}")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    config = tmp_path / "observatory.toml"
    config.write_text('[site]\ntimezone = "Atlantic/Canary"\n')
    monkeypatch.setenv("NIGHTDESK_CONFIG", str(config))
    monkeypatch.setenv("NIGHTDESK_DATA", str(tmp_path / "data"))
    return load_settings()


@pytest.mark.parametrize("error", [FrameError, GroupError, SetupError])
def test_what_stays_wrong_fails_at_once_with_its_sentence(error: type[Exception]) -> None:
    from nightdesk_airflow.task import nightdesk_errors

    with pytest.raises(AirflowFailException, match=r"r1\.fits is cut short") as caught, nightdesk_errors():
        raise error("r1.fits is cut short")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("reason", [Waiting, FrameLost])
def test_what_is_no_error_of_this_task_skips_it_and_says_why(
    reason: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    from nightdesk_airflow.task import nightdesk_errors

    with caplog.at_level(logging.INFO), pytest.raises(AirflowSkipException), nightdesk_errors():
        raise reason("write xys/NGC5949/R/xy.csv")
    assert "write xys/NGC5949/R/xy.csv" in caplog.text  # Airflow's own log line has no reason


@pytest.mark.parametrize("error", [StaleProduct, OSError, ConnectionError])
def test_passing_trouble_is_left_to_the_retries(error: type[Exception]) -> None:
    from nightdesk_airflow.task import nightdesk_errors

    with pytest.raises(error), nightdesk_errors():
        raise error("later")


def test_a_task_keeps_out_of_the_way_of_a_reduction_by_hand(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    from nightdesk.io.atomic import locked
    from nightdesk.io.layout import Layout
    from nightdesk_airflow import task

    lock = Layout(settings, GROUP).run_lock
    monkeypatch.setattr(task, "settings_and_group", lambda: (settings, GROUP))

    def step(*_: Any) -> None:
        with pytest.raises(StaleProduct), locked(lock, patience=0):  # as `nightdesk reduce` does
            raise AssertionError
        with locked(lock, shared=True, patience=0):  # as the other frames' tasks do
            pass

    task.run_step(step)


def test_frames_are_those_of_this_run_and_their_states_those_of_its_tasks() -> None:
    # The run had three frames before, and what it has left behind of them says nothing now.
    from nightdesk_airflow.run import aligned_frames, frame_states

    states: dict[str, str | None] = {"list_frames": "success", "find_sidecar": "success"}
    for index, (isr, align) in enumerate([("success", "success"), ("failed", "skipped"), ("removed", "removed")]):
        states |= {f"frame.isr_{index}": isr, f"frame.extinction_{index}": isr, f"align_{index}": align}
    stale = {"list_frames": [["r1"], ["r2"]], "align": ["r1", "r2", "r3"]}
    ti = TaskInstance(states, stale)
    assert frame_states(ti) == {
        "r1": {"isr": "success", "extinction": "success", "align": "success"},
        "r2": {"isr": "failed", "extinction": "failed", "align": "skipped"},
    }
    assert aligned_frames(ti) == ["r1"]


def test_a_batch_shares_the_states_of_its_task() -> None:
    from nightdesk_airflow.run import by_frame

    states = by_frame([["r1", "r2"], ["r3"]], {"align_0": "success", "align_1": "failed"})
    assert {name: steps["align"] for name, steps in states.items()} == {
        "r1": "success",
        "r2": "success",
        "r3": "failed",
    }


def test_without_a_list_of_this_run_there_is_no_frame() -> None:
    from nightdesk_airflow.run import frame_states

    assert frame_states(TaskInstance({"list_frames": "failed"}, {"list_frames": [["r1"]]})) == {}


def test_nothing_is_combined_while_positions_are_awaited() -> None:
    from nightdesk_airflow.run import aligned_frames

    states: dict[str, str | None] = {"list_frames": "success", "find_sidecar": "skipped", "align_0": "skipped"}
    with pytest.raises(AirflowSkipException, match="find_sidecar"):
        aligned_frames(TaskInstance(states, {"list_frames": [["r1"]]}))


def test_a_failed_step_brings_its_reason_to_the_verdict() -> None:
    from nightdesk_airflow.run import fail_for, failed_tasks

    ti = TaskInstance({"list_frames": "failed", "combine": "skipped"}, {"list_frames.reason": "no bias"})
    failed = failed_tasks(ti, ["list_frames", "combine", "publish"])
    assert failed == {"list_frames": "no bias"}
    with pytest.raises(AirflowFailException, match="list_frames"):
        fail_for(failed)


def starter(kind: str) -> Any:
    from nightdesk_airflow import start

    return getattr(start, kind)(
        task_id="start", trigger_dag_id="reduce_group", trigger_run_id=GROUP.run_id, conf=GROUP.params
    )


def say_active(monkeypatch: pytest.MonkeyPatch, *run_ids: str, asking: bool = False, failed: bool = False) -> None:
    """Say that these runs are running; or that each asks a person, or that it has failed."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from airflow.utils.state import TaskInstanceState

    class Runs:
        @staticmethod
        def get_dr_count(*, dag_id: str, run_ids: list[str], states: list[str]) -> int:
            return sum(one in known and ("failed" if failed else "running") in states for one in run_ids)

        @staticmethod
        def get_task_states(*, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
            state = TaskInstanceState.AWAITING_INPUT if asking else None
            return {one: {task_ids[0]: state} for one in run_ids}

    known = set(run_ids)
    monkeypatch.setattr(RuntimeTaskInstance, "get_dr_count", Runs.get_dr_count)
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", Runs.get_task_states)


def test_an_active_run_is_not_started_over(monkeypatch: pytest.MonkeyPatch) -> None:
    say_active(monkeypatch, GROUP.run_id)
    with pytest.raises(AirflowSkipException, match="active"):
        starter("StartRunOperator").execute({})


def test_a_run_is_started_under_its_name_and_without_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    say_active(monkeypatch)
    with pytest.raises(DagRunTriggerException) as caught:
        starter("StartRunOperator").execute({})
    wanted = caught.value
    assert (wanted.dag_run_id, wanted.conf, wanted.logical_date) == (GROUP.run_id, GROUP.params, None)
    assert (wanted.reset_dag_run, wanted.wait_for_completion) == (True, False)


def test_a_night_only_waits_for_an_active_group(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    say_active(monkeypatch, GROUP.run_id)
    with pytest.raises(TaskDeferred) as caught:
        starter("ReduceGroupOperator").execute({})
    assert caught.value.timeout is None


def test_a_run_that_asks_a_person_is_not_active(monkeypatch: pytest.MonkeyPatch) -> None:
    # A frame or a sidecar that comes meanwhile may start it anew: nothing of it runs.
    from nightdesk_airflow.run import active_runs

    say_active(monkeypatch, GROUP.run_id, asking=True)
    assert active_runs("reduce_group", [GROUP.run_id, "other"]) == []


def test_a_night_does_not_wait_for_a_persons_answer(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    say_active(monkeypatch, GROUP.run_id, asking=True)
    with pytest.raises(AirflowSkipException, match="asks for positions"):
        starter("ReduceGroupOperator").execute({})
    with pytest.raises(AirflowSkipException, match="asks for positions"):
        starter("ReduceGroupOperator").execute_complete({}, None)


def test_a_night_goes_on_waiting_for_a_group_that_has_only_begun(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    say_active(monkeypatch, GROUP.run_id)
    with pytest.raises(TaskDeferred) as caught:
        starter("ReduceGroupOperator").execute_complete({}, ("path", {GROUP.run_id: "running"}))
    assert caught.value.method_name == "execute_complete"


def test_a_night_waits_for_a_file_that_is_being_copied(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    say_active(monkeypatch)
    monkeypatch.setattr("nightdesk.readiness.unfinished_seconds", lambda *_: 42.0)
    with pytest.raises(TaskDeferred) as caught:
        starter("ReduceGroupOperator").execute({})
    assert caught.value.method_name == "execute"


def test_a_closed_folder_is_red_and_named(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    from nightdesk.io import raw
    from nightdesk_airflow.sensor import require_open_folders

    settings.root.joinpath("raw", "2026-11-21").mkdir(parents=True)
    assert "can be looked into" in require_open_folders()
    opened = raw.os.scandir

    def scandir(folder: Any) -> Any:
        if Path(folder).name == "2026-11-21":
            raise PermissionError(folder)
        return opened(folder)

    monkeypatch.setattr(raw.os, "scandir", scandir)  # root, who may run these tests, looks into everything
    with pytest.raises(AirflowFailException, match=r"raw/2026-11-21: .*chmod a\+rx"):
        require_open_folders()


@pytest.mark.parametrize(
    ("manifest", "outcome"),
    [
        ({"state": "done", "reason": "3 frames"}, None),
        ({"state": "partial", "reason": "r2 was lost"}, AirflowFailException),
        ({"state": "failed", "reason": "no bias"}, AirflowFailException),
        ({"state": "waiting", "reason": "positions"}, AirflowSkipException),
    ],
    ids=lambda value: value["state"] if isinstance(value, dict) else "",
)
def test_a_night_reports_a_group_that_is_up_to_date(
    monkeypatch: pytest.MonkeyPatch, settings: Any, manifest: dict[str, str], outcome: type[Exception] | None
) -> None:
    say_active(monkeypatch)
    monkeypatch.setattr("nightdesk.readiness.needs_run", lambda *_: False)
    monkeypatch.setattr("nightdesk.manifest.read_manifest", lambda *_: manifest)
    operator = starter("ReduceGroupOperator")
    if outcome is None:
        assert manifest["reason"] in operator.execute({})
    else:
        with pytest.raises(outcome, match=manifest["reason"]):
            operator.execute({})


def test_a_night_starts_a_group_that_needs_it_and_waits(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    say_active(monkeypatch)
    monkeypatch.setattr("nightdesk.readiness.needs_run", lambda *_: True)
    with pytest.raises(DagRunTriggerException) as caught:
        starter("ReduceGroupOperator").execute({})
    assert (caught.value.wait_for_completion, caught.value.deferrable) == (True, True)


@pytest.mark.parametrize("manifest", [None, {"state": "done", "reason": "3 frames"}], ids=["none", "done"])
def test_a_run_that_died_is_red_whatever_an_older_manifest_says(
    monkeypatch: pytest.MonkeyPatch, settings: Any, manifest: dict[str, str] | None
) -> None:
    say_active(monkeypatch, GROUP.run_id, failed=True)
    monkeypatch.setattr("nightdesk.manifest.read_manifest", lambda *_: manifest)
    with pytest.raises(AirflowFailException, match=GROUP.run_id):
        starter("ReduceGroupOperator").execute_complete({}, GROUP.run_id)


def test_the_sensor_looks_again_before_it_starts_anything(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    from nightdesk_airflow import run
    from nightdesk_airflow.sensor import ReadyGroupsSensor

    others = [Group(GROUP.night, target, "R") for target in ("done", "active", "due")]
    monkeypatch.setattr(run, "active_runs", lambda *_: [others[1].run_id])
    monkeypatch.setattr("nightdesk.readiness.differs", lambda _, group: group.target != "done")
    sensor = ReadyGroupsSensor(task_id="wait", group_dag_id="reduce_group")
    started = sensor.start_of({}, [group.params for group in others])
    assert started == [{"trigger_dag_id": "reduce_group", "trigger_run_id": others[2].run_id, "conf": others[2].params}]


def test_a_night_is_as_red_as_its_groups() -> None:
    from nightdesk_airflow.night import judge_night

    runs = [{"trigger_run_id": name} for name in ("one", "two", "three")]
    states: dict[str, str | None] = {"find_groups": "success", "report": "success"}
    states |= {"reduce_0": "success", "reduce_1": "skipped", "reduce_2": "success"}
    finders = {"reduce": "find_groups"}
    assert "3 groups: 2 reduced, 1 waiting" in judge_night(TaskInstance(states, {"find_groups": runs}), finders)
    with pytest.raises(AirflowFailException, match="three"):
        judge_night(TaskInstance(states | {"reduce_2": "failed"}, {"find_groups": runs}), finders)
    with pytest.raises(AirflowFailException, match="report"):
        judge_night(TaskInstance(states | {"report": "failed"}, {"find_groups": runs}), finders)


@pytest.mark.parametrize(
    ("context", "night"),
    [
        ({"params": {"night": "2026-01-31"}}, date(2026, 1, 31)),
        ({"params": {"night": None}, "data_interval_start": "2026-03-29T11:00:00+00:00"}, date(2026, 3, 29)),
        ({"params": {}, "data_interval_start": "2026-01-31T12:00:00+00:00"}, date(2026, 1, 31)),
    ],
    ids=["param", "interval-in-summer", "interval-in-winter"],
)
def test_which_night_a_run_is_about(
    monkeypatch: pytest.MonkeyPatch, settings: Any, context: dict[str, Any], night: date
) -> None:
    from datetime import datetime

    from nightdesk_airflow import night as module

    if begin := context.get("data_interval_start"):
        context = context | {"data_interval_start": datetime.fromisoformat(begin)}
    monkeypatch.setattr(module, "get_current_context", lambda: context)
    assert module.settings_and_night()[1] == night


def test_by_hand_the_last_night_that_is_over_is_meant(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    from nightdesk_airflow import night as module

    monkeypatch.setattr(module, "get_current_context", lambda: {"params": {"night": None}})
    assert module.settings_and_night()[1] == module.last_night(settings)


def test_the_zone_is_read_without_the_packages_settings(settings: Any) -> None:
    from nightdesk_airflow.zone import site_zone

    assert site_zone() == "Atlantic/Canary"


def test_a_missing_configuration_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from nightdesk_airflow.zone import site_zone

    monkeypatch.delenv("NIGHTDESK_CONFIG", raising=False)
    with pytest.raises(LookupError, match="NIGHTDESK_CONFIG"):
        site_zone()


def test_the_zone_by_default_is_that_of_the_settings() -> None:
    from nightdesk.settings import Site
    from nightdesk_airflow.zone import PT5M_ZONE

    assert Site().timezone == PT5M_ZONE


def test_the_observer_sees_what_lies_behind_a_link(tmp_path: Path) -> None:
    import threading

    from nightdesk_airflow.observer import FolderObserver

    (tmp_path / "nas").mkdir()
    (tmp_path / "raw").symlink_to("nas")
    seen, told = [], threading.Event()

    def concerns(path: str) -> bool:
        seen.append(path)
        return path.endswith(".fits")

    observer = FolderObserver("inotify", concerns, told.set)
    try:
        observer.cover([tmp_path / "raw", tmp_path / "missing"])
        (tmp_path / "nas" / "r1.fits").write_text("")
        assert told.wait(10)
        assert str(tmp_path / "raw" / "r1.fits") in seen
    finally:
        observer.close()


def test_airflow_loads_the_plugin_and_nothing_else_of_the_folder() -> None:
    script = (
        "from airflow import plugins_manager as manager; import sys;"
        "plugins, errors = manager._get_plugins();"
        "print([plugin.name for plugin in plugins], errors, [m for m in ('task', 'run', 'start') if m in sys.modules])"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "['nightdesk'] {} []"
    assert (CHECKOUT / "plugins" / ".airflowignore").is_file()


def test_a_link_leads_to_the_started_run() -> None:
    from nightdesk_airflow.start import StartedRunLink

    operator = SimpleNamespace(trigger_dag_id="reduce_group", trigger_run_id=GROUP.run_id)
    link = StartedRunLink().get_link(operator, ti_key=None)
    assert link.endswith(f"/dags/reduce_group/runs/{GROUP.run_id}")
