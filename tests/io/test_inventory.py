"""The inventory: groups, setups, copies, collisions, and facts that are read once."""

from __future__ import annotations

import hashlib
import os
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightdesk.group import Group
from nightdesk.io.inventory import (
    FactsCache,
    Inventory,
    common_shape,
    hash_file,
    name_collisions,
    select_frames,
    take_inventory,
)
from nightdesk.io.raw import RawFacts
from tests.small_night import NIGHT, SmallNight

ONE, TWO, THREE = "r0743053", "r0743054", "r0743055"


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return SmallNight(tmp_path, shape=(16, 20))


def inventory_of(night: SmallNight, **tables: Any) -> Inventory:
    return take_inventory(SmallNight(night.root, tables=tables).settings)


def facts(name: str, *, folder: str = "raw", **changes: Any) -> RawFacts:
    values: dict[str, Any] = {
        "kind": "science",
        "missing": 0,
        "target_text": "NGC5949",
        "filter_text": "R",
        "night": NIGHT.isoformat(),
        "exposure": 60.0,
        "binning": "2x2",
        "shape": (16, 20),
    }
    return RawFacts(path=f"{folder}/{name}.fits", name=name, size=1, mtime_ns=1, **(values | changes))


# Groups


def test_raws_are_grouped_by_night_target_and_filter(night: SmallNight) -> None:
    night.write_raw(ONE)
    night.write_raw(TWO)
    night.write_raw(THREE, OBJECT="M31")
    night.write_raw(ONE, path=night.root / "raw/a.fits", FILTER="H")
    night.write_raw(ONE, path=night.root / "raw/b.fits", DATE_OBS="2026-11-22T22:00:00")
    night.write_raw(ONE, path=night.root / "raw/c.fits", IMAGETYP="bias")
    night.write_raw(ONE, path=night.root / "raw/d.fits", OBJECT=None)
    found = {group.key: [raw.name for raw in raws] for group, raws in inventory_of(night).science.items()}
    assert found == {
        "2026-11-21/M31/R": [THREE],
        "2026-11-21/NGC5949/H": ["a"],
        "2026-11-21/NGC5949/R": [ONE, TWO],
        "2026-11-22/NGC5949/R": ["b"],
    }
    assert list(found) == sorted(found)


def test_groups_are_the_same_without_case_and_spelled_as_on_disk(night: SmallNight) -> None:
    night.write_raw(ONE, OBJECT="ngc5949")
    night.write_raw(TWO)
    inventory = inventory_of(night)
    assert len(inventory.science) == 1
    known, raws = inventory.of_group(Group(NIGHT, "NGC5949", "r"))
    assert (known, len(raws)) == (Group(NIGHT, "ngc5949", "R"), 2)


def test_a_group_without_raws_stays_as_it_was_asked_for(night: SmallNight) -> None:
    night.write_raw(ONE)
    asked = Group(NIGHT, "M31", "r")
    assert inventory_of(night).of_group(asked) == (asked, [])


def test_a_night_has_its_groups(night: SmallNight) -> None:
    night.write_raw(ONE)
    night.write_raw(TWO, DATE_OBS="2026-11-22T22:00:00")
    inventory = inventory_of(night)
    assert inventory.groups_of(NIGHT) == [night.group]
    assert inventory.groups_of(NIGHT - timedelta(days=1)) == []


def test_with_several_instruments_each_has_its_groups(night: SmallNight) -> None:
    night.write_raw(ONE, INSTRUME="blue")
    night.write_raw(TWO, INSTRUME="red")
    cameras = {"blue": {"match": {"INSTRUME": "blue"}}, "red": {"match": {"INSTRUME": "red"}}}
    keys = [group.key for group in inventory_of(night, instruments=cameras).science]
    assert keys == ["2026-11-21/blue/NGC5949/R", "2026-11-21/red/NGC5949/R"]


# Names that meet


@pytest.mark.parametrize(
    ("changes", "what", "first", "second"),
    [
        pytest.param({"OBJECT": "ngc5949"}, "targets", "NGC5949", "ngc5949", id="NGC5949 and ngc5949"),
        pytest.param({"OBJECT": "NGC 5949"}, "targets", "NGC 5949", "NGC5949", id="NGC5949 and NGC 5949"),
        pytest.param({"FILTER": "r"}, "filters", "R", "r", id="R of Johnson and r of Sloan"),
        pytest.param({"FILTER": "R'"}, "filters", "R", "R'", id="R and R'"),
    ],
)
def test_header_values_that_meet_are_an_error_naming_both(
    night: SmallNight, changes: dict[str, Any], what: str, first: str, second: str
) -> None:
    night.write_raw(ONE)
    night.write_raw(TWO, **changes)
    (sentence,) = name_collisions(night.group, inventory_of(night).raws)
    assert f"{first!r} and {second!r}" in sentence
    assert f'[aliases.{what}] "{second}" = "{first}"' in sentence


