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
    if collisions := name_collisions(raws):
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


def _require_space(settings: Settings, layout: Layout, inputs: Inputs) -> None:
    """Refuse to begin what would fill the disk: an estimate, with products that are there already not counted."""
    number_bytes = 8 if settings.depth == "float64" else 4
    planes = 2 * number_bytes if settings.profile == "notebook" else 3 * number_bytes + 2
    pixels = math.prod(inputs.shape) if inputs.shape else 0
    steps = (POST_ISR, EXTINCTION, SHIFTED)
    missing = sum(not layout.product(step, name).exists() for step in steps for name in inputs.frames)
    needed = pixels * planes * (missing + 1)
    free = shutil.disk_usage(layout.folder).free
    if needed > free:
        raise SetupError(
            f"{layout.group.key}: its products need about {needed / 1e9:.1f} GB, and {layout.relative(layout.folder)} "
            f'has {free / 1e9:.1f} GB free. Make room, or let Nightdesk do so by [products] keep = "stack", then clear '
            "this run."
        )
