"""docker-compose.yaml: right by the Compose Specification, and safe by what it says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tools import make_env, observatory

CHECKOUT = Path(__file__).resolve().parent.parent
SCHEMA = CHECKOUT / "tests" / "data" / "compose-spec" / "compose-spec.json"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")

# What differs because each component has a host, a database server and mounts of its own.
OF_ITS_OWN = {
    "AIRFLOW__API__BASE_URL",
    "AIRFLOW__API__HOST",
    "AIRFLOW__API__PORT",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__CORE__DAGS_FOLDER",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__CORE__PARALLELISM",
    "AIRFLOW__CORE__PLUGINS_FOLDER",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((CHECKOUT / "docker-compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))


def mounts(service):
    return {mount["target"]: mount for mount in service["volumes"]}


def test_it_follows_the_compose_specification(compose, validator):
    assert not list(validator.iter_errors(compose))


def test_the_schema_sees_a_mistake(compose, validator):
    broken = compose | {"services": compose["services"] | {"triggerer": {"imagee": "x"}}}
    assert list(validator.iter_errors(broken))


def _example():
    return make_env.fill((CHECKOUT / ".env.example").read_text(), user=1000)


def test_all_components_run(services):
    assert set(services) == {"postgres", "init", *COMPONENTS}
    for name in COMPONENTS:
        assert services[name]["command"][0] == name


def test_only_the_web_ui_is_published_and_only_to_this_host(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["api-server"]
    assert all(port.startswith("127.0.0.1:") for port in published["api-server"])
    assert not any("network_mode" in service for service in services.values())


@pytest.mark.parametrize("name", COMPONENTS)
def test_raw_frames_and_configuration_cannot_be_written(services, name):
    here = mounts(services[name])
    assert here["/data/raw"]["read_only"] is True
    assert here["/etc/nightdesk/observatory.toml"]["read_only"] is True
    assert "read_only" not in here["/data"]
    assert here["/data/raw"]["source"] == "${NIGHTDESK_RAW:-${NIGHTDESK_DATA}/raw}"


@pytest.mark.parametrize("name", [*COMPONENTS, "init"])
def test_files_belong_to_the_caller_and_group_0(services, name):
    assert services[name]["user"] == "${AIRFLOW_UID:-50000}:0"


def test_a_folder_that_is_not_there_is_an_error(services):
    binds = [mount for name in COMPONENTS for mount in services[name]["volumes"] if mount["type"] == "bind"]
    assert binds
    assert all(mount["bind"] == {"create_host_path": False} for mount in binds)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_waits_for_the_database_and_says_how_it_is(services, name):
    assert services[name]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert services[name]["depends_on"]["init"]["condition"] == "service_completed_successfully"
    assert services[name]["healthcheck"]["test"]
    assert services[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["scheduler", "triggerer"])
def test_no_log_server_listens(services, name):
    assert "--skip-serve-logs" in services[name]["command"]
    assert "/opt/airflow/logs" in mounts(services["api-server"])


def test_the_login_is_seen_by_the_web_ui_alone(services):
    assert {name for name in services if "/opt/airflow/login" in str(services[name]["volumes"])} == {
        "api-server",
        "init",
    }


def test_the_init_service_does_what_the_components_need(services):
    assert services["init"]["command"] == ["python", "/opt/nightdesk/tools/prepare.py"]
    assert (CHECKOUT / "tools" / "prepare.py").is_file()
    assert services["init"]["restart"] == "no"


def test_the_settings_are_those_of_make_up(services, tmp_path):
    here = observatory.environment(tmp_path, port=1, config=tmp_path / "x.toml", data=tmp_path)
    ours = {name: value for name, value in here.items() if name.startswith("AIRFLOW__")}
    theirs = services["scheduler"]["environment"]
    assert {name: theirs.get(name) for name in set(ours) - OF_ITS_OWN} == {
        name: value for name, value in ours.items() if name not in OF_ITS_OWN
    }
    assert all(services[name]["environment"] == theirs for name in COMPONENTS)
    assert theirs["NIGHTDESK_DATA"] == "/data"
    assert theirs["NIGHTDESK_CONFIG"] == "/etc/nightdesk/observatory.toml"


def test_no_secret_stands_in_the_repository(services):
    text = (CHECKOUT / "docker-compose.yaml").read_text()
    for name in make_env.SECRETS:
        assert f"${{{name}:?" in text, "a missing secret must be an error"
    example = (CHECKOUT / ".env.example").read_text()
    assert all(re.search(rf"^{name}=$", example, flags=re.MULTILINE) for name in make_env.SECRETS)
    assert ".env" in (CHECKOUT / ".gitignore").read_text().split()


def test_the_example_names_every_variable():
    text = (CHECKOUT / "docker-compose.yaml").read_text()
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    named = set(re.findall(r"^#?([A-Z_]+)=", (CHECKOUT / ".env.example").read_text(), flags=re.MULTILINE))
    assert used == named


def test_make_env_fills_in_every_secret():
    values = dict(line.split("=", 1) for line in _example().splitlines() if re.match(r"[A-Z_]+=", line))
    assert all(len(values[name]) >= 12 for name in make_env.SECRETS)
    assert values["AIRFLOW_UID"] == "1000"
    assert re.fullmatch(r"[0-9a-f]+", values["POSTGRES_PASSWORD"]), "it stands in a URL"
    assert make_env.fill("AIRFLOW_UID=50000", user=0) == "AIRFLOW_UID=50000\n"


def test_the_image_is_airflows_with_our_pins(services):
    text = (CHECKOUT / "Dockerfile").read_text()
    assert text.count("FROM ") == 1
    assert "\nFROM apache/airflow:3.3.2-python3.11\n" in text
    assert "tools/install.py requirements.txt" in text
    assert services["init"]["build"] == "."


def test_what_the_image_copies_reaches_the_docker_engine():
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", (CHECKOUT / "Dockerfile").read_text(), flags=re.MULTILINE)
    let_in = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for names in copied for name in names.split()} == let_in
    assert all((CHECKOUT / name).exists() for name in let_in)


def test_the_login_file_is_readable_by_its_owner_alone(tmp_path):
    """In a process of its own: `prepare` imports Airflow, which reads its settings once."""
    file = tmp_path / "login.json"
    settings = observatory.environment(tmp_path / "home", port=1, config=tmp_path / "x.toml", data=tmp_path)
    for password in ("first-password", "second-password"):
        code = f"import pathlib, prepare; prepare.set_login(pathlib.Path({str(file)!r}), {password!r})"
        subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT / "tools", env=settings, check=True)
        assert json.loads(file.read_text()) == {"astro": password}
        assert file.stat().st_mode & 0o777 == 0o600
