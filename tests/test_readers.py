"""What others read: every kind of file that Nightdesk writes, by astropy's one line and by the standard's checker."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.nddata import CCDData, VarianceUncertainty

from nightdesk.group import Group
from nightdesk.io.layout import Layout
from nightdesk.settings import Settings
from nightdesk.simulate import Camera, simulate
from nightdesk.steps import build_masters, deep, reduce
from tests.star_night import StarNight

NIGHTS = (date(2026, 11, 21), date(2026, 11, 22))
GROUP = Group(NIGHTS[0], "NGC5949", "R")
UNITS = {"bias2x2.fits": "adu", "dark2x2.fits": "adu", "Rflatnorm2x2.fits": ""}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights with masters of their own, reduced in the standard profile."""
    root = tmp_path_factory.mktemp("readers")
    simulate(
        root,
        nights=NIGHTS,
        frames=3,
        size=(256, 256),
        exposure=180.0,
        masters=False,
        raw_calibrations=True,
        calibration_frames=5,
        camera=replace(Camera(), dark_current=0.02),
    )
    settings = Settings.model_validate({"data": {"root": root}, "combine": {"map_rejections": True}})
    for night in NIGHTS:
        build_masters.run(settings, night)
        reduce.run(settings, replace(GROUP, night=night))
    return root


@pytest.fixture(scope="module")
def deep_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deep stack of two nights with more stars."""
    root = tmp_path_factory.mktemp("deep")
    for number, night in enumerate(NIGHTS):
        stars = StarNight(root, night=night, first=743053 + 10 * number, shape=(220, 240), number=30).write()
        stars.sidecar.unlink()
        reduce.run(stars.settings, stars.group)
    deep.run(stars.settings, target="NGC5949", filter_name="R")
    return root / "deep" / "NGC5949" / "R" / "deep.fits"


@pytest.fixture(scope="module")
def files(root: Path, deep_stack: Path) -> list[Path]:
    """One of each kind."""
    layout = Layout(Settings.model_validate({"data": {"root": root}}), GROUP)
    steps = [next((layout.folder / step).glob("*.fits")) for step in ("postISR", "extinction", "shifted")]
    masters = [root / "calibs" / NIGHTS[0].isoformat() / name for name in UNITS]
    return [*steps, layout.stack, *masters, deep_stack]


def test_the_readmes_line_reads_every_product_and_master(files: list[Path]) -> None:
    for path in files:
        unit = {"unit": ""} if UNITS.get(path.name) == "" else {}
        image = CCDData.read(path, hdu_uncertainty="VAR", hdu_mask="DQ", **unit)
        assert isinstance(image.uncertainty, VarianceUncertainty), path.name
        assert str(image.unit) == UNITS.get(path.name, "electron"), path.name
        assert (image.mask is not None) is (path.name not in UNITS or "DQ" in _names(path)), path.name


def _names(path: Path) -> list[str]:
    with fits.open(path) as hdus:
        return [hdu.name for hdu in hdus]


def test_astropy_finds_nothing_to_mend_and_every_checksum_right(files: list[Path]) -> None:
    for path in files:
        with fits.open(path, checksum=True) as hdus:  # a wrong checksum warns, and a warning is an error here
            hdus.verify("exception")
            assert all("CHECKSUM" in hdu.header for hdu in hdus), path.name


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed (apt install fitsverify)")
def test_the_standards_checker_finds_nothing(files: list[Path]) -> None:
    for path in files:
        told = subprocess.run(["fitsverify", "-q", str(path)], capture_output=True, text=True, check=False).stdout
        assert told.startswith("verification OK"), told


def test_the_noise_of_a_simulated_night_is_what_its_stack_claims(root: Path) -> None:
    settings = Settings.model_validate({"data": {"root": root}})
    for night in NIGHTS:
        header = fits.getheader(Layout(settings, replace(GROUP, night=night)).stack)
        assert header["NOISERAT"] == pytest.approx(1.0, abs=0.03)
