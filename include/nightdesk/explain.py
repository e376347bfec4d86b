"""What is wrong with a configuration, in sentences for a person: file, line, key, and what was expected."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel, ValidationError

_EXPECTED = {
    "missing": "a value, which is missing",
    "tuple_type": "a list in brackets",
    "dict_type": "a table",
    "model_type": "a table",
    "string_type": "a text in quotes",
    "path_type": "a path in quotes",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "date_type": "a date such as 2026-11-21",
    "date_parsing": "a date such as 2026-11-21",
    "date_from_datetime_parsing": "a date such as 2026-11-21",
    "date_from_datetime_inexact": "a date such as 2026-11-21",
}

_Key = tuple[str, ...]


def explain(path: Path, text: str, error: ValidationError, model: type[BaseModel]) -> str:
    """Return a sentence for each key of the TOML `text` that `model` does not take."""
    problems: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for detail in error.errors():
        location = tuple(_place(part) if isinstance(part, int) else part for part in detail["loc"])
        line, key = _find_key(text, location)
        where = f"{path}, line {line}: {key}" if line else f"{path}: {key}"
        if detail["type"] == "extra_forbidden":
            known = ", ".join(_keys_at(model, location[:-1]))
            problems[where] = [f"there is no such key; expected one of {known}"]
            continue
        told = _EXPECTED.get(detail["type"]) or _lower(detail["msg"])
        expected = problems.setdefault(where, [])  # a value that may be of several kinds fails once for each
        expected += [] if told in expected else [told]
        values[where] = "" if detail["type"] == "missing" else f", not {detail['input']!r}"
    return " ".join(
        f"{where}: expected {' or '.join(told)}{values[where]}." if where in values else f"{where}: {told[0]}."
        for where, told in problems.items()
    )


def _place(number: int) -> str:
    """Return what stands in a location for the place in a list."""
    return f"#{number}"


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return message[:1].lower() + message[1:]


def _keys_at(model: Any, location: _Key) -> list[str]:
    for part in location:
        if get_origin(model) in (dict, tuple):
            model = get_args(model)[1 if get_origin(model) is dict else 0]
        else:
            fields = model.model_fields.items()
            model = next(field.annotation for name, field in fields if part in (name, field.alias))
    return [field.alias or name for name, field in model.model_fields.items()]


def _find_key(text: str, location: _Key) -> tuple[int | None, str]:
    """Return the line of the longest beginning of `location` that stands in the text, and as much of it as has a name.

    A table without a line of its own is found by the first of those below it.
    """
    line: int | None = None
    found: _Key = ()
    for number, key in _keys_of(text):
        if location[: len(key)] == key and len(key) > len(found):
            line, found = number, key
    if line is None:
        below = (number for number, key in _keys_of(text) if key[: len(location)] == location)
        return next(below, None), _named(location)
    further = [part for part in location[len(found) :] if re.fullmatch(r"[a-z_]+", part)][:1]
    return line, _named((*found, *further))


def _named(key: _Key) -> str:
    return ".".join(part for part in key if not part.startswith("#"))


_TABLE_LINE = re.compile(r"^\s*\[+\s*([^\[\]]+?)\s*\]+\s*(#.*)?$")
_KEY_LINE = re.compile(
    r"""^\s*((?:[A-Za-z0-9_\-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_\-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_KEY_PART = re.compile(r"""[A-Za-z0-9_\-]+|"[^"]*"|'[^']*'""")


def _keys_of(text: str) -> Iterator[tuple[int, _Key]]:
    table: _Key = ()
    met: Counter[_Key] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _TABLE_LINE.match(line):
            table = _key_parts(match[1])
            if line.lstrip().startswith("[["):
                met[table] += 1
                table = (*table, _place(met[table] - 1))
            yield number, table
        elif match := _KEY_LINE.match(line):
            yield number, table + _key_parts(match[1])


def _key_parts(text: str) -> _Key:
    return tuple(part.strip("\"'") for part in _KEY_PART.findall(text))
