"""Three cameras side by side, five nights, flats on two of them: each stack gets the right masters, and says so."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.group import Group
from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import Layout
from nightdesk.io.master_ledger import nights_to_build
from nightdesk.manifest import read_manifest
from nightdesk.settings import Settings
from nightdesk.steps import build_masters, reduce, report
from tests.three_cameras import CAMERAS, FLAT_NIGHTS, GAIN, NIGHTS, READ_NOISE, ThreeCameras, sky_is_right

FLAT_OF = {NIGHTS[0]: (NIGHTS[0], 0), NIGHTS[1]: (NIGHTS[0], -1), NIGHTS[2]: (NIGHTS[3], 1)} | {
    NIGHTS[3]: (NIGHTS[3], 0),
    NIGHTS[4]: (NIGHTS[3], -1),
}


@pytest.fixture(scope="module")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> ThreeCameras:
    """Return the observatory with everything reduced, in a backfill's way: night by night, the third one first."""
    made = ThreeCameras(tmp_path_factory.mktemp("three")).write()
    made.write_sidecars()
    settings = made.settings
    for night in (NIGHTS[2], *NIGHTS[:2], *NIGHTS[3:]):
        for one in nights_to_build(settings, take_inventory(settings), night):
            build_masters.run(settings, one)
        for camera in CAMERAS:
            reduce.run(settings, Group(night, "M67", "R", camera))
    return made


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_each_stack_has_the_sky_that_was_there(observatory: ThreeCameras, camera: str, night: date) -> None:
    group, raws = take_inventory(observatory.settings).of_group(Group(night, "M67", "R", camera))
    assert len(raws) == (4 if camera == "fz" else 2)
    sky_is_right(observatory, group)


def test_the_mute_camera_says_nothing(observatory: ThreeCameras) -> None:
    path = next((observatory.root / "raw").rglob("mute_M67*.fits"))
    structure = {"SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "BSCALE", "BZERO"}
    assert set(fits.getheader(path)) <= structure


def test_all_groups_of_all_cameras_come_from_one_folder(observatory: ThreeCameras) -> None:
    inventory = take_inventory(observatory.settings)
    assert [facts.reason for facts in inventory.raws if facts.kind in ("rejected", "ignored")] == []
    assert sorted(group.key.casefold() for group in inventory.science) == sorted(
        group.key.casefold() for group in observatory.groups()
    )


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_each_stack_has_the_nearest_flat_and_its_own_bias(observatory: ThreeCameras, camera: str, night: date) -> None:
    group = Group(night, "M67", "R", camera)
    manifest = read_manifest(observatory.settings, take_inventory(observatory.settings).of_group(group)[0])
    assert manifest is not None
    assert manifest["state"] == "done", manifest["reason"]
    masters = {one["role"]: (one["path"], one["days"]) for one in manifest["inputs"] if "days" in one}
    flat_night, days = FLAT_OF[night]
    assert masters["master flat"] == (f"calibs/{camera}/{flat_night}/Rflatnorm1x1.fits", days)
    assert masters["master bias"] == (f"calibs/{camera}/{night}/bias1x1.fits", 0)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_report_says_which_masters_were_used(observatory: ThreeCameras, camera: str) -> None:
    settings = observatory.settings
    path = settings.root / report.run(settings, NIGHTS[2])
    told = {entry["group"]: entry for entry in json.loads(path.read_text())["groups"]}
    entry = next(entry for key, entry in told.items() if f"/{camera}/" in key)
    assert entry["masters"]["flat"] == f"calibs/{camera}/{NIGHTS[3]}/Rflatnorm1x1.fits (1 day later)"
    assert entry["out_of_date"] == []
    assert "1 day later" in path.with_suffix(".txt").read_text()


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_sky_is_flat_where_the_right_flat_was_used(observatory: ThreeCameras, camera: str) -> None:
    settings = observatory.settings
    group, _ = take_inventory(settings).of_group(Group(NIGHTS[3], "M67", "R", camera))
    for product in sorted((Layout(settings, group).folder / "postISR").glob("*.fits")):
        with fits.open(product) as hdus:
            pull = (hdus["SCI"].data - 600.0) / np.sqrt(hdus["VAR"].data)
            assert np.mean(pull**2) == pytest.approx(1.0, abs=0.1)
            assert hdus["SCI"].data.shape == (40, 48)


def test_what_the_mute_camera_does_not_say_stands_in_the_configuration(observatory: ThreeCameras) -> None:
    settings = observatory.settings
    group, _ = take_inventory(settings).of_group(Group(NIGHTS[0], "M67", "R", "mute"))
    product = sorted((Layout(settings, group).folder / "extinction").glob("*.fits"))[0]
    header = fits.getheader(product)
    assert header["RDNSRC"] == "bias pair"
    assert header["RDNOISE"] == pytest.approx(READ_NOISE, rel=0.1)
    assert (header["NDGAIN"], header["AIRMASS"], header["EXTK"]) == (GAIN, 1.2, 0.0547)


def test_the_airmass_of_the_first_camera_is_computed(observatory: ThreeCameras) -> None:
    settings = observatory.settings
    group, _ = take_inventory(settings).of_group(Group(NIGHTS[0], "M67", "R", "mef"))
    header = fits.getheader(sorted((Layout(settings, group).folder / "extinction").glob("*.fits"))[0])
    assert header["AIRMSRC"] == "coordinates and time"
    assert header["EXTSRC"] == "curve lapalma at 6550 A"
    assert header["OVERMETH"] == "row"


def test_a_second_time_nothing_is_made(observatory: ThreeCameras) -> None:
    settings = observatory.settings
    masters = {path: path.stat().st_mtime_ns for path in (settings.root / "calibs").rglob("*.fits")}
    assert len(masters) == 3 * len(NIGHTS) + 3 * len(FLAT_NIGHTS)
    for night in NIGHTS:
        assert nights_to_build(settings, take_inventory(settings), night) == []
        build_masters.run(settings, night)
    assert {path: path.stat().st_mtime_ns for path in masters} == masters


def test_the_same_frames_make_the_same_bytes_elsewhere(observatory: ThreeCameras, tmp_path: Path) -> None:
    other = ThreeCameras(tmp_path / "elsewhere", nights=NIGHTS[:1]).write().settings
    build_masters.run(other, NIGHTS[0])
    for path in (other.root / "calibs").rglob("*.fits"):
        twin: Path = observatory.root / path.relative_to(other.root)
        assert twin.read_bytes() == path.read_bytes(), path.name


def test_settings_are_those_of_three_instruments(observatory: ThreeCameras) -> None:
    settings: Settings = observatory.settings
    assert list(settings.instruments) == list(CAMERAS)
