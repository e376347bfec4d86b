"""`nightdesk simulate`: a night to try it on."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from nightdesk.cli.base import app, console, night_from, progress, told_plainly
from nightdesk.errors import SetupError
from nightdesk.settings import Settings


@app.command()
def simulate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Where to write it; made if missing.")],
    target: Annotated[list[str], typer.Option(help="A target; may be given again.")] = ["NGC5949"],  # noqa: B006 - typer copies it
    filter_name: Annotated[list[str], typer.Option("--filter", help="A filter; may be given again.")] = ["R"],  # noqa: B006
    night: Annotated[
        list[str] | None, typer.Option(help="A night: 2026-11-21; may be given again. Default: last night.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each target, filter and night.")] = 3,
    size: Annotated[str, typer.Option(help="Width and height in pixels.")] = "512x512",
    exposure: Annotated[float, typer.Option(min=0.001, help="Seconds.")] = 60.0,
    dither: Annotated[float, typer.Option(min=0, help="Largest offset between frames, pixels.")] = 8.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    raw_calibrations: Annotated[
        bool, typer.Option("--raw-calibrations", help="Write raw bias, dark and flat frames instead of masters.")
    ] = False,
    sidecars: Annotated[bool, typer.Option(help="Write the star positions, xy.csv.")] = True,
    notebook_place: Annotated[
        bool, typer.Option("--notebook-place", help="Put raws where the notebook had them: processed/.../raws.")
    ] = False,
) -> None:
    """Write a realistic night of pt5m, with the truth beside it in DATA/truth."""
    from nightdesk.simulate import simulate as step

    with told_plainly():
        try:
            width, height = (int(part) for part in size.lower().split("x"))
        except ValueError as error:
            raise SetupError(f"--size {size!r}: write width and height as 512x512.") from error
        nights = tuple(night_from(text) for text in night) if night else (_last_night(),)
        with progress() as show:
            made = step(
                data,
                targets=tuple(target),
                filters=tuple(filter_name),
                nights=tuple(one for one in nights if one is not None),
                frames=frames,
                size=(width, height),
                exposure=exposure,
                seed=seed,
                masters=not raw_calibrations,
                raw_calibrations=raw_calibrations,
                sidecars=sidecars,
                dither=dither,
                place="processed" if notebook_place else "raw",
                progress=lambda done, total: show("frames", done, total),
            )
    console.print(f"{len(made.frames)} science frames below {escape(str(data))}.", highlight=False, soft_wrap=True)


def _last_night() -> date:
    from datetime import timedelta

    from nightdesk.readiness import tonight

    return tonight(Settings()) - timedelta(days=1)
