"""What parts a raw image has: the part with light, its overscan, the parts of its amplifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightdesk.io.header import find_text
from nightdesk.io.section import Section, parse_section

if TYPE_CHECKING:
    from astropy.io import fits

    from nightdesk.instrument import Instrument, Overscan, Source


@dataclass(frozen=True)
class Part:
    """One amplifier's light, its overscan, and where its light belongs in the trimmed image."""

    light: Section
    overscan: Section | None
    place: Section


def find_parts(header: fits.Header, file_name: str, instrument: Instrument, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Return the parts of a raw image; a whole frame without overscan is one part.

    Raises
    ------
    ValueError
        Naming the setting, where a section is missing or does not fit.
    """
    whole = Section(0, shape[1], 0, shape[0])
    overscan = instrument.overscan
    if not instrument.amplifiers:
        light = _section(header, file_name, instrument.trim, shape, "trim") if instrument.trim else whole
        strip = _section(header, file_name, overscan.section, shape, "overscan.section") if overscan else None
        return (Part(light, _beside(light, strip, overscan), Section(0, light.shape[1], 0, light.shape[0])),)
    found = []
    for number, amplifier in enumerate(instrument.amplifiers, start=1):
        light = _section(header, file_name, amplifier.section, shape, f"amplifiers {number}, section")
        sources = amplifier.overscan or (overscan.section if overscan else ())
        strip = _section(header, file_name, sources, shape, f"amplifiers {number}, overscan") if sources else None
        found.append((light, _beside(light, strip, overscan)))
    return _placed(found)


def trimmed_shape(
    header: fits.Header, file_name: str, instrument: Instrument, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the shape of a raw image after trimming; as it is where a section does not fit, which ISR will say."""
    if len(shape) != 2 or not (instrument.trim or instrument.amplifiers):
        return shape
    try:
        parts = find_parts(header, file_name, instrument, shape)
    except ValueError:
        return shape
    return max(part.place.y_end for part in parts), max(part.place.x_end for part in parts)


def _section(
    header: fits.Header, file_name: str, sources: tuple[Source, ...], shape: tuple[int, ...], setting: str
) -> Section:
    text = find_text(header, file_name, sources)
    if text is None:
        keywords = " or ".join(source for source in sources if isinstance(source, str))
        raise ValueError(f"the header has no {keywords}, which {setting} of its instrument names")
    try:
        return parse_section(text, shape)
    except ValueError as error:
        raise ValueError(f"{setting} of its instrument: {error}") from error


def _beside(light: Section, strip: Section | None, overscan: Overscan | None) -> Section | None:
    """Return the rows of the overscan that lie beside the light; one level for all may come from any rows."""
    if strip is None:
        return None
    first, end = max(light.y_first, strip.y_first), min(light.y_end, strip.y_end)
    if (first, end) != (light.y_first, light.y_end):
        if overscan is not None and overscan.method == "constant":
            return strip
        raise ValueError(f"the overscan {strip} does not lie beside all rows of {light}")
    return Section(strip.x_first, strip.x_end, first, end)


def _placed(found: list[tuple[Section, Section | None]]) -> tuple[Part, ...]:
    """Join the amplifiers' parts without the gaps that prescan and overscan left between them."""
    columns = sorted({(light.x_first, light.x_end) for light, _ in found})
    rows = sorted({(light.y_first, light.y_end) for light, _ in found})
    if len(columns) * len(rows) != len(found):
        raise ValueError("the sections of its amplifiers do not make a rectangle")
    x_places, y_places = _starts(columns), _starts(rows)
    parts = []
    for light, strip in found:
        x, y = x_places[light.x_first, light.x_end], y_places[light.y_first, light.y_end]
        parts.append(Part(light, strip, Section(x, x + light.shape[1], y, y + light.shape[0])))
    return tuple(parts)


def _starts(spans: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    starts, place = {}, 0
    for span in spans:
        starts[span] = place
        place += span[1] - span[0]
    return starts
