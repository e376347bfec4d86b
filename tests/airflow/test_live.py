"""What happens on a night, under a real scheduler, triggerer and API server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import timedelta

import pytest
from astropy.io import fits

from nightdesk.group import Group
from nightdesk.simulate import drop_keyword, expose_slowly, truncate
from tests.airflow.conftest import ARCHIVE_TARGET
from tests.airflow.desk import GROUP_DAG, NIGHT_DAG, Desk
from tests.airflow.story import Story, told

STORIES: dict[str, Story] = {}


def story(tell: Story) -> Story:
    """Register what happens to one target."""
    STORIES[tell.__name__] = tell
    return tell


@pytest.fixture(scope="module")
def stories(desk: Desk, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """All stories that this session asks for, under way."""
    chosen = [item for item in request.session.items if isinstance(item, pytest.Function)]
    asked = {item.callspec.params["name"] for item in chosen if item.originalname == "test_story"}
    with told(desk, {name: STORIES[name] for name in STORIES if name in asked}) as futures:
        yield futures


@story
def a_file_drop_becomes_a_green_run(desk: Desk) -> None:
    group, raws = desk.group("M1"), desk.raws("M1")[:3]
    desk.point("M1")
    desk.drop(*raws)
    desk.assert_green(group, desk.wait_for_run(group))
    names = [path.stem for path in raws]
    for task in ("frame.isr", "frame.extinction", "align"):
        assert desk.states(group, task) == dict.fromkeys(names, "success")
    assert desk.stacked(group) == names
    assert desk.manifest(group)["run_id"] == group.run_id == f"{desk.night}__M1__R"
    assert (desk.folder(group, "combined") / "combined.png").is_file()
    asset = next(asset for asset in desk.airflow.assets() if asset["name"] == "M1/R")
    event = desk.airflow.asset_events(asset["id"])[0]
    assert (event["extra"]["frames"], event["extra"]["exposure"]) == (3, 3.0)
    assert (desk.root / event["extra"]["path"]).is_file()


@story
def a_late_frame_costs_one_isr(desk: Desk) -> None:
    group, raws = desk.group("M2"), desk.raws("M2")[:4]
    desk.point("M2")
    desk.drop(*raws[:3])
    desk.assert_green(group, desk.wait_for_run(group))
    with desk.untouched(group, "postISR", "extinction", "shifted"):
        desk.drop(raws[3])
        desk.assert_green(group, desk.wait_for_run(group, starts=2))
    assert desk.stacked(group) == [path.stem for path in raws]


@story
def a_group_without_positions_waits_for_them(desk: Desk) -> None:
    group, raws = desk.group("M3"), desk.raws("M3")[:3]
    desk.drop(*raws)
    desk.assert_green(group, desk.wait_for_run(group))
    assert set(desk.states(group, "find_sidecar").values()) == {"skipped"}
    assert set(desk.states(group, "align").values()) == {"skipped"}
    assert desk.manifest(group)["state"] == "waiting"
    log = desk.airflow.log(GROUP_DAG, group.run_id, "find_sidecar")
    assert f"xys/M3/R/{desk.night}/xy.csv" in log
    assert "fname,x,y" in log
    with desk.untouched(group, "postISR", "extinction"):
        desk.point("M3")
        desk.assert_green(group, desk.wait_for_run(group, starts=2))
    assert desk.stacked(group) == [path.stem for path in raws]


@story
def a_file_is_not_touched_while_it_is_written(desk: Desk) -> None:
    group, raws = desk.group("M5"), desk.raws("M5")[:3]
    desk.point("M5")
    desk.drop(*raws[:2])
    # Long past the settling of the others, and longer than a file may stall; each part comes halfway to that.
    expose_slowly(raws[2], desk.place(raws[2]), seconds=18, chunks=3)
    assert desk.starts(group) == 0
    desk.assert_green(group, desk.wait_for_run(group))
    assert desk.stacked(group) == [path.stem for path in raws]


@story
def bad_frames_are_red_squares_until_they_are_mended(desk: Desk) -> None:
    group, raws = desk.group("M13"), desk.raws("M13")[:4]
    desk.point("M13")
    names = [path.stem for path in raws]
    places = desk.drop(*raws)
    truncate(places[1])
    drop_keyword(places[2], "EGAIN")
    run = desk.wait_for_run(group)
    assert run["state"] == "failed"
    assert desk.states(group, "frame.isr") == dict(zip(names, ["success", "failed", "failed", "success"], strict=True))
    assert desk.states(group, "verdict") == {"-1": "failed"}
    assert desk.stacked(group) == [names[0], names[3]]
    for name, words in ((names[1], "cut short"), (names[2], "EGAIN")):
        index = desk.map_index(group, "frame.isr", name)
        assert desk.airflow.tasks(GROUP_DAG, group.run_id)["frame.isr", index]["try_number"] == 1
        log = desk.airflow.log(GROUP_DAG, group.run_id, "frame.isr", index)
        assert words in log
        assert name in log
    with desk.untouched(group, "postISR", "extinction", "shifted"):
        for name, raw in zip(names[1:3], raws[1:3], strict=True):
            desk.drop(raw)
            cleared = desk.airflow.clear(GROUP_DAG, group.run_id, "frame.isr", desk.map_index(group, "frame.isr", name))
            assert [index for task, index in cleared if task == "frame.isr"] == [
                desk.map_index(group, "frame.isr", name)
            ]
        desk.assert_green(group, desk.wait_for_run(group))
    assert desk.stacked(group) == names
    assert desk.manifest(group)["state"] == "done"


@story
def a_bad_frame_that_is_removed_is_done_without(desk: Desk) -> None:
    group, raws = desk.group("M15"), desk.raws("M15")[:3]
    desk.point("M15")
    places = desk.drop(*raws)
    drop_keyword(places[2], "EGAIN")
    assert desk.wait_for_run(group)["state"] == "failed"
    places[2].unlink()
    desk.airflow.clear(GROUP_DAG, group.run_id)
    desk.assert_green(group, desk.wait_for_run(group, starts=2))
    assert desk.stacked(group) == [path.stem for path in raws[:2]]


@story
def frames_that_land_during_a_run_cause_one_more(desk: Desk) -> None:
    group, raws = desk.group("M31"), desk.raws("M31")[:5]
    desk.point("M31")
    desk.dawdle(raws[0].stem, 12)
    desk.drop(*raws[:3])
    desk.wait_for_state(group, "frame.isr", "running", 0)
    desk.drop(raws[3])
    time.sleep(3)
    desk.drop(raws[4])
    desk.assert_green(group, desk.wait_for_run(group, starts=2))
    assert desk.stacked(group) == [path.stem for path in raws]
    assert desk.tries(group, "frame.isr", raws[0].stem) == 2  # the first run was left alone


@story
def a_group_that_cannot_be_reduced_is_tried_once(desk: Desk) -> None:
    raws = desk.raws("M42")[:2]
    for path in desk.drop(*raws):
        fits.setval(path, "FILTER", value="H")  # no master flat of this filter is there
    group = desk.group("M42", filter_name="H")
    run = desk.wait_for_run(group)
    assert run["state"] == "failed"
    assert "Hflatnorm2x2.fits" in desk.manifest(group)["reason"]
    time.sleep(10 * desk.settle_seconds)
    assert desk.starts(group) == 1


@pytest.mark.parametrize("name", STORIES)
def test_story(stories: dict[str, Future[None]], name: str) -> None:
    stories[name].result()


def test_a_killed_triggerer_loses_and_doubles_nothing(desk: Desk) -> None:
    group, raws = desk.group("M57"), desk.raws("M57")[:4]
    desk.point("M57")
    desk.drop(raws[0])
    killed = desk.observatory.pid_of("triggerer")
    os.kill(killed, signal.SIGKILL)
    desk.drop(*raws[1:3])
    desk.wait("new triggerer", lambda: desk.observatory.pid_of("triggerer") != killed)
    desk.drop(raws[3])
    desk.assert_green(group, desk.wait_for_run(group))
    assert desk.stacked(group) == [path.stem for path in raws]


@pytest.fixture(scope="module")
def archive(desk: Desk) -> list[Group]:
    """The groups of five archived nights, on disk."""
    for night in desk.archived:
        desk.point(ARCHIVE_TARGET, night)
        desk.drop(*desk.raws(ARCHIVE_TARGET, night))
    return [desk.group(ARCHIVE_TARGET, night) for night in desk.archived]


def test_an_archive_is_reduced_a_few_nights_a_day(desk: Desk, archive: list[Group]) -> None:
    first = archive[: desk.nights_per_day]
    desk.airflow.trigger("reduce_archive")
    for group in first:
        run = desk.wait_for_end(NIGHT_DAG, f"archive__{group.night}")
        assert run["state"] == "success"
        assert desk.states_of(NIGHT_DAG, run["dag_run_id"], "reduce_archived") == {group.run_id: "success"}
        desk.assert_green(group, desk.wait_for_run(group))
        assert [raw["fate"] for raw in desk.report(group.night)["raws"]] == ["used", "used"]
    assert desk.starts(archive[desk.nights_per_day]) == 0


def test_archived_nights_are_backfilled_and_a_second_backfill_changes_nothing(desk: Desk, archive: list[Group]) -> None:
    groups = archive[desk.nights_per_day :]
    begin, end = groups[0].night, groups[-1].night + timedelta(days=1)
    desk.command("backfill", "create", "--dag-id", NIGHT_DAG, "--from-date", f"{begin}", "--to-date", f"{end}")
    runs = desk.wait_for_backfill(len(groups))
    assert {run["state"] for run in runs} == {"success"}
    for group in groups:
        desk.assert_green(group, desk.wait_for_run(group))
        assert [raw["fate"] for raw in desk.report(group.night)["raws"]] == ["used", "used"]
    before = {group: desk.everything(group) for group in groups}
    desk.airflow.backfill(NIGHT_DAG, begin, end)  # as the dialog does, "run again what is complete"
    again = desk.wait_for_backfill(len(groups), after=max(run["end_date"] for run in runs))
    assert {run["state"] for run in again} == {"success"}
    assert {group: desk.everything(group) for group in groups} == before
    assert [desk.starts(group) for group in groups] == [1, 1, 1]


def test_the_watcher_started_nothing_in_vain(desk: Desk, stories: dict[str, Future[None]]) -> None:
    """Every start of every group is one that its story called for, and none follows."""
    for future in stories.values():
        future.exception()
    time.sleep(2 * desk.settle_seconds)
    assert {run_id: desk.starts_of(run_id) for run_id in desk.expected_starts} == desk.expected_starts
