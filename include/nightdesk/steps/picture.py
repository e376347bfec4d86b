"""A stack as a picture that knows what it was made from."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from nightdesk.io.atomic import write_bytes
from nightdesk.io.frame import read_frame, read_recipe
from nightdesk.science.picture import render

if TYPE_CHECKING:
    from pathlib import Path

    from nightdesk.io.frame import Frame

MADE_FROM = "nightdesk-recipe"


def is_drawn(picture: Path, recipe: str | None) -> bool:
    """Tell whether a picture shows the stack of this recipe.

    Parameters
    ----------
    picture : Path
        The picture, which may not be there.
    recipe : str or None
        The stack's.

    Returns
    -------
    bool
        False too when it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(picture) as drawn:
            return recipe is not None and drawn.info.get(MADE_FROM) == recipe
    except OSError:
        return False


def draw_frame(frame: Frame, recipe: str, picture: Path) -> None:
    """Draw a stack with ZScale and asinh, y upwards.

    Parameters
    ----------
    frame : Frame
        The stack.
    recipe : str
        What it was made by; written into the picture.
    picture : Path
        Where the picture belongs.
    """
    from PIL import Image, PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text(MADE_FROM, recipe)
    buffer = io.BytesIO()
    Image.fromarray(render(frame.data, frame.flags)).save(buffer, "png", pnginfo=text, optimize=False)
    write_bytes(picture, buffer.getvalue())


def draw_picture(stack: Path, picture: Path) -> None:
    """Draw the stack in a file, unless its picture is there.

    Parameters
    ----------
    stack : Path
        The stack.
    picture : Path
        Where the picture belongs.
    """
    recipe = read_recipe(stack)
    if recipe is not None and not is_drawn(picture, recipe):
        draw_frame(read_frame(stack), recipe, picture)
