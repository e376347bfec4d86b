"""`config init` and `config explain` on raws of telescopes that nobody has described: fill in UNKNOWN, then reduce."""

from __future__ import annotations

import re
import shutil
import tomllib
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nightdesk.cli import app
from nightdesk.io.guess import guess_configuration
from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import Layout
from nightdesk.manifest import read_manifest
from nightdesk.settings import load_settings
from nightdesk.steps import build_masters, reduce
from tests.real_data import REAL_DATA, absent
from tests.small_night import SmallNight

SETS = REAL_DATA
needs_sets = pytest.mark.skipif(not SETS.is_dir(), reason=absent(SETS))


def nightdesk(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "250", "NIGHTDESK_CONFIG": ""})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def fill_in(text: str, values: dict[str, str]) -> str:
    """Do what the file asks for: remove the # before UNKNOWN and write the value."""
    lines = []
    for line in text.splitlines():
        gap = re.match(r"# UNKNOWN: (\w+) =", line)
        lines.append(f"{gap[1]} = {values[gap[1]]}" if gap else line)
    return "\n".join(lines) + "\n"


@needs_sets
@pytest.mark.parametrize(
    ("folder", "pattern", "values", "frames"),
    [
        pytest.param(
            "m92_kpno/raw",
            "*.fits",
            {"latitude": '"31:57:48"', "longitude": '"111:36:00 W"', "gain": "1.0", "read_noise": "80.0"},
            [2, 2],
            id="m92_kpno",
        ),
        pytest.param("oscaar_tres1", "tres1-*.fit", {"airmass": "1.2", "read_noise": "9.0"}, [8], id="oscaar_tres1"),
        pytest.param(
            "iraf_stargate",
            "StarGate*.fit",
            {"airmass": "1.2", "gain": "1.0", "read_noise": "9.0"},
            [10],
            id="iraf_stargate",
        ),
        pytest.param(
            "odd_fits/ccdproc", "a8280271.fits", {"airmass": "1.2", "gain": "1.9", "read_noise": "9.0"}, [1], id="wht"
        ),
        pytest.param(
            "odd_fits/ccdproc", "sip-wcs.fit", {"airmass": "1.2", "gain": "1.0", "read_noise": "9.0"}, [1], id="feder"
        ),
    ],
)
def test_a_guessed_profile_reduces_real_frames(
    tmp_path: Path, folder: str, pattern: str, values: dict[str, str], frames: list[int]
) -> None:
    raws = sorted((SETS / folder).glob(pattern))
    config = tmp_path / "observatory.toml"
    result = nightdesk("config", "init", *raws, "--output", config)
    assert result.exit_code == 0, result.output
    text = fill_in(config.read_text(), {"name": '"somewhere"', "extinction": "0.1", **values})
    config.write_text(f'[data]\nroot = "{tmp_path}"\n\n{text}')
    assert nightdesk("config", "check", config).exit_code == 0
    for raw in raws:
        (tmp_path / "raw").mkdir(exist_ok=True)
        shutil.copy(raw, tmp_path / "raw" / raw.name)
    settings = load_settings(config)
    inventory = take_inventory(settings)
    assert [facts.reason for facts in inventory.raws if facts.kind == "rejected"] == []
    for night in {date.fromisoformat(facts.night) for facts in inventory.raws}:
        build_masters.run(settings, night)
    counted = []
    for group, members in inventory.science.items():
        reduce.run(settings, group)
        manifest = read_manifest(settings, group)
        assert manifest is not None
        assert manifest["state"] == "done"
        assert Layout(settings, group).stack.is_file()
        counted.append(len(members))
    assert sorted(counted) == frames


@needs_sets
def test_kinds_are_told_by_names_where_headers_are_mute() -> None:
    text = guess_configuration(sorted((SETS / "odd_fits" / "truncated_asi178").glob("*.fit")))
    assert "frame_type = { file = '^([A-Za-z]+)' }" in text
    assert 'flat = "required"\n' in text
    values = {"name": '""', "extinction": "0.1", "airmass": "1", "gain": "1.0", "read_noise": "3.0"}
    assert tomllib.loads(fill_in(text, values))["masters"]["minimum_bias"] == 1


