"""The Dag files: what they hold, how they are wired, and what they cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import TriggerRule

from tests.dags.conftest import CHECKOUT, ENVIRONMENT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:airflow.*")

DAGS = {"watch_raws", "build_masters", "reduce_group", "reduce_night", "reduce_archive", "stack_nights"}
EACH_DAG = pytest.mark.parametrize("dag_id", sorted(DAGS))
HEAVY = {"astropy", "numpy", "pandas", "PIL", "scipy", "sep"}
LONGEST_PARSE_SECONDS = 0.2

PARSE = """
import ast, pathlib, runpy, sys, time
import airflow.sdk
names = {{alias.name for file in {files!r} for node in ast.walk(ast.parse(pathlib.Path(file).read_text()))
         if isinstance(node, ast.ImportFrom) and node.module == "airflow.sdk" for alias in node.names}}
for name in names:
    getattr(airflow.sdk, name)  # it loads its parts when they are first asked for
before = time.process_time()
for dag in {dags!r}:
    runpy.run_path(dag)
print(time.process_time() - before)
print(*{{name.partition(".")[0] for name in sys.modules}})
"""


def files_of(*folders: str) -> list[str]:
    return [str(path) for folder in folders for path in sorted((CHECKOUT / folder).rglob("*.py"))]


def parse_in_a_fresh_process(dags: list[str]) -> tuple[float, set[str]]:
    script = PARSE.format(files=files_of("dags", "plugins"), dags=dags)
    environment = ENVIRONMENT | {"PYTHONPATH": str(CHECKOUT / "plugins")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    seconds, modules = done.stdout.strip().splitlines()[-2:]
    return float(seconds), set(modules.split())


def test_there_are_five_dags(dags: dict[str, Any]) -> None:
    assert set(dags) == DAGS


@pytest.mark.parametrize("path", files_of("dags"), ids=lambda path: Path(path).stem)
def test_a_dag_file_parses_in_a_moment_and_loads_nothing_heavy(path: str) -> None:
    seconds, modules = min(parse_in_a_fresh_process([path]) for _ in range(2))
    assert seconds < LONGEST_PARSE_SECONDS
    assert not modules & HEAVY


@EACH_DAG
def test_a_dag_says_what_to_do_when_a_square_is_red(dags: dict[str, Any], dag_id: str) -> None:
    dag = dags[dag_id]
    assert dag.description
    assert "square is red" in dag.doc_md or "square is red**" in dag.doc_md
    for task in dag.tasks:
        text = task.doc_md or task.python_callable.__doc__
        assert "Red:" in text, task.task_id


@EACH_DAG
def test_a_dag_is_not_paused_and_is_tagged(dags: dict[str, Any], dag_id: str) -> None:
    assert dags[dag_id].is_paused_upon_creation is False
    assert "nightdesk" in dags[dag_id].tags
    assert dags[dag_id].catchup is False


@EACH_DAG
def test_passing_trouble_is_tried_again_with_growing_pauses(dags: dict[str, Any], dag_id: str) -> None:
    for task in dags[dag_id].tasks:
        if task.task_id != "verdict":
            assert task.retries >= 2, task.task_id
            assert task.retry_exponential_backoff > 1, task.task_id


@pytest.mark.parametrize("dag_id", ["reduce_group", "reduce_night"])
def test_the_verdict_always_runs_once_and_alone_colours_the_run(dags: dict[str, Any], dag_id: str) -> None:
    verdict = dags[dag_id].get_task("verdict")
    assert (verdict.trigger_rule, verdict.retries) == (TriggerRule.ALL_DONE, 0)
    assert [task.task_id for task in dags[dag_id].leaves] == ["verdict"]


def test_the_steps_of_a_group_follow_each_other(dags: dict[str, Any]) -> None:
    dag = dags["reduce_group"]
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "list_frames": ["align", "frame.extinction", "frame.isr"],
        "frame.isr": ["frame.extinction"],
        "frame.extinction": ["locate"],
        "locate": ["ask"],
        "ask": ["find_sidecar"],
        "find_sidecar": ["align"],
        "align": ["combine"],
        "combine": ["publish"],
        "publish": ["verdict"],
        "verdict": [],
    }


def test_collectors_run_whatever_became_of_single_frames(dags: dict[str, Any]) -> None:
    # One skipped frame turns ALL_DONE_MIN_ONE_SUCCESS skipped, and a run without a verdict green.
    dag = dags["reduce_group"]
    rules = {task.task_id: task.trigger_rule for task in dag.tasks}
    assert {name for name, rule in rules.items() if rule == TriggerRule.ALL_DONE} == {
        "frame.extinction",
        "locate",
        "ask",
        "find_sidecar",
        "combine",
        "verdict",
    }
    assert set(rules.values()) == {TriggerRule.ALL_DONE, TriggerRule.ALL_SUCCESS}


def test_a_frames_tasks_get_its_name_and_nothing_else(dags: dict[str, Any]) -> None:
    # An XCom outlives the clearing of its task, and would bring a lost frame back.
    dag = dags["reduce_group"]
    for task_id in ("frame.isr", "frame.extinction"):
        assert list(dag.get_task(task_id).op_kwargs) == ["names"]
    assert dag.get_task("align").op_kwargs_expand_input.value.keys() == {"names"}
    for task_id in ("combine", "verdict", "find_sidecar", "publish"):
        assert "names" not in dag.get_task(task_id).op_kwargs


@pytest.mark.parametrize("night", ["21 November", "2026-11-21\n2026", "2026/11/21"])
def test_a_night_is_checked_by_its_pattern(dags: dict[str, Any], night: str) -> None:
    import re

    assert not re.search(dags["reduce_group"].params.get_param("night").schema["pattern"], night)


def test_params_of_a_group(dags: dict[str, Any]) -> None:
    params = dags["reduce_group"].params
    assert set(params) == {"target", "filter_name", "night", "instrument"}
    assert all("pattern" in params.get_param(name).schema for name in params)
    assert dags["reduce_night"].params["night"] is None


def test_nights_are_those_of_the_site(dags: dict[str, Any]) -> None:
    timetable = dags["reduce_night"].timetable
    assert timetable.expression == "0 12 * * *"
    assert str(timetable.timezone) == "Australia/Sydney"


def test_archived_nights_wait_in_their_pool(dags: dict[str, Any]) -> None:
    assert dags["reduce_night"].get_task("reduce_archived").partial_kwargs["pool"] == "archive"
    assert dags["reduce_archive"].get_task("open_night").partial_kwargs["pool"] == "archive"


def test_what_waits_for_frames_is_ahead_of_all_work(dags: dict[str, Any]) -> None:
    weights = {task.task_id: task.priority_weight for task in dags["watch_raws"].tasks}
    assert min(weights.values()) > 1000
    assert dags["watch_raws"].max_active_runs == 1


def test_a_run_is_started_under_its_own_name_only(dags: dict[str, Any]) -> None:
    for dag_id, task_id in (("watch_raws", "start"), ("reduce_night", "reduce"), ("reduce_archive", "open_night")):
        assert dags[dag_id].get_task(task_id).map_index_template == "{{ task.trigger_run_id }}"
