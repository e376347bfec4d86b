"""Figures and states as a person reads them, the same on every page and in the mail."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATES: Final = {
    "done": "reduced",
    "partial": "frames lost",
    "failed": "failed",
    "waiting": "waiting",
    "started": "in work",
    "not reduced": "not reduced",
}

NONE: Final = "\N{EN DASH}"


def figure(value: float | None, digits: int = 2, unit: str = "") -> str:
    """Return a number as text with a unit; a dash where there is none."""
    if value is None:
        return NONE
    return f"{value:,.{digits}f}{unit}".replace("-", "\N{MINUS SIGN}")


def seconds(value: float | None) -> str:
    """Return a time span as a person says it: ``45 s``, ``15 min``, ``2 h 05 min``."""
    if value is None:
        return NONE
    if value < 120:
        return f"{value:.0f} s" if value >= 10 or value == int(value) else f"{value:.1f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(text: str) -> str:
    """Return a time in UTC as a person writes it: ``2026-11-21 12:03 UTC``; other text as it is."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return printable(text)


def span(values: Sequence[float] | None) -> str:
    """Return a range: ``1.02 to 1.31``; one number where both ends are the same."""
    if not values:
        return NONE
    low, high = (f"{value:.2f}" for value in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def width(row: Mapping[str, Any]) -> str:
    """Return the width of the stars, in arcseconds too where the size of a pixel is known."""
    pixels = row.get("fwhm")
    if pixels is None:
        return NONE
    scale = row.get("pixel_scale")
    return f"{pixels:.1f} px" + (f" ({pixels * scale:.1f}\N{DOUBLE PRIME})" if scale else "")


def depth(row: Mapping[str, Any]) -> str:
    """Return how deep an image goes; instrumental where no zero point is configured."""
    value = row.get("depth")
    return NONE if value is None else figure(value, 2, " mag" if row.get("zero_point") else " inst.")


def quality_note(row: Mapping[str, Any]) -> str:
    """Return why a group's quality is not better, as far as its reason has not said so, or what it is not judged by."""
    reason = (row.get("quality") or {}).get("reason", "")
    unjudged = [_FIGURES[one] for one in row.get("not_judged", ())]
    if row.get("quality") and not reason and unjudged:
        return f"No limits set for {listed(unjudged)}."
    note = "" if reason in row["reason"] else _LOST.sub("", reason).strip()
    return sentence(note)


def sentence(text: str) -> str:
    """Return a reason as a sentence on a page: with a capital, unless a name begins it, and without `this task`."""
    text = printable(text).replace("clear this task", "clear its square in the run")
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def listed(words: Sequence[str]) -> str:
    """Return words as a person lists them: ``FWHM, sky and depth``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


_FIGURES: Final = {"fwhm": "FWHM", "ellipticity": "ellipticity", "sky": "sky", "stars": "stars", "depth": "depth"}
_LOST: Final = re.compile(r"\d+ frames? (was|were) lost\.")


def fenced(text: str) -> str:
    """Return text as a block of markdown in which nothing is markup: no picture, no link, no end of the block."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{printable(text)}\n{fence}"


def chat(text: str) -> str:
    """Return text in which no chat finds a picture, a link, an address to load, or somebody to call."""
    return printable(text).translate(_CHAT).replace("://", ": //")


_CHAT: Final = str.maketrans("<>[]`@", "\u2039\u203a()'\uff20")


def printable(text: str) -> str:
    """Return text on one line, with what is not seen, or changes the direction of writing, spelled out."""
    return "".join(
        letter if letter.isprintable() and letter not in _DIRECTION else f"\\u{{{ord(letter):x}}}" for letter in text
    )


_DIRECTION: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
