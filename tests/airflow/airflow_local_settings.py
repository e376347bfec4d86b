"""Read by every component of the tests' Airflow: frames named in a file take long to reduce.

The file is ``slow.json`` beside the data root: ``{"r0743059": 8.0}``, seconds by frame name.
"""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any


def task_policy(task: Any) -> None:
    """Let `isr` dawdle over the frames in the file."""
    if task.task_id == "frame.isr":
        task.python_callable = dawdling(task.python_callable)


def dawdling(isr: Any) -> Any:
    @functools.wraps(isr)
    def wrapped(names: list[str]) -> Any:
        slow = Path(os.environ["NIGHTDESK_DATA"]).with_name("slow.json")
        seconds = json.loads(slow.read_text()) if slow.exists() else {}
        time.sleep(sum(seconds.get(name, 0) for name in names))
        return isr(names=names)

    return wrapped
