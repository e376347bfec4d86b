"""`nightdesk reduce`: one group by hand."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.markup import escape

from nightdesk.cli.base import (
    NO_STACK,
    SOME_LOST,
    ConfigFile,
    DataRoot,
    app,
    console,
    find_group,
    progress,
    settings_from,
    tell,
    told_plainly,
)
from nightdesk.errors import NightdeskError, StaleProduct


@app.command()
def reduce(
    data: DataRoot,
    target: Annotated[str, typer.Option(help="The target, as in the header or with blanks dropped: NGC5949.")],
    filter_name: Annotated[str, typer.Option("--filter", help="The filter: R.")],
    night: Annotated[
        str | None, typer.Option(help="The local date of the evening: 2026-11-21. Needed if there are several.")
    ] = None,
    profile: Annotated[
        Literal["standard", "notebook"] | None,
        typer.Option(help="Whose arithmetic and folders; else as configured."),
    ] = None,
    instrument: Annotated[str | None, typer.Option(help="Needed if several are configured.")] = None,
    config: ConfigFile = None,
) -> None:
    """Reduce one target, filter and night, without Airflow, by the same steps.

    Work that is done already, and made from the same inputs, is not done again.

    Exit code: 0 if every frame was used, 1 if a stack was made without some frame, 2 if there is no stack.
    """
    from nightdesk.manifest import read_manifest
    from nightdesk.steps import reduce as step

    with told_plainly():
        settings = settings_from(data, config, profile)
        group = find_group(settings, target, filter_name, night, instrument)
    try:
        with progress() as show:
            sentence = step.run(settings, group, progress=show)
        console.print(escape(sentence), highlight=False)
    except NightdeskError as error:
        tell(error)
    except (StaleProduct, OSError) as error:
        tell(error)
        raise typer.Exit(NO_STACK) from error
    manifest = read_manifest(settings, group) or {"state": "failed", "raws": [], "stack": None}
    if manifest["state"] not in ("done", "partial"):
        raise typer.Exit(NO_STACK)
    console.print(f"Stack: {escape(str(settings.root / manifest['stack']))}", highlight=False, soft_wrap=True)
    used = {raw["name"] for raw in manifest["raws"] if raw["fate"] == "used"}  # one of its copies is enough
    if any(raw["name"] not in used for raw in manifest["raws"]):
        raise typer.Exit(SOME_LOST)
