"""A batch: the list of frames that one task takes. The good ones are written before the bad ones are named."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nightdesk.errors import FrameError, FrameLost
from nightdesk.io.atomic import locked, release
from nightdesk.io.frame import RECIPE, Product, open_frame, write_products
from nightdesk.io.layout import SHIFTED
from nightdesk.manifest import record_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nightdesk.group import Group
    from nightdesk.io.frame import Frame, RowFrame
    from nightdesk.settings import Settings
    from nightdesk.steps.recipe import Work


@dataclass
class Passage:
    """A frame on its way through one step, or several of them in one pass over its rows.

    Attributes
    ----------
    work : Work
        The group.
    name : str
        The frame.
    """

    work: Work
    name: str
    _products: dict[str, Product] = field(default_factory=dict)
    _read: list[Path] = field(default_factory=list)
    _last: list[Callable[[], None]] = field(default_factory=list)

    def frame(self, step: str) -> RowFrame:
        """Return the frame as an earlier step leaves it: in this pass, or on disk.

        Parameters
        ----------
        step : str
            The folder of the step's products.

        Returns
        -------
        RowFrame
            As it is read from disk, in both cases.

        Raises
        ------
        StaleProduct
            If the product on disk is missing or not current.
        """
        product = self._products.get(step)
        path = product.path if product else self.work.require(step, self.name)
        self._read.append(path)
        return product.read_back() if product else open_frame(path)

    def make(self, step: str, frame: Frame | RowFrame) -> None:
        """Take what a step makes of the frame, to be written when all steps of the pass are told.

        Parameters
        ----------
        step : str
            The folder of the step's products.
        frame : Frame or RowFrame
            The product without its recipe.
        """
        frame.header[RECIPE] = self.work.recipe(step, self.name)
        path = self.work.layout.product(step, self.name)
        self._products[step] = Product(path, frame, depth=self.work.settings.depth)

    def at_last(self, what: Callable[[], None]) -> None:
        """Do something when the products are written.

        Parameters
        ----------
        what : callable
            Takes and returns nothing.
        """
        self._last.append(what)

    def finish(self) -> None:
        """Write the products; nobody reads soon again what has been read."""
        write_products(list(self._products.values()))
        for what in self._last:
            what()
        for path in self._read:
            release(path)


@dataclass(frozen=True)
class Step:
    """A step, and what it does for one frame.

    Attributes
    ----------
    name : str
        The step's name, for the record of a loss.
    one : callable
        Tells the pass what it makes of the frame; nothing when its product is current.
    unused : frozenset of str
        Frames that it passes over.
    """

    name: str
    one: Callable[[Passage], None]
    unused: frozenset[str] = frozenset()


def run_batch(work: Work, step: str, names: Sequence[str], one: Callable[[str], None]) -> None:
    """Do one thing for every frame of a batch, one by one, then raise what went wrong with some.

    Parameters
    ----------
    work : Work
        The group.
    step : str
        The step's name, for the record of a loss.
    names : sequence of str
        The frames.
    one : callable
        Takes the name of a frame.

    Raises
    ------
    FrameError
        After the good ones are done, naming the bad.
    FrameLost
        If every frame of the batch was lost in an earlier step.
    """
    run_steps(work, [Step(step, lambda passage: one(passage.name))], names, at_once=1)


def run_steps(
    work: Work,
    steps: Sequence[Step],
    names: Sequence[str],
    *,
    at_once: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Take every frame of a batch through some steps, then raise what went wrong with some.

    Parameters
    ----------
    work : Work
        The group.
    steps : sequence of Step
        The steps, in their order.
    names : sequence of str
        The frames.
    at_once : int, optional
        How many frames are in work at a time, each in a thread; by default so many that some are computed while
        others wait for the disk.
    progress : callable
        Called with how many frames are through.

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
        first = steps[0].name
        if first != "isr" and (loss := work.loss(name)) and loss["step"] != first:
            lost[name] = f"{name} was lost in {loss['step']}: {loss['reason']}"
            return
        passage, at, error = Passage(work, name), first, None
        try:
            for step in steps:
                at = step.name
                if name not in step.unused:
                    step.one(passage)
        except FrameError as raised:
            error = raised
        try:
            passage.finish()
        except FrameError as raised:
            at, error = first, raised
        if error:
            record_loss(work.layout, name, at, error, work.raw_state(name))
            errors[name] = error

    with locked(work.layout.lock, shared=True):
        _in_threads(_each, names, at_once or work.settings.machine.workers + 1, progress)
    if errors:
        raise FrameError(" ".join(str(errors[name]) for name in names if name in errors))
    if names and len(lost) == len(names):
        raise FrameLost(" ".join(lost[name] for name in names))


def _in_threads(
    one: Callable[[str], None], names: Sequence[str], at_once: int, progress: Callable[[int], None]
) -> None:
    """Do one thing for every name; what goes wrong for all is raised before the rest is begun."""
    is_over = threading.Event()

    def _unless_over(name: str) -> None:
        if is_over.is_set():
            return
        try:
            one(name)
        except BaseException:
            is_over.set()
            raise

    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(_unless_over, name) for name in names]
        try:
            for done, future in enumerate(waiting, start=1):
                future.result()
                progress(done)
        except BaseException:
            is_over.set()
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
