"""Angles as people and headers write them: sexagesimal or decimal, with a hemisphere or a sign."""

from __future__ import annotations

import math
import re

_NUMBER = r"[+-]?\d+(?:[.,]\d*)?"
_SEXAGESIMAL = re.compile(
    r"^([+-]?)\s*(\d{1,3})\s*[:dh°\s]\s*(\d{1,2})\s*[:m'\s]\s*(\d{1,2}(?:[.,]\d*)?|)\s*[s\"]?$", re.IGNORECASE
)
_HEMISPHERE = re.compile(r".*[NSEW]$", re.IGNORECASE)
_IN_SECONDS = re.compile(r"[dh].*m.*\ds$|[DH].*M.*\dS$")  # an s as its d and m are is no south


def parse_angle(value: object) -> float:
    """Return the number that an angle stands for: ``-17:52:54``, ``17 52 54 W``, ``17d52m54s``, ``-17.88``, ``-17,88``.

    In degrees, or, of a right ascension written in hours, in hours; south and west are negative.

    Raises
    ------
    ValueError
        If it is no angle.

    Examples
    --------
    >>> parse_angle("-00:30:00"), parse_angle("31 57 48 N"), parse_angle("111:36:00W"), parse_angle(" 28,76 ")
    (-0.5, 31.96333333333333, -111.6, 28.76)
    >>> parse_angle("+34d30m00.0s"), parse_angle("34d30m00.0s S"), has_hemisphere("34d30m00.0s")
    (34.5, -34.5, False)
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    text = str(value).strip()
    if has_hemisphere(text):
        sign = -1.0 if text[-1].upper() in "SW" else 1.0
        return sign * abs(_unsigned(text[:-1].strip(), value))
    return _unsigned(text, value)


def has_hemisphere(value: object) -> bool:
    """Tell whether an angle ends in the letter of its hemisphere."""
    return isinstance(value, str) and bool(_HEMISPHERE.match(value.strip()) and not _IN_SECONDS.search(value.strip()))


def is_sexagesimal(value: object) -> bool:
    """Tell whether an angle is written in three parts, not named degrees; a right ascension so written is in hours."""
    return isinstance(value, str) and bool(_SEXAGESIMAL.match(value.strip())) and not re.search("[d°]", value, re.I)


def _unsigned(text: str, value: object) -> float:
    if re.fullmatch(_NUMBER, text):
        return float(text.replace(",", "."))
    match = _SEXAGESIMAL.match(text)
    if not match:
        raise ValueError(f"{value!r} is not an angle (-17:52:54 or -17.88)")
    minutes, seconds = float(match[3]), float((match[4] or "0").replace(",", "."))
    if minutes >= 60 or seconds >= 60:
        raise ValueError(f"{value!r} is not an angle: minutes and seconds are below 60")
    size = float(match[2]) + minutes / 60.0 + seconds / 3600.0
    return -size if match[1] == "-" else size