def test_values_of_other_filters_and_nights_meet_too(night: SmallNight) -> None:
    # They share folders and sidecars; on a disk that tells case apart they would have two of each.
    night.write_raw(ONE, OBJECT="NGC 5949")
    night.write_raw(TWO, OBJECT="ngc5949", FILTER="H")
    night.write_raw(THREE, OBJECT="Ngc5949", DATE_OBS="2026-10-01T22:00:00")
    inventory = inventory_of(night)
    assert all(len(name_collisions(group, inventory.raws)) == 2 for group in inventory.science)


def test_an_alias_ends_the_collision(night: SmallNight) -> None:
    night.write_raw(ONE)
    night.write_raw(TWO, OBJECT="ngc 5949", FILTER="Filter 2")
    aliases = {"targets": {"NGC 5949": "NGC5949"}, "filters": {"Filter 2": "R"}}
    _, raws = inventory_of(night, aliases=aliases).of_group(night.group)
    assert (len(raws), name_collisions(night.group, raws)) == (2, [])


def test_different_names_do_not_collide(night: SmallNight) -> None:
    night.write_raw(ONE)
    night.write_raw(TWO, FILTER="R2")
    inventory = inventory_of(night)
    assert all(name_collisions(group, inventory.raws) == [] for group in inventory.science)


def test_a_copy_in_the_notebooks_folder_does_not_collide_with_its_header(night: SmallNight) -> None:
    path = night.write_raw(ONE, OBJECT="NGC 5949", FILTER="R ")
    place = night.root / "processed/NGC5949/R/raws"
    place.mkdir(parents=True)
    shutil.copy(path, place)
    _, raws = inventory_of(night).of_group(night.group)
    assert (len(raws), name_collisions(night.group, raws)) == (2, [])


def test_a_folder_that_another_header_meets_only_without_case_collides(night: SmallNight) -> None:
    night.write_raw(ONE, OBJECT="ngc 5949")
    night.write_raw(TWO, path=night.root / f"processed/NGC5949/R/raws/{TWO}.fits")
    _, raws = inventory_of(night).of_group(night.group)
    assert len(name_collisions(night.group, raws)) == 1


# Copies and setups


def test_a_copy_counts_once() -> None:
    selection = select_frames([facts(ONE, folder="processed/NGC5949/R/raws"), facts(ONE), facts(TWO)])
    assert sorted(selection.frames) == [ONE, TWO]
    assert selection.left_out == {}


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        pytest.param(
            {"exposure": 30.0}, "another setup (30 s, binning 2x2; this group is 60 s, binning 2x2)", id="time"
        ),
        pytest.param({"exposure": 60.7}, "60.7 s", id="more than 1 %"),
        pytest.param({"binning": "1x1"}, "binning 1x1", id="binning"),
        pytest.param({"readout_mode": "Fast"}, "readout Fast", id="readout mode"),
    ],
)
def test_the_most_numerous_setup_is_reduced_and_the_rest_left_out(odd: dict[str, Any], words: str) -> None:
    selection = select_frames([facts(ONE, **odd), facts(TWO), facts(THREE)])
    assert sorted(selection.frames) == [TWO, THREE]
    assert words in selection.left_out[ONE]


def test_of_two_equal_setups_the_first_by_name_is_reduced() -> None:
    selection = select_frames([facts(TWO, exposure=30.0), facts(ONE)])
    assert (list(selection.frames), list(selection.left_out)) == ([ONE], [TWO])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exposure": 60.5}, id="within 1 % of the exposure"),
        pytest.param({"exposure": None}, id="without an exposure: a bad frame"),
        pytest.param({"exposure": 0.0}, id="an exposure of nothing: a bad frame"),
        pytest.param({"exposure": -1.0}, id="less than nothing: a bad frame"),
        pytest.param({"shape": (8, 20)}, id="another shape: a bad frame"),
        pytest.param({"missing": 100}, id="cut short: a bad frame"),
    ],
)
def test_frames_of_the_same_setup_stay(changes: dict[str, Any]) -> None:
    selection = select_frames([facts(ONE), facts(TWO), facts(THREE, **changes)])
    assert (sorted(selection.frames), selection.left_out) == ([ONE, TWO, THREE], {})


def test_frames_of_no_exposure_push_nobody_out() -> None:
    frames = [facts(ONE), *(facts(f"x{number}", exposure=0.0) for number in range(3))]
    selection = select_frames(frames)
    assert (len(selection.frames), selection.left_out) == (4, {})


def test_exposures_that_will_be_scaled_share_a_setup() -> None:
    frames = [facts(ONE, exposure=30.0), facts(TWO), facts(THREE, binning="1x1")]
    selection = select_frames(frames, any_exposure=True)
    assert (sorted(selection.frames), list(selection.left_out)) == ([ONE, TWO], [THREE])


