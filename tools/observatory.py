"""Run an observatory's night desk on this computer: Airflow on sqlite, reachable from this computer alone.

``python tools/observatory.py --data /data/pt5m`` is what ``make up`` calls. Tests and the demonstration
import `environment`, `start` and `login`. This module imports no Airflow: the settings must be in the
environment before Airflow is imported, so the components start in a process of their own
(``tools/standalone.py``).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from filelock import FileLock, Timeout

CHECKOUT = Path(__file__).resolve().parent.parent
STANDALONE = Path(__file__).resolve().with_name("standalone.py")
USER = "astro"
HOST = "127.0.0.1"
DATABASE = "airflow.db"
DEFAULT_PORT = 8080

SECRETS = "secrets.json"
PASSWORDS = "login.json"
STATE = "observatory.json"
LOCK = ".observatory.lock"
CONSOLE = "NIGHTDESK_CONSOLE"
COMPONENTS = ("scheduler", "dag-processor", "api-server", "task-api", "triggerer")


class ObservatoryError(Exception):
    """The observatory cannot start; the message says why and what to do."""


def environment(home: Path, *, port: int, config: Path, data: Path) -> dict[str, str]:
    """Build the whole environment of a component: this process's own, with Airflow's settings replaced.

    `home` keeps the database, logs, secrets and login; what is missing of the last two is made.
    """
    home = home.absolute()
    own = _secrets_of(home)
    login(home)
    url = f"http://{HOST}:{port}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    # Uncompiled, each task would spend seconds more on imports.
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "NIGHTDESK_CONFIG": str(config.absolute()),
        "NIGHTDESK_DATA": str(data.absolute()),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / PASSWORDS),
        "AIRFLOW__CORE__FERNET_KEY": own["fernet_key"],
        # Tasks have an API of their own: in one process with people's, each could wait for the other's lock on sqlite.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{free_port(port + 1)}/execution/",
        # A busy night keeps sqlite's one writer waiting for longer than its 5 s.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / DATABASE}?timeout=60",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__SECRET_KEY": own["secret_key"],
        "AIRFLOW__API_AUTH__JWT_SECRET": own["jwt_secret"],
        # The supervisor may miss its child's exit and then waits this long: 1 s instead of 5.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def login(home: Path) -> tuple[str, str]:
    """Return user and password of the web UI; make the password at the first call."""
    file = _private_home(home) / PASSWORDS
    passwords = _kept(file, lambda: {USER: secrets.token_urlsafe(12)})
    return USER, passwords[USER]


def free_port(wanted: int = DEFAULT_PORT, tries: int = 50) -> int:
    """Return `wanted`, or the next port above it that nothing listens on."""
    for port in range(wanted, wanted + tries):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ObservatoryError(f"Ports {wanted} to {wanted + tries - 1} are all taken; choose another with PORT=.")


def component_log(home: Path, name: str) -> Path:
    """Return the log file of one of `COMPONENTS`."""
    return home / "components" / f"{name}.log"


@dataclass
class Observatory:
    """A running observatory: the process above Airflow's components."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]
    console: Path
    _output: IO[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        """Address of web UI and REST API."""
        return f"http://{HOST}:{self.port}"

    def pid_of(self, component: str) -> int:
        """Return the process id of one of `COMPONENTS` as it runs now."""
        return int(read_state(self.home)["components"][component])

    def wait_until_ready(self, timeout: float = 180) -> None:
        """Block until every component has reported to the database and the API answers."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ObservatoryError(
                    f"The observatory ended with code {self.process.returncode} while starting; "
                    f"read {self.console} and the logs in {self.home / 'components'}."
                )
            state = read_state(self.home)
            if state.get("pid") == self.process.pid and state.get("ready"):
                return
            time.sleep(0.2)
        raise ObservatoryError(
            f"The observatory was not ready after {timeout:.0f} s; read {self.console} "
            f"and the logs in {self.home / 'components'}."
        )

    def stop(self, timeout: float = 60) -> None:
        """End all components and wait for them."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()


def start(
    home: Path,
    *,
    data: Path,
    config: Path,
    port: int = DEFAULT_PORT,
    extra: Mapping[str, str] | None = None,
) -> Observatory:
    """Start all components in the background, their console in ``home/console.log``.

    `port` is where the search for a free one begins; `extra` goes over the environment (a test's faults).
    Call `Observatory.wait_until_ready` next.
    """
    port = free_port(port)
    settings = environment(home, port=port, config=config, data=data) | dict(extra or {})
    console = home / "console.log"
    output = console.open("wb")
    # A session of its own: Ctrl-C reaches the caller alone, who then stops the components in order.
    process = subprocess.Popen(
        [sys.executable, str(STANDALONE)],
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return Observatory(home=home, port=port, process=process, console=console, _output=output)


def read_state(home: Path) -> dict[str, Any]:
    """Return what the running observatory says of itself: pid, url, ready, components; empty if nothing."""
    try:
        state: dict[str, Any] = json.loads((home / STATE).read_text())
    except FileNotFoundError:
        return {}
    return state


def is_running(home: Path) -> bool:
    """Tell whether an observatory runs in this home."""
    if not (home / LOCK).exists():
        return False
    try:
        with FileLock(home / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def write_private(file: Path, text: str) -> bool:
    """Write a new file that only its owner can read; False if it is there already."""
    draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    try:
        # A hard link appears complete or not at all, and never replaces what another process just made.
        os.link(draft, file)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _private_home(home: Path) -> Path:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def _kept(file: Path, make: Any) -> dict[str, str]:
    if not file.exists():
        write_private(file, json.dumps(make()) + "\n")
    kept: dict[str, str] = json.loads(file.read_text())
    return kept


def _secrets_of(home: Path) -> dict[str, str]:
    def make() -> dict[str, str]:
        return {
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "secret_key": secrets.token_hex(32),
            "jwt_secret": secrets.token_hex(32),
        }

    return _kept(_private_home(home) / SECRETS, make)


def configuration_for(data: Path) -> Path:
    """Return the data's own configuration, or the example (pt5m) where there is none."""
    own = data / "observatory.toml"
    return own if own.is_file() else CHECKOUT / "include" / "observatory.toml"


def _terminal_apart(home: Path) -> int:
    """Send what this process prints from now on to a log; return a descriptor of the terminal."""
    terminal = os.dup(1)
    os.set_inheritable(terminal, True)
    log = component_log(home, "standalone")
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    return terminal


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="observatory.py",
        description="Run the night desk for one data folder until Ctrl-C.",
    )
    parser.add_argument("--data", type=Path, required=True, help="the data root, which holds raw/ and calibs/")
    parser.add_argument(
        "--config",
        type=Path,
        help="the configuration; default DATA/observatory.toml, else the example's (pt5m)",
    )
    parser.add_argument(
        "--home", type=Path, help="database, logs and login; default DATA/.airflow (choose a local disk)"
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="first port to try (default 8080)")
    return parser.parse_args(arguments)


def _check(data: Path, config: Path) -> None:
    if not data.is_dir():
        raise ObservatoryError(f"The data folder {data} is not there; make it, or mend DATA=.")
    if not config.is_file():
        raise ObservatoryError(f"The configuration {config} is not there; mend CONFIG=.")


def main(arguments: list[str] | None = None) -> None:
    """Check the folders, say where everything is, and become the observatory."""
    chosen = _parse(arguments)
    data = chosen.data.expanduser().absolute()
    config = (chosen.config or configuration_for(data)).expanduser().absolute()
    try:
        _check(data, config)
        port = free_port(chosen.port)
    except ObservatoryError as error:
        sys.exit(str(error))
    home = (chosen.home or data / ".airflow").expanduser().absolute()
    first = not (home / PASSWORDS).exists()
    settings = environment(home, port=port, config=config, data=data)
    if port != chosen.port:
        print(f"Port {chosen.port} is taken; using {port}.")
    print(f"Data            {data}\nConfiguration   {config}\nAirflow's home  {home}")
    user, password = login(home)
    shown = f"{user} / {password}   (shown this once)" if first else f"{user}, password as before"
    print(f"Login           {shown}, kept in {home / PASSWORDS}", flush=True)
    settings[CONSOLE] = str(_terminal_apart(home))
    os.execve(sys.executable, [sys.executable, str(STANDALONE)], settings)


if __name__ == "__main__":
    main()
