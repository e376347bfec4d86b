"""The command `nightdesk`: reduce a group by hand, see what there is, simulate a night, check a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from nightdesk import __version__
from nightdesk.errors import NightdeskError, SetupError
from nightdesk.group import Group
from nightdesk.night import parse_night
from nightdesk.settings import Settings, default_settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    help="""Reduce an observatory's nights: raw FITS frames in, one calibrated, aligned, combined image per target,
filter and night out, with an honest error, a picture and a reason for every frame.

DATA is the data root: the folder that holds `raw/`, `calibs/` and `xys/`. The configuration is `--config`, else
what `NIGHTDESK_CONFIG` names, else `DATA/observatory.toml`, else that of the telescope pt5m.

    nightdesk simulate /tmp/night                                 a night to try it on
    nightdesk groups /tmp/night                                   what there is
    nightdesk reduce /tmp/night --target NGC5949 --filter R       from raws to the stack
""",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at a configuration.")
app.add_typer(config_app, name="config")

console = Console()
errors = Console(stderr=True)

DataRoot = Annotated[
    Path, typer.Argument(metavar="DATA", help="The data root: the folder that holds raw/, calibs/ and xys/.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The observatory's configuration.", envvar="NIGHTDESK_CONFIG"),
]

ALL_USED, SOME_LOST, NO_STACK = 0, 1, 2


@contextmanager
def _told_plainly() -> Iterator[None]:
    """End with exit code 2 and a sentence, not a traceback, where a person can mend what is wrong."""
    try:
        yield
    except NightdeskError as error:
        errors.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        raise typer.Exit(NO_STACK) from error


def _settings(data: Path, config: Path | None, profile: str | None = None) -> Settings:
    if not data.is_dir():
        raise SetupError(f"{data}: there is no such folder. Give the data root, which holds raw/, calibs/ and xys/.")
    own = data / "observatory.toml"
    path = config or (own if own.is_file() else None)
    settings = load_settings(path) if path else default_settings(data)
    changes = {"data": default_settings(data).data} | ({"profile": profile} if profile else {})
    return settings.model_copy(update=changes)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"nightdesk {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Hold the options that come before any command."""


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

    with _told_plainly():
        settings = _settings(data, config, profile)
        group = _find_group(settings, target, filter_name, night, instrument)
    try:
        with _progress() as progress:
            sentence = step.run(settings, group, progress=progress)
        console.print(escape(sentence), highlight=False)
    except NightdeskError as error:
        errors.print(f"[red]{escape(str(error))}[/red]", highlight=False)
    except Exception as error:
        from nightdesk.errors import StaleProduct

        if not isinstance(error, StaleProduct):
            raise
        errors.print(f"[red]{escape(str(error))}[/red]", highlight=False)
        raise typer.Exit(NO_STACK) from error
    manifest = read_manifest(settings, group) or {"state": "failed", "raws": [], "stack": None}
    if manifest["state"] not in ("done", "partial"):
        raise typer.Exit(NO_STACK)
    console.print(f"Stack: {escape(str(settings.root / manifest['stack']))}", highlight=False, soft_wrap=True)
    used = {raw["name"] for raw in manifest["raws"] if raw["fate"] == "used"}  # one of its copies is enough
    if any(raw["name"] not in used for raw in manifest["raws"]):
        raise typer.Exit(SOME_LOST)


def _find_group(settings: Settings, target: str, filter_name: str, night: str | None, instrument: str | None) -> Group:
    """Return the group a person means; without a night it is the only one there is."""
    from nightdesk.io.inventory import take_inventory

    inventory = take_inventory(settings)
    if night is not None:
        wanted = Group.from_params(settings, target=target, filter_name=filter_name, night=night, instrument=instrument)
        return inventory.of_group(wanted)[0]
    probe = Group.from_params(
        settings, target=target, filter_name=filter_name, night="1970-01-01", instrument=instrument
    )
    wanted_parts = [part.casefold() for part in probe.parts]
    found = [group for group in inventory.science if [part.casefold() for part in group.parts] == wanted_parts]
    if len(found) == 1:
        return found[0]
    if not found:
        present = ", ".join(sorted({"/".join(group.parts) for group in inventory.science})) or "nothing"
        raise SetupError(f"No science frame of {target} in {filter_name} is below {settings.root}; there is {present}.")
    nights = ", ".join(group.night.isoformat() for group in found)
    raise SetupError(f"{target} in {filter_name} was observed on several nights: choose one by --night ({nights}).")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    columns = TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=errors) as bars:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show


