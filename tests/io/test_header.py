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
    parse_header,
    put_card,
    require_number,
)
from nightdesk.io.quiet import quiet
from nightdesk.settings import FromName, Given

SOURCES = ("EGAIN", "GAIN2", Given(value=1.5))


def text_of(*lines: str) -> str:
    """Return a header as it might stand in a file."""
    return "".join(line.ljust(80) for line in ("SIMPLE  =                    T", *lines, "END"))


def header_of(*lines: str) -> fits.Header:
    """Return a header of cards as they might stand in a file."""
    return fits.Header.fromstring(text_of(*lines))


def cards_of(header: fits.Header) -> list[tuple[str, str, str]]:
    """Return a header's cards, each value with its type."""
    return [(card.keyword, repr(card.value), card.comment) for card in header.cards]


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


@pytest.mark.parametrize(
    "line",
    [
        "OBJECT  = 'NGC 5949'           / name",
        "OBJECT  = 'it''s'",
        "EXPTIME =                 60.0 / [s]",
        "CD1_1   = -0.00015555555555555556 / more digits than a card of astropy's has",
        "EXPTIME =                  6e1",
        "EXPTIME = - 60",
        "EXPTIME = 3,2E-05",
        "OBJECT  = 'NGC 5949",
        "OBJECT = 'NGC 5949'",
        "object  = 'NGC 5949'",
        "B*D     = 1 2 3",
        "DP1     = 'AXIS.1: 2'",
        "HISTORY = 'AXIS.1: 2'",
        "HISTORY seen through clouds",
        "COMMENT  two blanks",
        "OBJECT  =",
        "",
        "HIERARCH ESO TEL AIRM START = 1.2",
        "A card without a sign of equality",
        "OBJECT  = 'a long name &'".ljust(80) + "CONTINUE  'that goes on'".ljust(80),
    ],
)
def test_a_header_is_read_as_astropy_reads_it(line: str) -> None:
    for _ in range(2):  # the second time its cards are known
        with quiet():
            read, parsed = header_of(line), parse_header(text_of(line))
            mend_cards(read)
        assert cards_of(parsed) == cards_of(read)
        assert inherit_header(parsed).tostring() == inherit_header(read).tostring()


def test_headers_with_the_same_cards_do_not_share_them() -> None:
    text = text_of("OBJECT  = 'M31'", "EXPTIME =                 60.0")
    one, other = parse_header(text), parse_header(text)
    kept, too = inherit_header(one), inherit_header(other)
    one["OBJECT"], kept["OBJECT"] = "M33", "M51"
    kept.comments["EXPTIME"] = "[s]"
    assert (other["OBJECT"], too["OBJECT"], too.comments["EXPTIME"]) == ("M31", "M31", "")
    assert inherit_header(one)["OBJECT"] == "M33"
    assert parse_header(text).tostring() == header_of("OBJECT  = 'M31'", "EXPTIME =                 60.0").tostring()


@pytest.mark.parametrize("value", [1, 1.0, True, 0.1234567890123456789, "M31", "a text " * 12, ""], ids=repr)
@pytest.mark.parametrize("comment", [None, "", "a comment"], ids=repr)
def test_a_card_is_put_as_a_header_puts_it(value: Any, comment: str | None) -> None:
    for keyword in ("NEW", "OLD", "LAST"):
        ours, theirs = (fits.Header([("OLD", 2.5, "was"), ("HISTORY", "seen")]) for _ in range(2))
        put_card(ours, keyword, value, comment)
        theirs[keyword] = value if comment is None else (value, comment)
        assert cards_of(ours) == cards_of(theirs)
        assert ours.tostring() == theirs.tostring()
        ours[keyword] = "changed"  # in this header alone
