"""Publish: the stack as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from nightdesk.errors import StaleProduct
from nightdesk.io.atomic import write_bytes
from nightdesk.io.frame import read_frame, read_recipe
from nightdesk.io.layout import Layout
from nightdesk.science.picture import render

if TYPE_CHECKING:
    from pathlib import Path

    from nightdesk.group import Group
    from nightdesk.settings import Settings

MADE_FROM = "nightdesk-recipe"


def run(settings: Settings, group: Group) -> str:
    """Draw the stack with ZScale and asinh to ``combined/combined.png``, north where the stack has it, y upwards.

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
    from PIL import Image, PngImagePlugin

    layout = Layout(settings, group)
    recipe = read_recipe(layout.stack)
    if recipe is None:
        raise StaleProduct(f"{layout.relative(layout.stack)} is missing; combine makes it.")
    if _recipe_of_picture(layout.picture) != recipe:
        stack = read_frame(layout.stack)
        text = PngImagePlugin.PngInfo()
        text.add_text(MADE_FROM, recipe)
        buffer = io.BytesIO()
        Image.fromarray(render(stack.data, stack.flags)).save(buffer, "png", pnginfo=text, optimize=False)
        write_bytes(layout.picture, buffer.getvalue())
    return layout.relative(layout.picture)


def _recipe_of_picture(path: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            recipe = picture.info.get(MADE_FROM)
    except OSError:
        return None
    return recipe if isinstance(recipe, str) else None
