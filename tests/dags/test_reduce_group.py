"""`reduce_group` on a simulated night, without a scheduler: what is green, red or skipped, and what is on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from nightdesk.simulate import drop_keyword, simulate, truncate

pytestmark = [
    pytest.mark.usefixtures("database"),
    pytest.mark.filterwarnings("ignore"),  # of Airflow's own warnings nothing here can be mended
]

NIGHT = date(2026, 11, 21)
PRODUCTS = Path("processed", "NGC5949", "R", "2026-11-21")


@dataclass
class Outcome:
    """A finished run: the states of its squares by name, and the data root."""

    root: Path
    state: str
    states: dict[str, dict[str, str]]

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.root / PRODUCTS / "combined" / "manifest.json").read_text())
        return manifest

    def fates(self) -> dict[str, str]:
        return {raw["name"]: raw["fate"] for raw in self.manifest["raws"]}


@dataclass
class Observatory:
    """A simulated night that a test may spoil, and the Dag."""

    root: Path
    dag: Any
    config: Path

    def configure(self, text: str) -> None:
        self.config.write_text(f'[site]\ntimezone = "Atlantic/Canary"\n{text}', encoding="utf-8")

    def simulate(self, **kwargs: Any) -> list[Path]:
        night = simulate(self.root, nights=(NIGHT,), size=(64, 64), exposure=1.0, **kwargs)
        return [frame.path for frame in night.frames]

    def reduce(self) -> Outcome:
        conf = {"target": "NGC5949", "filter_name": "R", "night": NIGHT.isoformat()}
        run = self.dag.test(run_conf=conf)
        states: dict[str, dict[str, str]] = {}
        for ti in run.get_task_instances():
            states.setdefault(ti.task_id, {})[ti.rendered_map_index or str(ti.map_index)] = str(ti.state)
        return Outcome(self.root, str(run.state), states)


@pytest.fixture
def observatory(tmp_path: Path, dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Observatory:
    config = tmp_path / "observatory.toml"
    monkeypatch.setenv("NIGHTDESK_CONFIG", str(config))
    monkeypatch.setenv("NIGHTDESK_DATA", str(tmp_path / "data"))
    made = Observatory(tmp_path / "data", dags["reduce_group"], config)
    made.configure("")
    return made


def test_a_good_group_is_green_and_on_disk(observatory: Observatory) -> None:
    names = [path.stem for path in observatory.simulate(frames=3)]
    outcome = observatory.reduce()
    assert outcome.state == "success"
    for task_id in ("frame.isr", "frame.extinction", "align"):
        assert outcome.states[task_id] == dict.fromkeys(names, "success")
    assert outcome.manifest["state"] == "done"
    assert outcome.fates() == dict.fromkeys(names, "used")
    assert (observatory.root / PRODUCTS / "combined" / "combined.fits").is_file()
    assert (observatory.root / PRODUCTS / "combined" / "combined.png").is_file()


def test_a_bad_frame_is_one_red_square_and_the_others_are_combined(observatory: Observatory) -> None:
    good, bad, other = observatory.simulate(frames=3)
    drop_keyword(bad, "EGAIN")
    outcome = observatory.reduce()
    assert outcome.state == "failed"
    assert outcome.states["frame.isr"] == {good.stem: "success", bad.stem: "failed", other.stem: "success"}
    assert outcome.states["frame.extinction"][bad.stem] == "skipped"
    assert outcome.states["align"] == {good.stem: "success", bad.stem: "skipped", other.stem: "success"}
    assert outcome.states["combine"] == {"-1": "success"}
    assert outcome.states["verdict"] == {"-1": "failed"}
    assert outcome.manifest["state"] == "partial"
    assert outcome.fates() == {good.stem: "used", bad.stem: "lost", other.stem: "used"}


def test_of_a_batch_with_a_bad_frame_the_good_one_is_combined(observatory: Observatory) -> None:
    observatory.configure("[batch]\nframes_per_task = 2\n")
    frames = observatory.simulate(frames=4)
    truncate(frames[0])
    outcome = observatory.reduce()
    batches = [", ".join(path.stem for path in frames[start : start + 2]) for start in (0, 2)]
    assert outcome.state == "failed"
    assert outcome.states["frame.isr"] == {batches[0]: "failed", batches[1]: "success"}
    assert outcome.states["align"] == dict.fromkeys(batches, "success")
    assert list(outcome.fates().values()) == ["lost", "used", "used", "used"]


def test_of_a_batch_with_a_frame_that_is_not_aligned_the_others_are_combined(observatory: Observatory) -> None:
    observatory.configure('[batch]\nframes_per_task = "all"\n')
    frames = observatory.simulate(frames=4)
    sidecar = observatory.root / "xys" / "NGC5949" / "R" / "2026-11-21" / "xy.csv"
    sidecar.write_text("".join(sidecar.read_text().splitlines(keepends=True)[:-1]))
    outcome = observatory.reduce()
    assert outcome.state == "failed"
    assert outcome.states["align"] == {", ".join(path.stem for path in frames): "failed"}
    assert outcome.states["combine"] == {"-1": "success"}
    assert list(outcome.fates().values()) == ["used", "used", "used", "lost"]
    assert "3 of 4 frames are in the stack" in outcome.manifest["reason"]


def test_of_a_batch_with_a_bad_frame_the_others_wait_for_positions(observatory: Observatory) -> None:
    observatory.configure('[batch]\nframes_per_task = "all"\n')
    truncate(observatory.simulate(frames=3, sidecars=False)[0])
    outcome = observatory.reduce()
    assert list(outcome.fates().values()) == ["lost", "waiting", "waiting"]
    assert outcome.manifest["state"] == "waiting"


def test_without_positions_the_group_waits_and_nothing_is_red(observatory: Observatory) -> None:
    observatory.simulate(frames=2, sidecars=False)
    outcome = observatory.reduce()
    assert outcome.state == "success"
    assert set(outcome.states["frame.extinction"].values()) == {"success"}
    for task_id in ("find_sidecar", "align", "combine", "publish"):
        assert set(outcome.states[task_id].values()) == {"skipped"}, task_id
    assert outcome.manifest["state"] == "waiting"
    assert "xys/NGC5949/R/2026-11-21/xy.csv" in outcome.manifest["reason"]


def test_a_single_frame_needs_no_positions(observatory: Observatory) -> None:
    observatory.simulate(frames=1, sidecars=False)
    outcome = observatory.reduce()
    assert (outcome.state, outcome.manifest["state"]) == ("success", "done")


def test_a_missing_master_is_red_and_says_which(observatory: Observatory) -> None:
    observatory.simulate(frames=2, masters=False)
    outcome = observatory.reduce()
    assert outcome.state == "failed"
    assert outcome.manifest["state"] == "failed"
    assert "no master flat" in outcome.manifest["reason"]
    assert "combine" not in [task for task, states in outcome.states.items() if "failed" in states.values()]


def test_a_wrong_line_of_the_sidecar_is_one_red_square(observatory: Observatory) -> None:
    observatory.simulate(frames=2)
    sidecar = observatory.root / "xys" / "NGC5949" / "R" / "2026-11-21" / "xy.csv"
    sidecar.write_text(sidecar.read_text().rstrip().rpartition(",")[0] + ",here\n")
    outcome = observatory.reduce()
    red = {task for task, states in outcome.states.items() if "failed" in states.values()}
    assert (outcome.state, red) == ("failed", {"find_sidecar", "verdict"})
    assert "line 3" in outcome.manifest["reason"]


def test_a_target_that_is_no_name_fails_at_once(observatory: Observatory) -> None:
    observatory.simulate(frames=1)
    with pytest.raises(Exception, match="pattern"):
        observatory.dag.test(run_conf={"target": "../etc", "filter_name": "R", "night": "2026-11-21"})
