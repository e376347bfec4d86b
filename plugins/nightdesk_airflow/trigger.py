"""The trigger behind `watch_raws`: waits until a group of frames is ready and no run of it is active."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from nightdesk_airflow.observer import FolderObserver
from nightdesk_airflow.run import active_runs, dag_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from nightdesk.calibration_night import CalibrationNight
    from nightdesk.group import Group
    from nightdesk.readiness import Watch
    from nightdesk.settings import Settings

log = logging.getLogger(__name__)

SHORTEST_SECONDS = 2.0  # a trigger that fires as soon as it started can fail its task
LISTEN_SECONDS = 6 * 3600.0
BREATH_SECONDS = 1.0  # between two looks, however many files land
BUSY_SECONDS = 2.0  # between two questions whether the active run of a ready group is over
AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 10.0, 600.0

if TYPE_CHECKING:
    Work = Group | CalibrationNight

_memories: dict[Path, Memory] = {}
_memories_lock = threading.Lock()


class Memory:
    """What this process knows of a data root; it outlives the triggers.

    The watch remembers when it saw each file change: were it made anew whenever a group is started, the
    settling of all other groups would begin again. And a group that is still to be started after it was
    started, because its run died before it could write down what it set out with (a full disk), is given
    time, longer each time.
    """

    def __init__(self, settings: Settings) -> None:
        from nightdesk.readiness import Watch

        self.settings = settings
        self.watch: Watch = Watch(settings)
        self._started: dict[Work, tuple[int, float]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Memory:
        """Return the memory of the settings' data root; a new one when the settings have changed."""
        with _memories_lock:
            known = _memories.get(settings.root)
            if known is None or known.settings != settings:
                known = _memories[settings.root] = cls(settings)
            return known

    def look(self) -> tuple[list[Work], float | None]:
        """Scan; return the groups and calibration nights to start, and in how many seconds the next may be ready."""
        with self._lock:  # the last look of a cancelled trigger may still be under way in its thread
            now = time.monotonic()
            groups = self.watch.look(now)
            ready: list[Work] = [*self.watch.calibrations(now), *groups]
            self._started = {one: self._started[one] for one in ready if one in self._started}
            return [one for one in ready if self._may_start(one, now)], self.watch.due(now)

    def note_started(self, groups: Iterable[Work]) -> None:
        """Remember that these are being started now."""
        with self._lock:
            for group in groups:
                self._started[group] = (self._started.get(group, (0, 0.0))[0] + 1, time.monotonic())

    def _may_start(self, group: Work, now: float) -> bool:
        times, last = self._started.get(group, (0, 0.0))
        return not times or now - last >= min(AGAIN_SECONDS * 2 ** (times - 1), LONGEST_AGAIN_SECONDS)


class ReadyGroupsTrigger(BaseTrigger):
    """Fires with the params of all groups and calibration nights to start, or with none after `listen_seconds`.

    Also with none as soon as the configuration is written anew, or a folder is closed to us or opened again: the next
    run of `watch_raws` begins at once, and says in its own log what is wrong now.
    """

    def __init__(self, *, dag_id: str, listen_seconds: float = LISTEN_SECONDS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.listen_seconds = listen_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger anew."""
        return (
            "nightdesk_airflow.trigger.ReadyGroupsTrigger",
            {"dag_id": self.dag_id, "listen_seconds": self.listen_seconds},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Observe, scan, wait; everything is closed again before the event goes out."""
        began = time.monotonic()
        groups = await self._next_groups(until=began + self.listen_seconds)
        await asyncio.sleep(began + SHORTEST_SECONDS - time.monotonic())
        yield TriggerEvent([group.params for group in groups])  # type: ignore[no-untyped-call]

    async def _next_groups(self, until: float) -> list[Work]:
        from nightdesk.settings import load_settings

        written = await asyncio.to_thread(_configuration)
        settings = await asyncio.to_thread(load_settings)
        memory = await asyncio.to_thread(Memory.of, settings)
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        observer = FolderObserver(
            settings.watch.observer, memory.watch.concerns, lambda: loop.call_soon_threadsafe(changed.set)
        )
        closed = None
        try:
            while time.monotonic() < until:
                changed.clear()
                if await asyncio.to_thread(_configuration) != written:
                    log.info("The configuration has changed; it is read anew.")
                    return []
                # First observe, then scan: what lands between the two is seen by one or the other.
                await asyncio.to_thread(lambda: observer.cover(memory.watch.paths()))
                ready, due = await asyncio.to_thread(memory.look)
                for trouble in memory.watch.troubles:
                    log.warning("%s", trouble)
                active = await self._active(ready)
                if free := [group for group in ready if group.run_id not in active]:
                    memory.note_started(free)
                    return free
                if closed is not None and memory.watch.closed != closed:
                    log.info("A folder was closed or opened.")
                    return []
                closed = memory.watch.closed
                pause = min(settings.watch.rescan_seconds, settings.watch.rescan_seconds if due is None else due)
                await asyncio.sleep(BREATH_SECONDS)
                await self._pause(changed, ready, min(time.monotonic() + pause, until))
            return []
        finally:
            await asyncio.to_thread(observer.close)

    async def _pause(self, changed: asyncio.Event, held: list[Work], until: float) -> None:
        """Wait until something changed, a held group's active run is over, or it is time to look again."""
        while (remaining := until - time.monotonic()) > 0:
            if await _is_set(changed, min(remaining, BUSY_SECONDS) if held else remaining):
                return
            if held and len(await self._active(held)) < len(held):
                return

    async def _active(self, works: list[Work]) -> list[str]:
        active: list[str] = []
        for dag_id in {dag_of(work.params, self.dag_id) for work in works}:
            mine = [work.run_id for work in works if dag_of(work.params, self.dag_id) == dag_id]
            active += await sync_to_async(active_runs)(dag_id, mine)
        return active


class RunEndTrigger(BaseTrigger):
    """Fires when a group's run is over, or asks a person for positions."""

    def __init__(self, *, dag_id: str, run_id: str, poll_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id, self.run_id, self.poll_seconds = dag_id, run_id, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger anew."""
        kwargs = {"dag_id": self.dag_id, "run_id": self.run_id, "poll_seconds": self.poll_seconds}
        return "nightdesk_airflow.trigger.RunEndTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask now and then; never at once, which can fail the task that waits."""
        await asyncio.sleep(self.poll_seconds)
        while await sync_to_async(active_runs)(self.dag_id, [self.run_id]):
            await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent(self.run_id)  # type: ignore[no-untyped-call]


def _configuration() -> tuple[int, int, int] | None:
    """Return what tells one state of the configuration file from another; None while there is none."""
    from nightdesk.settings import CONFIG_VARIABLE

    try:
        status = os.stat(os.environ.get(CONFIG_VARIABLE, ""))  # noqa: PTH116
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