@app.command()
def groups(
    data: DataRoot,
    night: Annotated[str | None, typer.Option(help="Only this night: 2026-11-21.")] = None,
    config: ConfigFile = None,
) -> None:
    """List what is on the disk: each group, its frames, its state, and why."""
    from nightdesk.io.inventory import take_inventory

    with _told_plainly():
        settings = _settings(data, config)
        only = _night(night)
        inventory = take_inventory(settings)
    table = Table(*(Column(title, no_wrap=True) for title in ("group", "frames", "state")), "why")
    for group, raws in inventory.science.items():
        if only in (None, group.night):
            state, why = _state_of(settings, group, inventory)
            table.add_row(group.key, str(len({facts.name for facts in raws})), state, escape(why))
    console.print(table if table.row_count else "No group of science frames is on the disk.")
    for facts in inventory.raws:
        if facts.kind == "rejected":
            reason = f"{facts.path}: {facts.reason}.".encode("ascii", "backslashreplace").decode()
            console.print(f"[yellow]rejected[/yellow]  {escape(reason)}", highlight=False, soft_wrap=True)


def _night(text: str | None) -> date | None:
    try:
        return parse_night(text) if text else None
    except ValueError as error:
        raise SetupError(f"--night: {error}.") from error


def _state_of(settings: Settings, group: Group, inventory: object) -> tuple[str, str]:
    from nightdesk.io.inventory import Inventory
    from nightdesk.manifest import read_manifest
    from nightdesk.readiness import differs, out_of_date

    assert isinstance(inventory, Inventory)
    manifest = read_manifest(settings, group)
    if manifest is None:
        return "new", "not reduced yet"
    if differs(settings, group, inventory):
        return "changed", f"was {manifest['state']}; its raws or sidecar have changed since"
    stale = out_of_date(settings, group)
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
    """Forget that a group was reduced, so that the watcher starts it anew. Raws and sidecars are never touched."""
    from nightdesk.io.inventory import take_inventory
    from nightdesk.io.layout import COMBINED, EXTINCTION, POST_ISR, SHIFTED, Layout

    with _told_plainly():
        settings = _settings(data, config)
        named, _ = take_inventory(settings).of_group(_group_of_key(settings, group))
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


def _group_of_key(settings: Settings, key: str) -> Group:
    parts = key.split("/")
    expected = 3 if len(settings.instruments) == 1 else 4
    if len(parts) != expected:
        example = "2026-11-21/NGC5949/R" if expected == 3 else "2026-11-21/(instrument)/NGC5949/R"
        raise SetupError(f"{key!r} is no group's key; write it as {example}.")
    return Group.from_params(
        settings,
        night=parts[0],
        target=parts[-2],
        filter_name=parts[-1],
        instrument=parts[1] if expected == 4 else None,
    )


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

    with _told_plainly():
        try:
            width, height = (int(part) for part in size.lower().split("x"))
        except ValueError as error:
            raise SetupError(f"--size {size!r}: write width and height as 512x512.") from error
        nights = tuple(_night(text) for text in night) if night else (_last_night(),)
        with _progress() as progress:
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
                progress=lambda done, total: progress("frames", done, total),
            )
    console.print(f"{len(made.frames)} science frames below {escape(str(data))}.", highlight=False, soft_wrap=True)


def _last_night() -> date:
    from datetime import timedelta

    from nightdesk.readiness import tonight

    return tonight(Settings()) - timedelta(days=1)


@config_app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An observatory.toml.")],
) -> None:
    """Read a configuration and say in a sentence whether it is right; if not: line, key and what was expected."""
    with _told_plainly():
        settings = load_settings(file)
    console.print(
        f"{escape(str(file))} is right: {escape(settings.site.name)} ({settings.site.timezone}), profile "
        f"{settings.profile}, {len(settings.instruments)} instrument(s), filters {', '.join(settings.filters)}, "
        f"data root {escape(str(settings.root))}.",
        highlight=False,
        soft_wrap=True,
    )
