"""One real Airflow for all tests here: scheduler, triggerer, Dag processor and API server on sqlite."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from nightdesk.night import night_of
from nightdesk.settings import load_settings
from tests.airflow.desk import Airflow, Desk
from tools import observatory

FIRST_PORT = 28080
HERE = Path(__file__).parent

LIVE_TARGETS = ("M1", "M2", "M3", "M5", "M13", "M15", "M31", "M33", "M42", "M57", "M81", "M108", "M109")
ARCHIVE_TARGET = "M101"
FRAMES = 6
SIZE = (96, 96)

CONFIGURATION = """
[site]
timezone = "{zone}"

[align]
mode = "require"

[watch]
settle_seconds = 3
readout_seconds = 1
stalled_seconds = 12
rescan_seconds = 5

[archive]
from = {oldest}
nights_per_day = 2
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.airflow)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write a line of the terminal's, for figures that are worth to be seen when all is green."""
    reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"\n{line}")

    return write


def evening_zone() -> str:
    """Return a zone where it is evening: noon, when a night ends and `reduce_night` starts, is far from these tests.

    And where a night has the date of its noon in UTC, by which a backfill counts: less than twelve hours from there.
    """
    ahead = 18 - datetime.now(UTC).hour
    ahead = min(ahead if ahead <= 12 else ahead - 24, 11)
    return f"Etc/GMT{-ahead:+d}"  # whose signs are those of POSIX


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observatory")


@pytest.fixture(scope="session")
def desk(place: Path) -> Iterator[Desk]:
    """The running desk, with masters and nothing else on its disk; its logs are printed if it does not come up."""
    home, root, config = place / "home", place / "data", place / "observatory.toml"
    zone = evening_zone()
    night = night_of(datetime.now(UTC), ZoneInfo(zone))
    config.write_text(CONFIGURATION.format(zone=zone, oldest=night - timedelta(days=40)))
    archive = tuple(night - timedelta(days=age) for age in (15, 14, 13, 12, 11))
    root.mkdir()
    (home / "config").mkdir(parents=True)
    shutil.copy(HERE / "airflow_local_settings.py", home / "config")
    with observatory.start(home, data=root, config=config, port=FIRST_PORT) as running:
        airflow = Airflow(running.url, *observatory.login(home))
        settings = load_settings(config)
        desk = Desk(
            root=root,
            zone=zone,
            night=night,
            archived=archive,
            airflow=airflow,
            observatory=running,
            config=config,
            settle_seconds=settings.watch.settle_seconds,
            nights_per_day=settings.archive.nights_per_day,
        )
        live = desk.observe("sky", targets=LIVE_TARGETS, nights=(night,), frames=FRAMES, size=SIZE)
        desk.observe("archive", targets=(ARCHIVE_TARGET,), nights=archive, frames=2, size=SIZE)
        shutil.copytree(live.root / "calibs", root / "calibs")
        try:
            running.wait_until_ready(300)
        except observatory.ObservatoryError as error:
            raise AssertionError(f"{error}\n{desk.logs()}") from error
        yield desk
        airflow.close()
