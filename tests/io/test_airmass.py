"""Where an airmass comes from, how right the computed one is, and which one wins."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from astropy import units
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.utils import iers

from nightdesk.errors import FrameError
from nightdesk.instrument import Instrument
from nightdesk.io.airmass import altitude_of, find_airmass
from nightdesk.science.airmass import airmass_at
from nightdesk.settings import Settings

LA_PALMA = {"latitude": 28.7606, "longitude": -17.8792}
CARDS: dict[str, Any] = {
    "RA": "06:09:23.42",
    "DEC": "+34:09:11.2",
    "DATE-OBS": "2026-11-22T01:28:12",
    "EXPTIME": 60.0,
}


def airmass(header: dict[str, Any], *, site: dict[str, Any] | None = None, **instrument: Any) -> Any:
    settings = Settings.model_validate({"site": LA_PALMA if site is None else site})
    chosen = Instrument.model_validate(instrument)
    return find_airmass(settings, chosen, fits.Header(list(header.items())), "f.fits")


@pytest.mark.parametrize("moment", [datetime(1987, 9, 1, 3, 30, tzinfo=UTC), datetime(2020, 3, 20, 22, tzinfo=UTC)])
def test_an_altitude_is_right_to_35_arcseconds(moment: datetime) -> None:
    place = EarthLocation(lat=LA_PALMA["latitude"] * units.deg, lon=LA_PALMA["longitude"] * units.deg, height=0)
    compared = 0
    with iers.conf.set_temp("auto_download", False):
        for ra, dec in ((0.0, 20.0), (90.0, -10.0), (180.0, 60.0), (270.0, 35.0), (310.0, 5.0)):
            frame = AltAz(obstime=Time(moment), location=place)
            truth = SkyCoord(ra, dec, unit="deg").transform_to(frame).alt.deg
            ours = altitude_of(ra, dec, 2000.0, moment, **LA_PALMA)
            assert abs(ours - truth) < 35.0 / 3600.0
            if truth > 15:
                assert airmass_at(ours) == pytest.approx(airmass_at(truth), abs=0.002)
                compared += 1
    assert compared >= 2


def test_the_header_is_taken_where_it_is_sane() -> None:
    found = airmass({**CARDS, "AIRMASS": 1.09})
    assert (found.value, found.source, found.warning) == (1.09, "header", "")


@pytest.mark.parametrize("nonsense", [0.4, 0.0, "high", 99.0, -1], ids=str)
def test_nonsense_is_replaced_by_what_coordinates_give(nonsense: Any) -> None:
    found = airmass({**CARDS, "AIRMASS": nonsense})
    assert found.value == pytest.approx(1.09, abs=0.005)
    assert found.source == "coordinates and time"
    assert "is no airmass" in found.warning


def test_a_disagreement_is_a_warning() -> None:
    assert airmass({**CARDS, "AIRMASS": 1.10}).warning == ""
    found = airmass({**CARDS, "AIRMASS": 1.5})
    assert found.value == 1.5
    assert found.warning.startswith("AIRMASS = 1.5, but coordinates and time give an airmass of 1.0")


def test_the_middle_of_the_exposure_counts() -> None:
    short, long = airmass({**CARDS, "EXPTIME": 0.0}), airmass({**CARDS, "EXPTIME": 7200.0})
    later = datetime(2026, 11, 22, 1, 28, 12, tzinfo=UTC) + timedelta(seconds=3600)
    assert long.value == airmass({**CARDS, "EXPTIME": 0.0, "DATE-OBS": later.isoformat()}).value != short.value


def test_a_wrong_zenith_distance_never_wins_over_coordinates() -> None:
    found = airmass({**CARDS, "ZD": "75:00:00"})
    assert found.value == pytest.approx(1.09, abs=0.005)
    assert "ZD gives 3.7964" in found.warning


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AIRMASS": 1.2, "DATE-OBS": "2026-11-22T13:28:12"}, "AIRMASS = 1.2, but .* put it .* degrees below"),
        ({"ZD": 10.0, "DATE-OBS": "2026-11-22T13:28:12"}, "ZD gives 1.0154, but .* degrees below the horizon"),
        ({"AIRMASS": 1.0, "ZD": 70.0, "RA": None}, "AIRMASS = 1, but ZD gives an airmass of 2.89"),
        ({"AIRMASS": 1.09, "ZD": 70.0}, "^ZD gives 2.89.*, but coordinates and time give an airmass of 1.0"),
    ],
    ids=["below the horizon", "height below", "zenith distance", "zenith distance alone"],
)
def test_whatever_disagrees_is_told(changes: dict[str, Any], words: str) -> None:
    found = airmass({**CARDS, **changes})
    assert re.search(words, found.warning), found.warning


@pytest.mark.parametrize(
    "cards", [{"ZD": "60:00:00"}, {"OBJCTALT": 30.0}, {"ZENDIST": "60,0"}], ids=["ZD", "alt", "comma"]
)
def test_else_the_height_tells(cards: dict[str, Any]) -> None:
    found = airmass({"DATE-OBS": "2026-11-22T01:28:12", "EXPTIME": 60.0, **cards})
    assert (found.value, found.source) == (pytest.approx(1.9917, abs=1e-4), next(iter(cards)))


@pytest.mark.parametrize(
    ("changes", "site"),
    [
        ({}, {"latitude": "28:45:38", "longitude": "17:52:45 W"}),
        ({}, {"latitude": 28.7606, "longitude": "17:52:45", "longitude_positive": "west"}),
        ({}, {"latitude": 28.7606, "longitude": "17:52:45 W", "longitude_positive": "west"}),
        ({"RA": "06h09m23.42s", "DEC": "+34d09m11.2s"}, None),
        ({"RA": "06H09M23.42S", "DEC": "34D09M11.2S N"}, None),
        ({"RA": 92.3476, "DEC": 34.1531}, None),
        ({"RA": "92d20m51.3s", "DEC": "+34d09m11.2s"}, None),
        ({"RA": "06 09 23.42", "DEC": "+34 09 11.2"}, None),
        ({"DATE-OBS": "2026-11-22", "UT": "01:28:12"}, None),
        ({"DATE-OBS": "2026-11-22T02:28:12+01:00"}, None),
        ({"DATE-OBS": "2026-11-22 01:28:12 UTC", "EXPTIME": "60,0"}, None),
    ],
    ids=[
        "hemisphere",
        "west positive",
        "west by letter and word",
        "units",
        "units and letter",
        "degrees",
        "degrees in parts",
        "blanks",
        "date alone",
        "offset",
        "suffix and comma",
    ],
)
def test_the_same_figure_however_it_is_written(changes: dict[str, Any], site: dict[str, Any] | None) -> None:
    assert airmass({**CARDS, **changes}, site=site).value == pytest.approx(airmass(CARDS).value, abs=2e-4)


def test_hours_without_colons_need_a_word() -> None:
    assert airmass({**CARDS, "RA": 6.15651}, ra_unit="hours").value == pytest.approx(airmass(CARDS).value, abs=1e-4)


@pytest.mark.parametrize(
    ("cards", "site", "words"),
    [
        ({"DATE-OBS": "2026-11-22T01:28:12"}, {}, r"\[site\] has no latitude and longitude and the header has no RA"),
        ({**CARDS, "DATE-OBS": "2026-11-22T13:28:12"}, LA_PALMA, "RA, DEC and time put it below the horizon"),
        ({**CARDS, "RA": "06:09.39"}, LA_PALMA, r"RA: '06:09\.39' is not an angle"),
        ({**CARDS, "DEC": "06:09:60"}, LA_PALMA, r"DEC: '06:09:60' is not an angle: minutes and seconds are below 60"),
    ],
    ids=["nothing", "below the horizon", "two parts", "60 seconds"],
)
def test_what_is_missing_is_named(cards: dict[str, Any], site: dict[str, Any], words: str) -> None:
    with pytest.raises(FrameError, match=words):
        airmass(cards, site=site)
