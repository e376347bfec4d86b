"""`nightdesk masters`, `why` and `refresh`: build masters, see which fit a frame, renew what is out of date."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from nightdesk.cli.base import (
    ALL_USED,
    NO_STACK,
    SOME_LOST,
    ConfigFile,
    DataRoot,
    app,
    console,
    errors,
    night_from,
    progress,
    settings_from,
    told_plainly,
)
from nightdesk.errors import NightdeskError, SetupError, StaleProduct
from nightdesk.group import Group

if TYPE_CHECKING:
    from datetime import date

    from nightdesk.io.association import Wanted
    from nightdesk.io.inventory import Inventory
    from nightdesk.io.layout import Layout
    from nightdesk.settings import Settings


@app.command()
def masters(
    data: DataRoot,
    night: Annotated[
        str | None, typer.Option(help="The night whose frames to use: 2026-11-21; all that need it if not given.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Build masters from the night's own raw bias, dark and flat frames, into `calibs/<night>`.

    A master that a person put there is left alone; one that is current is not made again.

    Exit code: 0 if every kind of frame became a master, 1 if some did not, 2 if there is no calibration frame.
    """
    from nightdesk.io.inventory import take_inventory
    from nightdesk.steps import build_masters

    with told_plainly():
        settings = settings_from(data, config)
        only = night_from(night)
        nights = [only] if only else _calibration_nights(settings, take_inventory(settings))
        told = []
        with progress() as show:
            for one in nights:
                told += build_masters.run(settings, one, progress=show)
    if not told:
        errors.print("[red]No raw bias, dark or flat frame is on the disk for that.[/red]")
        raise typer.Exit(NO_STACK)
    for master in told:
        colour = {"made": "green", "left alone": "yellow"}.get(master["state"], "red")
        sentence = escape(build_masters.describe(master))
        console.print(f"[{colour}]{sentence}[/{colour}]", highlight=False, soft_wrap=True)
        for path, reason in master["left_out"].items():
            console.print(f"  left out: {escape(path)}: {escape(reason)}", highlight=False, soft_wrap=True)
    raise typer.Exit(SOME_LOST if any(master["state"] == "not made" for master in told) else ALL_USED)


def _calibration_nights(settings: Settings, inventory: Inventory) -> list[date]:
    from datetime import date

    from nightdesk.io.calibration_set import CALIBRATION_KINDS

    return sorted({date.fromisoformat(facts.night) for facts in inventory.raws if facts.kind in CALIBRATION_KINDS})


