"""Warnings are ignored while any thread asks for it, and no longer."""

from __future__ import annotations

import threading
import warnings

import pytest

from nightdesk.io.quiet import quiet


def test_warnings_are_ignored_and_then_told_again() -> None:
    with quiet(), quiet():
        warnings.warn("unheard", stacklevel=1)
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_after_an_error_they_are_told_too() -> None:
    with pytest.raises(ZeroDivisionError), quiet():
        _ = 1 / 0
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_threads_that_overlap_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def _first() -> None:
        with quiet():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=_first)
    thread.start()
    inside.wait(10)
    with quiet():  # comes later, and goes later
        leave.set()
        thread.join()
        warnings.warn("unheard", stacklevel=1)
    assert list(warnings.filters) == before
