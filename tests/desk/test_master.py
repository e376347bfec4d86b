"""Which masters a page says were used, and why not the others."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any

import pytest
from astropy.io import fits

from nightdesk.desk.master import masters_of
from nightdesk.desk.served import Served
from nightdesk.settings import Settings
from nightdesk.steps import reduce
from tests.desk.conftest import NIGHT, Observed


def put(observed: Observed, days: int, name: str, *, side: int = 0) -> str:
    """Copy a master into a night's folder, smaller if it is to be, and return its path."""
    place = observed.root / "calibs" / (NIGHT + timedelta(days=days)).isoformat()
    place.mkdir(exist_ok=True)
    source = observed.root / "calibs" / name
    if side:
        with fits.open(source) as hdus:
            fits.writeto(place / name, hdus[0].data[:side, :side], hdus[0].header)
    else:
        shutil.copy(source, place)
    return f"calibs/{place.name}/{name}"


def told(observed: Observed, target: str = "M13") -> dict[str, dict[str, Any]]:
    return {line["path"] or line["kind"]: line for line in masters_of(observed.served(target))}


def test_what_was_used_is_named_and_a_kind_of_which_there_is_none_is_no_gap(observed_once: Observed) -> None:
    lines = told(observed_once)
    assert lines["calibs/bias2x2.fits"]["used"]
    assert lines["calibs/Rflatnorm2x2.fits"]["used"]
    assert lines["dark"]["why"] == "there is none"


def test_each_master_that_was_not_used_says_why(observed: Observed) -> None:
    near, farther = put(observed, -1, "Rflatnorm2x2.fits"), put(observed, -4, "Rflatnorm2x2.fits")
    small, old = put(observed, 1, "bias2x2.fits", side=50), put(observed, -900, "bias2x2.fits")
    reduce.run(observed.settings, observed.group("M13"))
    lines = told(observed)
    assert [line["path"] for line in lines.values() if line["used"]] == ["calibs/bias2x2.fits", near]
    assert lines[farther]["why"] == "it fits, but the one that was used is nearer in time"
    assert lines["calibs/Rflatnorm2x2.fits"]["why"] == "it fits, but the one that was used has a night"
    assert lines[small]["why"] == "it is 50 x 50 pixels, the frames are 230 x 200"
    assert lines[old]["why"].startswith("900 days away, the window is")


def test_a_master_that_came_later_is_not_said_to_be_farther(observed: Observed) -> None:
    later = put(observed, 0, "Rflatnorm2x2.fits")
    assert told(observed)[later]["why"] == "it fits, but the stack was made before it came"


def test_a_group_that_waits_has_used_its_masters_already(observed_once: Observed) -> None:
    assert told(observed_once, "M57")["calibs/Rflatnorm2x2.fits"]["used"]


@pytest.mark.parametrize("setting", ["dark", "flat"])
def test_a_kind_that_is_not_wanted_names_the_setting(observed: Observed, setting: str) -> None:
    chosen = {"data": {"root": observed.root}, "filters": {"R": {"extinction": 0.1, setting: "none"}}}
    served = Served(Settings.model_validate(chosen), observed.group("M13"))
    served.layout.manifest.unlink()
    line = next(line for line in masters_of(served) if line["kind"] == setting)
    assert line["why"] == f'not wanted: [filters.R] {setting} = "none"'


def test_before_its_first_run_a_group_has_none(observed_once: Observed) -> None:
    assert masters_of(observed_once.served("M999")) == []
