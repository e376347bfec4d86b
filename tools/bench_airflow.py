"""Measure what Airflow costs: groups of 3, 30 and 300 frames through a real scheduler, and by the command line.

``make bench-airflow`` writes docs/benchmarks-airflow.md. The nights lie in the past, so that no watcher starts them;
each group is triggered by itself, as the button does, and the configuration says how many frames a task takes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import bench
import observatory
from demo import Airflow

from nightdesk.group import Group
from nightdesk.simulate import simulate

TARGET, FILTER = "NGC5949", "R"
SIZE = (1092, 736)
FIRST_NIGHT = date(2026, 3, 1)
PATIENCE_SECONDS = 1800
POLL_SECONDS = 0.5
DEFAULT_WAYS = ("3 1 all", "3 all stack", "30 1 all", "30 all stack", "300 auto all", "300 all stack")


@dataclass(frozen=True)
class Way:
    """A group to be reduced: how many frames, how many of them a task takes, and what is kept."""

    frames: int
    batch: str
    keep: str

    @classmethod
    def parse(cls, text: str) -> Way:
        """Read ``30 auto all``."""
        frames, batch, keep = text.split()
        return cls(int(frames), batch, keep)

    @property
    def configuration(self) -> str:
        """The settings that make it so."""
        size = self.batch if self.batch.isdigit() else f'"{self.batch}"'
        return f'[products]\nkeep = "{self.keep}"\n\n[batch]\nframes_per_task = {size}\n'

    def __str__(self) -> str:
        """Say it in words."""
        a_task = {"1": "1 frame a task", "auto": "batches by auto", "all": "one batch"}.get(
            self.batch, f"{self.batch} frames a task"
        )
        return f"{self.frames} frames, {a_task}, {'every product' if self.keep == 'all' else 'the stack alone'} kept"


@dataclass(frozen=True)
class Figures:
    """What one run cost, in seconds."""

    seconds: float
    tasks: int
    at_work: float
    by_step: dict[str, float]
    command: float


def make_nights(data: Path, ways: list[Way]) -> dict[Way, Group]:
    """Simulate one night for each way."""
    groups = {}
    for number, way in enumerate(ways):
        night = FIRST_NIGHT + timedelta(days=number)
        print(f"Simulating {way.frames} frames of {SIZE[0]}x{SIZE[1]} ...", flush=True)
        simulate(
            data,
            targets=(TARGET,),
            filters=(FILTER,),
            nights=(night,),
            frames=way.frames,
            size=SIZE,
            exposure=5.0,
            first_number=1000 * number + 1,
        )
        groups[way] = Group(night, TARGET, FILTER)
    return groups


def moment(text: str) -> float:
    """Return a time of the REST API in seconds."""
    return datetime.fromisoformat(text).timestamp()


def through_airflow(airflow: Airflow, group: Group) -> Figures:
    """Trigger a group's run, wait until it is green, and account for its time."""
    asked = {"dag_run_id": group.run_id, "logical_date": None, "conf": group.params}
    airflow.client.post("/api/v2/dags/reduce_group/dagRuns", json=asked).raise_for_status()
    begun, deadline = time.time(), time.monotonic() + PATIENCE_SECONDS
    while (state := airflow.state(group)) not in ("success", "failed"):
        if time.monotonic() > deadline:
            sys.exit(f"{group.run_id} is not over after {PATIENCE_SECONDS} s.")
        time.sleep(POLL_SECONDS)
    if state == "failed":
        sys.exit(f"{group.run_id} failed; read {airflow.failed_logs(group)}")
    tasks = all_tasks(airflow, group)
    by_step: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        by_step[task["task_id"]].append(task["duration"] or 0.0)
    end = max(moment(task["end_date"]) for task in tasks)
    return Figures(
        seconds=end - begun,
        tasks=len(tasks),
        at_work=sum(map(sum, by_step.values())),
        by_step={step: statistics.median(times) for step, times in by_step.items()},
        command=0.0,
    )


