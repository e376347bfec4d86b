"""A batch: the list of frames that one task takes. The good ones are written before the bad ones are named."""

from __future__ import annotations

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


def run_batch(work: Work, step: str, names: Sequence[str], one: Callable[[str], None]) -> None:
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

    Raises
    ------
    FrameError
        After the good ones are written, naming the bad.
    FrameLost
        If every frame of the batch was lost in an earlier step.
    """
    errors: list[FrameError] = []
    lost = []
    with locked(work.layout.lock, shared=True):
        for name in names:
            if step != "isr" and (loss := work.loss(name)) and loss["step"] != step:
                lost.append(f"{name} was lost in {loss['step']}: {loss['reason']}")
                continue
            try:
                one(name)
            except FrameError as error:
                record_loss(work.layout, name, step, error, work.raw_state(name))
                errors.append(error)
    if errors:
        raise FrameError(" ".join(str(error) for error in errors))
    if len(lost) == len(names):
        raise FrameLost(" ".join(lost))


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
