"""Where a coefficient of extinction comes from, and that it is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from nightdesk.errors import SetupError
from nightdesk.settings import Settings
from nightdesk.steps.coefficient import find_coefficient
from tests.small_night import SmallNight

SITE = {"extinction_curve": "lapalma"}
DUSTY = {**SITE, "k_v": {"2026-11-21": 0.152}}


@pytest.mark.parametrize(
    ("filters", "site", "k", "source"),
    [
        ({"extinction": 0.0547}, {}, 0.0547, "configuration"),
        ({"extinction": 0.0547, "wavelength": 6550}, SITE, 0.0547, "configuration"),
        ({"wavelength": 6563}, SITE, 0.0541, "curve lapalma at 6563 A"),
        ({"wavelength": 6550}, DUSTY, 0.1047, "curve lapalma at 6550 A, k_V = 0.152 of 2026-11-21"),
        ({"extinction": 0.06, "wavelength": 6550}, DUSTY, 0.1047, "curve lapalma at 6550 A, k_V = 0.152 of 2026-11-21"),
        ({"extinction": 0.0547}, DUSTY, 0.0547, "configuration"),
        ({"wavelength": 6550}, {**SITE, "k_v": {"2026-11-20": 0.2}}, 0.0547, "curve lapalma at 6550 A"),
    ],
    ids=["literal", "literal first", "curve", "night", "night first", "literal alone", "another night"],
)
def test_the_coefficient(filters: dict[str, Any], site: dict[str, Any], k: float, source: str) -> None:
    settings = Settings.model_validate({"filters": {"R": filters}, "site": site})
    found = find_coefficient(settings, SmallNight(Path("unused")).group)
    assert (found.k, found.source) == (pytest.approx(k), source)


@pytest.mark.parametrize(
    ("filters", "site", "words"),
    [
        ({"wavelength": 6550}, {}, r"\[site\] extinction_curve names no curve"),
        ({"wavelength": 3100}, SITE, "runs from 3200 to 10800 Angstrom"),
        ({"wavelength": 9000}, {**SITE, "k_v": {"2026-11-21": 0.05}}, "too low"),
    ],
    ids=["no curve", "beyond it", "too clear"],
)
def test_what_is_wrong_is_told(filters: dict[str, Any], site: dict[str, Any], words: str) -> None:
    settings = Settings.model_validate({"filters": {"R": filters}, "site": site})
    with pytest.raises(SetupError, match=words):
        find_coefficient(settings, SmallNight(Path("unused")).group)


def test_pt5ms_defaults_stay() -> None:
    assert find_coefficient(Settings(), SmallNight(Path("unused")).group).k == 0.0547


def test_the_product_says_it(tmp_path: Path) -> None:
    tables = {"site": DUSTY, "filters": {"R": {"wavelength": 6550, "extinction_sigma": 0.01}}}
    night = SmallNight(tmp_path, tables=tables).write().run_to("extinction")
    header = fits.getheader(night.product("extinction", night.names[0]))
    assert (header["EXTK"], header["EXTSIG"], header["EXTREF"]) == (0.1047, 0.01, "TOA")
    assert header["EXTSRC"] == "curve lapalma at 6550 A, k_V = 0.152 of 2026-11-21"
    assert fits.getdata(night.product("extinction", night.names[0]))[3, 3] == pytest.approx(
        fits.getdata(night.product("postISR", night.names[0]))[3, 3] * 10 ** (0.1047 * 1.2 / 2.5), rel=1e-6
    )


def test_another_nights_k_v_leaves_a_group_alone() -> None:
    group = SmallNight(Path("unused")).group
    plain = Settings.model_validate({"site": SITE})
    other = Settings.model_validate({"site": {**SITE, "k_v": {"2026-11-20": 0.2}}})
    assert plain.numbers_of(group) == other.numbers_of(group)
