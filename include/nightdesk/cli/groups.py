"""`nightdesk groups` and `nightdesk forget`: what is on the disk, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from nightdesk.cli.base import (
    NO_STACK,
    ConfigFile,
    DataRoot,
    app,
    console,
    errors,
    group_of_key,
    night_from,
    settings_from,
    told_plainly,
)
from nightdesk.group import Group
from nightdesk.settings import Settings


@app.command()
def groups(
    data: DataRoot,
    night: Annotated[str | None, typer.Option(help="Only this night: 2026-11-21.")] = None,
    config: ConfigFile = None,
) -> None:
    """List what is on the disk: each group, its frames, its state, and why."""
    from nightdesk.io.inventory import closed_words, take_inventory
    from nightdesk.io.repair import idle_repairs

    with told_plainly():
        settings = settings_from(data, config)
        only = night_from(night)
        inventory = take_inventory(settings)
    table = Table(*(Column(title, no_wrap=True) for title in ("group", "frames", "state")), "why")
    for group, raws in inventory.science.items():
        if only in (None, group.night):
            try:
                state, why = _state_of(settings, group, inventory)
            except OSError as error:
                state, why = "unknown", f"its ledger cannot be read: {error}"
            table.add_row(group.key, str(len({facts.name for facts in raws})), state, escape(why))
    console.print(table if table.row_count else "No group of science frames is on the disk.")
    for sentence in idle_repairs(settings, inventory.raws, only):
        console.print(f"[yellow]warning[/yellow]   {escape(sentence)}.", highlight=False, soft_wrap=True)
    for sentence in closed_words(settings, inventory.closed):
        console.print(f"[yellow]closed[/yellow]    {escape(sentence)}", highlight=False, soft_wrap=True)
    for facts in inventory.raws:
        if facts.kind == "rejected":
            reason = f"{facts.path}: {facts.reason}.".encode("ascii", "backslashreplace").decode()
            console.print(f"[yellow]rejected[/yellow]  {escape(reason)}", highlight=False, soft_wrap=True)


def _state_of(settings: Settings, group: Group, inventory: object) -> tuple[str, str]:
    from nightdesk.io.inventory import Inventory
    from nightdesk.manifest import read_manifest
    from nightdesk.readiness import differs, out_of_date, unmade_masters

    assert isinstance(inventory, Inventory)
    manifest = read_manifest(settings, group)
    if manifest is None:
        return "new", "not reduced yet"
    if differs(settings, group, inventory):
        return "changed", f"was {manifest['state']}; its raws or sidecar have changed since"
    stale = [*out_of_date(settings, group), *unmade_masters(settings, group, inventory).values()]
    if stale:
        return manifest["state"], f"out of date: {'; '.join(stale)}. {manifest['reason']}"
    return manifest["state"], manifest["reason"]


@app.command()
def forget(
    data: DataRoot,
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group's key: 2026-11-21/NGC5949/R.")],
    products: Annotated[bool, typer.Option("--products", help="Remove its products too, not only its ledger.")] = False,
    config: ConfigFile = None,
) -> None:
    """Forget that a group was reduced, so that it is started anew: by the watcher, or, if the night is older than those
    it watches, by `reduce_night` or `nightdesk reduce`. Raws and sidecars are never touched.
    """
    from nightdesk.io.inventory import take_inventory
    from nightdesk.io.layout import COMBINED, EXTINCTION, POST_ISR, SHIFTED, Layout
    from nightdesk.readiness import watched_since

    with told_plainly():
        settings = settings_from(data, config)
        named, _ = take_inventory(settings).of_group(group_of_key(settings, group))
    layout = Layout(settings, named)
    doomed = [path for path in (layout.inputs, layout.manifest) if path.is_file()]
    if products and layout.owner in (None, named.key):
        doomed += [file for step in (POST_ISR, EXTINCTION, SHIFTED) for file in (layout.folder / step).glob("*.fits")]
        doomed += [path for path in (layout.folder / COMBINED).glob("combined.*") if path.is_file()]
    for path in doomed:
        path.unlink()
    if not doomed:
        errors.print(f"[red]{escape(named.key)} has nothing to forget below {escape(str(layout.folder))}.[/red]")
        raise typer.Exit(NO_STACK)
    console.print(f"{escape(named.key)} is forgotten ({len(doomed)} files removed).", highlight=False)
    if named.night < watched_since(settings):
        told = "Its night is older than those that are watched: trigger reduce_night for it, or use nightdesk reduce."
        console.print(told, highlight=False, soft_wrap=True)
