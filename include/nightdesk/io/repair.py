"""Header repairs from the configuration: made in memory, told in the product; the raw stays as it is."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightdesk.io.header import add_step
from nightdesk.settings import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from astropy.io import fits

    from nightdesk.group import Group
    from nightdesk.io.raw import RawFacts
    from nightdesk.manifest import Inputs
    from nightdesk.settings import Repair, Settings


def find_repairs(
    settings: Settings, path: Path, *, night: date | None, instrument: str | None = None
) -> tuple[Repair, ...]:
    """Return the repairs of a raw.

    Parameters
    ----------
    settings : Settings
        With the table ``[[repairs]]``.
    path : Path
        The raw; patterns are compared with its name, without case.
    night : date or None
        Its night: by its header as it stands, else by its folder.
    instrument : str or None
        Its instrument, where it is known.
    """
    return tuple(
        repair
        for repair in settings.repairs
        if _is_of(repair, path.name, instrument) and (repair.night is None or repair.night == night)
    )


def possible_repairs(settings: Settings, file_name: str, night: date, instrument: str | None) -> tuple[Repair, ...]:
    """Return the repairs that may have touched a raw of a group's night; one that mends the date may name another."""
    return tuple(
        repair
        for repair in settings.repairs
        if _is_of(repair, file_name, instrument) and (repair.night in (None, night) or _moves_the_night(repair))
    )


def repairs_hash(settings: Settings, group: Group, inputs: Inputs) -> str:
    """Return the hash of the repairs that may touch a group's raws."""
    names = sorted({path.rpartition("/")[2] for path in inputs.raws})
    found = [
        [name, repair.model_dump(mode="json")]
        for name in names
        for repair in possible_repairs(settings, name, group.night, group.instrument)
    ]
    return digest(found)


def idle_repairs(settings: Settings, raws: Iterable[RawFacts], night: date | None = None) -> list[str]:
    """Return a sentence for each repair that no raw on the disk is of: a pattern with a slip looks like none at all.

    Of a `night` only its own repairs are told, and those of no night.
    """
    present = list(raws)
    return [
        f"the repair of {repair.keyword} ({_where(repair)}) concerns no raw on the disk"
        for repair in settings.repairs
        if (night is None or repair.night in (None, night)) and not any(_may_be_of(repair, facts) for facts in present)
    ]


def _may_be_of(repair: Repair, facts: RawFacts) -> bool:
    if not _is_of(repair, facts.path.rpartition("/")[2], facts.instrument):
        return False
    # the night as a repaired date has it may be another than that of the repair
    return (
        repair.night is None
        or repair.night.isoformat() in (facts.night, *facts.path.split("/")[:-1])
        or _moves_the_night(repair)
    )


def _where(repair: Repair) -> str:
    parts = {"night": repair.night, "files": repair.files, "instrument": repair.instrument}
    return ", ".join(f"{name} = {value}" for name, value in parts.items() if value is not None)


def _moves_the_night(repair: Repair) -> bool:
    return repair.keyword.upper().startswith(("DATE", "UT"))


def _is_of(repair: Repair, file_name: str, instrument: str | None) -> bool:
    name = file_name.casefold()
    return (repair.files is None or fnmatchcase(name, repair.files.casefold())) and (
        repair.instrument is None or instrument is None or repair.instrument.casefold() == instrument.casefold()
    )


def apply_repairs(header: fits.Header, repairs: tuple[Repair, ...]) -> None:
    """Put the repaired values into a header."""
    for repair in repairs:
        header[repair.keyword.upper()] = repair.value


def list_repairs(raw: fits.Header, repairs: tuple[Repair, ...]) -> list[dict[str, Any]]:
    """Return what repairs change in a header as it stands: keyword, old and new value, why, and who said so."""
    return [
        {
            "keyword": (keyword := repair.keyword.upper()),
            "was": None if raw.get(keyword) is None else str(raw[keyword]),
            "value": repair.value,
            "reason": repair.reason,
            "who": repair.who,
        }
        for repair in repairs
    ]


def describe_repairs(product: fits.Header, raw: fits.Header, repairs: tuple[Repair, ...]) -> None:
    """Say in a product's header what was repaired: the old value, the new one, why, and who said so."""
    for repair in repairs:
        keyword = repair.keyword.upper()
        was = f"was {raw[keyword]!r}" if keyword in raw else "was missing"
        text = f"Repair: {keyword} = {repair.value!r} ({was}): {repair.reason} ({repair.who})."
        add_step(product, text)
    if repairs:
        product["NREPAIR"] = (len(repairs), "header values repaired; see HISTORY")
