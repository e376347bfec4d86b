"""tools/observatory.py: its settings, its secrets, and the real thing once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tools import observatory


@pytest.fixture
def settings(tmp_path):
    return observatory.environment(
        tmp_path / "home", port=8123, config=tmp_path / "observatory.toml", data=tmp_path / "data"
    )


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_the_environment_names_config_and_data(settings, tmp_path):
    assert settings["NIGHTDESK_CONFIG"] == str(tmp_path / "observatory.toml")
    assert settings["NIGHTDESK_DATA"] == str(tmp_path / "data")
    assert settings["AIRFLOW_HOME"] == str(tmp_path / "home")


def test_the_api_is_for_this_computer_alone(settings):
    assert settings["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert settings["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    assert settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"


def test_another_airflows_settings_do_not_leak_in(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "64")
    monkeypatch.setenv("AIRFLOW__CORE__HOSTNAME_CALLABLE", "somebody.elses")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    settings = observatory.environment(tmp_path, port=1, config=tmp_path, data=tmp_path)
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "4"
    assert "AIRFLOW__CORE__HOSTNAME_CALLABLE" not in settings
    assert "PYTHONDONTWRITEBYTECODE" not in settings
    assert settings["OMP_NUM_THREADS"] == "1"


def test_secrets_are_made_once_and_private(settings, tmp_path):
    home = tmp_path / "home"
    again = observatory.environment(home, port=9, config=tmp_path, data=tmp_path)
    for name in ("CORE__FERNET_KEY", "API__SECRET_KEY", "API_AUTH__JWT_SECRET"):
        assert len(settings[f"AIRFLOW__{name}"]) >= 32
        assert again[f"AIRFLOW__{name}"] == settings[f"AIRFLOW__{name}"]
    assert mode(home) == 0o700
    assert mode(home / observatory.SECRETS) == 0o600
    assert mode(home / observatory.PASSWORDS) == 0o600


def test_each_home_has_secrets_of_its_own(tmp_path):
    first, second = (observatory.environment(tmp_path / name, port=1, config=tmp_path, data=tmp_path) for name in "ab")
    assert first["AIRFLOW__API_AUTH__JWT_SECRET"] != second["AIRFLOW__API_AUTH__JWT_SECRET"]
    assert observatory.login(tmp_path / "a") != observatory.login(tmp_path / "b")


def test_the_login_is_the_one_that_airflow_reads(settings, tmp_path):
    user, password = observatory.login(tmp_path / "home")
    kept = json.loads(Path(settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).read_text())
    assert kept == {user: password}
    assert settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == f"{user}:admin"


def test_a_private_file_is_never_replaced(tmp_path):
    file = tmp_path / "secret"
    assert observatory.write_private(file, "first")
    assert not observatory.write_private(file, "second")
    assert file.read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_a_port_that_is_taken_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert observatory.free_port(port) > port


def test_no_free_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(observatory.ObservatoryError, match="choose another with PORT="):
            observatory.free_port(taken.getsockname()[1], tries=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--data", "nowhere"], "data folder .*nowhere is not there", id="no-data"),
        pytest.param(["--data", ".", "--config", "no.toml"], "configuration .*no.toml is not there", id="no-config"),
    ],
)
def test_a_wrong_folder_is_said_before_anything_is_made(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        observatory.main(arguments)
    assert not list(tmp_path.iterdir())


def test_the_datas_own_configuration_comes_first(tmp_path):
    assert observatory.configuration_for(tmp_path).parts[-2:] == ("include", "observatory.toml")
    (tmp_path / "observatory.toml").touch()
    assert observatory.configuration_for(tmp_path) == tmp_path / "observatory.toml"


def test_nothing_runs_in_a_new_home(tmp_path):
    assert not observatory.is_running(tmp_path)
    assert observatory.read_state(tmp_path) == {}


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One observatory without a single Dag."""
    folder = tmp_path_factory.mktemp("observatory")
    (folder / "dags").mkdir()
    (folder / "data").mkdir()
    (folder / "observatory.toml").touch()
    started = observatory.start(
        folder / "home",
        data=folder / "data",
        config=folder / "observatory.toml",
        port=18500,
        extra={"AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags")},
    )
    with started:
        started.wait_until_ready()
        yield started


@pytest.mark.airflow
class TestRunning:
    def test_nothing_listens_but_the_apis_on_this_computer(self, running):
        sockets = {
            (connection.laddr.ip, connection.laddr.port)
            for process in family(running.process.pid)
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert ("127.0.0.1", running.port) in sockets
        assert [address for address, _ in sockets] == ["127.0.0.1"] * 2, "people's, and that of the tasks"

    def test_all_components_are_healthy(self, running):
        health = httpx.get(f"{running.url}/api/v2/monitor/health", trust_env=False).json()
        assert {name: component["status"] for name, component in health.items()} == dict.fromkeys(
            ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
        )

    def test_only_the_login_lets_in(self, running):
        user, password = observatory.login(running.home)
        with httpx.Client(base_url=running.url, trust_env=False) as client:
            assert client.get("/api/v2/dags").status_code == httpx.codes.UNAUTHORIZED
            refused = client.post("/auth/token", json={"username": user, "password": "guess"})
            assert refused.status_code == httpx.codes.UNAUTHORIZED
            answer = client.post("/auth/token", json={"username": user, "password": password})
            token = answer.json()["access_token"]
            pools = client.get("/api/v2/pools/archive", headers={"Authorization": f"Bearer {token}"}).json()
        assert (pools["slots"], pools["include_deferred"]) == (2, True)

    def test_no_other_reads_what_it_keeps(self, running):
        assert mode(running.home) == 0o700
        assert mode(running.home / observatory.PASSWORDS) == 0o600
        _, password = observatory.login(running.home)
        logs = [*(running.home / "components").iterdir(), running.console]
        assert not [log for log in logs if password in log.read_text()]

    def test_a_second_one_in_the_same_home_is_refused(self, running):
        assert observatory.is_running(running.home)
        second = subprocess.run(
            [
                *(sys.executable, observatory.__file__, "--data", running.home.parent / "data"),
                *("--config", running.home.parent / "observatory.toml", "--home", running.home),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert f"already runs in {running.home}" in second.stdout

    def test_a_component_that_dies_is_started_again(self, running):
        dead = running.pid_of("triggerer")
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: running.pid_of("triggerer") != dead)
        assert f"triggerer ended with code -9; read {running.home}" in running.console.read_text()
        assert psutil.Process(running.pid_of("triggerer")).is_running()

    def test_the_next_one_ends_what_a_killed_one_left(self, running):
        """It ends the observatory of this module, and is the last but for its end."""
        left = family(running.process.pid)
        running.process.kill()
        running.process.wait()
        survivors = psutil.wait_procs(left, timeout=1)[1]
        assert survivors, "nothing is left that a next start could end"
        with observatory.start(
            running.home, data=running.home.parent / "data", config=running.home.parent / "observatory.toml", port=18500
        ) as second:
            second.wait_until_ready()
            assert not psutil.wait_procs(survivors, timeout=10)[1]
            processes = family(second.process.pid)
            second.stop()
            assert second.process.returncode == 0
        gone, alive = psutil.wait_procs(processes, timeout=10)
        assert not alive
        assert len(gone) > len(observatory.COMPONENTS)