@app.command()
def refresh(
    data: DataRoot,
    night: Annotated[str | None, typer.Option(help="Only this night: 2026-11-21.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigFile = None,
) -> None:
    """Reduce again the groups whose stacks are out of date, and no others.

    A stack is out of date when a better master is there, or a setting, a header repair or the code has changed. Masters
    that the raw frames on the disk can make of nights near it are made first.

    Exit code: 0 if all are current now, 1 if some could not be renewed.
    """
    from nightdesk.io.inventory import take_inventory
    from nightdesk.readiness import out_of_date
    from nightdesk.steps import reduce

    with told_plainly():
        settings = settings_from(data, config)
        only = night_from(night)
        inventory = take_inventory(settings)
        _make_masters(settings, inventory, only, dry_run=dry_run)
    stale = {
        group: reasons
        for group in inventory.science
        if only in (None, group.night) and (reasons := out_of_date(settings, group))
    }
    failed = 0
    for group, reasons in stale.items():
        console.print(f"{escape(group.key)}: {escape('; '.join(reasons))}.", highlight=False, soft_wrap=True)
        failed += 0 if dry_run or _renewed(settings, group, reduce.run) else 1
    if not stale:
        console.print("Nothing is out of date.")
    raise typer.Exit(SOME_LOST if failed else ALL_USED)


def _make_masters(settings: Settings, inventory: Inventory, only: date | None, *, dry_run: bool) -> None:
    from nightdesk.readiness import unmade_masters
    from nightdesk.steps import build_masters

    wanted: dict[date, str] = {}
    for group in inventory.science:
        if only in (None, group.night):
            wanted |= unmade_masters(settings, group, inventory)
    for night, sentence in sorted(wanted.items()):
        if dry_run:
            console.print(f"{escape(sentence)}.", highlight=False, soft_wrap=True)
            continue
        for master in build_masters.run(settings, night):
            console.print(escape(build_masters.describe(master)), highlight=False, soft_wrap=True)


def _renewed(settings: Settings, group: Group, run: object) -> bool:
    assert callable(run)
    try:
        sentence = run(settings, group, run_id="refresh")
    except (NightdeskError, StaleProduct) as error:
        errors.print(f"[red]{escape(str(error))}[/red]", highlight=False, soft_wrap=True)
        return False
    console.print(f"  {escape(sentence)}", highlight=False, soft_wrap=True)
    return True


@app.command()
def why(
    frame: Annotated[Path, typer.Argument(metavar="FRAME", help="A raw frame below the data root.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="The data root, where it does not follow from the frame's place.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Show which masters there are for a frame, how far each is, and which criterion it fails."""
    from nightdesk.io.association import KINDS, list_candidates, unused_kinds

    with told_plainly():
        place = Path(os.path.abspath(frame))  # noqa: PTH100 - links are left as they are
        settings = settings_from(data or _root_above(place), config)
        wanted, layout = _wanted_for(settings, place)
        unused = unused_kinds(settings, layout) if layout else {}
    table = Table(*(Column(title, no_wrap=True) for title in ("kind", "master", "distance")), "verdict")
    for kind in KINDS:
        candidates = list(list_candidates(settings, wanted, kind))
        taken = next((one for one in candidates if one.fits and kind not in unused), None)
        for one in candidates:
            fitting = f"would fit, but {unused[kind]}" if kind in unused else "would fit, but is farther or less alike"
            verdict = "taken" if one is taken else fitting if one.fits else "; ".join(one.failed)
            name = one.path.relative_to(settings.root).as_posix()
            table.add_row(kind.replace("_", " "), escape(name), one.distance, escape(verdict))
        if not candidates:
            table.add_row(kind.replace("_", " "), "none", "", "there is no such master at any night")
    shape = " x ".join(str(axis) for axis in reversed(wanted.shape))
    exposure = "" if wanted.exposure is None else f", {wanted.exposure:g} s"
    temperature = "" if wanted.temperature is None else f", {wanted.temperature:g} C"
    console.print(
        f"{escape(frame.name)}: night {wanted.night}, {escape(wanted.filter_name or 'no filter')}, binning "
        f"{wanted.binning}, {shape} pixels{exposure}{temperature}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)


def _root_above(frame: Path) -> Path:
    for folder in frame.parents:
        if folder.name in ("raw", "processed"):
            return folder.parent
    raise SetupError(f"{frame} lies below no raw/ or processed/: give the data root by --data.")


def _wanted_for(settings: Settings, frame: Path) -> tuple[Wanted, Layout | None]:
    """Return what masters are wanted for: by all of a science frame's group, whose layout comes with it."""
    from datetime import date

    from nightdesk.io.association import Wanted, wanted_of
    from nightdesk.io.inventory import select_frames, take_inventory
    from nightdesk.io.layout import Layout
    from nightdesk.io.raw import read_facts
    from nightdesk.manifest import inputs_of

    root = Path(os.path.abspath(settings.root))  # noqa: PTH100
    if not frame.is_file() or root not in frame.parents:
        raise SetupError(f"{frame}: there is no such file below {root}.")
    status = frame.stat()
    facts = read_facts(
        settings, settings.root / frame.relative_to(root), size=status.st_size, mtime_ns=status.st_mtime_ns
    )
    if facts.kind in ("rejected", "ignored"):
        raise SetupError(f"{frame.name}: {facts.reason}.")
    if facts.kind == "science":
        named = Group(date.fromisoformat(facts.night), facts.target, facts.filter_name, facts.instrument)
        group, raws = take_inventory(settings).of_group(named)
        selection = select_frames(raws, any_exposure=settings.combine.scale != "none")
        if facts.name in selection.left_out:
            raise SetupError(f"{frame.name} is left out: {selection.left_out[facts.name]}.")
        layout = Layout(settings, group)
        return wanted_of(layout, inputs_of(layout, "", raws, selection)), layout
    wanted = Wanted(
        night=date.fromisoformat(facts.night),
        instrument=facts.instrument,
        binning=facts.binning,
        filter_name=facts.filter_name if facts.filter_text else "",
        shape=facts.shape,
        exposure=facts.exposure,
        temperature=facts.temperature,
        readout_mode=facts.readout_mode,
        camera=facts.camera,
    )
    return wanted, None
