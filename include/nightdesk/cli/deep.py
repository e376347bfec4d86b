"""`nightdesk deep`: all nights of a target and filter in one image."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from nightdesk.cli.base import (
    NO_STACK,
    SOME_LOST,
    ConfigFile,
    DataRoot,
    app,
    console,
    errors,
    settings_from,
    told_plainly,
)
from nightdesk.errors import SetupError, Waiting
from nightdesk.night import parse_night


@app.command()
def deep(
    data: DataRoot,
    target: Annotated[str, typer.Option(help="The target, as in the header or with blanks dropped: NGC5949.")],
    filter_name: Annotated[str, typer.Option("--filter", help="The filter: R.")],
    night: Annotated[
        list[str] | None,
        typer.Option(help="A night to use: 2026-11-21; may be given again. Default: all with a stack."),
    ] = None,
    instrument: Annotated[str | None, typer.Option(help="Needed if several are configured.")] = None,
    config: ConfigFile = None,
) -> None:
    """Combine the stacks of several nights into deep/(target)/(filter)/deep.fits.

    The nights are laid on one another by their stars, brought to one brightness and sky, and weighted by their noise.

    Exit code: 0 if every night was used, 1 if one was left out, 2 if there is no deep stack.
    """
    from nightdesk.steps import deep as step

    with told_plainly():
        settings = settings_from(data, config)
        try:
            nights = [parse_night(text) for text in night] if night else None
        except ValueError as error:
            raise SetupError(f"--night: {error}.") from error
        try:
            made = step.run(settings, target=target, filter_name=filter_name, nights=nights, instrument=instrument)
        except Waiting as waiting:
            errors.print(f"[red]{escape(str(waiting))}[/red]", highlight=False)
            raise typer.Exit(NO_STACK) from waiting
    for name, reason in sorted(made["left_out"].items()):
        console.print(f"[yellow]left out[/yellow]  {name}: {escape(reason)}", highlight=False, soft_wrap=True)
    console.print(f"{len(made['nights'])} nights, {made['exposure']:g} s.", highlight=False)
    console.print(f"Stack: {escape(str(settings.root / made['path']))}", highlight=False, soft_wrap=True)
    if made["left_out"]:
        raise typer.Exit(SOME_LOST)
