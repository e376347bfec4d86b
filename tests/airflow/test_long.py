"""What takes longer than one wants to wait for at each commit: growth, mended nights, throughput."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from nightdesk.group import Group
from nightdesk.simulate import drop_keyword
from tests.airflow.conftest import SIZE
from tests.airflow.desk import GROUP_DAG, NIGHT_DAG, Desk

pytestmark = pytest.mark.slow

STEPS = ("list_frames", "frame.isr", "frame.extinction", "find_sidecar", "align", "combine")
LONGEST_TO_STACK_SECONDS = 15.0
LOADED = 4.0  # by how much a loaded machine may be slower before a test of seconds is red


def test_a_run_that_grows_and_shrinks_has_exactly_its_frames(desk: Desk, say: Callable[[str], None]) -> None:
    group, raws = desk.group("M81"), desk.raws("M81")
    names = [path.stem for path in raws]
    desk.point("M81")
    desk.drop(*raws[:3])
    desk.assert_green(group, desk.wait_for_run(group))
    assert desk.stacked(group) == names[:3]
    # Growth: two of the new frames are slow, so that later steps may run ahead of them, and one is bad.
    for name in names[3:5]:
        desk.dawdle(name, 8)
    good = Path(shutil.copy(raws[5], raws[5].with_suffix(".kept")))
    drop_keyword(raws[5], "EGAIN")
    with desk.untouched(group, "postISR", "extinction", "shifted"):
        desk.drop(*raws[3:])
        run = desk.wait_for_run(group, starts=2)
    good.replace(raws[5])
    assert run["state"] == "failed"
    assert set(desk.red(group)) == {f"frame.isr {names[5]}", "verdict"}
    assert desk.stacked(group) == names[:5]
    ahead = sum(desk.tries(group, "frame.extinction", name) - 1 for name in names[3:5])
    say(f"extinction ran ahead of isr and was tried again {ahead} times")
    assert ahead > 0, "no step ran ahead of another, so nothing was seen of the guard against that"
    # Shrinking: the bad frame goes, and a good one with it.
    for gone in (raws[1], raws[5]):
        desk.place(gone).unlink()
    desk.assert_green(group, desk.wait_for_run(group, starts=3))
    assert desk.stacked(group) == [names[0], *names[2:5]]
    assert len(desk.states(group, "align")) == 4
    # A frame that was well turns bad: what its tasks left behind must not bring it back.
    drop_keyword(desk.place(raws[3]), "EGAIN")
    assert desk.wait_for_run(group, starts=4)["state"] == "failed"
    assert desk.stacked(group) == [names[0], names[2], names[4]]


def test_a_mended_group_turns_its_night_green_untouched(desk: Desk) -> None:
    night = desk.night - timedelta(days=20)
    desk.observe("mended", targets=("M92", "M3"), nights=(night,), frames=2, size=SIZE)
    bad, well = desk.group("M92", night), desk.group("M3", night)
    for target in ("M92", "M3"):
        desk.point(target, night)
        desk.drop(*desk.raws(target, night))
    raw = desk.raws("M92", night)[1]
    drop_keyword(desk.place(raw), "EGAIN")
    run_id = desk.airflow.trigger(NIGHT_DAG, night=f"{night}")
    assert desk.wait_for_end(NIGHT_DAG, run_id)["state"] == "failed"
    assert desk.states_of(NIGHT_DAG, run_id, "reduce_archived") == {bad.run_id: "failed", well.run_id: "success"}
    assert raw.stem in desk.airflow.log(
        NIGHT_DAG, run_id, "reduce_archived", desk.index_of(NIGHT_DAG, run_id, bad.run_id)
    )

    desk.drop(raw)
    desk.airflow.clear(GROUP_DAG, bad.run_id, "frame.isr", desk.map_index(bad, "frame.isr", raw.stem))
    desk.assert_green(bad, desk.wait_for_run(bad))
    before = desk.everything(bad), desk.everything(well)
    desk.airflow.clear(NIGHT_DAG, run_id, "reduce_archived", desk.index_of(NIGHT_DAG, run_id, bad.run_id))
    desk.wait("green night", lambda: (desk.airflow.run(NIGHT_DAG, run_id) or {})["state"] == "success")
    assert (desk.everything(bad), desk.everything(well)) == before
    assert (desk.starts(bad), desk.starts(well)) == (1, 1)


def seconds_to_stack(desk: Desk, group: Group, drop: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """Return the seconds from ready to finished stack, and where they went."""
    drop()
    ready = time.time() + desk.settle_seconds
    desk.assert_green(group, desk.wait_for_run(group))
    tasks = desk.airflow.tasks(GROUP_DAG, group.run_id)
    run = desk.airflow.run(GROUP_DAG, group.run_id)
    assert run is not None
    marks = {"ready": ready, "watch_raws": moment(run["start_date"])}
    for step in STEPS:
        marks[step] = max(moment(ti["end_date"]) for (task, _), ti in tasks.items() if task == step)
    ends = list(marks.values())
    return ends[-1] - ready, {
        step: round(end - begin, 2) for step, begin, end in zip(list(marks)[1:], ends, ends[1:], strict=False)
    }


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def large(desk: Desk) -> Group:
    """A group of three frames as large as pt5m's, with masters of that size; not on the disk yet."""
    night = desk.night - timedelta(days=1)
    sky = desk.observe("large", targets=("M82",), nights=(night,), size=(1092, 736))
    shutil.copytree(sky.root / "calibs", desk.root / "calibs" / f"{night}")
    desk.point("M82", night)
    return desk.group("M82", night)


