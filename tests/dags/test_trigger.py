"""The trigger behind `watch_raws`, without a triggerer: what it waits for, what it holds, and how it ends."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nightdesk.night import night_of
from nightdesk.settings import load_settings
from nightdesk.simulate import simulate

PATIENCE_SECONDS = 20.0
CONFIGURATION = """
[watch]
settle_seconds = 1
readout_seconds = 0
rescan_seconds = {rescan}
observer = "{observer}"
"""


@dataclass
class Site:
    """A data root, frames to put there, and the runs that are said to be active."""

    root: Path
    sky: Path
    raws: list[Path]
    config: Path
    active: set[str] = field(default_factory=set)
    looks: list[float] = field(default_factory=list)

    def configure(self, *, rescan: float = 600, observer: str = "inotify") -> None:
        self.config.write_text(CONFIGURATION.format(rescan=rescan, observer=observer), encoding="utf-8")

    def drop(self, *sources: Path) -> list[Path]:
        return [Path(shutil.copyfile(source, self.root / source.relative_to(self.sky))) for source in sources]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    from nightdesk_airflow import trigger

    night = night_of(datetime.now(UTC), load_settings_zone(tmp_path))
    sky = simulate(tmp_path / "sky", nights=(night,), frames=3, size=(16, 16), exposure=0.1)
    made = Site(tmp_path / "data", sky.root, [frame.path for frame in sky.frames], tmp_path / "observatory.toml")
    (made.root / "raw" / f"{night}").mkdir(parents=True)
    monkeypatch.setenv("NIGHTDESK_CONFIG", str(made.config))
    monkeypatch.setenv("NIGHTDESK_DATA", str(made.root))
    monkeypatch.setattr(trigger, "active_runs", lambda dag_id, run_ids: [run for run in run_ids if run in made.active])
    monkeypatch.setattr(trigger, "_memories", {})
    made.configure()
    yield made
    left = [thread for thread in threading.enumerate() if type(thread).__module__.startswith("watchdog")]
    assert left == [], "the observer's threads outlive the trigger"


def load_settings_zone(place: Path) -> Any:
    empty = place / "empty.toml"
    empty.write_text("")
    return load_settings(empty).site.zone


def fired(during: Callable[[], object] = lambda: None, *, listen_seconds: float = 60.0) -> list[dict[str, str]]:
    """Run one trigger until it fires; `during` happens a second after its start."""
    from nightdesk_airflow.trigger import ReadyGroupsTrigger

    async def run() -> list[dict[str, str]]:
        trigger = ReadyGroupsTrigger(dag_id="reduce_group", listen_seconds=listen_seconds)
        events = trigger.run()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(1)
        await asyncio.to_thread(during)
        event = await asyncio.wait_for(waiting, PATIENCE_SECONDS)
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        return list(event.payload)

    return asyncio.run(run())


def test_what_lies_there_at_the_start_is_found(site: Site) -> None:
    site.drop(*site.raws)
    assert [group["target"] for group in fired()] == ["NGC5949"]


@pytest.mark.parametrize("observer", ["inotify", "polling"])
def test_what_lands_later_is_seen_without_a_rescan(site: Site, observer: str) -> None:
    site.configure(observer=observer)
    assert [group["target"] for group in fired(lambda: site.drop(*site.raws))] == ["NGC5949"]


def test_a_rescan_finds_what_no_observer_tells(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a network disk that another computer writes to.
    from nightdesk_airflow.observer import FolderObserver

    monkeypatch.setattr(FolderObserver, "cover", lambda self, folders: None)
    site.configure(rescan=2)
    assert len(fired(lambda: site.drop(*site.raws))) == 1


def test_it_never_fires_at_once(site: Site) -> None:
    from nightdesk_airflow.trigger import SHORTEST_SECONDS

    site.drop(*site.raws)
    fired()
    shutil.rmtree(site.root / "processed", ignore_errors=True)
    began = time.monotonic()
    fired(listen_seconds=0.0)
    assert time.monotonic() - began >= SHORTEST_SECONDS - 0.1


def test_it_comes_back_with_nothing_before_anybody_loses_patience(site: Site) -> None:
    assert fired(listen_seconds=2.5) == []


def test_a_configuration_that_is_written_anew_ends_the_listening(site: Site) -> None:
    # The next run of watch_raws begins at once and reads it, or says in its own log what is wrong with it.
    site.configure(rescan=1)
    began = time.monotonic()
    assert fired(lambda: site.config.write_text("[watch]\nsettle_seconds = -1\n")) == []
    assert time.monotonic() - began < PATIENCE_SECONDS / 2


def test_a_folder_that_is_closed_ends_the_listening(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from nightdesk.io import raw

    site.configure(rescan=1)

    def close() -> None:
        # root, who may run these tests, looks into everything
        monkeypatch.setattr(raw, "_raw_files_below", lambda settings, place, closed: closed.add(place) or [])

    assert fired(close) == []


def test_a_ready_group_is_held_while_its_run_is_active(site: Site) -> None:
    run_id = f"{site.raws[0].parent.name}__NGC5949__R"
    site.active.add(run_id)
    site.drop(*site.raws)
    over: list[float] = []

    def end() -> None:
        time.sleep(4)
        over.append(time.monotonic())
        site.active.clear()

    assert len(fired(end)) == 1
    assert time.monotonic() - over[0] < 5
    assert over


def test_the_settling_of_one_group_survives_the_start_of_another(site: Site) -> None:
    from nightdesk_airflow.trigger import Memory

    settings = load_settings()
    watch = Memory.of(settings).watch
    site.drop(*site.raws)
    fired()
    assert Memory.of(load_settings()).watch is watch


def test_changed_settings_begin_a_new_memory(site: Site) -> None:
    from nightdesk_airflow.trigger import Memory

    before = Memory.of(load_settings())
    site.configure(rescan=30)
    assert Memory.of(load_settings()) is not before


def test_a_group_whose_run_dies_before_it_begins_is_started_again_ever_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightdesk_airflow import trigger

    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    site.drop(*site.raws)
    memory = trigger.Memory.of(load_settings())
    memory.look()
    starts = []
    for clock[0] in range(1010, 1200):
        ready, _ = memory.look()
        if ready:
            starts.append(clock[0])
            memory.note_started(ready)
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps == [10, 20, 40, 80]


def test_a_cancelled_trigger_stops_its_observer(site: Site) -> None:
    from nightdesk_airflow.trigger import ReadyGroupsTrigger

    async def run() -> None:
        task = asyncio.ensure_future(anext(ReadyGroupsTrigger(dag_id="reduce_group").run()))
        await asyncio.sleep(1.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())  # the fixture looks for threads that are left


def test_the_loop_is_never_blocked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from nightdesk.readiness import Watch

    def slow(self: Watch, now: float) -> list[Any]:
        time.sleep(1.5)
        return []

    monkeypatch.setattr(Watch, "look", slow)
    from nightdesk_airflow.trigger import ReadyGroupsTrigger

    async def run() -> float:
        task = asyncio.ensure_future(anext(ReadyGroupsTrigger(dag_id="reduce_group", listen_seconds=3).run()))
        worst, last = 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.05)
            worst, last = max(worst, time.monotonic() - last), time.monotonic()
        return worst

    assert asyncio.run(run()) < 1.0


def test_it_is_made_anew_from_what_it_serialises() -> None:
    import json

    from nightdesk_airflow.trigger import ReadyGroupsTrigger

    path, kwargs = ReadyGroupsTrigger(dag_id="reduce_group", listen_seconds=7.0).serialize()
    assert path == f"{ReadyGroupsTrigger.__module__}.{ReadyGroupsTrigger.__qualname__}"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert ReadyGroupsTrigger(**kwargs).serialize() == (path, kwargs)
