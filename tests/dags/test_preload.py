"""The scheduler imports the steps once for all its tasks; no other component does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.dags.conftest import CHECKOUT, ENVIRONMENT

SCRIPT = """
import sys
sys.argv = ["airflow", {component!r}]
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
print("nightdesk.steps.combine" in sys.modules, "astropy" in sys.modules, "numpy" in sys.modules)
"""


@pytest.mark.parametrize(
    ("component", "loaded"),
    [("scheduler", True), ("triggerer", False), ("dag-processor", False), ("api-server", False)],
)
def test_only_the_scheduler_loads_the_steps(component: str, loaded: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(component=component)],
        env=ENVIRONMENT | {"PYTHONPATH": str(CHECKOUT / "plugins")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == f"{loaded} {loaded} {loaded}"