def test_seconds_from_ready_to_stack(desk: Desk, large: Group, say: Callable[[str], None]) -> None:
    seconds, where = seconds_to_stack(desk, large, lambda: desk.drop(*desk.raws("M82", large.night)))
    say(f"3 frames of 1092x736: {seconds:.1f} s from ready to stack: {where}")
    assert seconds < LOADED * LONGEST_TO_STACK_SECONDS


def test_a_live_group_beside_a_backfill_of_twenty(desk: Desk, say: Callable[[str], None]) -> None:
    nights = [desk.night - timedelta(days=age) for age in (33, 32, 31, 30)]
    targets = ("NGC1", "NGC2", "NGC3", "NGC4", "NGC5")
    desk.observe("twenty", targets=targets, nights=nights, frames=2, size=SIZE)
    for night in nights:
        for target in targets:
            desk.point(target, night)
            desk.drop(*desk.raws(target, night))
    for target in ("M108", "M109"):
        desk.point(target)
    idle, _ = seconds_to_stack(desk, desk.group("M108"), lambda: desk.drop(*desk.raws("M108")[:3]))
    desk.airflow.backfill(NIGHT_DAG, nights[0], nights[-1] + timedelta(days=1))
    desk.wait("start of the backfill", lambda: started(desk, nights, targets) >= 2)
    busy, where = seconds_to_stack(desk, desk.group("M109"), lambda: desk.drop(*desk.raws("M109")[:3]))
    behind = 20 - started(desk, nights, targets)
    say(f"a live group of 3 frames: {idle:.1f} s idle, {busy:.1f} s beside a backfill of 20 groups: {where}")
    say(f"{behind} of the 20 groups had not begun when it was done")
    assert behind > 0, "the backfill was over too soon to say anything"
    assert busy < LOADED * idle
    desk.wait("end of the backfill", lambda: ended(desk, nights, targets) == 20, 900)


def started(desk: Desk, nights: list[date], targets: tuple[str, ...]) -> int:
    return sum(desk.starts(desk.group(target, night)) for night in nights for target in targets)


def ended(desk: Desk, nights: list[date], targets: tuple[str, ...]) -> int:
    runs = {run["dag_run_id"]: run["state"] for run in desk.airflow.runs(GROUP_DAG)}
    wanted = [desk.group(target, night).run_id for night in nights for target in targets]
    return sum(runs.get(run_id) == "success" for run_id in wanted)
