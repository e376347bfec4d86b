"""Files are read and written without astropy's warnings, by several threads at once."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_guard = threading.Lock()
_inside: list[warnings.catch_warnings[None]] = []
_depth = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings until the last of those that asked for it is done.

    Python's own `catch_warnings` puts back what it found: of two threads that overlap, the later one puts back that
    everything is ignored, and so it stays.
    """
    global _depth
    with _guard:
        if not _depth:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.simplefilter("ignore")
            _inside.append(caught)
        _depth += 1
    try:
        yield
    finally:
        with _guard:
            _depth -= 1
            if not _depth:
                _inside.pop().__exit__(None, None, None)
