"""Which master is taken: the night's own, else the nearest within its window; and what is said when none fits."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import SetupError
from nightdesk.io.association import Wanted, choose_master, explain_lack, find_masters, list_candidates
from nightdesk.manifest import read_manifest, require_inputs
from nightdesk.settings import Settings
from nightdesk.steps import reduce
from tests.small_night import NIGHT, SmallNight

SHAPE = (10, 12)


def write(root: Path, name: str, night: date | None = None, *, shape: tuple[int, int] = SHAPE, **cards: Any) -> Path:
    place = root / "calibs"
    path = (place / night.isoformat() if night else place) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    header = fits.Header([(key.replace("_", "-"), value) for key, value in cards.items()])
    fits.PrimaryHDU(np.ones(shape, np.float32), header).writeto(path)
    return path


def settings(root: Path, **tables: Any) -> Settings:
    return Settings.model_validate({"data": {"root": root}, **tables})


def wanted(**changes: Any) -> Wanted:
    facts: dict[str, Any] = {"night": NIGHT, "instrument": None, "binning": "2x2", "filter_name": "R", "shape": SHAPE}
    return Wanted(**(facts | changes))


def days(number: int) -> date:
    return NIGHT + timedelta(days=number)


@pytest.mark.parametrize(
    ("nights", "taken"),
    [
        ([0, -1, 1, None], 0),
        ([-3, 2, None], 2),
        ([-2, 2], -2),
        ([-40, None], None),
        ([-30, None], -30),
    ],
    ids=["own", "nearest", "the earlier of two as near", "beyond the window", "at its end"],
)
def test_the_nearest_is_taken(tmp_path: Path, nights: list[int | None], taken: int | None) -> None:
    for night in nights:
        write(tmp_path, "bias2x2.fits", None if night is None else days(night))
    chosen = choose_master(settings(tmp_path), wanted(), "bias")
    assert chosen is not None
    assert chosen.days == taken


def test_distances_in_words(tmp_path: Path) -> None:
    for night in (0, -1, 3):
        write(tmp_path, "bias2x2.fits", days(night))
    write(tmp_path, "bias2x2.fits")
    found = [one.distance for one in list_candidates(settings(tmp_path), wanted(), "bias")]
    assert found == ["the night's own", "1 day earlier", "3 days later", "without a night"]


@pytest.mark.parametrize(
    ("kind", "name", "cards", "asked", "fault"),
    [
        ("bias", "bias2x2.fits", {"shape": (9, 9)}, {}, "it is 9 x 9 pixels, the frames are 12 x 10"),
        ("bias", "bias2x2.fits", {"XBINNING": 1, "YBINNING": 1}, {}, "its binning is 1x1, that of the frames 2x2"),
        (
            "bias",
            "bias2x2.fits",
            {"INSTRUME": "red"},
            {"camera": "blue"},
            "its INSTRUME is red, that of the frames blue",
        ),
        (
            "dark",
            "dark2x2.fits",
            {"READOUTM": "Fast", "EXPTIME": 1.0},
            {"readout_mode": "Slow"},
            "its readout mode is Fast, that of the frames Slow",
        ),
        ("flat", "Rflatnorm2x2.fits", {"FILTER": "V"}, {}, "its filter is V, that of the frames R"),
        (
            "dark",
            "dark2x2.fits",
            {"CCD_TEMP": -10.0, "EXPTIME": 1.0},
            {"temperature": -20.0},
            "its temperature is -10 C, that of the frames -20 C, the tolerance 2 C",
        ),
        (
            "dark",
            "dark2x2.fits",
            {"DARKBIAS": True, "EXPTIME": 30.0},
            {"exposure": 60.0},
            r"it contains the bias \(DARKBIAS = T\), so it cannot be scaled from 30 s to the 60 s",
        ),
    ],
    ids=["shape", "binning", "camera", "readout mode", "filter", "temperature", "exposure"],
)
def test_each_criterion_is_named(
    tmp_path: Path, kind: str, name: str, cards: dict[str, Any], asked: dict[str, Any], fault: str
) -> None:
    write(tmp_path, name, days(-1), **cards)
    (only,) = list_candidates(settings(tmp_path), wanted(**asked), kind)
    assert re.search(fault, only.failed[0])
    assert choose_master(settings(tmp_path), wanted(**asked), kind) is None


def test_every_candidate_is_named_with_what_it_fails(tmp_path: Path) -> None:
    write(tmp_path, "bias2x2.fits", days(-1), shape=(9, 9))
    write(tmp_path, "bias2x2.fits", days(-99))
    (tmp_path / "calibs" / "bias2x2.fits").write_bytes(b"no FITS")
    told = explain_lack(settings(tmp_path), wanted(), "bias")
    assert told.startswith("none of 3 fits: calibs/2026-11-20/bias2x2.fits (it is 9 x 9 pixels")
    assert "calibs/2026-08-14/bias2x2.fits (99 days away, the window is 30)" in told
    assert "calibs/bias2x2.fits (bias2x2.fits: the master cannot be read" in told


def test_a_window_is_a_setting(tmp_path: Path) -> None:
    write(tmp_path, "bias2x2.fits", days(-2))
    assert choose_master(settings(tmp_path, calibs={"window": {"bias": 1}}), wanted(), "bias") is None


def test_a_dark_that_fits_is_taken_before_a_nearer_one_that_does_not(tmp_path: Path) -> None:
    write(tmp_path, "dark2x2.fits", days(0), CCD_TEMP=-5.0, EXPTIME=1.0)
    write(tmp_path, "dark2x2_60s_-20C.fits", days(0), CCD_TEMP=-20.0, EXPTIME=1.0)
    chosen = choose_master(settings(tmp_path), wanted(temperature=-20.0), "dark")
    assert chosen is not None
    assert chosen.path.name == "dark2x2_60s_-20C.fits"


@pytest.mark.parametrize(
    ("darks", "taken"),
    [
        ({"dark2x2.fits": (10.0, -20.0), "dark2x2_300s_-20C.fits": (300.0, -20.0)}, "dark2x2_300s_-20C.fits"),
        ({"dark2x2.fits": (300.0, -18.5), "dark2x2_300s_-20C.fits": (300.0, -20.0)}, "dark2x2_300s_-20C.fits"),
        ({"dark2x2.fits": (300.0, -20.0), "dark2x2_200s_-20C.fits": (200.0, -20.0)}, "dark2x2.fits"),
        ({"dark2x2.fits": (300.0, -20.0), "dark2x2_301s_-20C.fits": (301.0, -20.0)}, "dark2x2.fits"),
        ({"dark2x2.fits": (10.0, -20.0), "dark2x2_900s_-20C.fits": (900.0, -20.0)}, "dark2x2_900s_-20C.fits"),
    ],
    ids=["exposure", "temperature", "plain name", "as good as the same", "ratio"],
)
def test_of_a_nights_darks_the_most_alike_is_taken(
    tmp_path: Path, darks: dict[str, tuple[float, float]], taken: str
) -> None:
    for name, (exposure, temperature) in darks.items():
        write(tmp_path, name, days(0), EXPTIME=1.0, DARKEXP=exposure, CCD_TEMP=temperature)
    chosen = choose_master(settings(tmp_path), wanted(exposure=300.0, temperature=-20.0), "dark")
    assert chosen is not None
    assert chosen.path.name == taken


def test_a_flat_of_another_readout_mode_serves(tmp_path: Path) -> None:
    write(tmp_path, "Rflatnorm2x2.fits", days(0), READOUTM="Fast")
    assert choose_master(settings(tmp_path), wanted(readout_mode="Slow"), "flat")


def test_a_pattern_of_cameras_stands_for_all_of_them(tmp_path: Path) -> None:
    write(tmp_path, "bias2x2.fits", days(0), INSTRUME="SBIG ST-10 (new driver)")
    several = settings(tmp_path, instruments={"sbig": {"match": {"INSTRUME": "SBIG*"}}})
    assert choose_master(several, wanted(camera="SBIG ST-10"), "bias")


def test_masters_of_another_instrument_are_not_seen(tmp_path: Path) -> None:
    write(tmp_path, "bias2x2.fits")
    assert list(list_candidates(settings(tmp_path), wanted(instrument="red"), "bias")) == []


class TestGroup:
    """What a group gets, and what it is told when it gets none."""

    @pytest.fixture
    def night(self, tmp_path: Path) -> SmallNight:
        return SmallNight(tmp_path).write()

    def masters(self, night: SmallNight) -> Any:
        night.list_raws()
        return find_masters(night.settings, night.layout, require_inputs(night.layout))

    def test_the_distance_is_kept(self, night: SmallNight) -> None:
        night.write_master("2026-11-19/bias2x2.fits", night.bias)
        masters = self.masters(night)
        assert masters.distances == {"bias": -2, "flat": None}

    def test_darks_that_do_not_fit_are_not_passed_over_in_silence(self, night: SmallNight) -> None:
        night.write_master("dark2x2.fits", night.bias, EXPTIME=30.0, DARKBIAS=True)
        with pytest.raises(SetupError, match=r'no master dark: .*DARKBIAS = T.* dark = "none"'):
            night.list_raws()

    def test_a_dark_beyond_the_window_is_told(self, night: SmallNight) -> None:
        night.write_master("2026-10-01/dark2x2.fits", night.bias, EXPTIME=30.0)
        reduce.run(night.settings, night.group)
        manifest = read_manifest(night.settings, night.group)
        assert manifest is not None
        assert manifest["reason"].endswith(
            "No master dark was used: calibs/2026-10-01/dark2x2.fits is 51 days away, the window is 30."
        )
        without = SmallNight(night.root, tables={"filters": {"R": {"extinction": 0.1, "dark": "none"}}})
        assert "No master dark" not in reduce.run(without.settings, without.group)

    def test_the_ledger_of_the_notebook_names_masters_and_distances(self, night: SmallNight) -> None:
        old = SmallNight(night.root, profile="notebook")
        reduce.run(old.settings, old.group)
        manifest = read_manifest(old.settings, old.group)
        assert manifest is not None
        told = {entry["role"]: (entry["path"], entry.get("days")) for entry in manifest["inputs"]}
        assert told["master bias"] == ("calibs/bias2x2.fits", None)
        assert told["master flat"] == ("calibs/Rflatnorm2x2.fits", None)

    def test_darks_that_are_not_wanted_are(self, night: SmallNight) -> None:
        night.write_master("dark2x2.fits", night.bias, EXPTIME=30.0, DARKBIAS=True)
        without = SmallNight(night.root, tables={"filters": {"R": {"extinction": 0.1, "dark": "none"}}})
        assert self.masters(without).dark is None

    def test_a_dark_that_is_required_must_be_there(self, night: SmallNight) -> None:
        needy = SmallNight(night.root, tables={"filters": {"R": {"extinction": 0.1, "dark": "required"}}})
        with pytest.raises(SetupError, match=r"no master dark: there is neither calibs/2026-11-21/dark2x2\.fits nor"):
            needy.list_raws()

    def test_no_bias_is_needed_where_the_configuration_says_so(self, night: SmallNight) -> None:
        (night.root / "calibs" / "bias2x2.fits").unlink()
        bare = SmallNight(night.root, tables={"instruments": {"pt5m": {"bias": "none"}}})
        assert self.masters(bare).bias is None
        product = bare.run_to("isr").product("postISR", bare.names[0])
        header = fits.getheader(product)
        assert header["BIASCOR"] is False
        assert "no bias (the configuration says so)" in "".join(header["HISTORY"])

    def test_a_mask_that_does_not_fit_is_told(self, night: SmallNight) -> None:
        night.write_master("badpixels2x2.fits", np.zeros((3, 3), np.uint8))
        with pytest.raises(SetupError, match=r"no master bad pixels: .*3 x 3"):
            night.list_raws()
