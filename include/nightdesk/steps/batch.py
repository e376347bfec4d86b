"""A batch: the list of frames that one task takes. The good ones are written before the bad ones are named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nightdesk.errors import FrameError, FrameLost
from nightdesk.io.atomic import locked
from nightdesk.io.layout import SHIFTED
from nightdesk.manifest import record_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightdesk.group import Group
    from nightdesk.settings import Settings
    from nightdesk.steps.recipe import Work


def run_batch(work: Work, step: str, names: Sequence[str], one: Callable[[str], None], *, at_once: int = 1) -> None:
    """Run one step on every frame of a batch, then raise what went wrong with some.

    Parameters
    ----------
    work : Work
        The group.
    step : str
        The step's name, for the record of a loss.
    names : sequence of str
        The frames.
    one : callable
        Does the step for one frame; returns at once when its product is current.
    at_once : int
        How many frames are in work at a time, each in a thread.

    Raises
    ------
    FrameError
        After the good ones are written, naming the bad.
    FrameLost
        If every frame of the batch was lost in an earlier step.
    """
    errors: dict[str, FrameError] = {}
    lost: dict[str, str] = {}

    def _each(name: str) -> None:
        if step != "isr" and (loss := work.loss(name)) and loss["step"] != step:
            lost[name] = f"{name} was lost in {loss['step']}: {loss['reason']}"
            return
        try:
            one(name)
        except FrameError as error:
            record_loss(work.layout, name, step, error, work.raw_state(name))
            errors[name] = error

    with locked(work.layout.lock, shared=True):
        _in_threads(_each, names, at_once)
    if errors:
        raise FrameError(" ".join(str(errors[name]) for name in names if name in errors))
    if len(lost) == len(names):
        raise FrameLost(" ".join(lost[name] for name in names))


def frames_at_once(settings: Settings) -> int:
    """Return how many frames of a batch are in work at a time: while some wait for the disk, others are computed.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.

    Returns
    -------
    int
        Twice the threads that compute.
    """
    return 2 * settings.machine.workers


def _in_threads(one: Callable[[str], None], names: Sequence[str], at_once: int) -> None:
    """Do one thing for every name; what goes wrong for all is raised before the rest is begun."""
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(one, name) for name in names]
        try:
            for future in waiting:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def aligned_of(settings: Settings, group: Group, names: Sequence[str]) -> list[str]:
    """Return those frames of a batch that are aligned, though its task failed for others.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    names : sequence of str
        The batch.

    Returns
    -------
    list of str
        Frames that no step has lost and whose aligned product is current; in one pass there is none of these yet.
    """
    from nightdesk.steps import fused
    from nightdesk.steps.recipe import Work

    work = Work.open(settings, group)
    in_one_pass = fused.applies(settings, group)
    return [name for name in names if not work.loss(name) and (in_one_pass or work.is_current(SHIFTED, name))]
