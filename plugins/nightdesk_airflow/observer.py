"""Folders under observation: a thread that says when something changed in them, by inotify or by polling."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watchdog.observers.api import BaseObserver, ObservedWatch

log = logging.getLogger(__name__)

POLLING_SECONDS = 5
OVER = {
    "created",
    "closed",
    "moved",
    "deleted",
}  # inotify's "modified" comes with every block that is written


class Concerns(Protocol):
    """Says whether a path is one that matters."""

    def __call__(self, path: str) -> bool: ...


class _Handler(FileSystemEventHandler):
    """Passes on the events that matter, under the names the folders go by in the settings."""

    def __init__(
        self, real: str, known_as: str, kinds: set[str], concerns: Concerns, notify: Callable[[], object]
    ) -> None:
        self._real, self._known_as, self._kinds, self._concerns, self._notify = (
            real,
            known_as,
            kinds,
            concerns,
            notify,
        )

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in self._kinds and (
            event.is_directory or self._matters(event.src_path) or self._matters(event.dest_path)
        ):
            self._notify()

    def _matters(self, path: str | bytes) -> bool:
        text = os.fsdecode(path)
        return bool(text) and self._concerns(self._known_as + text.removeprefix(self._real))


class FolderObserver:
    """Observes folders and all below. Every method blocks; `notify` is called in the observer's thread."""

    def __init__(self, kind: str, concerns: Concerns, notify: Callable[[], object]) -> None:
        self._kind, self._concerns, self._notify = kind, concerns, notify
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._covered: dict[Path, tuple[tuple[int, int], ObservedWatch]] = {}
        self._closed = False

    def cover(self, folders: Iterable[Path]) -> None:
        """Observe these folders too, and anew those that were replaced; what is gone is passed over."""
        with self._lock:
            if self._closed:
                return
            if self._observer is None:
                self._observer = self._new_observer()
                self._observer.start()
            for folder in folders:
                self._cover(self._observer, folder)

    def close(self) -> None:
        """Stop the observer's threads and wait for them; nothing can be covered afterwards."""
        with self._lock:
            self._closed = True
            if self._observer is not None:
                self._observer.stop()
                self._observer.join()
                self._observer = None

    def _new_observer(self) -> BaseObserver:
        if self._kind == "polling":
            from watchdog.observers.polling import PollingObserver

            return PollingObserver(timeout=POLLING_SECONDS)
        from watchdog.observers import Observer

        return Observer()

    def _cover(self, observer: BaseObserver, folder: Path) -> None:
        try:
            status = folder.stat()
            identity = (status.st_dev, status.st_ino)
            if folder in self._covered:
                if self._covered[folder][0] == identity:
                    return
                observer.unschedule(self._covered.pop(folder)[1])
            real = os.path.realpath(folder)
            kinds = OVER | {"modified"} if self._kind == "polling" else OVER
            handler = _Handler(real, str(folder), kinds, self._concerns, self._notify)
            self._covered[folder] = (identity, observer.schedule(handler, real, recursive=True))
        except OSError as error:
            # The rescans go on finding everything, only later.
            log.warning("%s is not observed, only scanned every now and then: %s", folder, error)
