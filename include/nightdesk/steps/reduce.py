"""Reduce a group from raws to stack in one go, by the same steps that Airflow runs one by one."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from nightdesk.errors import FrameError, FrameLost, NightdeskError, Waiting, one_line
from nightdesk.io.atomic import locked
from nightdesk.io.layout import Layout
from nightdesk.settings import Batch
from nightdesk.steps import align, combine, extinction, find_sidecar, fused, isr, list_frames, locate, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightdesk.group import Group
    from nightdesk.settings import Settings

AT_ONCE = 8  # frames that share the reading of the masters, and are one step of the progress bar


def run(
    settings: Settings,
    group: Group,
    *,
    run_id: str = "by hand",
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
    pictures: bool = True,
) -> str:
    """Reduce one group.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    run_id : str
        Written into the manifest.
    progress : callable
        Called with the step's name, how many frames of it are done, and of how many.
    pictures : bool
        Whether frames and stack are measured and drawn for the web pages, and the stack is solved.

    Returns
    -------
    str
        The verdict: done, or waiting for what.

    Raises
    ------
    GroupError
        When a frame was lost or there is no stack.
    SetupError
        When a master, a setting or the sidecar is wrong; the manifest is written all the same.
    """
    # all in one process: where no product but the stack is kept, that is one pass over the raws
    settings = settings.model_copy(update={"batch": Batch(frames_per_task="all")})
    with locked(Layout(settings, group).run_lock, patience=0):
        request = ""
        try:
            names = [name for batch in list_frames.run(settings, group, run_id=run_id) for name in batch]
            _reduce(settings, group, names, progress, pictures=pictures)
        except Waiting as waiting:
            request = f"\n{waiting}"
        except NightdeskError as error:
            with suppress(NightdeskError):
                verdict.run(settings, group, run_id=run_id, states={}, failed_steps={"reduce": one_line(error)})
            raise
        return verdict.run(settings, group, run_id=run_id, states={}) + request


def _reduce(
    settings: Settings, group: Group, names: list[str], progress: Callable[[str, int, int], None], *, pictures: bool
) -> None:
    _each(
        (("isr", isr.run), ("extinction", partial(extinction.run, pictures=pictures))), settings, group, names, progress
    )
    locate.run(settings, group)
    find_sidecar.run(settings, group)
    _each((("align", align.run),), settings, group, names, progress)
    progress("combine", 0, 1)
    combine.run(settings, group, names)
    if pictures:
        from nightdesk.steps import publish, solve

        publish.run(settings, group)
        solve.run(settings, group)
    progress("combine", 1, 1)


_Step = tuple[str, "Callable[[Settings, Group, list[str]], None]"]


def _each(
    steps: Sequence[_Step],
    settings: Settings,
    group: Group,
    names: list[str],
    progress: Callable[[str, int, int], None],
) -> None:
    """Do some steps for some frames, then for the next: what one wrote is still in memory when the other reads it."""
    at_once = len(names) if fused.applies(settings, group) else AT_ONCE
    for done in range(0, len(names), max(at_once, 1)):
        for step, work in steps:
            progress(step, done, len(names))
            with suppress(FrameError, FrameLost):  # the loss is on record, and the verdict names it
                work(settings, group, names[done : done + at_once])
    for step, _ in steps:
        progress(step, len(names), len(names))
