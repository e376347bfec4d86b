"""Flats that come at dawn: what was made with yesterday's is out of date, is renewed, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
from astropy.io import fits
from typer.testing import CliRunner, Result

from nightdesk.cli import app
from nightdesk.group import Group
from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import Layout
from nightdesk.readiness import needs_run, out_of_date, unmade_masters
from nightdesk.settings import Settings, default_settings
from nightdesk.simulate import simulate
from nightdesk.steps import build_masters, reduce, report
from tests.small_night import SmallNight

YESTERDAY, TONIGHT = date(2026, 11, 20), date(2026, 11, 21)


class Dawn:
    """Two nights; the second one's calibration frames are held back until dawn."""

    def __init__(self, root: Path) -> None:
        self.root, self.held = root, root.with_name("held")
        made = simulate(
            root,
            nights=(YESTERDAY, TONIGHT),
            filters=("R", "H"),
            frames=2,
            size=(48, 48),
            masters=False,
            raw_calibrations=True,
            calibration_frames=5,
        )
        self.settings: Settings = default_settings(root)
        self.held.mkdir()
        for path in made.calibrations:
            if TONIGHT.isoformat() in path.parts:
                shutil.move(path, self.held / path.name)
        build_masters.run(self.settings, YESTERDAY)
        for group in self.groups():
            reduce.run(self.settings, group)

    def groups(self) -> list[Group]:
        return [Group(night, "NGC5949", name) for night in (YESTERDAY, TONIGHT) for name in ("R", "H")]

    def dawn(self, filter_name: str = "R", *, build: bool = True) -> None:
        """Let the flats of one filter, and the biases they need, arrive."""
        for path in sorted(self.held.iterdir()):
            header = fits.getheader(path)
            if header["IMAGETYP"] in ("bias", "dark") or header.get("FILTER") == filter_name:
                shutil.move(path, self.root / "raw" / TONIGHT.isoformat() / path.name)
        if build:
            build_masters.run(self.settings, TONIGHT)

    def stacks(self) -> dict[str, int]:
        return {group.key: Layout(self.settings, group).stack.stat().st_ino for group in self.groups()}


@pytest.fixture
def night(tmp_path: Path) -> Dawn:
    return Dawn(tmp_path / "data")


def nightdesk(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "250", "NIGHTDESK_CONFIG": ""})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_flats_at_dawn(night: Dawn) -> None:
    ours = Group(TONIGHT, "NGC5949", "R")
    assert all(out_of_date(night.settings, group) == [] for group in night.groups())
    assert not needs_run(night.settings, ours)
    night.dawn("R")

    flats = [reason for reason in out_of_date(night.settings, ours) if "flat" in reason]
    assert flats == [
        "a better master flat is there: calibs/2026-11-21/Rflatnorm2x2.fits (the night's own) instead of "
        "calibs/2026-11-20/Rflatnorm2x2.fits (1 day earlier)"
    ]
    assert needs_run(night.settings, ours)
    listed = nightdesk("groups", night.root).output
    assert "out of date" in listed
    before = night.stacks()
    assert "2026-11-21/NGC5949/R" in nightdesk("refresh", night.root, "--dry-run").output
    assert night.stacks() == before

    result = nightdesk("refresh", night.root)
    assert result.exit_code == 0, result.output
    after = night.stacks()
    # the filter H of tonight has a better bias, too; yesterday's stacks are as they were
    assert {key for key in before if after[key] != before[key]} == {"2026-11-21/NGC5949/R", "2026-11-21/NGC5949/H"}
    assert all(out_of_date(night.settings, group) == [] for group in night.groups())
    assert fits.getheader(Layout(night.settings, ours).stack)["FLATDAY"] == 0
    assert "Nothing is out of date" in nightdesk("refresh", night.root).output


def test_raw_flats_that_are_no_masters_yet_are_shown_and_made_by_refresh(night: Dawn) -> None:
    night.dawn("R", build=False)
    nameless = shutil.copy(next(night.held.iterdir()), night.root / "raw" / TONIGHT.isoformat() / "nameless.fits")
    fits.setval(nameless, "FILTER", value="")
    sentence = "raw bias and dark and flat frames of 2026-11-21 are still to be made into masters"
    assert sentence in nightdesk("groups", night.root, "--night", "2026-11-21").output
    told = json.loads((night.root / report.run(night.settings, TONIGHT)).read_text())
    ours = next(entry for entry in told["groups"] if entry["group"].endswith("/R"))
    assert ours["out_of_date"] == [sentence]
    before = night.stacks()
    assert sentence in nightdesk("refresh", night.root, "--dry-run").output
    result = nightdesk("refresh", night.root)
    assert "calibs/2026-11-21/Rflatnorm2x2.fits: made, of 5 frames." in result.output
    assert fits.getheader(Layout(night.settings, Group(TONIGHT, "NGC5949", "R")).stack)["FLATDAY"] == 0
    after = night.stacks()
    assert {key for key in before if after[key] != before[key]} == {"2026-11-21/NGC5949/R", "2026-11-21/NGC5949/H"}
    assert "Nothing is out of date" in nightdesk("refresh", night.root).output


