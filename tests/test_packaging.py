"""The repository as a package: pins, floors, one version of everything."""

import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PINS = ("requirements.txt", "requirements-dev.txt", "tools/requirements-uv.txt")


def run(*command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=CHECKOUT, input=stdin, capture_output=True, text=True, check=False
    )


def project() -> dict[str, object]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def names_of(file: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", (CHECKOUT / file).read_text(), flags=re.MULTILINE)
    return dict(found)


def violations(path: str, code: str) -> set[str]:
    """Return the rules that `code` breaks if it stood at `path`."""
    checked = run("ruff", "check", "--output-format", "json", "--stdin-filename", path, "-", stdin=code)
    assert checked.returncode in (0, 1), checked.stderr
    return {problem["code"] for problem in json.loads(checked.stdout)}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("science/x.py", "from nightdesk.io import frame", id="science-io"),
        pytest.param("science/x.py", "from nightdesk import io", id="science-io-by-its-parent"),
        pytest.param("science/x.py", "import nightdesk.steps.isr", id="science-steps"),
        pytest.param("science/x.py", "from astropy.io import fits", id="science-FITS"),
        pytest.param("science/x.py", "import logging", id="science-logging"),
        pytest.param("science/x.py", "import airflow", id="science-airflow"),
        pytest.param("io/x.py", "from nightdesk.steps import isr", id="io-steps"),
        pytest.param("io/x.py", "from airflow.sdk import dag", id="io-airflow"),
        pytest.param("steps/x.py", "from airflow.sdk import dag", id="steps-airflow"),
        pytest.param("steps/x.py", "def run():\n    import airflow", id="steps-airflow-inside-a-function"),
        pytest.param("settings.py", "import airflow", id="package-airflow"),
        pytest.param("settings.py", "from nightdesk_airflow import sensor", id="package-plugins"),
    ],
)
def test_no_floor_imports_what_is_above(path, code):
    assert "TID251" in violations(f"include/nightdesk/{path}", code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("steps/x.py", "from nightdesk.io import frame", id="steps-io"),
        pytest.param("steps/x.py", "from nightdesk.science import isr", id="steps-science"),
        pytest.param("io/x.py", "from astropy.io import fits", id="io-FITS"),
        pytest.param("science/x.py", "import numpy as np", id="science-numpy"),
    ],
)
def test_imports_go_down(path, code):
    assert "TID251" not in violations(f"include/nightdesk/{path}", code)


@pytest.mark.parametrize("module", ["astropy.io.fits", "numpy", "pandas", "nightdesk.steps.isr", "scipy", "sep"])
def test_a_dag_file_imports_nothing_heavy_at_its_top(module):
    assert "TID253" in violations("dags/x.py", f"import {module}\n")
    assert "TID253" not in violations("dags/x.py", f"def f():\n    import {module}\n")


@pytest.mark.parametrize("module", ["astropy.io.fits", "numpy", "pandas"])
def test_a_plugin_imports_nothing_heavy_at_its_top(module):
    assert "TID253" in violations("plugins/nightdesk_airflow/x.py", f"import {module}\n")


@pytest.mark.parametrize("floor", ["science", "steps"])
def test_public_functions_of_science_and_steps_have_docstrings(floor):
    assert "D103" in violations(f"include/nightdesk/{floor}/x.py", "def run():\n    return 1\n")


def test_the_repository_keeps_its_rules():
    checked = run("ruff", "check", "--output-format", "concise", ".")
    assert checked.returncode == 0, checked.stdout


def test_what_is_installed_fits_together():
    checked = run("pip", "check")
    assert checked.returncode == 0, checked.stdout


def test_what_is_installed_is_what_is_pinned():
    """A test that passes with other versions says nothing of ours."""
    listed = json.loads(run("pip", "list", "--format", "json", "--disable-pip-version-check").stdout)
    installed = {re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"] for package in listed}
    pinned = names_of("requirements-dev.txt")
    others = {name: version for name, version in pinned.items() if name in installed and installed[name] != version}
    assert not others, "not as pinned; run `make setup-dev`"
    assert set(names_of("requirements.txt")) <= set(pinned)


@pytest.mark.parametrize("file", PINS)
def test_every_requirement_is_pinned_with_hashes(file):
    lines = (CHECKOUT / file).read_text().replace("\\\n", " ").splitlines()
    requirements = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9_.\[\]-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


@pytest.mark.parametrize("file", PINS)
def test_pins_name_no_registry(file):
    text = (CHECKOUT / file).read_text()
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text


def test_both_files_pin_the_same_versions():
    pinned, with_tools = names_of("requirements.txt"), names_of("requirements-dev.txt")
    assert {name: with_tools.get(name) for name in pinned} == pinned


def test_every_dependency_is_pinned():
    dependencies = project()["dependencies"] + project()["optional-dependencies"]["cosmic-rays"]
    names = {re.split(r"[<>=]", requirement)[0] for requirement in dependencies}
    assert names <= set(names_of("requirements.txt"))


def test_airflow_is_pinned_where_it_is_depended_on():
    assert "apache-airflow==3.3.2" in project()["dependencies"]
    assert names_of("requirements.txt")["apache-airflow"] == "3.3.2"


def test_every_dependency_has_a_reason():
    lines = (CHECKOUT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]")[0].splitlines()
    for before, line in itertools.pairwise(lines):
        if line.strip().startswith('"'):
            assert "# " in line or before.strip().startswith("#") or '"apache-airflow==' in before, line


def test_the_command_is_installed():
    shown = subprocess.run(
        [Path(sys.executable).with_name("nightdesk"), "--help"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "reduce" in shown.stdout


def test_make_finds_a_python_or_says_what_is_missing(tmp_path):
    """A folder of commands in which no Python is new enough."""
    for name in ("python3", "python3.13"):
        (tmp_path / name).write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    made = subprocess.run(
        ["/bin/sh", str(CHECKOUT / "tools" / "make_venv.sh"), str(tmp_path / "venv")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13; here is Python 3.9.2" in made.stderr
    assert not (tmp_path / "venv").exists()


def test_make_alone_lists_what_can_be_done():
    shown = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "up", "test", "test-all", "all"):
        assert re.search(rf"make {target} ", shown)


def test_make_up_asks_for_the_data():
    asked = subprocess.run(
        ["make", "--old-file", ".venv/.installed", "up"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert asked.returncode != 0
    assert "make up DATA=" in asked.stdout