def test_frames_without_any_exposure_are_all_kept() -> None:
    assert len(select_frames([facts(ONE, exposure=None), facts(TWO, exposure=None)]).frames) == 2
    assert select_frames([]).frames == {}


def test_the_common_shape_is_the_most_frequent_of_two_axes() -> None:
    assert common_shape([facts(ONE, shape=(8, 20)), facts(TWO), facts(THREE)]) == (16, 20)
    assert common_shape([facts(ONE, shape=(3, 16, 20)), facts(TWO, shape=())]) == ()
    assert common_shape([facts(ONE, shape=(8, 20)), facts(TWO)]) == (8, 20)


# Two biases of the night, for the read noise


def test_a_pair_of_biases_is_of_the_same_night_and_setup(night: SmallNight) -> None:
    biases: dict[str, dict[str, Any]] = {
        "b1": {},
        "b2": {"DATE_OBS": "2026-11-20T22:00:00"},
        "b3": {"XBINNING": 1},
        "b4": {},
        "b5": {},
    }
    for name, changes in biases.items():
        night.write_raw(ONE, path=night.root / f"raw/{name}.fits", IMAGETYP="bias", **changes)
    night.write_raw(ONE)
    (night.root / "raw/b1.fits").write_bytes((night.root / "raw/b1.fits").read_bytes()[:-2881])
    inventory = inventory_of(night)
    _, frames = inventory.of_group(night.group)
    assert inventory.bias_pair(NIGHT, frames) == ("raw/b4.fits", "raw/b5.fits")
    assert inventory.bias_pair(NIGHT - timedelta(days=1), frames) == ()
    assert inventory.bias_pair(NIGHT, []) == ()


# The cache


def change_unseen(path: Path, night: SmallNight, **changes: Any) -> None:
    """Change a file's header, and give it back its size and time."""
    before = path.stat()
    night.write_raw(ONE, path=path, **changes)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_facts_are_read_once_for_a_size_and_a_time(night: SmallNight) -> None:
    path = night.write_raw(ONE)
    assert inventory_of(night).raws[0].target == "NGC5949"
    change_unseen(path, night, OBJECT="M31")
    assert inventory_of(night).raws[0].target == "NGC5949"
    os.utime(path, ns=(0, 1))
    assert inventory_of(night).raws[0].target == "M31"


def test_facts_are_read_anew_when_the_settings_read_them_otherwise(night: SmallNight) -> None:
    path = night.write_raw(ONE, OBJECT="M31")
    assert inventory_of(night).raws[0].target == "M31"
    change_unseen(path, night, OBJECT="M33")
    assert inventory_of(night, watch={"settle_seconds": 1}).raws[0].target == "M31"
    assert inventory_of(night, aliases={"targets": {"M33": "Triangulum"}}).raws[0].target == "Triangulum"


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '[{"path": 1}]', '{"a": {}}', "null", '[{"shape": null}]'])
def test_a_spoilt_cache_is_read_past(night: SmallNight, content: str) -> None:
    night.write_raw(ONE)
    inventory_of(night)
    (cached,) = (night.root / ".nightdesk/facts").iterdir()
    cached.write_text(content)
    assert inventory_of(night).raws[0].target == "NGC5949"


def test_the_cache_may_be_deleted_or_impossible_to_write(night: SmallNight) -> None:
    night.write_raw(ONE)
    before = inventory_of(night).raws
    shutil.rmtree(night.root / ".nightdesk")
    assert inventory_of(night).raws == before
    shutil.rmtree(night.root / ".nightdesk")
    (night.root / ".nightdesk").write_text("in the way")
    assert inventory_of(night).raws == before


def test_a_cache_in_memory_forgets_what_is_gone(night: SmallNight) -> None:
    path = night.write_raw(ONE)
    night.write_raw(TWO)
    cache = FactsCache(night.settings)
    assert len(take_inventory(night.settings, cache).raws) == len(cache.known) == 2
    path.unlink()
    assert len(take_inventory(night.settings, cache).raws) == len(cache.known) == 1
    night.write_raw(THREE)
    assert [raw.name for raw in take_inventory(night.settings, cache).raws] == [TWO, THREE]
    assert [raw.name for raw in inventory_of(night).raws] == [TWO, THREE]


def test_an_empty_root_has_an_empty_inventory(tmp_path: Path) -> None:
    assert take_inventory(SmallNight(tmp_path / "nothing").settings).raws == ()


def test_a_file_is_hashed_anew_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"one", b"two!", b""):
        path.write_bytes(content)
        assert hash_file(path) == hash_file(path) == hashlib.sha256(content).hexdigest()


def test_the_small_raw_is_a_raw(night: SmallNight) -> None:
    night.write_raw(ONE, np.zeros((16, 20), np.uint16))
    assert inventory_of(night).groups_of(date(2026, 11, 21)) == [night.group]
