"""What all commands share: the app, where settings come from, errors in plain words, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
    nightdesk config init raws/*.fits -o observatory.toml         begin with a telescope of your own
    nightdesk masters /data/night                                 bias, dark and flat frames to masters
""",
)

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
def told_plainly() -> Iterator[None]:
    """End with exit code 2 and a sentence, not a traceback, where a person can mend what is wrong."""
    try:
        yield
    except (NightdeskError, OSError) as error:
        tell(error)
        raise typer.Exit(NO_STACK) from error


def tell(error: Exception) -> None:
    """Print what is wrong; of the disk's trouble with a file, which."""
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}. Mend that (its permissions, the disk), then try again."
    errors.print(f"[red]{escape(text)}[/red]", highlight=False, soft_wrap=True)


def settings_from(data: Path, config: Path | None, profile: str | None = None) -> Settings:
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


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    columns = TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=errors) as bars:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show


def night_from(text: str | None) -> date | None:
    try:
        return parse_night(text) if text else None
    except ValueError as error:
        raise SetupError(f"--night: {error}.") from error


def find_group(settings: Settings, target: str, filter_name: str, night: str | None, instrument: str | None) -> Group:
    """Return the group a person means; without a night it is the only one there is."""
    from nightdesk.io.inventory import take_inventory

    inventory = take_inventory(settings)
    if night is not None:
        wanted = Group.from_params(settings, target=target, filter_name=filter_name, night=night, instrument=instrument)
        known, raws = inventory.of_group(wanted)
        if not raws:
            raise SetupError(
                f"{known.key}: no science frame of this target, filter and night is below {settings.root}."
            )
        return known
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


def group_of_key(settings: Settings, key: str) -> Group:
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
