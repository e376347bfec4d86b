"""A running night desk as the tests see it: a disk to put frames on, and the REST API a person's browser uses."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import httpx

from nightdesk.group import Group
from nightdesk.io.layout import report_path
from nightdesk.settings import load_settings
from nightdesk.simulate import Simulation, simulate
from nightdesk.simulate.programme import HOME_ZONE
from tools import observatory

T = TypeVar("T")

PATIENCE_SECONDS = 600.0
POLL_SECONDS = 0.5
GROUP_DAG, NIGHT_DAG, WATCH_DAG = "reduce_group", "reduce_night", "watch_raws"


class Airflow:
    """The REST API, as a person uses it who is logged in."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._credentials = {"username": user, "password": password}
        self._client = httpx.Client(base_url=url, timeout=60)

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """Return the answer's JSON, None for a 404; log in when that is needed."""
        response = self._send(method, path, **kwargs)
        if response.status_code == 401:
            token = self._client.post("/auth/token", json=self._credentials).raise_for_status().json()
            self._client.headers["Authorization"] = f"Bearer {token['access_token']}"
            response = self._send(method, path, **kwargs)
        if response.status_code == 404:
            return None
        for _ in range(8):
            if response.status_code not in (500, 503):
                break
            time.sleep(3)  # "Database is locked": sqlite under load; a person tries again
            response = self._send(method, path, **kwargs)
        if response.is_error:
            raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json() if response.content else {}

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        for _ in range(5):
            try:
                return self._client.request(method, f"/api/v2{path}", **kwargs)
            except httpx.TransportError:
                time.sleep(1)  # a machine under load
        return self._client.request(method, f"/api/v2{path}", **kwargs)

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """Return a run, or None."""
        found: dict[str, Any] | None = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return found

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the newest runs of a Dag."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns", params={"limit": 100, "order_by": "-run_after"})
        return list(answer["dag_runs"])

    def tasks(self, dag_id: str, run_id: str) -> dict[tuple[str, int], dict[str, Any]]:
        """Return a run's task instances by (task id, map index)."""
        answer = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 1000})
        return {(ti["task_id"], ti["map_index"]): ti for ti in answer["task_instances"]} if answer else {}

    def assets(self) -> list[dict[str, Any]]:
        """Return all assets."""
        return list(self.call("GET", "/assets", params={"limit": 100, "only_active": False})["assets"])

    def asset_events(self, asset_id: int) -> list[dict[str, Any]]:
        """Return an asset's events, newest first."""
        params = {"asset_id": asset_id, "order_by": "-timestamp"}
        return list(self.call("GET", "/assets/events", params=params)["asset_events"])

    def trigger(self, dag_id: str, **conf: str) -> str:
        """Start a run as the button does; return its id."""
        answer = self.call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        return str(answer["dag_run_id"])

    def backfilling(self, dag_id: str) -> bool:
        """Tell whether a backfill is under way: there can be one at a time."""
        backfills = self.call("GET", "/backfills", params={"dag_id": dag_id, "limit": 100})["backfills"]
        return any(backfill["completed_at"] is None for backfill in backfills)

    def backfill(self, dag_id: str, begin: date, end: date) -> None:
        """Start a backfill as the dialog does, over nights that are complete too."""
        wanted = {
            "dag_id": dag_id,
            "from_date": f"{begin}T00:00:00Z",
            "to_date": f"{end}T00:00:00Z",
            "reprocess_behavior": "completed",
            "max_active_runs": 10,
        }
        self.call("POST", "/backfills", json=wanted)

    def clear(
        self, dag_id: str, run_id: str, task: str | None = None, map_index: int | None = None
    ) -> list[tuple[str, int]]:
        """Clear one square with its downstream, as the button does, or the whole run; return what was cleared."""
        if task is None:
            self.call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False})
            return []
        answer = self.call(
            "POST",
            f"/dags/{dag_id}/clearTaskInstances",
            json={
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": [task if map_index is None else [task, map_index]],
                "include_downstream": True,
                "only_failed": False,
                "reset_dag_runs": True,
            },
        )
        return [(ti["task_id"], ti["map_index"]) for ti in answer["task_instances"]]

    def log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, attempt: int | None = None) -> str:
        """Return the text of a task's log."""
        if attempt is None:
            attempt = self.tasks(dag_id, run_id)[task_id, map_index]["try_number"]
        answer = self.call(
            "GET",
            f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}",
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/json"},
        )
        return "\n".join(_told(line) for line in answer["content"])


def _told(line: Any) -> str:
    """Return what a line of a log says, with the errors but without their tracebacks."""
    if not isinstance(line, dict):
        return str(line)
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or []]
    return "\n".join([line["event"], *errors])


