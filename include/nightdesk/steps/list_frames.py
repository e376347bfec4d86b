"""Find a group's raws on disk, choose its setup, and write down what this run sets out with."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

from nightdesk.desk.night import note_group
from nightdesk.errors import GroupError, SetupError
from nightdesk.io.association import find_masters
from nightdesk.io.atomic import locked
from nightdesk.io.inventory import name_collisions, select_frames, take_inventory
from nightdesk.io.layout import EXTINCTION, POST_ISR, SHIFTED, Layout
from nightdesk.manifest import write_inputs
from nightdesk.readiness import watched_since

if TYPE_CHECKING:
    from nightdesk.group import Group
    from nightdesk.manifest import Inputs
    from nightdesk.settings import Settings


def run(settings: Settings, group: Group, *, run_id: str) -> list[list[str]]:
    """List the frames to reduce, in batches; no pixel is opened.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    run_id : str
        Who asks; written into `inputs.json`, which is written before anything can fail.

    Returns
    -------
    list of list of str
        Frame names, sorted, as many in each as ``[batch]`` says.

    Raises
    ------
    GroupError
        If no raw of the group is on disk.
    SetupError
        If header values share a name, a master is missing, the filter has no settings, the disk is too full, or the
        notebook's folder holds another night.
    """
    layout = Layout(settings, group)
    inventory = take_inventory(settings)
    known, raws = inventory.of_group(group)
    if not raws:
        raise GroupError(
            f"{group.key}: no science frame of this target, filter and night is on disk. Check the names and the "
            "night, or put the raws back."
        )
    if known != group:
        raise SetupError(f"{group.key}: its raws spell it {known.key}. Start it by that name.")
    selection = select_frames(raws, any_exposure=settings.combine.scale != "none")
    biases = inventory.bias_pair(group.night, selection.frames.values())
    with locked(layout.lock, shared=True):
        inputs = write_inputs(layout, run_id, raws, selection, biases)
    note_group(settings, group)
    _refuse_another_night(layout)
    if collisions := name_collisions(group, inventory.raws):
        raise SetupError(f"{group.key}: {' '.join(collisions)}")
    settings.filter_of(group)
    find_masters(settings, layout, inputs)
    _require_space(settings, layout, inputs)
    size = batch_size(settings, group, len(inputs.frames))
    return [list(inputs.frames[start : start + size]) for start in range(0, len(inputs.frames), size)]


def batch_size(settings: Settings, group: Group, frames: int) -> int:
    """Return how many frames one task takes.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.
    frames : int
        How many it has.

    Returns
    -------
    int
        At least 1.
    """
    opened = settings.archive.from_night
    archived = opened is not None and opened <= group.night < watched_since(settings)
    return settings.batch.size(frames, archived=archived)


def _refuse_another_night(layout: Layout) -> None:
    if layout.owner != layout.group.key:
        raise SetupError(
            f"{layout.relative(layout.folder)} holds {layout.owner}, and the notebook profile keeps one night of a "
            "target and filter. Move postISR, extinction, shifted and combined away from there, or use the profile "
            f"standard, before reducing {layout.group.key}."
        )


UNION = 1.5
"""How much larger than a frame the union of dithered frames is taken to be; nobody knows it before they are matched."""


def space_needed(settings: Settings, layout: Layout, inputs: Inputs) -> int:
    """Return about how many bytes a group's products will take; those that are there already are not counted.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    layout : Layout
        The group's places.
    inputs : Inputs
        Its frames.

    Returns
    -------
    int
        In bytes.
    """
    from nightdesk.steps import fused  # which builds on this module

    number = 8 if settings.depth == "float64" else 4
    standard = settings.profile == "standard"
    frame = 3 * number + 2 if standard else 2 * number  # SCI, VAR, VARCAL and DQ
    mapped = len(inputs.frames) if standard and settings.combine.map_rejections else 0
    stack = frame + 3 + mapped if standard else frame  # COVERAGE, NREJ and REJECTED
    grid = UNION if standard and settings.combine.footprint == "union" else 1.0
    each = {POST_ISR: 1.0, EXTINCTION: 1.0, SHIFTED: grid}
    between = 0.0
    if not fused.applies(settings, layout.group):
        between = sum(
            size for step, size in each.items() for name in inputs.frames if not layout.product(step, name).exists()
        )
    pixels = math.prod(inputs.shape) if inputs.shape else 0
    return round(pixels * (frame * between + stack * grid))


def _require_space(settings: Settings, layout: Layout, inputs: Inputs) -> None:
    """Refuse to begin what would fill the disk."""
    needed, free = space_needed(settings, layout, inputs), shutil.disk_usage(layout.folder).free
    if needed <= free:
        return
    advice = (
        ', or keep no product before the stack: [products] keep = "stack" with [batch] frames_per_task = "all"'
        if any(not layout.product(POST_ISR, name).exists() for name in inputs.frames)
        and (settings.products.keep != "stack" or settings.batch.frames_per_task != "all")
        else ""
    )
    raise SetupError(
        f"{layout.group.key}: its products need about {needed / 1e9:.3g} GB, and {layout.relative(layout.folder)} "
        f"has {free / 1e9:.3g} GB free. Make room{advice}, then clear this run."
    )
