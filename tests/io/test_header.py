"""Values of a header by the configured sources, and headers put in order."""

from __future__ import annotations

import io
from typing import Any

import pytest
from astropy.io import fits

from nightdesk.errors import FrameError
from nightdesk.io.header import (
    complete_header,
    find_number,
    find_text,
    find_value,
    inherit_header,
    mend_cards,
    require_number,
)
from nightdesk.settings import FromName, Given

SOURCES = ("EGAIN", "GAIN2", Given(value=1.5))


def header_of(*lines: str) -> fits.Header:
    """Return a header of cards as they might stand in a file."""
    text = "".join(line.ljust(80) for line in ("SIMPLE  =                    T", *lines, "END"))
    return fits.Header.fromstring(text)


@pytest.mark.parametrize(
    ("cards", "value", "origin"),
    [
        pytest.param({"EGAIN": 2.1, "GAIN2": 3.0}, 2.1, "EGAIN", id="the first key"),
        pytest.param({"GAIN2": 3.0}, 3.0, "GAIN2", id="the next key"),
        pytest.param({"EGAIN": "  ", "GAIN2": 3.0}, 3.0, "GAIN2", id="a blank counts as missing"),
        pytest.param({"EGAIN": None, "GAIN2": 3.0}, 3.0, "GAIN2", id="a card without a value too"),
        pytest.param({"EGAIN": 0}, 0, "EGAIN", id="zero is a value"),
        pytest.param({}, 1.5, "configuration", id="the literal"),
    ],
)
def test_sources_are_tried_in_order(cards: dict[str, Any], value: Any, origin: str) -> None:
    assert find_value(fits.Header(list(cards.items())), "x.fits", SOURCES) == (value, origin)


def test_a_value_may_come_from_the_files_name() -> None:
    sources = (FromName(file=r"^(\w+)-\d+"), "OBJECT")
    assert find_value(fits.Header(), "tres1-025.fit", sources) == ("tres1", "file name")
    assert find_value(fits.Header([("OBJECT", "M31")]), "025.fit", sources) == ("M31", "OBJECT")
    assert find_value(fits.Header(), "025.fit", sources) is None


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        pytest.param(2.5, "2.5", 2.5, id="number"),
        pytest.param(" 2.5 ", "2.5", 2.5, id="number as text"),
        pytest.param("3,2E-05", "3,2E-05", 3.2e-5, id="decimal comma"),
        pytest.param("abc", "abc", None, id="text"),
        pytest.param(True, "True", None, id="yes"),
        pytest.param("nan", "nan", None, id="not a number"),
        pytest.param("inf", "inf", None, id="endless"),
        pytest.param(None, None, None, id="no value"),
    ],
)
def test_texts_and_numbers(value: Any, text: str | None, number: float | None) -> None:
    header = fits.Header([("KEY", value)])
    assert find_text(header, "x", ("KEY",)) == text
    assert find_number(header, "x", ("KEY",)) == number


def test_a_number_that_is_there_comes_with_its_place() -> None:
    header = fits.Header([("EGAIN", 2.1)])
    assert require_number(header, "x.fits", ("EGAIN",), what="gain", setting="gain", above=0) == (2.1, "EGAIN")


@pytest.mark.parametrize(
    ("value", "bounds", "told"),
    [
        pytest.param(
            None, {}, "x.fits: the header has no EGAIN or GAIN2 (gain, e-/ADU). Mend the header, or give gain", id="no"
        ),
        pytest.param("abc", {}, "x.fits: EGAIN = 'abc' is not a number (gain, e-/ADU)", id="text"),
        pytest.param(True, {}, "x.fits: EGAIN = True is not a number", id="yes"),
        pytest.param(0, {"above": 0}, "x.fits: EGAIN = 0 cannot be the gain, e-/ADU, which is above 0", id="zero"),
        pytest.param(
            0.9, {"least": 1}, "x.fits: EGAIN = 0.9 cannot be the gain, e-/ADU, which is at least 1", id="low"
        ),
    ],
)
def test_a_number_that_is_needed_is_told_by_file_keyword_and_value(
    value: Any, bounds: dict[str, float], told: str
) -> None:
    header = fits.Header([("EGAIN", value)])
    with pytest.raises(FrameError) as caught:
        require_number(header, "x.fits", ("EGAIN", "GAIN2"), what="gain, e-/ADU", setting="gain", **bounds)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        pytest.param("KEY     = 3,2E-05 / [s]", "3,2E-05", id="decimal comma"),
        pytest.param("KEY     = 'NGC 5949", "NGC 5949", id="open quote"),
        pytest.param("KEY     = NGC 5949", "NGC 5949", id="no quotes"),
        pytest.param("KEY     = 1.0.0", "1.0.0", id="two points"),
        pytest.param("KEY     = 'it''s'", "it's", id="what was right"),
        pytest.param("KEY     =                 2.50", 2.5, id="a number that was right"),
    ],
)
def test_a_broken_value_becomes_the_text_it_is(line: str, value: Any) -> None:
    header = header_of(line)
    mend_cards(header)
    assert header["KEY"] == value


def test_a_header_behind_the_primary_is_completed_by_it() -> None:
    primary = fits.Header([("OBJECT", "M31"), ("EXPTIME", 60.0)])
    image = fits.Header([("EXPTIME", 30.0), ("GAIN", 2)])
    completed = complete_header(image, primary)
    assert dict(completed) == {"EXPTIME": 30.0, "GAIN": 2, "OBJECT": "M31"}
    assert dict(image) == {"EXPTIME": 30.0, "GAIN": 2}


def test_a_product_inherits_the_raws_header_without_the_cards_of_its_bytes() -> None:
    raw = fits.PrimaryHDU(header=fits.Header([("OBJECT", "M31", "name"), ("BZERO", 32768), ("CHECKSUM", "x")])).header
    raw.add_history("observed")
    raw.add_comment("by hand")
    raw["HIERARCH a longer keyword"] = 1
    kept = inherit_header(raw)
    assert [card.keyword for card in kept.cards] == ["OBJECT", "a longer keyword", "HISTORY", "COMMENT"]
    assert (kept["OBJECT"], kept.comments["OBJECT"], kept["HISTORY"][0]) == ("M31", "name", "observed")


def test_a_card_that_no_product_could_hold_is_left_out_and_named() -> None:
    kept = inherit_header(header_of("OBJECT  = 'M31'", "B*D     = 1 2 3", "FILTER  = 'R'"))
    assert (kept["OBJECT"], kept["FILTER"]) == ("M31", "R")
    assert any("left out the unreadable card" in line for line in kept["HISTORY"])
    fits.PrimaryHDU(header=kept).writeto(io.BytesIO())
