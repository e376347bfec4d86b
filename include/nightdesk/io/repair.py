"""Header repairs from the configuration: made in memory, told in the product; the raw stays as it is."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from nightdesk.settings import digest

if TYPE_CHECKING:
    from astropy.io import fits

    from nightdesk.group import Group
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
        if _is_of(repair, file_name, instrument)
        and (repair.night in (None, night) or repair.keyword.upper().startswith(("DATE", "UT")))
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


def _is_of(repair: Repair, file_name: str, instrument: str | None) -> bool:
    name = file_name.casefold()
    return (repair.files is None or fnmatchcase(name, repair.files.casefold())) and (
        repair.instrument is None or instrument is None or repair.instrument.casefold() == instrument.casefold()
    )


def apply_repairs(header: fits.Header, repairs: tuple[Repair, ...]) -> None:
    """Put the repaired values into a header."""
    for repair in repairs:
        header[repair.keyword.upper()] = repair.value


def describe_repairs(product: fits.Header, raw: fits.Header, repairs: tuple[Repair, ...]) -> None:
    """Say in a product's header what was repaired: the old value, the new one, why, and who said so."""
    for repair in repairs:
        keyword = repair.keyword.upper()
        was = f"was {raw[keyword]!r}" if keyword in raw else "was missing"
        text = f"Repair: {keyword} = {repair.value!r} ({was}): {repair.reason} ({repair.who})."
        product.add_history(text.encode("ascii", "replace").decode())
    if repairs:
        product["NREPAIR"] = (len(repairs), "header values repaired by configuration; see HISTORY")