def test_a_complete_header_leaves_little_to_fill_in(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    text = guess_configuration([night.raw(name) for name in night.names])
    unknown = re.findall(r"UNKNOWN: (\w+)", text)
    assert unknown == ["name", "the", "extinction"]
    assert "gain = \"EGAIN\"   # '2.1', e-/ADU" in text


def test_an_existing_configuration_is_not_overwritten(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    config = tmp_path / "observatory.toml"
    config.write_text("mine")
    result = nightdesk("config", "init", night.raw(night.names[0]), "-o", config)
    assert result.exit_code == 2
    assert config.read_text() == "mine"


def test_what_is_no_frame_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.fits"
    path.write_text("nothing")
    assert "None of these files is a FITS image" in nightdesk("config", "init", path).output
    assert "it is not a FITS file" in nightdesk("config", "explain", path).output


def test_explain_says_where_each_setting_stood(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    result = nightdesk("config", "explain", night.raw(night.names[0]))
    assert result.exit_code == 0, result.output
    assert "instrument pt5m, science" in result.output
    rows = {}
    for line in result.output.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if len(cells) == 6:
            rows[cells[1]] = cells[2:5]
    assert rows["gain"] == ["EGAIN", "2.1", "e-/ADU"]
    assert rows["filter"] == ["FILTER", "R", ""]
    assert rows["temperature"][0] == "-"
    assert rows["airmass in use"][:2] == ["header", "1.2000"]


def rows_of(result: Result) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.split("│")] for line in result.output.splitlines()]
    return {row[1]: row[2:5] for row in cells if len(row) == 6}


def test_explain_lists_extension_and_extinction(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    rows = rows_of(nightdesk("config", "explain", night.raw(night.names[0])))
    assert rows["extension"] == ["file", "the first image", ""]
    assert rows["extinction"] == ["configuration", "0.0547 +- 0.03", "mag/airmass"]


def test_explain_misses_the_settings_of_a_filter(tmp_path: Path) -> None:
    night = SmallNight(tmp_path, filter_name="V").write()
    result = nightdesk("config", "explain", night.raw(night.names[0]))
    assert result.exit_code == 1
    assert "Missing: extinction." in result.output
    assert "add [filters.V] with extinction" in " ".join(result.output.split())


def test_explain_shows_the_figures_of_amplifiers(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    path = night.write_raw(night.names[0], EGAIN=None, RDNOISE=None, AGAIN_01=1.5)
    config = tmp_path / "observatory.toml"
    config.write_text(
        '[[instruments.pt5m.amplifiers]]\nsection = "[1:16,1:24]"\ngain = "AGAIN_01"\nread_noise = 4.0\n'
        '[[instruments.pt5m.amplifiers]]\nsection = "[17:32,1:24]"\ngain = 1.6\nread_noise = 5.0\nsaturation = 60000\n'
    )
    result = nightdesk("config", "explain", path)
    assert result.exit_code == 0, result.output
    rows = rows_of(result)
    assert rows["amplifier 1, gain"] == ["AGAIN_01", "1.5", "e-/ADU"]
    assert rows["amplifier 2, saturation"] == ["configuration", "60000", "ADU"]
    assert "gain" not in rows


def test_explain_knows_the_notebooks_place(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    place = tmp_path / "processed" / "NGC5949" / "R" / "raws" / "r1.fits"
    night.write_raw(night.names[0], path=place, OBJECT=None, FILTER=None)
    result = nightdesk("config", "explain", place)
    assert result.exit_code == 0, result.output
    assert rows_of(result)["target"] == ["folder", "NGC5949", ""]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"XBINNING": None}, "its header has no XBINNING, the binning; give binning_x in the configuration"),
        ({"YBINNING": 0}, "its YBINNING = 0 is no binning"),
    ],
    ids=["missing", "zero"],
)
def test_a_binning_that_is_missing_is_told_by_its_keyword(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    keywords = {"binning_x": "XBINNING", "binning_y": "YBINNING"}
    night = SmallNight(tmp_path, tables={"instruments": {"pt5m": {"keywords": keywords}}}).write()
    night.write_raw(night.names[0], **changes)
    assert {facts.reason for facts in take_inventory(night.settings).raws} == {"", words}


def test_flats_that_name_no_filter_are_not_denied(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    flat = night.write_raw(night.names[0], IMAGETYP="flat", FILTER=None)
    text = guess_configuration([flat, night.raw(night.names[1])])
    assert 'flat = "none"   # UNKNOWN: FILTER does not say of which filter the flats are; "required" if of this' in text


def test_explain_names_what_is_missing(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    path = night.write_raw(night.names[0], EGAIN=None, FILTER=None)
    result = nightdesk("config", "explain", path)
    assert result.exit_code == 1
    assert "Missing: filter, gain." in result.output


def test_a_frame_of_no_known_instrument_is_told(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    config = tmp_path / "other.toml"
    config.write_text('[instruments.red]\nmatch = { INSTRUME = "red*" }\n')
    result = nightdesk("config", "explain", night.raw(night.names[0]), "--config", config)
    assert "no configured instrument matches its header (INSTRUME = 'pt5m')" in result.output
