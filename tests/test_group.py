"""Names and groups: one spelling for folders, keys and run ids, whatever a header or a person writes."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest

from nightdesk.errors import SetupError
from nightdesk.group import PARAM_PATTERN, Group, clean_name, colliding, resolve_alias
from nightdesk.settings import Settings

NIGHT = date(2026, 11, 21)
TWO_CAMERAS: dict[str, Any] = {
    "instruments": {"blue": {"match": {"INSTRUME": "blue*"}}, "Red": {"match": {"INSTRUME": "red*"}}}
}


def group_of(settings: Settings | None = None, **params: Any) -> Group:
    wanted = {"target": "NGC5949", "filter_name": "R", "night": "2026-11-21"} | params
    return Group.from_params(settings or Settings(), **wanted)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("NGC5949", "NGC5949", id="a name stays"),
        pytest.param(" NGC 5949\t", "NGC5949", id="blanks are dropped"),
        pytest.param("M 31 / north", "M31-north", id="other characters become a dash"),
        pytest.param("a #?! b", "a-b", id="a run of them becomes one dash"),
        pytest.param("HD_1.2+3-4", "HD_1.2+3-4", id="letters, digits, . + - and single _ stay"),
        pytest.param("a__b", "a-b", id="a double _ becomes a dash"),
        pytest.param("a_ _b", "a-b", id="a double _ that dropping a blank makes"),
        pytest.param("a_/_b", "a_-_b", id="single _ beside a dash"),
        pytest.param("Pérez 1", "P-rez1", id="ASCII only"),
        pytest.param("星", None, id="nothing of ASCII"),
        pytest.param("_(M31)_", "M31", id="first and last a letter or a digit"),
        pytest.param("../../etc/passwd", "etc-passwd", id="no way up the tree"),
        pytest.param("CON\0", "CON", id="no control character"),
        pytest.param("", None, id="empty"),
        pytest.param(" -._ ", None, id="no letter or digit"),
        pytest.param("x" * 64, "x" * 64, id="64 characters at most"),
        pytest.param("x" * 65, None, id="65 characters"),
        pytest.param("x" * 64 + " !", "x" * 64, id="counted when cleaned"),
        pytest.param("Reports", None, id="reports is reserved, without case"),
        pytest.param("deep", None, id="deep is reserved"),
        pytest.param(" raws/", None, id="raws is reserved, once cleaned"),
        pytest.param("raws2", "raws2", id="more than a reserved word"),
    ],
)
def test_a_name_is_made_by_the_rules(text: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(ValueError, match=re.escape(repr(text))):
            clean_name(text)
    else:
        assert clean_name(text) == name
        assert re.search(PARAM_PATTERN, name)


@pytest.mark.parametrize("text", ["", "-a", "a_", "a b", "a/b", "x" * 65, "ä", "."])
def test_the_parameter_pattern_refuses_what_is_no_name(text: str) -> None:
    assert not re.search(PARAM_PATTERN, text)


def test_header_values_that_would_share_a_name_are_named_in_pairs() -> None:
    assert colliding(["NGC 5949", "M31", "ngc5949", "NGC 5949"]) == [("NGC 5949", "ngc5949")]
    assert colliding(["r", "R", "I"]) == [("R", "r")]
    assert colliding(["R", "R-", "R+H"]) == [("R", "R-")]
    assert colliding(["R", "I", "R1"]) == []


def test_an_alias_joins_spellings_whatever_their_case_and_blanks() -> None:
    aliases = {"Filter 2": "R", "ngc 5949": "NGC5949"}
    assert resolve_alias("filter  2 ", aliases) == "R"
    assert resolve_alias("NGC 5949", aliases) == "NGC5949"
    assert resolve_alias("Filter 22", aliases) == "Filter 22"
    assert resolve_alias("H", aliases) == "H"


def test_a_group_has_a_key_and_a_run_id() -> None:
    group = group_of()
    assert group.key == "2026-11-21/NGC5949/R"
    assert group.run_id == "2026-11-21__NGC5949__R"
    assert group.params == {"target": "NGC5949", "filter_name": "R", "night": "2026-11-21"}
    assert Group.from_params(Settings(), **group.params) == group


def test_with_several_instruments_the_group_carries_its_own() -> None:
    settings = Settings.model_validate(TWO_CAMERAS)
    group = group_of(settings, instrument="red")
    assert group.key == "2026-11-21/Red/NGC5949/R"
    assert group.run_id == "2026-11-21__Red__NGC5949__R"
    assert group.params["instrument"] == "Red"
    assert Group.from_params(settings, **group.params) == group


@pytest.mark.parametrize("instrument", [None, "green"])
def test_with_several_instruments_one_must_be_named(instrument: str | None) -> None:
    with pytest.raises(SetupError, match=r"must be one of blue, Red"):
        group_of(Settings.model_validate(TWO_CAMERAS), instrument=instrument)


def test_with_one_instrument_its_name_is_left_out() -> None:
    assert group_of(instrument="PT5M").instrument is None
    with pytest.raises(SetupError, match=r"no instrument 'SBIG' is configured, only 'pt5m'"):
        group_of(instrument="SBIG")


def test_parameters_pass_through_the_same_rules_and_aliases() -> None:
    settings = Settings.model_validate({"aliases": {"filters": {"Filter 2": "R"}}})
    assert group_of(settings, target="NGC 5949 ", filter_name="filter 2", night=" 2026-11-21") == group_of()
    assert group_of(night=NIGHT) == group_of()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        pytest.param({"target": "///"}, "///", id="target"),
        pytest.param({"target": "x" * 65}, "64 at most", id="long target"),
        pytest.param({"filter_name": "raws"}, "reserved", id="filter"),
        pytest.param({"night": "21/11/2026"}, "write it as 2026-11-21", id="night in another order"),
        pytest.param({"night": "2026-02-30"}, "2026-02-30", id="night not in the calendar"),
        pytest.param({"night": "2026-W47-6"}, "2026-W47-6", id="night by its week"),
    ],
)
def test_parameters_that_name_no_group_are_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(SetupError, match=re.escape(named)):
        group_of(**wrong)


def test_groups_are_the_same_without_case() -> None:
    assert Group(NIGHT, "NGC5949", "R").same_as(Group(NIGHT, "ngc5949", "r"))
    assert not Group(NIGHT, "NGC5949", "R").same_as(Group(NIGHT, "NGC5949", "H"))
    assert not Group(NIGHT, "NGC5949", "R").same_as(Group(date(2026, 11, 22), "NGC5949", "R"))


def test_a_separator_in_a_run_id_cannot_come_from_a_name() -> None:
    assert group_of(target="NGC__5949", filter_name="R__x").run_id.split("__") == ["2026-11-21", "NGC-5949", "R-x"]
