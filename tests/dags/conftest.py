"""Airflow in this process, with a home and a database of its own, for tests of Dag files and plugins."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tools import observatory

CHECKOUT = Path(__file__).resolve().parents[2]
PLACE = Path(tempfile.mkdtemp(prefix="nightdesk-dags-"))
atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
CONFIG = PLACE / "observatory.toml"
CONFIG.write_text('[site]\ntimezone = "Australia/Sydney"\n', encoding="utf-8")
ENVIRONMENT = observatory.environment(PLACE / "home", port=28079, config=CONFIG, data=PLACE / "data")

# Airflow reads its settings when it is first imported, so they must stand before any test module is.
os.environ.update({name: value for name, value in ENVIRONMENT.items() if name.startswith("AIRFLOW")})
sys.path.insert(0, str(CHECKOUT / "plugins"))


@pytest.fixture(scope="session")
def database() -> None:
    """Make the database that `dag.test` writes to."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=ENVIRONMENT, check=True, capture_output=True)


@pytest.fixture(scope="session")
def dags() -> dict[str, Any]:
    """Return all Dags, as the Dag processor reads them."""
    from airflow.dag_processing.dagbag import DagBag

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTDESK_CONFIG", str(CONFIG))
        bag = DagBag(CHECKOUT / "dags")
    assert bag.import_errors == {}
    return dict(bag.dags)
