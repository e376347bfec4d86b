"""Stories: what happens to one target in the simulated night. They happen side by side, as on a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tests.airflow.desk import Desk

Story = Callable[[Desk], None]

AT_ONCE = 5


@contextmanager
def told(desk: Desk, stories: dict[str, Story]) -> Iterator[dict[str, Future[None]]]:
    """Let the stories happen in threads; a test asks for the result of its own."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield {name: pool.submit(story, desk) for name, story in stories.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # the desk stops next, and with it who still waits
