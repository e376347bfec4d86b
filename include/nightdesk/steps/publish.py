"""Publish: the stack as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nightdesk.desk.card import has_stack_card, read_card, write_stack_card
from nightdesk.desk.place import frame_card
from nightdesk.desk.trend import transparency
from nightdesk.errors import StaleProduct
from nightdesk.io.frame import read_frame, read_recipe
from nightdesk.io.layout import Layout
from nightdesk.steps.picture import draw_frame, is_drawn
from nightdesk.steps.recipe import Work
from nightdesk.steps.stack_header import read_names

if TYPE_CHECKING:
    from nightdesk.group import Group
    from nightdesk.settings import Settings


def run(settings: Settings, group: Group) -> str:
    """Draw the stack with ZScale and asinh to ``combined/combined.png``, north where the stack has it, y upwards.

    Beside it, in ``combined/desk``, it leaves what the web pages show: the stack's figures, a small picture and tiles.

    Parameters
    ----------
    settings : Settings
        The observatory's settings.
    group : Group
        The group.

    Returns
    -------
    str
        Path of the picture, below the data root.

    Raises
    ------
    StaleProduct
        If there is no stack.
    """
    layout = Layout(settings, group)
    recipe = read_recipe(layout.stack)
    if recipe is None:
        raise StaleProduct(f"{layout.relative(layout.stack)} is missing; combine makes it.")
    stale = not is_drawn(layout.picture, recipe)
    bare = not has_stack_card(layout, recipe)
    if stale or bare:
        stack = read_frame(layout.stack)
    if bare:
        write_stack_card(layout, stack, _trend(settings, group, read_names(stack.header)))
    if stale:
        draw_frame(stack, recipe, layout.picture)
    return layout.relative(layout.picture)


def _trend(settings: Settings, group: Group, names: list[str]) -> dict[str, Any]:
    """Return how far each frame moved and how much light it has, by what is written of them; no pixel is opened."""
    layout = Layout(settings, group)
    positions = Work.open(settings, group).positions
    rows = {row.name: row for row in positions.rows} if positions else {}
    cards = {name: read_card(frame_card(layout, name)) for name in names}
    first = rows.get(names[0]) if names else None
    trend: dict[str, Any] = {}
    for name in names:
        row = rows.get(name)
        shift = (first.x - row.x, first.y - row.y) if first and row else (0.0, 0.0)
        trend[name] = {
            "dx": shift[0],
            "dy": shift[1],
            "transparency": transparency(cards[names[0]], cards[name], shift),
        }
    return trend