def all_tasks(airflow: Airflow, group: Group) -> list[dict[str, Any]]:
    """Return the task instances that ran, page by page."""
    tasks: list[dict[str, Any]] = []
    while True:
        path = f"dags/reduce_group/dagRuns/{group.run_id}/taskInstances?limit=100&offset={len(tasks)}"
        page = airflow.get(path)["task_instances"]
        tasks += page
        if len(page) < 100:
            return [task for task in tasks if task["start_date"]]


def by_command(data: Path, config: Path, group: Group) -> float:
    """Reduce the same group anew by the command line; return the seconds."""
    shutil.rmtree(data / "processed" / group.target)
    command = [
        *(Path(sys.executable).with_name("nightdesk"), "reduce", data, "--target", group.target),
        *("--filter", group.filter_name, "--night", group.night.isoformat(), "--config", config),
    ]
    begun = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return time.perf_counter() - begun


def row(way: Way, runs: list[Figures]) -> str:
    """Return a line of the table: medians, with least and most."""
    middle = runs[0]
    seconds, command = bench.spread([run.seconds for run in runs]), bench.spread([run.command for run in runs])
    over = bench.spread([run.seconds / run.command for run in runs])
    rate = statistics.median(run.tasks / run.seconds for run in runs)
    at_work = statistics.median(run.at_work for run in runs)
    return f"| {way} | {seconds} | {middle.tasks} | {rate:.1f} | {at_work:.1f} | {command} | {over} |"


def steps_table(figures: dict[Way, list[Figures]]) -> list[str]:
    """Return where the time of a task goes, step by step."""
    steps = list(next(iter(figures.values()))[0].by_step)
    lines = ["| | " + " | ".join(f"`{step}`" for step in steps) + " |", "|---" * (len(steps) + 1) + "|"]
    for way, runs in figures.items():
        times = [statistics.median(run.by_step.get(step, 0.0) for run in runs) for step in steps]
        lines.append(f"| {way} | " + " | ".join(f"{seconds:.2f}" for seconds in times) + " |")
    return lines


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", default=DEFAULT_WAYS, help='such as "30 auto all": frames, batch, keep')
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path, default=bench.CHECKOUT / "docs" / "benchmarks-airflow.md")
    options = parser.parse_args()
    ways = [Way.parse(text) for text in options.ways]
    figures: dict[Way, list[Figures]] = {way: [] for way in ways}
    for turn in range(options.turns):
        with tempfile.TemporaryDirectory() as scratch:
            measure(Path(scratch), ways, figures)
        print(f"turn {turn + 1} of {options.turns} is over", flush=True)
    lines = [
        *(HEAD.strip(), "", *bench.machine(), ""),
        "| group | s | tasks | tasks/s | tasks at work, s | the command line, s | Airflow over it |",
        "|---|---|---|---|---|---|---|",
        *(row(way, runs) for way, runs in figures.items()),
        *("", "Seconds of one task of each step (medians), with the start of its process:", ""),
        *steps_table(figures),
    ]
    options.out.write_text("\n".join([*lines, ""]))


def measure(scratch: Path, ways: list[Way], figures: dict[Way, list[Figures]]) -> None:
    """Run every way once, each first through Airflow and then by the command line."""
    data, config = scratch / "data", scratch / "observatory.toml"
    data.mkdir()
    groups = make_nights(data, ways)
    config.write_text("")
    with observatory.start(scratch / "airflow", data=data, config=config) as running:
        running.wait_until_ready()
        airflow = Airflow.log_in(running)
        for way, group in groups.items():
            config.write_text(way.configuration)
            told = through_airflow(airflow, group)
            command = by_command(data, config, group)
            figures[way].append(Figures(told.seconds, told.tasks, told.at_work, told.by_step, command))
            print(f"{way}: {told.seconds:.1f} s, {told.tasks} tasks; by the command line {command:.1f} s", flush=True)


HEAD = """
# What Airflow costs

Written by `make bench-airflow` (tools/bench_airflow.py). Frames of 1092 x 736 with a sidecar, the standard profile, the
settings of `make up`: sqlite, LocalExecutor, 4 tasks at a time. Seconds from the trigger to the end of the last task;
"at work" is the sum over all tasks from the start of a task's process to its end, several at a time. The command line
reduces the same group in one process. Medians, with least and most in brackets.
"""


if __name__ == "__main__":
    main()
