"""Reduce a group from raws to stack in one go, by the same steps that Airflow runs one by one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nightdesk.errors import FrameError, FrameLost, NightdeskError, Waiting, one_line
from nightdesk.io.atomic import locked
from nightdesk.io.layout import Layout
from nightdesk.settings import Batch
from nightdesk.steps import align, combine, extinction, find_sidecar, fused, isr, list_frames, locate, verdict
from nightdesk.steps.batch import run_steps
from nightdesk.steps.recipe import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightdesk.group import Group
    from nightdesk.settings import Settings


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
    first = ["isr", "extinction"]
    if placed := _placed(settings, group):
        first.append("align")
    _pass(first, settings, group, names, progress, pictures=pictures)
    locate.run(settings, group)
    if not placed:
        find_sidecar.run(settings, group)
        _pass(["align"], settings, group, names, progress, pictures=pictures)
    progress("combine", 0, 1)
    combine.run(settings, group, names)
    if pictures:
        from nightdesk.steps import publish, solve

        publish.run(settings, group)
        solve.run(settings, group)
    progress("combine", 1, 1)


def _placed(settings: Settings, group: Group) -> bool:
    """Tell whether it is known where the frames lie before any is looked at."""
    if settings.profile == "notebook":
        with suppress(NightdeskError, Waiting):  # which is said when the frames are through
            find_sidecar.run(settings, group)
            return True
    return False


def _pass(
    steps: Sequence[str],
    settings: Settings,
    group: Group,
    names: list[str],
    progress: Callable[[str, int, int], None],
    *,
    pictures: bool,
) -> None:
    """Take the frames through some steps in one pass; what a step makes of a frame is at hand for the next."""

    def _tell(done: int) -> None:
        for step in steps:
            progress(step, done, len(names))

    _tell(0)
    with suppress(FrameError, FrameLost):  # the loss is on record, and the verdict names it
        if fused.applies(settings, group):
            if "isr" in steps:
                fused.check(settings, group, names)
            _tell(len(names))
            return
        work = Work.open(settings, group)
        made = {
            "isr": lambda: isr.step(work),
            "extinction": lambda: extinction.step(pictures=pictures),
            "align": lambda: align.step(work),
        }
        run_steps(work, [made[step]() for step in steps], names, progress=_tell)
