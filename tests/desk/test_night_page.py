"""The night's report as a page: whole in itself, and safe to open whatever the headers say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from nightdesk.desk.night_page import draw_night
from nightdesk.desk.place import night_file
from nightdesk.desk.words import fenced, moment, printable, quality_note, seconds, sentence, span
from nightdesk.io.atomic import read_json, write_json
from nightdesk.io.layout import report_path
from tests.desk.conftest import NIGHT, Observed

EVIL = "<script>alert(1)</script>\"'>![x](https://evil.example/x.png)\n\u202etxt.exe\u2066`"


class Elements(HTMLParser):
    """Collects elements and the addresses in them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]


def elements(page: str) -> Elements:
    found = Elements()
    found.feed(page)
    return found


def test_the_page_has_every_group_every_raw_and_its_pictures_inside(observed_once: Observed) -> None:
    page = draw_night(observed_once.settings, NIGHT)
    assert page == report_path(observed_once.settings, NIGHT).with_suffix(".html").read_text()
    for text in ("M13", "M51", "M57", "cut short", "waiting", "Every raw file"):
        assert text in page
    assert page.count("raw/2026-11-20/r") >= 9
    assert page.count("data:image/jpeg;base64,") == 2


def test_nothing_is_loaded_from_anywhere_and_nothing_runs(observed_once: Observed) -> None:
    found = elements(draw_night(observed_once.settings, NIGHT))
    assert all(address.startswith("data:image/jpeg;base64,") for address in found.addresses)
    assert not found.names & {"script", "link", "iframe", "object", "form", "base"}
    assert not {name for name in found.attributes if name.startswith("on")}


def test_what_headers_and_names_say_is_text(observed: Observed) -> None:
    settings = observed.settings
    night = read_json(night_file(settings, NIGHT))
    for row in night["groups"].values():
        row["reason"] = EVIL
    night["nothing"] = EVIL
    write_json(night_file(settings, NIGHT), night)
    report = read_json(report_path(settings, NIGHT))
    report["raws"][0]["path"], report["raws"][0]["reason"] = f"raw/{EVIL}.fits", EVIL
    write_json(report_path(settings, NIGHT), report)
    page = draw_night(settings, NIGHT)
    assert not elements(page).names & {"script"}
    assert "&lt;script&gt;" in page
    assert not re.search("[\u202e\u2066]", page)
    assert page.count("\\u{202e}") == 6  # three groups, the night, a raw's reason and its name


def test_text_in_a_fence_can_neither_end_it_nor_draw() -> None:
    text = fenced("a ```` b\n```\n![x](https://evil.example)")
    first, *middle, last = text.splitlines()
    assert first == "`````text"
    assert last == "`````"
    assert len(middle) == 1


def test_letters_that_are_not_seen_are_spelled_out() -> None:
    assert printable("a\u202eb\tc\x00") == "a\\u{202e}b\\u{9}c\\u{0}"
    assert printable("M 31 \N{EN DASH} Ångström") == "M 31 \N{EN DASH} Ångström"


def test_a_reason_is_a_sentence_that_makes_sense_outside_the_log() -> None:
    told = sentence("it is cut short. Copy it again, then clear this task with its downstream.\u202e")
    assert told == "It is cut short. Copy it again, then clear its square in the run with its downstream.\\u{202e}"
    assert sentence("r1.fits: no") == "r1.fits: no"
    assert sentence("") == ""


def test_what_an_image_is_not_judged_by_is_said_where_it_is_green() -> None:
    row = {"reason": "3 frames are in the stack.", "quality": {"grade": "green", "reason": ""}}
    assert quality_note(row | {"not_judged": ["fwhm", "sky", "depth"]}) == "No limits set for FWHM, sky and depth."
    assert quality_note(row | {"not_judged": []}) == ""
    assert quality_note({**row, "not_judged": ["sky"], "quality": None}) == ""
    bad = {**row, "not_judged": ["sky"], "quality": {"grade": "yellow", "reason": "the stars are wide."}}
    assert quality_note(bad) == "The stars are wide."


def test_a_moment_is_read_by_a_person() -> None:
    assert moment("2026-11-21T13:03:59+01:00") == "2026-11-21 12:03 UTC"


def test_times_and_ranges_as_a_person_says_them() -> None:
    assert [seconds(value) for value in (None, 0.5, 45, 119, 120, 3600, 7500)] == [
        "\N{EN DASH}",
        "0.5 s",
        "45 s",
        "119 s",
        "2 min",
        "60 min",
        "2 h 05 min",
    ]
    assert span([1.02, 1.31]) == "1.02 to 1.31"
    assert span([1.101, 1.104]) == "1.10"
