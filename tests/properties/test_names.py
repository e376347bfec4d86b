"""Laws of names and groups."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nightdesk.errors import SetupError
from nightdesk.group import NIGHT_PATTERN, PARAM_PATTERN, RESERVED, Group, clean_name, colliding
from nightdesk.settings import Settings

SETTINGS = Settings()
TEXTS = st.text(max_size=80) | st.text("aB1_-+. /é", max_size=70)
NAMES = st.from_regex(PARAM_PATTERN, fullmatch=True).filter(
    lambda name: "__" not in name and name.casefold() not in RESERVED
)
NIGHTS = st.dates()


def cleaned(text: str) -> str:
    """Return the name of a text; texts that have none are not of interest."""
    try:
        return clean_name(text)
    except ValueError:
        assume(False)
        raise


@given(TEXTS)
def test_a_cleaned_name_is_a_name_and_stays_as_it_is(text: str) -> None:
    name = cleaned(text)
    assert re.fullmatch(PARAM_PATTERN, name)
    assert "__" not in name
    assert name.casefold() not in RESERVED
    assert clean_name(name) == name


@given(NAMES)
def test_a_name_by_the_pattern_is_left_alone(name: str) -> None:
    assert clean_name(name) == name


@given(TEXTS)
def test_a_text_without_a_letter_or_a_digit_is_told_by_name(text: str) -> None:
    bare = re.sub(r"[A-Za-z0-9]", "", text)
    with pytest.raises(ValueError, match=re.escape(repr(bare))):
        clean_name(bare)


@given(TEXTS, st.sampled_from([" ", "\t", " "]), st.integers(0, 80))
def test_blanks_anywhere_change_nothing(text: str, blank: str, place: int) -> None:
    name = cleaned(text)
    assert clean_name(text[:place] + blank + text[place:]) == name


@given(NIGHTS, NAMES, NAMES)
def test_a_group_survives_its_parameters(night: date, target: str, filter_name: str) -> None:
    group = Group(night, target, filter_name)
    assert Group.from_params(SETTINGS, **group.params) == group
    assert re.fullmatch(NIGHT_PATTERN, group.params["night"])


@given(st.tuples(NIGHTS, NAMES, NAMES), st.tuples(NIGHTS, NAMES, NAMES))
def test_different_groups_have_different_keys_and_run_ids(
    one: tuple[date, str, str], other: tuple[date, str, str]
) -> None:
    first, second = Group(*one), Group(*other)
    assert (first.key == second.key) == (first == second) == (first.run_id == second.run_id)


@given(TEXTS, TEXTS, st.text(max_size=12))
def test_no_parameters_raise_anything_but_a_setup_error(target: str, filter_name: str, night: str) -> None:
    try:
        group = Group.from_params(SETTINGS, target=target, filter_name=filter_name, night=night)
    except SetupError:
        return
    assert Group.from_params(SETTINGS, **group.params) == group


@given(st.lists(NAMES, max_size=8))
def test_names_collide_exactly_when_they_differ_in_case_alone(names: list[str]) -> None:
    different = set(names)
    folded = {name.casefold() for name in different}
    assert len(colliding(names)) == len(different) - len(folded)
