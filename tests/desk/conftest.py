"""A simulated night, reduced once, and copied for each test that changes something."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from nightdesk.desk.served import Served
from nightdesk.errors import NightdeskError
from nightdesk.group import Group
from nightdesk.settings import Settings
from nightdesk.simulate import simulate
from nightdesk.steps import extinction, isr, list_frames, reduce, report

NIGHT = date(2026, 11, 20)
TABLES = {"quality": {"filters": {"R": {"zero_point": 22.0}}}, "align": {"mode": "require"}}


@dataclass(frozen=True)
class Observed:
    """A data root with three groups: one reduced, one that lost a frame, one without positions."""

    root: Path

    @property
    def settings(self) -> Settings:
        return Settings.model_validate({"data": {"root": self.root}, **TABLES})

    def group(self, target: str, filter_name: str = "R") -> Group:
        return Group(NIGHT, target, filter_name)

    def served(self, target: str, filter_name: str = "R") -> Served:
        return Served(self.settings, self.group(target, filter_name))


@pytest.fixture(scope="session")
def observed_once(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    root = tmp_path_factory.mktemp("desk") / "data"
    sky = simulate(
        root, targets=("M13", "M51", "M57"), filters=("R",), nights=(NIGHT,), frames=3, size=(230, 200), exposure=30.0
    )
    observed = Observed(root)
    bad = sky.group("M51", "R", NIGHT)[1].path
    bad.write_bytes(bad.read_bytes()[:40_000])
    for target in ("M13", "M51"):
        with suppress(NightdeskError):
            reduce.run(observed.settings, observed.group(target))
    shutil.rmtree(root / "xys" / "M57")
    names = [name for batch in list_frames.run(observed.settings, observed.group("M57"), run_id="r") for name in batch]
    isr.run(observed.settings, observed.group("M57"), names)
    extinction.run(observed.settings, observed.group("M57"), names)
    _wait_for_positions(observed)
    report.run(observed.settings, NIGHT)
    return observed


def _wait_for_positions(observed: Observed) -> None:
    from nightdesk.manifest import read_manifest
    from nightdesk.steps import verdict

    verdict.run(observed.settings, observed.group("M57"), run_id="r", states={})
    manifest = read_manifest(observed.settings, observed.group("M57"))
    assert manifest is not None
    assert manifest["state"] == "waiting"


@pytest.fixture
def observed(observed_once: Observed, tmp_path: Path) -> Observed:
    shutil.copytree(observed_once.root, tmp_path / "data", copy_function=shutil.copy2)
    return Observed(tmp_path / "data")
