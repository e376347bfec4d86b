"""Extinction curves and airmasses against figures from outside."""

from __future__ import annotations

import csv

import pytest

from nightdesk.science.airmass import airmass_at
from nightdesk.science.extinction_curve import SOURCES, curve_k_v, extinction_at
from tests.real_data import REAL_DATA, absent

REFERENCE = REAL_DATA / "extinction_curves.csv"


def test_pt5ms_figures_are_kings() -> None:
    assert extinction_at(6550.0, "lapalma") == 0.0547
    assert extinction_at(6563.0, "lapalma") == 0.0541
    assert extinction_at(5500.0, "lapalma") == pytest.approx(0.102, abs=0.002)


def test_dust_raises_all_wavelengths_alike() -> None:
    for wavelength in (4000.0, 6550.0, 9000.0):
        raised = extinction_at(wavelength, "lapalma", k_v=0.152)
        assert raised - extinction_at(wavelength, "lapalma") == pytest.approx(0.05)
    assert extinction_at(6000.0, "kpno", k_v=curve_k_v("kpno")) == extinction_at(6000.0, "kpno")


@pytest.mark.skipif(not REFERENCE.is_file(), reason=absent(REFERENCE))
def test_the_short_table_follows_the_curves_as_published() -> None:
    with REFERENCE.open() as stream:
        rows = list(csv.DictReader(stream))
    compared = 0
    for row in rows:
        for curve in SOURCES:
            published = row[f"{curve}_mag_per_airmass"]
            if published:
                k = float(published)
                assert extinction_at(float(row["wavelength_A"]), curve) == pytest.approx(k, abs=0.005 * max(1, k / 0.3))
                compared += 1
    assert compared > 900


@pytest.mark.parametrize(("wavelength", "curve"), [(3000.0, "lapalma"), (3250.0, "paranal"), (6550.0, "atlantis")])
def test_what_no_curve_tells_is_refused(wavelength: float, curve: str) -> None:
    with pytest.raises(ValueError, match="curve"):
        extinction_at(wavelength, curve)


def test_a_night_cannot_be_clearer_than_clear() -> None:
    with pytest.raises(ValueError, match="too low"):
        extinction_at(9000.0, "lapalma", k_v=0.05)


@pytest.mark.parametrize(
    ("zenith_distance", "airmass"),
    # sec z at moderate zenith distances; Bemporad's figures (with refraction taken out) farther down.
    [(0.0, 1.0), (30.0, 1.1540), (60.0, 1.9917), (75.0, 3.80), (85.0, 10.2)],
)
def test_airmass(zenith_distance: float, airmass: float) -> None:
    assert airmass_at(90.0 - zenith_distance) == pytest.approx(airmass, rel=0.015)
    with pytest.raises(ValueError, match="altitude"):
        airmass_at(-1.0)
