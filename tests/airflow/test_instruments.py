"""Three cameras and their calibration frames under a real Airflow: a backfill of five nights, and a live night."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nightdesk.group import Group
from nightdesk.io.layout import Layout
from nightdesk.manifest import read_manifest
from nightdesk.night import night_of
from nightdesk.readiness import out_of_date
from nightdesk.settings import Settings, load_settings
from tests.airflow.desk import NIGHT_DAG, Airflow, Desk
from tests.three_cameras import CAMERAS, NIGHTS, ThreeCameras, sky_is_right
from tools import observatory

pytestmark = pytest.mark.slow

PORT = 28085
WATCH = "\n[watch]\nsettle_seconds = 3\nreadout_seconds = 1\nstalled_seconds = 12\nrescan_seconds = 5\n"
FLAT_NIGHT = {night: NIGHTS[0] if night < NIGHTS[2] else NIGHTS[3] for night in NIGHTS}


@pytest.fixture(scope="module")
def cameras(tmp_path_factory: pytest.TempPathFactory) -> ThreeCameras:
    made = ThreeCameras(tmp_path_factory.mktemp("cameras") / "data", frames=1).write()
    made.write_sidecars()
    config = made.root / "observatory.toml"
    config.write_text(config.read_text() + WATCH)
    return made


@pytest.fixture(scope="module")
def desk(cameras: ThreeCameras) -> Iterator[Desk]:
    home, config = cameras.root.with_name("home"), cameras.root / "observatory.toml"
    night = night_of(datetime.now(UTC), ZoneInfo("Atlantic/Canary"))
    with observatory.start(home, data=cameras.root, config=config, port=PORT) as running:
        airflow = Airflow(running.url, *observatory.login(home))
        desk = Desk(
            root=cameras.root,
            skies=(),
            night=night,
            archived=NIGHTS,
            airflow=airflow,
            observatory=running,
            config=config,
            settle_seconds=load_settings(config).watch.settle_seconds,
            nights_per_day=0,
        )
        try:
            running.wait_until_ready(300)
        except observatory.ObservatoryError as error:
            raise AssertionError(f"{error}\n{desk.logs()}") from error
        yield desk
        airflow.close()


def test_a_backfill_makes_masters_first_and_every_stack_has_the_right_ones(desk: Desk, cameras: ThreeCameras) -> None:
    end = NIGHTS[-1] + timedelta(days=1)
    desk.command("backfill", "create", "--dag-id", NIGHT_DAG, "--from-date", f"{NIGHTS[0]}", "--to-date", f"{end}")
    runs = desk.wait_for_backfill(len(NIGHTS), seconds=900.0)
    assert {run["state"] for run in runs} == {"success"}
    settings = cameras.settings
    for night in NIGHTS:
        report = json.loads((cameras.root / "processed" / "reports" / f"{night}.json").read_text())
        told = {entry["group"].split("/")[1]: entry for entry in report["groups"]}
        for camera in CAMERAS:
            manifest = read_manifest(settings, Group(night, "M67", "R", camera))
            assert manifest is not None
            assert manifest["state"] == "done", manifest["reason"]
            flat = f"calibs/{camera}/{FLAT_NIGHT[night]}/Rflatnorm1x1.fits"
            masters = {one["role"]: one["path"] for one in manifest["inputs"]}
            assert masters["master flat"] == flat
            assert masters["master bias"] == f"calibs/{camera}/{night}/bias1x1.fits"
            assert len(manifest["raws"]) == (3 if camera == "fz" else 1)
            sky_is_right(cameras, Group(night, "M67", "R", camera))
            assert told[camera]["masters"]["flat"].startswith(flat)
            assert told[camera]["out_of_date"] == []


def test_the_watcher_has_masters_made_of_a_live_nights_frames(desk: Desk, cameras: ThreeCameras) -> None:
    for number in range(5):
        cameras.write_frame("fz", desk.night, "bias", number, 0.0)
    run_id = f"{desk.night}__masters"

    def over() -> bool:
        run = desk.airflow.run("build_masters", run_id)
        return run is not None and run["state"] == "success"

    desk.wait(f"end of {run_id}", over)
    assert (cameras.root / "calibs" / "fz" / f"{desk.night}" / "bias1x1.fits").is_file()
    ledger: Path = cameras.root / "calibs" / f"{desk.night}" / "masters.json"
    assert json.loads(ledger.read_text())["state"] == "done"


def test_flats_at_dawn_renew_what_was_reduced_with_yesterdays(desk: Desk, cameras: ThreeCameras) -> None:
    tonight, yesterday = desk.night, desk.night - timedelta(days=1)
    ours, settings = Group(tonight, "M67", "R", "fz"), cameras.settings
    calibs = cameras.root / "calibs" / "fz"
    for number in range(5):
        cameras.write_frame("fz", yesterday, "bias", number, 0.0)
        cameras.write_frame("fz", yesterday, "flat", 10 + number, 5.0)
        if not (calibs / f"{tonight}").is_dir():
            cameras.write_frame("fz", tonight, "bias", number, 0.0)
    for night, name in ((yesterday, "Rflatnorm1x1.fits"), (tonight, "bias1x1.fits")):
        desk.wait(f"the masters of {night}", (calibs / f"{night}" / name).is_file)
    place = cameras.root.joinpath("xys", *ours.parts, f"{tonight}")
    place.mkdir(parents=True)
    numbers = range(20, 23)
    rows = (f"b{tonight.day:02d}{number:02d},10,10\n" for number in numbers)
    (place / "xy.csv").write_text("fname,x,y\n" + "".join(rows))
    for number in numbers:
        cameras.write_frame("fz", tonight, "object", number, 60.0)
    desk.assert_green(ours, desk.wait_for_run(ours))
    assert flat_of(settings, ours) == (f"calibs/fz/{yesterday}/Rflatnorm1x1.fits", -1)
    before = inodes(cameras.root)

    for number in range(5):
        cameras.write_frame("fz", tonight, "flat", 30 + number, 5.0, hour=30)
    flat = calibs / f"{tonight}" / "Rflatnorm1x1.fits"
    desk.wait("the masters of dawn", flat.is_file)
    better = f"a better master flat is there: calibs/fz/{tonight}/Rflatnorm1x1.fits (the night's own)"
    assert any(reason.startswith(better) for reason in out_of_date(settings, ours))
    assert flat_of(settings, ours)[1] == -1  # the watcher starts no group for a master
    assert desk.starts(ours) == 1

    run_id = desk.airflow.trigger(NIGHT_DAG, night=f"{tonight}")
    assert desk.wait_for_end(NIGHT_DAG, run_id)["state"] == "success"
    assert out_of_date(settings, ours) == []
    assert flat_of(settings, ours) == (f"calibs/fz/{tonight}/Rflatnorm1x1.fits", 0)
    sky_is_right(cameras, ours)
    after, own = inodes(cameras.root), Layout(settings, ours).folder.relative_to(cameras.root).as_posix()
    changed = {path for path, inode in before.items() if after.get(path) != inode}
    assert changed
    assert {path for path in changed if not path.startswith(f"{own}/")} == set()


def flat_of(settings: Settings, group: Group) -> tuple[str, int]:
    """Return the flat that a stack was made with, and how many days from its night that is."""
    manifest = read_manifest(settings, group)
    assert manifest is not None
    return next((one["path"], one["days"]) for one in manifest["inputs"] if one["role"] == "master flat")


def inodes(root: Path) -> dict[str, int]:
    """Return the inode of every product, manifest and master; one that is written anew has another."""
    places = ((root / "processed").rglob("*"), (root / "calibs").rglob("*.fits"))
    kept = (path for place in places for path in place if path.suffix in (".fits", ".json", ".png"))
    return {
        path.relative_to(root).as_posix(): path.stat().st_ino
        for path in kept
        if "reports" not in path.parts and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
