"""`nightdesk config`: check a configuration, explain a frame by it, begin one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from nightdesk.cli.base import SOME_LOST, ConfigFile, app, console, errors, told_plainly
from nightdesk.errors import SetupError
from nightdesk.settings import Settings, default_settings, load_settings

if TYPE_CHECKING:
    from nightdesk.io.profile import Reading
    from nightdesk.io.raw import RawFacts

config_app = typer.Typer(no_args_is_help=True, help="Begin a configuration, check it, or see a frame by it.")
app.add_typer(config_app, name="config")


@config_app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An observatory.toml.")],
) -> None:
    """Read a configuration and say in a sentence whether it is right; if not: line, key and what was expected."""
    from nightdesk.io.inventory import take_inventory
    from nightdesk.io.repair import idle_repairs

    with told_plainly():
        settings = load_settings(file)
    console.print(
        f"{escape(str(file))} is right: {escape(settings.site.name)} ({settings.site.timezone}), profile "
        f"{settings.profile}, {len(settings.instruments)} instrument(s), filters {', '.join(settings.filters)}, "
        f"data root {escape(str(settings.root))}.",
        highlight=False,
        soft_wrap=True,
    )
    if settings.repairs and settings.root.is_dir():
        for sentence in idle_repairs(settings, take_inventory(settings).raws):
            console.print(f"[yellow]warning[/yellow]   {escape(sentence)}.", highlight=False, soft_wrap=True)


@config_app.command()
def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE.fits", help="A raw frame.")],
    config: ConfigFile = None,
) -> None:
    """Show what the configuration makes of a frame: each setting, where it was read, its value and unit.

    Exit code: 0 if nothing is missing that the frame needs, 1 if something is.
    """
    from nightdesk.io.profile import explain_raw

    with told_plainly():
        place = Path(os.path.abspath(file))  # noqa: PTH100 - links are left as they are
        if not place.is_file():
            raise SetupError(f"{file}: there is no such file.")
        root = next((folder.parent for folder in place.parents if folder.name in ("raw", "processed")), place.parent)
        own = root / "observatory.toml"
        path = config or (own if own.is_file() else None)
        settings = load_settings(path) if path else Settings()
        settings = settings.model_copy(update={"data": default_settings(root).data.model_copy(update={"root": root})})
        facts, instrument, readings = explain_raw(settings, place)
        readings += _extinction(settings, facts)
    told = f"{facts.kind}: {facts.reason}" if facts.reason else facts.kind
    console.print(
        f"{escape(file.name)}: instrument {escape(instrument)}, {escape(told)}", highlight=False, soft_wrap=True
    )
    if facts.kind in ("science", "bias", "dark", "flat"):
        console.print(f"night {facts.night}, {escape(_names(facts))}binning {facts.binning}", highlight=False)
    table = Table(*(Column(title, no_wrap=True) for title in ("setting", "read from")), "value", "unit")
    for one in readings:
        source = "[red]missing[/red]" if one.missing else escape(one.source or "-")
        table.add_row(one.setting, source, escape(one.value), one.unit)
    console.print(table)
    missing = [one.setting for one in readings if one.missing]
    if missing or facts.kind == "rejected":
        errors.print(
            f"[red]Missing: {escape(', '.join(missing) or facts.reason)}.[/red]", highlight=False, soft_wrap=True
        )
        raise typer.Exit(SOME_LOST)


def _extinction(settings: Settings, facts: RawFacts) -> list[Reading]:
    """Return the extinction coefficient of a science frame, which its filter's settings must give."""
    from datetime import date

    from nightdesk.group import Group
    from nightdesk.io.profile import Reading
    from nightdesk.steps.coefficient import find_coefficient

    if facts.kind != "science":
        return []
    group = Group(date.fromisoformat(facts.night), facts.target, facts.filter_name, facts.instrument)
    try:
        found = find_coefficient(settings, group)
    except SetupError as error:
        return [Reading("extinction", "", str(error), "mag/airmass", missing=True)]
    return [Reading("extinction", found.source, f"{found.k:g} +- {found.sigma:g}", "mag/airmass")]


def _names(facts: RawFacts) -> str:
    words = [facts.target if facts.kind == "science" else "", facts.filter_name if facts.filter_text else ""]
    return "".join(f"{word}, " for word in words if word)


@config_app.command()
def init(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="A handful of raws: of each kind one or two.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it; to the screen if not given.")
    ] = None,
) -> None:
    """Begin a configuration for a new telescope from a handful of its raws, with a comment on each guess.

    What the headers do not tell is marked UNKNOWN: fill it in, then `nightdesk config check` and `config explain`.
    """
    from nightdesk.io.guess import guess_configuration

    with told_plainly():
        text = guess_configuration(files)
        if output is not None and output.exists():
            raise SetupError(f"{output} exists already; give another name.")
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    unknown = text.count("UNKNOWN")
    console.print(f"{escape(str(output))} is written; fill in what it marks as UNKNOWN ({unknown}).", soft_wrap=True)
