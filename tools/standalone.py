"""Airflow's own ``airflow standalone``, made fit to be left alone for a night.

Started by ``tools/observatory.py`` with all settings in the environment. What differs from Airflow's:
the log servers of scheduler and triggerer stay off (nothing listens but the API on 127.0.0.1), a component
that dies is started again, its output goes to a log file of limited size, and the pools exist. And tasks have an API
server to themselves: in the one of the web UI a request that holds sqlite's only lock, and waits for its turn to give
it up, can stand behind another that waits for this lock, until both give up after a minute.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
from airflow.cli.commands import standalone_command
from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
from airflow.jobs.job import most_recent_job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.jobs.triggerer_job_runner import TriggererJobRunner
from filelock import FileLock, Timeout
from observatory import CONSOLE, DATABASE, HOST, LOCK, STATE, component_log, read_state
from prepare import make_pools

if TYPE_CHECKING:
    from airflow.jobs.base_job_runner import BaseJobRunner

HOME = Path(os.environ["AIRFLOW_HOME"])
PORT = int(os.environ["AIRFLOW__API__PORT"])
TASK_PORT = urlsplit(os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]).port

GRACE_SECONDS = 15
LOG_BYTES = 10_000_000
LOG_BACKUPS = 3
LONGEST_PAUSE_SECONDS = 60


# Where people read: the terminal, when `observatory.py` set it apart from what Airflow prints, else stdout.
_CONSOLE = open(int(os.environ.pop(CONSOLE, 1)), "w", closefd=False)  # noqa: SIM115  # a descriptor


def say(line: str) -> None:
    """Print a line for people, at once."""
    print(line, file=_CONSOLE, flush=True)


class Component(standalone_command.SubCommand):
    """One of Airflow's processes: logged to a file, and started again when it dies."""

    def __init__(self, parent: Observatory, name: str, command: list[str], env: dict[str, str]) -> None:
        if name in ("scheduler", "triggerer"):
            command = [*command, "--skip-serve-logs"]
        if name == "api-server":
            command = [*command, "--apps", "core"]
        super().__init__(parent, name=name, command=command, env=env)
        self.daemon = True
        self.stopping = threading.Event()
        self.sessions: list[int] = []
        self.log = component_log(HOME, name)
        self.log.parent.mkdir(exist_ok=True)
        self._file = RotatingFileHandler(self.log, maxBytes=LOG_BYTES, backupCount=LOG_BACKUPS)

    def run(self) -> None:
        """Keep the process running until `stop`."""
        pause = 1.0
        while not self.stopping.is_set():
            started = time.monotonic()
            code = self._run_once()
            if self.stopping.is_set():
                return
            pause = 1.0 if time.monotonic() - started > LONGEST_PAUSE_SECONDS else pause
            say(f"{self.name} ended with code {code}; read {self.log}. It starts again in {pause:.0f} s.")
            self.stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _run_once(self) -> int:
        # A session of its own: Ctrl-C goes to the console alone, which ends the components in order.
        process = subprocess.Popen(
            ["airflow", *self.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.env,
            start_new_session=True,
        )
        self.process = process
        self.sessions.append(process.pid)
        self.parent.note()
        # Its children may outlive it with the pipe still open, so nobody waits for the pipe's end.
        threading.Thread(target=self._copy, args=(process.stdout,), daemon=True).start()
        return process.wait()

    def _copy(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip()
            self._file.handle(logging.makeLogRecord({"msg": text}))

    def stop(self) -> None:
        """Ask the process to end."""
        self.stopping.set()
        super().stop()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the process, then end what it may have left behind."""
        super().join(GRACE_SECONDS if timeout is None else timeout)
        end_sessions(self.sessions)
        super().join()


class Observatory(standalone_command.StandaloneCommand):
    """The components under one process, with a console for people."""

    subcommands: dict[str, Component]

    def __init__(self) -> None:
        super().__init__()
        self.ready_delay = 0
        self.started = datetime.now(UTC)

    def print_output(self, name: str, output: str) -> None:
        """Log what Airflow's command says of itself; what people need is said by `say`."""
        if output == "Shutting down components":
            say(f"Stopping        tasks that run now get {GRACE_SECONDS} s to end ...")
        print(f"{name}: {output}", flush=True)

    def find_user_info(self) -> None:
        """Do nothing: the login was made, and shown, before."""

    def initialize_database(self) -> None:
        """Migrate the database and make the pools that are missing; add the API of the tasks to what is started."""
        say("Starting        database, then the components of Airflow (half a minute) ...")
        super().initialize_database()
        with contextlib.closing(sqlite3.connect(HOME / DATABASE)) as database:
            database.execute("PRAGMA journal_mode=WAL")  # kept in the file: who reads no longer waits for who writes
        make_pools()
        command = ["api-server", "--apps", "execution", "--port", str(TASK_PORT)]
        self.subcommands["task-api"] = Component(self, name="task-api", command=command, env=self.calculate_env())

    def is_ready(self) -> bool:
        """Tell whether every component of this start has reported, and the API listens."""
        return all(map(self.port_open, (PORT, TASK_PORT))) and all(
            self._reported(runner) for runner in (SchedulerJobRunner, DagProcessorJobRunner, TriggererJobRunner)
        )

    def _reported(self, runner: type[BaseJobRunner]) -> bool:
        job = most_recent_job(runner.job_type)
        return job is not None and (job.start_date or self.started) >= self.started and job.is_alive()

    def print_ready(self) -> None:
        """Say where the observatory is to be seen."""
        self.note(ready=True)
        say(f"Ready           http://{HOST}:{PORT}   (Ctrl-C ends it; logs in {HOME / 'components'})")

    def note(self, *, ready: bool | None = None) -> None:
        """Write who runs and where, for `observatory.read_state`."""
        with _NOTING:
            state = read_state(HOME)
            pids = {
                name: component.process.pid
                for name, component in self.subcommands.items()
                if component.process is not None
            }
            state |= {
                "pid": os.getpid(),
                "url": f"http://{HOST}:{PORT}",
                "components": pids,
                "created": {name: _created(pid) for name, pid in pids.items()},
            }
            if ready is not None:
                state["ready"] = ready
            draft = HOME / f".{STATE}.{os.getpid()}"
            draft.write_text(json.dumps(state))
            draft.replace(HOME / STATE)


_NOTING = threading.Lock()


def end_sessions(sessions: list[int]) -> None:
    """Kill every process of these sessions: components, their workers, the workers' tasks."""
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) in sessions:
                process.kill()


def end_leftovers() -> None:
    """End components that outlived an observatory of this home which was killed: two schedulers would quarrel."""
    state = read_state(HOME)
    created = state.get("created", {})
    pids: dict[str, int] = state.get("components", {})
    end_sessions([pid for name, pid in pids.items() if created[name] and _created(pid) == created[name]])


def _created(pid: int) -> float | None:
    """Return when a process began: with its number, what tells it from every other."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run until Ctrl-C or a SIGTERM; one observatory per home."""
    lock = FileLock(HOME / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        state = read_state(HOME)
        say(
            f"An observatory already runs in {HOME} (process {state.get('pid')}, {state.get('url')}); "
            "stop it first, or choose another HOME_DIR=."
        )
        sys.exit(1)
    signal.signal(signal.SIGTERM, _interrupt)
    standalone_command.SubCommand = Component  # type: ignore[misc]  # the one hook that Airflow leaves
    end_leftovers()
    observatory = Observatory()
    observatory.note(ready=False)
    try:
        observatory.run()
    except KeyboardInterrupt:
        say("Ended before it had started.")
    except Exception as error:
        say(f"Failed          {error}; read {component_log(HOME, 'standalone')}")
        raise
    finally:
        observatory.note(ready=False)


if __name__ == "__main__":
    main()