def test_changed_settings_of_masters_are_shown_and_followed(night: Dawn) -> None:
    config = night.root / "observatory.toml"
    config.write_text('[data]\nroot = "."\n[masters]\nclip_sigma = 3.0\n')
    listed = nightdesk("groups", night.root, "--config", config).output
    assert listed.count("frames of 2026-11-20 are still to be made into masters") == 4
    before = night.stacks()
    assert nightdesk("refresh", night.root, "--config", config).exit_code == 0
    after = night.stacks()
    assert all(after[key] != before[key] for key in before)
    assert "Nothing is out of date" in nightdesk("refresh", night.root, "--config", config).output


def test_a_persons_master_of_that_night_stays_current(night: Dawn) -> None:
    place = night.root / "calibs" / TONIGHT.isoformat()
    night.dawn("R")
    for path in place.glob("*.fits"):
        with fits.open(path, mode="update") as hdus:
            del hdus[0].header["NDRECIPE"]
    (place / "masters.json").unlink()
    nightdesk("refresh", night.root)
    (place / "masters.json").unlink()
    ours = Group(TONIGHT, "NGC5949", "R")
    assert unmade_masters(night.settings, ours, take_inventory(night.settings)) == {}


def test_why_a_master_was_taken(night: Dawn) -> None:
    night.dawn("R")
    raw = sorted((night.root / "raw" / TONIGHT.isoformat()).glob("*.fits"))[-1]
    told = nightdesk("why", raw).output
    lines = {line.split("│")[2].strip(): line for line in told.splitlines() if "calibs/" in line}
    assert "taken" in lines["calibs/2026-11-21/bias2x2.fits"]
    assert "would fit, but is farther or less alike" in lines["calibs/2026-11-20/bias2x2.fits"]
    assert "1 day earlier" in lines["calibs/2026-11-20/bias2x2.fits"]


def test_why_is_told_for_the_group_and_its_configuration(tmp_path: Path) -> None:
    night = SmallNight(tmp_path / "data").write()
    for name, temperature in zip(night.names, (-30.0, -20.0, -20.0), strict=True):
        night.write_raw(name, **{"CCD-TEMP": temperature})
    night.write_master("dark2x2.fits", night.bias, **{"EXPTIME": 1.0, "CCD-TEMP": -20.0})
    told = nightdesk("why", night.raw(night.names[0])).output
    assert "60 s, -20 C" in told
    assert [line for line in told.splitlines() if "dark2x2" in line and "taken" in line]
    config = night.root / "observatory.toml"
    config.write_text('[data]\nroot = "."\n[filters.R]\nextinction = 0.1\nflat = "none"\ndark = "none"\n')
    told = nightdesk("why", night.raw(night.names[0]), "--config", config).output
    (dark,) = (line for line in told.splitlines() if "dark2x2" in line)
    (flat,) = (line for line in told.splitlines() if "Rflatnorm" in line)
    assert 'would fit, but [filters.R] dark = "none"' in dark
    assert 'would fit, but [filters.R] flat = "none"' in flat


def test_the_command_builds_masters(tmp_path: Path) -> None:
    root = tmp_path / "data"
    simulate(root, nights=(TONIGHT,), frames=1, size=(32, 32), masters=False, raw_calibrations=True)
    result = nightdesk("masters", root, "--night", "2026-11-21")
    assert result.exit_code == 0, result.output
    assert "calibs/2026-11-21/Rflatnorm2x2.fits: made, of 15 frames." in result.output
    assert nightdesk("masters", root, "--night", "2026-11-20").exit_code == 2


def test_a_changed_repair_makes_out_of_date_what_it_touches(night: Dawn) -> None:
    repair = {"keyword": "RDNOISE", "value": 9.0, "reason": "measured", "who": "A. Observer", "files": "*"}
    repaired = Settings.model_validate(
        {**night.settings.model_dump(), "repairs": [{**repair, "night": TONIGHT.isoformat()}]}
    )
    reasons = {group.key: out_of_date(repaired, group) for group in night.groups()}
    touched = {key for key, why in reasons.items() if why}
    assert touched == {"2026-11-21/NGC5949/R", "2026-11-21/NGC5949/H"}
    assert reasons["2026-11-21/NGC5949/R"] == ["the header repairs have changed"]
