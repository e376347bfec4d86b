"""The steps' imports, paid once by the scheduler instead of by every task.

With the LocalExecutor each task is a fork of the scheduler's workers, so what the scheduler has imported is there.
Without this, astropy, numpy and pandas cost every square two thirds of a second. Other executors do without.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys


def preload_steps() -> None:
    """Import all steps when this process is `airflow scheduler`; a new version of the package needs its restart."""
    if sys.argv[1:2] != ["scheduler"]:
        return
    from nightdesk import steps

    for module in pkgutil.iter_modules(steps.__path__):
        importlib.import_module(f"nightdesk.steps.{module.name}")
    gc.collect()  # the workers are forked next: what is garbage now would be copied
