"""Show a night being reduced: a simulated camera writes, Airflow reduces.

``make demo`` runs it. Everything lies in ``.demo``, which is made anew each time. With ``DEMO_EXIT=1`` it
ends with the verdict as exit code; otherwise it stays up for you to look around, until Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import observatory

from nightdesk.group import Group
from nightdesk.io.layout import Layout
from nightdesk.manifest import read_manifest
from nightdesk.night import night_of
from nightdesk.settings import Settings, load_settings
from nightdesk.simulate import Simulation, expose_slowly, simulate

DEMO = observatory.CHECKOUT / ".demo"
CONFIGURATION = """\
# pt5m with a night in fast motion: exposures of a few seconds, and no long waits for more of them.
[data]
root = "data"

[site]
timezone = "Atlantic/Canary"

[align]
mode = "require"                     # so that one sees a group wait for positions; by default the stars tell them

[watch]
settle_seconds = 5
readout_seconds = 1
rescan_seconds = 5
"""
TARGETS = ("NGC5949", "M51")
# A group is ready 1.5 of its longest exposures after the last frame, so these are short for a real night.
EXPOSURES = {"R": 6.0, "H": 12.0}
SIZE = (512, 512)
FRAMES = 3
WRITE_SECONDS = 1.5
PATIENCE_SECONDS = 240
POLL_SECONDS = 1.0
MANY_LOGS = 3


class DemoError(Exception):
    """The demonstration failed; the message says where to look."""


class Clock:
    """Says what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line of progress."""
        print(f"[{time.monotonic() - self.started:4.0f} s] {line}", flush=True)


@dataclass(frozen=True)
class Airflow:
    """The REST API of the running observatory."""

    client: httpx.Client
    home: Path

    @classmethod
    def log_in(cls, running: observatory.Observatory) -> Airflow:
        """Return a client with the observatory's login."""
        user, password = observatory.login(running.home)
        # Not through a proxy that the environment may name: the server is on this computer.
        client = httpx.Client(base_url=running.url, timeout=30, trust_env=False)
        answer = client.post("/auth/token", json={"username": user, "password": password})
        answer.raise_for_status()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return cls(client, running.home)

    def get(self, path: str) -> dict[str, Any]:
        """Return the answer to a request; empty when there is no such thing yet."""
        answer = self.client.get(f"/api/v2/{path}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def state(self, group: Group) -> str:
        """Return the state of a group's run; ``none`` before there is one."""
        return str(self.get(_run_path(group)).get("state") or "none")

    def page(self, group: Group) -> str:
        """Return the address of a group's run in the web UI."""
        return f"{self.client.base_url}/dags/reduce_group/runs/{quote(group.run_id)}".replace("//dags", "/dags")

    def import_errors(self) -> list[str]:
        """Return why Dag files could not be read."""
        return [error["stack_trace"] for error in self.get("importErrors").get("import_errors", [])]

    def failed_logs(self, group: Group) -> list[Path]:
        """Return the logs of the first squares of a run that failed, or are tried again."""
        failed = f"{_run_path(group)}/taskInstances?state=failed&state=up_for_retry&order_by=start_date"
        return [self._log(instance) for instance in self.get(failed).get("task_instances", [])[:MANY_LOGS]]

    def _log(self, instance: dict[str, Any]) -> Path:
        folder = self.home / "logs" / f"dag_id={instance['dag_id']}" / f"run_id={instance['dag_run_id']}"
        folder /= f"task_id={instance['task_id']}"
        if instance["map_index"] >= 0:
            folder /= f"map_index={instance['map_index']}"
        return folder / f"attempt={instance['try_number']}.log"


def _run_path(group: Group) -> str:
    return f"dags/reduce_group/dagRuns/{quote(group.run_id)}"


@dataclass(frozen=True)
class Night:
    """The simulated night: what the camera will write, and the groups it makes."""

    settings: Settings
    simulation: Simulation
    groups: tuple[Group, ...]

    @property
    def late_frame(self) -> Group:
        """The group whose last frame lands after it was reduced."""
        return self.groups[0]

    @property
    def late_sidecar(self) -> Group:
        """The group whose positions come after its frames."""
        return self.groups[-1]

    def raws(self, group: Group) -> list[Path]:
        """Return the frames that the camera writes of a group, as the simulation has them."""
        frames = [frame.path for frame in self.simulation.group(group.target, group.filter_name)]
        return frames if group == self.late_frame else frames[:FRAMES]

    def sidecar(self, group: Group) -> Path:
        """Return a group's sidecar as the simulation has it."""
        return next(
            path
            for path in self.simulation.sidecars
            if {group.target, group.filter_name} <= set(path.relative_to(self.simulation.root).parts)
        )

    def place(self, source: Path) -> Path:
        """Return where a file of the simulation belongs in the observatory's data."""
        return self.settings.root / source.relative_to(self.simulation.root)

    def bring(self, source: Path) -> None:
        """Copy a file of the simulation to its place in one go."""
        place = self.place(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f".{place.name}.tmp")
        shutil.copyfile(source, draft)
        draft.replace(place)


def last_night(settings: Settings) -> date:
    """Return the night that ended last, or is about to: one that the watcher looks at."""
    return night_of(datetime.now(UTC) - timedelta(hours=12), settings.site.zone)


def prepare(folder: Path) -> Night:
    """Make the folder anew, with the configuration and everything the camera will write."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data" / "raw").mkdir(parents=True)
    configuration = folder / "observatory.toml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    os.environ["NIGHTDESK_DATA"] = str(folder / "data")
    settings = load_settings(configuration)
    night = last_night(settings)
    simulation = simulate(
        folder / "camera",
        targets=TARGETS,
        filters=tuple(EXPOSURES),
        nights=(night,),
        frames=FRAMES + 1,
        size=SIZE,
        exposure=EXPOSURES,
        zone=settings.site.timezone,
    )
    groups = tuple(
        Group.from_params(settings, target=target, filter_name=filter_name, night=night)
        for target in TARGETS
        for filter_name in EXPOSURES
    )
    return Night(settings, simulation, groups)


@dataclass(frozen=True)
class Demonstration:
    """One night before an audience."""

    night: Night
    airflow: Airflow
    clock: Clock

    def run(self) -> None:
        """Write the night as a camera does, and wait until every group is reduced."""
        self.observe()
        self.wait_for(self.night.late_frame, "reduced", FRAMES)
        self.clock.say(f"{self.night.late_frame.key}: reduced, and now one frame more lands")
        self.expose(self.night.raws(self.night.late_frame)[FRAMES:])
        self.wait_for(self.night.late_sidecar, "waiting for positions", None)
        sidecar = self.night.sidecar(self.night.late_sidecar)
        self.clock.say(f"{self.night.late_sidecar.key}: waits for positions, and now xy.csv arrives")
        self.night.bring(sidecar)
        for group in self.night.groups:
            self.wait_for(group, "reduced", len(self.night.raws(group)))
            self.clock.say(f"{group.key}: green, {len(self.night.raws(group))} frames")

    def observe(self) -> None:
        """Bring the masters and positions, then write frame after frame."""
        for master in self.night.simulation.masters:
            self.night.bring(master)
        for group in self.night.groups:
            if group != self.night.late_sidecar:
                self.night.bring(self.night.sidecar(group))
        for group in self.night.groups:
            self.clock.say(f"The camera observes {group.target} in {group.filter_name}: {FRAMES} frames")
            self.expose(self.night.raws(group)[:FRAMES])

    def expose(self, raws: list[Path]) -> None:
        """Write frames slowly, in place."""
        for raw in raws:
            expose_slowly(raw, self.night.place(raw), seconds=WRITE_SECONDS)

    def wait_for(self, group: Group, wanted: str, frames: int | None) -> None:
        """Block until the group's run is green and its manifest says what is `wanted` of that many frames."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            state = self.airflow.state(group)
            if state == "failed":
                raise DemoError(self.explain(group, "ended red"))
            if state == "success" and self.ended_as(group, frames):
                return
            if errors := self.airflow.import_errors():
                raise DemoError("Airflow cannot read the Dags:\n" + "\n".join(errors))
            time.sleep(POLL_SECONDS)
        raise DemoError(self.explain(group, f"was not {wanted} after {PATIENCE_SECONDS} s"))

    def ended_as(self, group: Group, frames: int | None) -> bool:
        """Tell whether the manifest says done with so many frames, or waiting where none are asked."""
        manifest = read_manifest(self.night.settings, group) or {}
        if frames is None:
            return manifest.get("state") == "waiting"
        used = [raw for raw in manifest.get("raws", ()) if raw["fate"] == "used"]
        return manifest.get("state") == "done" and len(used) == frames

    def explain(self, group: Group, what: str) -> str:
        """Say what is known of a group that did not become what it should."""
        manifest = read_manifest(self.night.settings, group) or {}
        logs = self.airflow.failed_logs(group) or [self.airflow.home / "components"]
        reason = manifest.get("reason") or "nothing is written yet"
        state = f"run {self.airflow.state(group)}, manifest {manifest.get('state', 'none')}: {reason}"
        return f"{group.key} {what} ({state}).\nRead " + "\n     ".join(str(log) for log in logs)

    def show(self) -> None:
        """Print for each group where its stack, picture and run are."""
        for group in self.night.groups:
            layout = Layout(self.night.settings, group)
            print(f"\n{group.key}")
            print(f"  stack    {_checked(layout.stack)}")
            print(f"  picture  {_checked(layout.picture)}")
            print(f"  run      {self.airflow.page(group)}")


def _checked(file: Path) -> Path:
    if not file.is_file():
        raise DemoError(f"The run is green but {file} is not there.")
    return file


def perform(night: Night, running: observatory.Observatory, clock: Clock) -> None:
    """Wait for the observatory, show the night in it, and say where everything is."""
    clock.say("Airflow starts: database, scheduler, Dag processor, API server, triggerer ...")
    running.wait_until_ready()
    user, password = observatory.login(running.home)
    clock.say(f"Airflow runs at {running.url}   login {user} / {password}")
    demonstration = Demonstration(night, Airflow.log_in(running), clock)
    demonstration.run()
    demonstration.show()
    print()
    clock.say(f"All {len(night.groups)} groups are reduced.")


def attempt(action: Callable[[], None], home: Path) -> bool:
    """Do it, and tell whether it went well; a failure is explained."""
    try:
        action()
    except (DemoError, observatory.ObservatoryError) as error:
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
    except httpx.HTTPError as error:
        log = observatory.component_log(home, "api-server")
        print(f"\nThe demonstration failed: Airflow's API: {error}; read {log}", file=sys.stderr)
    else:
        return True
    return False


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the demonstration; 0 if every run became green."""
    stays = os.environ.get("DEMO_EXIT", "") in ("", "0")
    signal.signal(signal.SIGTERM, _interrupt)
    home = DEMO / "airflow"
    if observatory.is_running(home):
        url = observatory.read_state(home).get("url")
        print(f"A demonstration already runs at {url}; end it with Ctrl-C in its terminal.", file=sys.stderr)
        return 1
    clock = Clock()
    clock.say(f"The demonstration's folder is {DEMO} (made anew)")
    night = prepare(DEMO)
    data, configuration = DEMO / "data", DEMO / "observatory.toml"
    port = int(os.environ.get("PORT") or observatory.DEFAULT_PORT)
    with observatory.start(home, data=data, config=configuration, port=port) as running:
        try:
            well = attempt(lambda: perform(night, running, clock), home)
            if stays:
                print("\nLook around; Ctrl-C ends it.", flush=True)
                running.process.wait()
        finally:
            print("Stopping Airflow ...", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
