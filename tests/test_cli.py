"""The command: what it says, what it leaves on the disk, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nightdesk import __version__
from nightdesk.cli import app
from nightdesk.manifest import read_inputs, read_manifest
from tests.small_night import NIGHT, SmallNight

ONE, TWO, THREE = "r0743053", "r0743054", "r0743055"
KEY = "2026-11-21/NGC5949/R"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NIGHTDESK_CONFIG", "NIGHTDESK_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return SmallNight(tmp_path / "data").write()


def nightdesk(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def reduce(night: SmallNight, *more: object) -> Result:
    return nightdesk("reduce", night.root, "--target", "NGC5949", "--filter", "R", *more)


# Help


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["reduce", "groups", "simulate", "forget", "config", "NIGHTDESK_CONFIG", "nightdesk simulate /tmp/night"]),
        (["reduce"], ["--target", "--filter", "--night", "--profile", "--config", "DATA", "0 if every frame was used"]),
        (["groups"], ["DATA", "--night", "state, and why"]),
        (["simulate"], ["--frames", "--size", "--seed", "--raw-calibrations", "--no-sidecars", "DATA/truth"]),
        (["forget"], ["GROUP", "2026-11-21/NGC5949/R", "--products", "Raws and sidecars are never touched"]),
        (["config"], ["check"]),
        (["config", "check"], ["FILE", "line, key and what was expected"]),
    ],
)
def test_help_teaches(command: list[str], words: list[str]) -> None:
    result = nightdesk(*command, "--help")
    text = re.sub(r"\s+", " ", result.stdout)
    assert result.exit_code == 0
    assert [word for word in words if word not in text] == []


def test_the_version_is_that_of_the_package() -> None:
    assert nightdesk("--version").stdout == f"nightdesk {__version__}\n"


def test_the_command_is_installed() -> None:
    program = Path(sys.executable).with_name("nightdesk")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("nightdesk ")


# reduce


def test_every_frame_used_ends_with_0(night: SmallNight) -> None:
    result = reduce(night)
    assert result.exit_code == 0
    assert f"{KEY} is done: 3 frames are in the stack." in result.stdout
    assert f"Stack: {night.layout.stack}" in result.stdout
    assert night.layout.stack.is_file()
    assert night.layout.picture.is_file()
    for step in ("isr", "extinction", "align", "combine"):
        assert step in result.stderr  # the progress bar


def test_what_is_done_is_not_done_again(night: SmallNight) -> None:
    reduce(night)
    before = night.states()
    assert reduce(night).exit_code == 0
    assert night.rewritten(before) == []


def leave_out(night: SmallNight) -> None:
    night.write_sidecar(unused=[TWO])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(lambda night: night.write_raw(TWO, EGAIN=None), f"{TWO}.fits: the header has no EGAIN", id="lost"),
        pytest.param(lambda night: night.write_raw(TWO, EXPTIME=5.0), f"left out: {TWO}", id="another setup"),
        pytest.param(leave_out, f"left out: {TWO}", id="left out by the sidecar"),
        pytest.param(lambda night: night.write_sidecar([ONE, THREE]), f"{TWO} was lost", id="without a row"),
    ],
)
def test_a_stack_without_some_frame_ends_with_1(
    night: SmallNight, spoil: Callable[[SmallNight], object], told: str
) -> None:
    spoil(night)
    result = reduce(night)
    assert result.exit_code == 1
    assert told in result.output
    assert f"Stack: {night.layout.stack}" in result.stdout


def test_a_frame_that_was_copied_is_used_all_the_same(night: SmallNight) -> None:
    place = night.root / "processed/NGC5949/R/raws"
    place.mkdir(parents=True)
    shutil.copy(night.raw(TWO), place)
    assert reduce(night).exit_code == 0


def spoil_all(night: SmallNight) -> None:
    for name in night.names:
        night.write_raw(name, EGAIN=None)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(spoil_all, "there is no frame to combine", id="every frame is bad"),
        pytest.param(lambda night: shutil.rmtree(night.root / "calibs"), "no master ", id="no masters"),
        pytest.param(
            lambda night: night.write_rows(["fname,x", ONE]), "xy.csv, line 1: the column y is missing", id="csv"
        ),
        pytest.param(lambda night: night.write_raw(TWO, OBJECT="ngc5949"), "'NGC5949' and 'ngc5949'", id="collision"),
        pytest.param(lambda night: shutil.rmtree(night.root / "raw"), "there is nothing", id="no raws"),
    ],
)
def test_no_stack_ends_with_2_and_a_sentence(
    night: SmallNight, spoil: Callable[[SmallNight], object], told: str
) -> None:
    spoil(night)
    result = reduce(night)
    assert result.exit_code == 2
    assert told in re.sub(r"\s+", " ", result.stderr)
    assert not night.layout.stack.exists()


@pytest.mark.parametrize(
    ("target", "filter_name"), [("NGC5949", "R"), ("ngc 5949", "r"), (" NGC  5949", "R "), ("NGC5949", "Filter 2")]
)
def test_a_group_is_found_by_any_spelling(night: SmallNight, target: str, filter_name: str) -> None:
    (night.root / "observatory.toml").write_text('[aliases.filters]\n"Filter 2" = "R"\n')
    for more in ([], ["--night", "2026-11-21"]):
        result = nightdesk("reduce", night.root, "--target", target, "--filter", filter_name, *more)
        assert result.exit_code == 0
        assert KEY in result.stdout


def test_of_several_nights_one_must_be_chosen(night: SmallNight) -> None:
    replace(night, night=NIGHT + timedelta(days=1), first=800000).write()
    result = reduce(night)
    assert result.exit_code == 2
    assert "choose one by --night (2026-11-21, 2026-11-22)" in result.stderr
    night.write_sidecar()
    assert reduce(night, "--night", "2026-11-21").exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["--target", "M31", "--filter", "R"], "there is NGC5949/R", id="a target that is not there"),
        pytest.param(["--target", "///", "--filter", "R"], "This names no group: '///'", id="no name"),
        pytest.param(["--target", "M31", "--filter", "R", "--night", "x"], "'x' is not a night", id="no night"),
        pytest.param(["--target", "M31", "--filter", "R", "--instrument", "x"], "no instrument 'x'", id="instrument"),
        pytest.param(["--target", "M31", "--filter", "R", "--night", "2026-11-21"], "no science frame", id="no group"),
        pytest.param(["--target", "M31", "--filter", "R", "--config", "no.toml"], "cannot be read", id="no file"),
    ],
)
def test_what_names_no_group_ends_with_2_and_a_sentence(night: SmallNight, words: list[str], told: str) -> None:
    result = nightdesk("reduce", night.root, *words)
    assert result.exit_code == 2
    assert told in re.sub(r"\s+", " ", result.stderr)


def test_a_missing_option_or_an_unknown_profile_is_told(night: SmallNight) -> None:
    assert nightdesk("reduce", night.root, "--target", "M31").exit_code == 2
    assert reduce(night, "--profile", "fast").exit_code == 2


def test_the_notebooks_profile_has_its_own_folders(night: SmallNight) -> None:
    assert reduce(night, "--profile", "notebook").exit_code == 0
    place = night.root / "processed/NGC5949/R"
    assert [path.name for path in sorted((place / "shifted").iterdir())] == [f"{name}.fits" for name in night.names]
    assert (place / "combined/combined.fits").is_file()
    assert not (place / "2026-11-21").exists()


def test_a_group_that_another_process_reduces_is_left_to_it(night: SmallNight) -> None:
    from nightdesk.io.atomic import locked

    with locked(night.layout.lock.with_name(".run.lock")):
        result = reduce(night)
    assert result.exit_code == 2
    assert "is being reduced by another process" in result.stderr


def test_a_night_without_frames_leaves_nothing_behind(night: SmallNight) -> None:
    result = reduce(night, "--night", "2026-11-20")
    assert result.exit_code == 2
    assert "2026-11-20/NGC5949/R: no science frame" in result.stderr
    assert not (night.root / "processed").exists()


@pytest.mark.parametrize("file", ["calibs/bias2x2.fits", "xys/NGC5949/R/xy.csv", "processed"])
def test_what_may_not_be_read_or_written_is_told(night: SmallNight, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    opened, made = Path.open, Path.mkdir

    def refuse(path: Path) -> None:  # root, who may run these tests, may do everything
        if path.is_relative_to(night.root / file):
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", lambda path, *args, **kwargs: refuse(path) or opened(path, *args, **kwargs))
    monkeypatch.setattr(Path, "mkdir", lambda path, *args, **kwargs: refuse(path) or made(path, *args, **kwargs))
    result = reduce(night)
    assert result.exit_code == 2
    assert f"{night.root / file}" in result.stderr
    assert "Permission denied" in result.stderr


# Which configuration


def test_the_configuration_is_the_option_else_the_environment_else_beside_the_data(
    night: SmallNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {}
    for name in ("option", "environment", "beside"):
        wrong[name] = tmp_path / f"{name}.toml"
        wrong[name].write_text(f'profile = "{name}"')
    assert nightdesk("groups", night.root).exit_code == 0
    shutil.copy(wrong["beside"], night.root / "observatory.toml")
    assert "not 'beside'" in nightdesk("groups", night.root).stderr
    monkeypatch.setenv("NIGHTDESK_CONFIG", str(wrong["environment"]))
    assert "not 'environment'" in nightdesk("groups", night.root).stderr
    assert "not 'option'" in nightdesk("groups", night.root, "--config", wrong["option"]).stderr


def test_the_data_named_are_the_data_used(night: SmallNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (night.root / "observatory.toml").write_text('[data]\nroot = "/nowhere"\n')
    monkeypatch.setenv("NIGHTDESK_DATA", str(tmp_path / "elsewhere"))
    assert KEY in nightdesk("groups", night.root).stdout


# groups


def test_groups_are_listed_with_their_state_and_why(night: SmallNight) -> None:
    other = replace(night, target="M31", first=800000)
    for name in other.names[:2]:
        other.write_raw(name)
    reduce(night)
    night.write_raw("r0743053", path=night.root / "raw/x.fits", OBJECT=None)
    result = nightdesk("groups", night.root)
    assert result.exit_code == 0
    lines = [re.split(r"\s*│\s*", line.strip("│ \n")) for line in result.stdout.splitlines() if line.startswith("│")]
    assert lines == [
        ["2026-11-21/M31/R", "2", "new", "not reduced yet"],
        [KEY, "3", "done", "3 frames are in the stack."],
    ]
    assert "rejected  raw/x.fits: its header names no target (OBJECT is missing or blank)." in result.stdout


def test_what_has_changed_since_is_said(night: SmallNight) -> None:
    reduce(night)
    night.write_master("bias2x2.fits", night.bias + 1)
    assert "out of date: the master bias has changed." in nightdesk("groups", night.root).stdout
    night.raw(THREE).unlink()
    stdout = nightdesk("groups", night.root).stdout
    assert "changed" in stdout
    assert "was done; its raws or sidecar have changed since" in stdout


def test_only_one_night_is_listed_when_asked_for(night: SmallNight) -> None:
    later = replace(night, night=NIGHT + timedelta(days=1), first=800000)
    later.write_raw(later.names[0])
    result = nightdesk("groups", night.root, "--night", "2026-11-22")
    assert "2026-11-22/NGC5949/R" in result.stdout
    assert KEY not in result.stdout
    assert nightdesk("groups", night.root, "--night", "22/11").exit_code == 2


def test_a_key_is_never_broken_over_two_lines(night: SmallNight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = replace(night, target="M31-north-east-of-the-nucleus-field-17", tables={}).write()
    long.write_raw(TWO, EGAIN=None)
    nightdesk("reduce", long.root, "--target", long.target, "--filter", "R")
    assert re.search(rf"^│ {long.group.key} │ 3 +│ partial │", nightdesk("groups", night.root).stdout, re.MULTILINE)


def test_an_empty_root_is_said_to_be_empty(tmp_path: Path) -> None:
    result = nightdesk("groups", tmp_path)
    assert (result.exit_code, result.stdout.strip()) == (0, "No group of science frames is on the disk.")


def test_a_root_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = nightdesk("groups", tmp_path / "nothing")
    assert result.exit_code == 2
    assert "there is no such folder" in result.stderr


def test_odd_names_are_printed_as_they_are_and_not_obeyed(night: SmallNight) -> None:
    night.write_raw(ONE, path=night.root / "raw/[red]é.fits")
    night.write_raw(ONE, path=night.root / "raw/b.fits", OBJECT="[bold]")
    stdout = nightdesk("groups", night.root).stdout
    assert r"raw/[red]\xe9.fits" in stdout
    assert "2026-11-21/bold/R" in stdout


# forget


def test_a_forgotten_group_is_new_again_and_its_products_stay(night: SmallNight) -> None:
    reduce(night)
    before = night.states()
    result = nightdesk("forget", night.root, KEY)
    assert result.exit_code == 0
    assert f"{KEY} is forgotten" in result.stdout
    assert read_inputs(night.layout) is None
    assert read_manifest(night.settings, night.group) is None
    assert night.states() == before
    assert "not reduced yet" in nightdesk("groups", night.root).stdout
    assert reduce(night).exit_code == 0
    assert night.rewritten(before) == []


def test_forgetting_an_old_night_says_who_starts_it(night: SmallNight) -> None:
    old = replace(night, night=NIGHT.replace(year=2020), first=1).write()
    old.list_raws()
    result = nightdesk("forget", night.root, old.group.key)
    assert "trigger reduce_night for it, or use nightdesk reduce" in re.sub(r"\s+", " ", result.stdout)


def test_products_are_removed_only_when_asked_for_and_raws_never(night: SmallNight) -> None:
    reduce(night)
    mine = {path: path.read_bytes() for place in ("raw", "xys", "calibs") for path in (night.root / place).rglob("*.*")}
    assert nightdesk("forget", night.root, KEY, "--products").exit_code == 0
    assert night.states() == {}
    assert {path: path.read_bytes() for path in mine} == mine


@pytest.mark.parametrize("key", ["2026-11-21/ngc5949/r", "2026-11-21/NGC 5949/R"])
def test_a_group_is_forgotten_by_any_spelling(night: SmallNight, key: str) -> None:
    reduce(night)
    assert nightdesk("forget", night.root, key).exit_code == 0
    assert read_manifest(night.settings, night.group) is None


def test_what_cannot_be_forgotten_ends_with_2(night: SmallNight) -> None:
    night.list_raws()
    for key, told in {
        "2026-11-21/M31/R": "has nothing to forget",
        "2026-11-21/NGC5949": "write it as 2026-11-21/NGC5949/R",
        "2026-11-21/pt5m/NGC5949/R": "write it as 2026-11-21/NGC5949/R",
        "21.11./NGC5949/R": "is not a night",
        "2026-11-21/../R": "This names no group",
    }.items():
        result = nightdesk("forget", night.root, key, "--products")
        assert result.exit_code == 2
        assert told in result.stderr
    assert read_inputs(night.layout) is not None


def test_forgetting_a_refused_night_leaves_the_one_that_has_the_folder(night: SmallNight) -> None:
    notebook = replace(night, profile="notebook")
    (night.root / "observatory.toml").write_text('profile = "notebook"\n')
    later = replace(notebook, night=NIGHT + timedelta(days=1), first=800000)
    assert reduce(night).exit_code == 0
    for name in later.names:
        later.write_raw(name)
    assert reduce(night, "--night", "2026-11-22").exit_code == 2
    before = notebook.states()
    assert nightdesk("forget", night.root, "2026-11-22/NGC5949/R", "--products").exit_code == 0
    assert notebook.states() == before
    manifest = read_manifest(notebook.settings, night.group)
    assert manifest is not None
    assert manifest["state"] == "done"


# config check


def test_a_right_configuration_is_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "observatory.toml"
    file.write_text('[site]\nname = "Siding [Spring]"\ntimezone = "Australia/Sydney"\n[filters.V]\nextinction = 0.1\n')
    result = nightdesk("config", "check", file)
    assert result.exit_code == 0
    for word in (f"{file} is right", "Siding [Spring] (Australia/Sydney)", "filters V", f"data root {tmp_path}/data"):
        assert word in result.stdout


def test_a_wrong_configuration_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "observatory.toml"
    file.write_text("[watch]\nsettle_seconds = -1\n")
    result = nightdesk("config", "check", file)
    assert result.exit_code == 2
    told = re.sub(r"\s+", " ", result.stderr)
    assert f"{file}, line 2: watch.settle_seconds: expected greater than or equal to 0, not -1." in told


# simulate


def simulated(root: Path, **options: Any) -> Result:
    chosen = {"size": "48x40", "night": "2026-11-21"} | options
    words = [word for name, value in chosen.items() for word in (f"--{name.replace('_', '-')}", value)]
    return nightdesk("simulate", root, *words)


def test_a_simulated_night_is_there_to_be_reduced(tmp_path: Path) -> None:
    root = tmp_path / "new"
    result = simulated(root)
    assert (result.exit_code, result.stdout) == (0, f"3 science frames below {root}.\n")
    assert json.loads((root / "truth/simulation.json").read_text())["seed"] == 1
    done = nightdesk("reduce", root, "--target", "NGC5949", "--filter", "R")
    assert done.exit_code == 0


def test_targets_filters_and_nights_may_be_given_again(tmp_path: Path) -> None:
    words = ["--target", "M31", "--target", "M33", "--filter", "R", "--filter", "H", "--night", "2026-11-22"]
    result = nightdesk(
        "simulate", tmp_path, "--size", "16x16", "--night", "2026-11-21", "--frames", "1", "--no-sidecars", *words
    )
    assert result.stdout.startswith("8 science frames")
    assert not (tmp_path / "xys").exists()
    listed = nightdesk("groups", tmp_path).stdout
    assert re.findall(r"2026-11-\d\d/\w+/\w", listed) == [
        f"{night}/{target}/{name}"
        for night in ("2026-11-21", "2026-11-22")
        for target in ("M31", "M33")
        for name in ("H", "R")
    ]


def test_without_a_night_the_last_one_is_simulated(tmp_path: Path) -> None:
    assert nightdesk("simulate", tmp_path, "--size", "16x16", "--frames", "1").exit_code == 0
    assert re.search(r"\d{4}-\d\d-\d\d/NGC5949/R", nightdesk("groups", tmp_path).stdout)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({"size": "512"}, "--size '512': write width and height as 512x512", id="size"),
        pytest.param({"size": "2x2"}, "at least 16 x 16 pixels", id="too small"),
        pytest.param({"night": "tonight"}, "'tonight' is not a night", id="night"),
        pytest.param({"frames": 10000}, "a night has room for", id="too many frames"),
    ],
)
def test_what_cannot_be_simulated_is_told(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    result = simulated(tmp_path, **options)
    assert result.exit_code == 2
    assert told in re.sub(r"\s+", " ", result.stderr)


@pytest.mark.parametrize("target", ["", "///", "deep"])
def test_a_target_that_is_no_name_is_not_simulated(tmp_path: Path, target: str) -> None:
    result = simulated(tmp_path / "new", target=target)
    assert result.exit_code == 2
    assert "Nothing to simulate" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_place_for_a_simulation(tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    result = simulated(tmp_path / "file")
    assert result.exit_code == 2
    assert "is a file" in result.stderr


def test_a_simulation_of_another_size_would_spoil_the_one_that_is_there(tmp_path: Path) -> None:
    assert simulated(tmp_path).exit_code == 0
    assert simulated(tmp_path, target="M31").exit_code == 0
    master = (tmp_path / "calibs/bias2x2.fits").read_bytes()
    result = simulated(tmp_path, target="M33", size="64x64")
    assert result.exit_code == 2
    assert "holds frames of 48x40 pixels" in re.sub(r"\s+", " ", result.stderr)
    assert (tmp_path / "calibs/bias2x2.fits").read_bytes() == master


def test_a_simulation_never_overwrites_real_data(night: SmallNight) -> None:
    content = night.raw(ONE).read_bytes()
    result = simulated(night.root)
    assert result.exit_code == 2
    assert "already holds data" in result.stderr
    assert night.raw(ONE).read_bytes() == content


def test_a_repair_of_no_raw_is_a_warning(night: SmallNight) -> None:
    file = night.root / "observatory.toml"
    file.write_text(
        "[data]\nroot = '.'\n[[repairs]]\nfiles = 'q*'\nkeyword = 'EGAIN'\nvalue = 2\nreason = 'x'\nwho = 'A'\n"
    )
    for words in (("config", "check", file), ("groups", night.root, "--config", file)):
        told = nightdesk(*words)
        assert told.exit_code == 0
        assert "the repair of EGAIN (files = q*) concerns no raw on the disk." in told.output
