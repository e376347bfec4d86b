"""The group (instrument, target, filter, night), and the one place where names are made.

A name becomes a folder, a key and a part of a run's id, so every text from a header or a person passes through
`clean_name`; every task's parameters pass through `Group.from_params`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from nightdesk.errors import SetupError
from nightdesk.night import NIGHT_PATTERN, parse_night

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nightdesk.settings import Settings

__all__ = ["NIGHT_PATTERN", "PARAM_PATTERN", "Group", "clean_name", "colliding", "resolve_alias"]

LONGEST_NAME = 64
PARAM_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9.+_\-]{0,62}[A-Za-z0-9])?$"
RESERVED = frozenset({"reports", "deep", "raws"})

_BLANKS = re.compile(r"\s+")
_FOREIGN = re.compile(r"(?:[^A-Za-z0-9.+_\-]|_{2,})+")
_EDGES = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$")
_RUN_ID_SEPARATOR = "__"


def clean_name(text: str) -> str:
    """Return `text` as a name: ASCII letters, digits, ``. + -`` and single ``_``; or raise `ValueError`.

    Blanks are dropped, any other run of characters becomes one ``-``, first and last are a letter or a digit.

    Examples
    --------
    >>> clean_name("NGC 5949"), clean_name("M 31 / north"), clean_name("a__b")
    ('NGC5949', 'M31-north', 'a-b')
    """
    name = _EDGES.sub("", _FOREIGN.sub("-", _BLANKS.sub("", text)))
    if not name:
        raise ValueError(f"{text!r} holds no letter or digit to make a name of")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{text!r} makes a name of {len(name)} characters; {LONGEST_NAME} at most")
    if name.casefold() in RESERVED:
        raise ValueError(f"{text!r} makes the name {name!r}, which is reserved")
    return name


def resolve_alias(text: str, aliases: Mapping[str, str]) -> str:
    """Return the spelling that `aliases` gives for a header's value, or the value itself (case and blanks apart)."""
    wanted = _folded(text)
    return next((spelling for alias, spelling in aliases.items() if _folded(alias) == wanted), text)


def _folded(text: str) -> str:
    return _BLANKS.sub(" ", text.strip()).casefold()


def colliding(values: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of different header values that would make the same name, sorted."""
    first: dict[str, str] = {}
    pairs = []
    for value in sorted(set(values)):
        key = clean_name(value).casefold()
        if key in first:
            pairs.append((first[key], value))
        first.setdefault(key, value)
    return pairs


@dataclass(frozen=True, order=True)
class Group:
    """The unit of reduction: one target, filter and night (and instrument, where there are several)."""

    night: date
    target: str
    filter_name: str
    instrument: str | None = None

    @classmethod
    def from_params(
        cls,
        settings: Settings,
        *,
        target: str,
        filter_name: str,
        night: str | date,
        instrument: str | None = None,
    ) -> Group:
        """Return the group that a person's or a run's parameters name; `SetupError` when they name none."""
        try:
            day = night if isinstance(night, date) else parse_night(night.strip())
            wanted = cls(
                day,
                clean_name(resolve_alias(target, settings.aliases.targets)),
                clean_name(resolve_alias(filter_name, settings.aliases.filters)),
                settings.group_instrument(instrument),
            )
        except ValueError as error:
            raise SetupError(f"This names no group: {error}.") from error
        return wanted

    @property
    def parts(self) -> tuple[str, ...]:
        """Instrument (where named), target and filter: the group's folder."""
        return (*((self.instrument,) if self.instrument else ()), self.target, self.filter_name)

    @property
    def key(self) -> str:
        """The group as a person writes it: ``2026-11-21/NGC5949/R``."""
        return "/".join((self.night.isoformat(), *self.parts))

    @property
    def run_id(self) -> str:
        """The id of the group's one run: ``2026-11-21__NGC5949__R``."""
        return _RUN_ID_SEPARATOR.join((self.night.isoformat(), *self.parts))

    @property
    def params(self) -> dict[str, str]:
        """The parameters of the group's run."""
        named = {"target": self.target, "filter_name": self.filter_name, "night": self.night.isoformat()}
        return named | ({"instrument": self.instrument} if self.instrument else {})

    def same_as(self, other: Group) -> bool:
        """Tell whether both are the same group; names are compared without case."""
        return self.key.casefold() == other.key.casefold()
