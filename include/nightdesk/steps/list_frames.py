"""Find a group's raws on disk, choose its setup, and write down what this run sets out with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightdesk.errors import GroupError, SetupError
from nightdesk.io.atomic import locked, read_json
from nightdesk.io.inventory import common_shape, name_collisions, select_frames, take_inventory
from nightdesk.io.layout import Layout
from nightdesk.io.master import find_masters
from nightdesk.manifest import write_inputs

if TYPE_CHECKING:
    from nightdesk.group import Group
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
        Frame names, sorted, ``[batch] frames_per_task`` in each.

    Raises
    ------
    GroupError
        If no raw of the group is on disk.
    SetupError
        If header values share a name, a master is missing, the filter has no settings, or the notebook's folder
        holds another night.
    """
    layout = Layout(settings, group)
    _, raws = take_inventory(settings).of_group(group)
    if not raws:
        raise GroupError(
            f"{group.key}: no science frame of this target, filter and night is on disk. Check the names and the "
            "night, or put the raws back."
        )
    _refuse_another_night(settings, layout)
    selection = select_frames(raws)
    with locked(layout.lock, shared=True):
        inputs = write_inputs(layout, run_id, raws, selection, common_shape(selection.frames.values()))
    if collisions := name_collisions(raws):
        raise SetupError(f"{group.key}: {' '.join(collisions)}")
    settings.filter_of(group)
    find_masters(settings, layout, inputs.binning)
    size = settings.batch.frames_per_task
    return [list(inputs.frames[start : start + size]) for start in range(0, len(inputs.frames), size)]


def _refuse_another_night(settings: Settings, layout: Layout) -> None:
    values = read_json(layout.inputs)
    other = values.get("group") if isinstance(values, dict) else None
    if settings.profile == "notebook" and other not in (None, layout.group.key):
        raise SetupError(
            f"{layout.relative(layout.folder)} holds {other}, and the notebook profile keeps one night of a target and "
            f"filter. Move that folder away, or use the profile standard, before reducing {layout.group.key}."
        )