@dataclass
class Desk:
    """A data root, the sky above it, and the Airflow that watches it."""

    root: Path
    night: date
    archived: tuple[date, ...]
    airflow: Airflow
    observatory: observatory.Observatory
    config: Path
    settle_seconds: float
    nights_per_day: int
    zone: str = HOME_ZONE
    skies: tuple[Simulation, ...] = ()
    expected_starts: dict[str, int] = field(default_factory=dict)
    _slow_lock: threading.Lock = field(default_factory=threading.Lock)

    # The camera and the people

    def observe(self, name: str, **wanted: Any) -> Simulation:
        """Simulate nights whose frames are not on the disk yet."""
        sky = simulate(self.root.with_name(name), zone=self.zone, exposure=1.0, **wanted)
        self.skies += (sky,)
        return sky

    def group(self, target: str, night: date | None = None, filter_name: str = "R") -> Group:
        return Group(night or self.night, target, filter_name)

    def raws(self, target: str, night: date | None = None) -> list[Path]:
        """Return the simulated frames of a group, which are not on the disk yet."""
        return [frame.path for sky in self.skies for frame in sky.group(target, "R", night or self.night)]

    def place(self, source: Path) -> Path:
        """Return where a simulated file belongs on the disk."""
        sky = next(sky for sky in self.skies if sky.root in source.parents)
        return self.root / source.relative_to(sky.root)

    def drop(self, *sources: Path) -> list[Path]:
        """Copy frames to the disk as rsync does: complete, by a rename."""
        return [self._put(source, self.place(source)) for source in sources]

    def _put(self, source: Path, place: Path) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.tmp")
        shutil.copyfile(source, draft)
        return draft.replace(place)

    def point(self, target: str, night: date | None = None) -> Path:
        """Write a group's sidecar."""
        relative = Path("xys", target, "R", (night or self.night).isoformat(), "xy.csv")
        return self.drop(next(sky.root / relative for sky in self.skies if (sky.root / relative).exists()))[0]

    def dawdle(self, name: str, seconds: float) -> None:
        """Let the ISR of a frame take so much longer from now on."""
        with self._slow_lock:
            slow = self.root.with_name("slow.json")
            known = json.loads(slow.read_text()) if slow.exists() else {}
            draft = slow.with_suffix(".tmp")
            draft.write_text(json.dumps(known | {name: seconds}))
            draft.replace(slow)

    # What became of it

    def folder(self, group: Group, name: str) -> Path:
        return self.root / "processed" / group.target / group.filter_name / group.night.isoformat() / name

    def products(self, group: Group, folder: str) -> dict[str, int]:
        """Return the inode of each product: a file that was written anew has another one."""
        return {path.stem: path.stat().st_ino for path in sorted(self.folder(group, folder).glob("*.fits"))}

    def everything(self, group: Group) -> dict[str, int]:
        """Return the inode of each file that a group's reduction wrote."""
        place = self.folder(group, ".")
        return {str(path.relative_to(place)): path.stat().st_ino for path in place.rglob("*") if path.is_file()}

    def report(self, night: date) -> dict[str, Any]:
        """Return a night's report."""
        report: dict[str, Any] = json.loads(report_path(load_settings(self.config), night).read_text())
        return report

    def manifest(self, group: Group) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder(group, "combined") / "manifest.json").read_text())
        return manifest

    def stacked(self, group: Group) -> list[str]:
        """Return the names of the frames in a group's stack, by the stack's own account."""
        from astropy.io import fits

        with fits.open(self.folder(group, "combined") / "combined.fits") as hdus:
            rows = hdus["PROVENANCE"].data
            return sorted(Path(row["FILE"]).stem for row in rows if row["ROLE"].strip() == "science")

    def starts(self, group: Group) -> int:
        """Return how often the group's run has begun."""
        return self.starts_of(group.run_id)

    def starts_of(self, run_id: str) -> int:
        tasks = self.airflow.tasks(GROUP_DAG, run_id)
        return int(tasks["list_frames", -1]["try_number"]) if tasks else 0

    def tries(self, group: Group, task: str, name: str) -> int:
        """Return how often the square of that name has begun."""
        tasks = self.airflow.tasks(GROUP_DAG, group.run_id)
        return int(tasks[task, self.map_index(group, task, name)]["try_number"])

    def wait(self, what: str, look: Callable[[], T | None], seconds: float = PATIENCE_SECONDS) -> T:
        """Ask again and again until there is an answer; say what was awaited when there is none."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.observatory.process.poll() is not None:
                raise AssertionError(f"The observatory has ended; {what} cannot come.\n{self.logs()}")
            if found := look():
                return found
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"In {seconds:.0f} s there was no {what}.\n{self.logs()}")

    def wait_for_run(self, group: Group, *, starts: int = 1, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until the group's run has begun so many times and is over; return it."""

        def over() -> dict[str, Any] | None:
            run = self.airflow.run(GROUP_DAG, group.run_id)
            if run is None or run["state"] not in ("success", "failed") or self.starts(group) < starts:
                return None
            return run

        run = self.wait(f"end of start {starts} of {group.run_id}", over, seconds)
        self.expected_starts[group.run_id] = starts
        return run

    def wait_for_state(self, group: Group, task: str, state: str, map_index: int = -1) -> None:
        """Wait until a task of the group's run is in a state."""

        def there() -> bool:
            tasks = self.airflow.tasks(GROUP_DAG, group.run_id)
            return bool(tasks) and tasks.get((task, map_index), {}).get("state") == state

        self.wait(f"{state} {task} of {group.run_id}", there)

    def wait_for_end(self, dag_id: str, run_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a run is over; return it."""

        def over() -> dict[str, Any] | None:
            run = self.airflow.run(dag_id, run_id)
            return run if run and run["state"] in ("success", "failed") else None

        return self.wait(f"end of {run_id} of {dag_id}", over, seconds)

    def wait_for_backfill(
        self, nights: int, *, after: str = "", seconds: float = PATIENCE_SECONDS
    ) -> list[dict[str, Any]]:
        """Wait until so many backfilled nights are over, all later than `after`; return their runs."""

        def over() -> list[dict[str, Any]]:
            runs = [run for run in self.airflow.runs(NIGHT_DAG) if run["run_type"] == "backfill"]
            ended = [run for run in runs if run["state"] in ("success", "failed") and run["end_date"] > after]
            return ended if len(ended) == nights and not self.airflow.backfilling(NIGHT_DAG) else []

        return self.wait(f"backfill of {nights} nights", over, seconds)

    def states(self, group: Group, task: str) -> dict[str, str]:
        """Return the states of a task's squares by what they are called."""
        return self.states_of(GROUP_DAG, group.run_id, task)

    def states_of(self, dag_id: str, run_id: str, task: str) -> dict[str, str]:
        """Return the states of a task's squares, in any run, by what they are called."""
        return {
            str(ti["rendered_map_index"] or ti["map_index"]): ti["state"]
            for (task_id, _), ti in self.airflow.tasks(dag_id, run_id).items()
            if task_id == task and ti["state"] != "removed"
        }

    def map_index(self, group: Group, task: str, name: str) -> int:
        """Return the map index of the square of that name."""
        return self.index_of(GROUP_DAG, group.run_id, name, task)

    def index_of(self, dag_id: str, run_id: str, name: str, task: str | None = None) -> int:
        """Return the map index of the square of that name, in any run."""
        return next(
            index
            for (task_id, index), ti in self.airflow.tasks(dag_id, run_id).items()
            if task in (None, task_id) and ti["rendered_map_index"] == name
        )

    def red(self, group: Group) -> dict[str, str]:
        """Return the last lines of the logs of a run's red squares."""
        return {
            f"{task_id} {ti['rendered_map_index'] or ''}".strip(): self.airflow.log(
                GROUP_DAG, group.run_id, task_id, index
            )
            for (task_id, index), ti in self.airflow.tasks(GROUP_DAG, group.run_id).items()
            if ti["state"] == "failed"
        }

    def assert_green(self, group: Group, run: dict[str, Any]) -> None:
        """Fail with the red squares' logs when the run is not green."""
        assert run["state"] == "success", self.red(group)

    def command(self, *words: str) -> None:
        """Run Airflow's command line, as a person on this computer does."""
        environment = observatory.environment(
            self.observatory.home, port=self.observatory.port, config=self.config, data=self.root
        )
        for _ in range(6):
            done = subprocess.run(["airflow", *words], env=environment, capture_output=True, text=True)
            # In a busy minute sqlite refuses who has read before he writes, at once; nothing is left of the attempt.
            if done.returncode == 0 or "database is locked" not in done.stderr:
                break
        assert done.returncode == 0, f"airflow {' '.join(words)}: {done.stdout[-2000:]} {done.stderr[-2000:]}"

    def logs(self, lines: int = 25) -> str:
        """Return the ends of the components' logs and of the newest task log."""
        files = sorted((self.observatory.home / "components").glob("*.log"))
        newest = sorted((self.observatory.home / "logs").rglob("attempt=*.log"), key=lambda path: path.stat().st_mtime)[
            -2:
        ]
        return "\n".join(
            f"--- the end of {path}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
            for path in [*files, *newest]
        )

    @contextmanager
    def untouched(self, group: Group, *folders: str) -> Iterator[None]:
        """Check that no product that was there is written anew."""
        before = {folder: self.products(group, folder) for folder in folders}
        yield
        for folder, products in before.items():
            after = self.products(group, folder)
            assert {name: after.get(name) for name in products} == products, f"{folder} was written anew"
