"""Run a function in a process of its own and measure what it took."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    """What a function returned, after how many seconds of computing, and the most memory its process ever held."""

    result: Any
    seconds: float
    peak_bytes: int


def measure(function: Callable[..., Any], *arguments: Any) -> Measured:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, arguments).result(timeout=120)


def _measure(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Measured:
    start = time.process_time()  # what else the computer does meanwhile does not count
    result = function(*arguments)
    seconds = time.process_time() - start
    return Measured(result, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
