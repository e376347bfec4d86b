"""`build_masters`: which frames become a master, which are left out and why, and what is done only once."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.group import Group
from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import Layout
from nightdesk.io.master import read_master
from nightdesk.io.master_ledger import has_new_frames, needs_building, read_ledger
from nightdesk.readiness import Watch, tonight
from nightdesk.settings import Settings
from nightdesk.simulate import simulate
from nightdesk.simulate.camera import Camera, Chip
from nightdesk.steps import build_masters, reduce
from nightdesk.steps.calibration import bias_in_dark

NIGHT = date(2026, 11, 21)
SHAPE = (64, 64)
CAMERA = Camera(dark_current=0.05, dust=2)
CHIP = Chip(CAMERA, SHAPE, 1)


class Calibrations:
    """A data root into which a test writes calibration frames."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.number = 0

    def settings(self, **tables: Any) -> Settings:
        return Settings.model_validate({"data": {"root": self.root}, **tables})

    def write(self, kind: str, count: int = 5, *, night: date = NIGHT, **changes: Any) -> list[Path]:
        return [self.write_one(kind, night, **changes) for _ in range(count)]

    def write_one(
        self,
        kind: str,
        night: date,
        *,
        level: float = 20_000.0,
        exposure: float | None = None,
        temperature: float = -20.0,
        pedestal: float = 0.0,
        shade: float = 0.0,
        shape: tuple[int, int] = SHAPE,
    ) -> Path:
        self.number += 1
        random = np.random.default_rng(self.number)
        seconds = {"bias": 0.0, "dark": 300.0, "flat": 5.0}[kind] if exposure is None else exposure
        light = CHIP.flat("R") * level * CAMERA.gain * (1.0 + shade * np.linspace(-1, 1, SHAPE[1])) * (kind == "flat")
        pixels = CHIP.read_out(light, seconds, random).astype(float) + pedestal
        cards = {"IMAGETYP": kind, "EXPTIME": seconds, "DATE-OBS": f"{night}T16:{self.number % 60:02d}:00"}
        cards |= {"FILTER": "R", "EGAIN": CAMERA.gain, "RDNOISE": CAMERA.read_noise, "CCD-TEMP": temperature}
        cards |= {"XBINNING": 2, "YBINNING": 2, "SATURATE": 60_000.0}
        path = self.root / "raw" / night.isoformat() / f"c{self.number:04d}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.clip(np.rint(pixels), 0, 65535).astype(np.uint16)[: shape[0], : shape[1]]
        fits.PrimaryHDU(image, fits.Header(list(cards.items()))).writeto(path)
        return path

    def build(self, night: date = NIGHT, **tables: Any) -> dict[str, dict[str, Any]]:
        told = build_masters.run(self.settings(**tables), night)
        return {one["path"].rpartition("/")[2]: one for one in told}

    def master(self, name: str, night: date = NIGHT) -> Path:
        return self.root / "calibs" / night.isoformat() / name


@pytest.fixture
def camera(tmp_path: Path) -> Calibrations:
    return Calibrations(tmp_path)


def chi_square(path: Path, truth: np.ndarray) -> float:
    master = read_master(path)
    assert master.variance is not None
    return float(np.mean((master.data - truth) ** 2 / master.variance))


def test_all_kinds_are_made(camera: Calibrations) -> None:
    for kind in ("bias", "dark", "flat"):
        camera.write(kind)
    assert {name: one["state"] for name, one in camera.build().items()} == dict.fromkeys(
        ("bias2x2.fits", "dark2x2.fits", "Rflatnorm2x2.fits"), "made"
    )
    rate = CHIP.dark_rate / CAMERA.gain
    assert chi_square(camera.master("dark2x2.fits"), rate) == pytest.approx(1.0, abs=0.1)


def test_masters_are_right_within_their_noise_which_arrives_in_the_stack(tmp_path: Path) -> None:
    # faint flats and few frames, so that the masters' noise is a large part of the stack's
    night = simulate(
        tmp_path,
        nights=(NIGHT,),
        frames=2,
        size=(160, 160),
        masters=False,
        raw_calibrations=True,
        calibration_frames=5,
        dither=0.0,
        sky=2000.0,
        camera=replace(Camera(), flat_level=3000.0),
    )
    settings = Settings.model_validate({"data": {"root": night.root}})
    build_masters.run(settings, NIGHT)
    place = night.root / "calibs" / NIGHT.isoformat()
    chip = Chip(Camera(), (160, 160), 1)
    assert chi_square(place / "bias2x2.fits", chip.bias) == pytest.approx(1.0, abs=0.05)
    assert chi_square(place / "dark2x2.fits", chip.dark_rate / Camera().gain) == pytest.approx(1.0, abs=0.05)
    assert chi_square(place / "Rflatnorm2x2.fits", chip.flat("R")) == pytest.approx(1.0, abs=0.05)

    group = Group(NIGHT, "NGC5949", "R")
    reduce.run(settings, group)
    stack = Layout(settings, group).stack
    noisy, sky = fits.getdata(stack, "VAR"), fits.getdata(stack)
    shared = 0.0
    for master in place.glob("*.fits"):
        variance = read_master(master).variance
        assert variance is not None
        of_kind = float(np.median(variance))
        # raw and darks are exposed equally long: the bias drops out, and with it the part that the dark has of it
        part = {"b": -(Camera().gain ** 2), "d": (60.0 * Camera().gain) ** 2, "R": float(np.median(sky)) ** 2}
        shared += part[master.name[0]] * of_kind
        with fits.open(master, mode="update") as hdus:
            del hdus["VAR"]
    reduce.run(settings, group)
    assert fits.getheader(stack)["NOISECAL"] is False
    added = float(np.median(noisy - fits.getdata(stack, "VAR")))
    assert added == pytest.approx(shared, rel=0.12)
    assert added > 0.15 * float(np.median(noisy))


@pytest.mark.parametrize("exposure", [60.0, 40.0])
def test_stacks_made_with_a_nights_own_bias_and_dark_have_the_noise_they_claim(tmp_path: Path, exposure: float) -> None:
    night = simulate(
        tmp_path,
        nights=(NIGHT,),
        frames=10,
        size=(200, 200),
        exposure=60.0,
        masters=False,
        raw_calibrations=True,
        calibration_frames=5,
        dither=0.0,
        camera=replace(Camera(), hot_pixels=0.0, flat_level=40_000.0),
    )
    for frame in night.frames:
        fits.setval(frame.path, "EXPTIME", value=exposure)
    settings = Settings.model_validate({"data": {"root": night.root}})
    build_masters.run(settings, NIGHT)
    group = Group(NIGHT, "NGC5949", "R")
    reduce.run(settings, group)
    if exposure == 60.0:
        assert fits.getheader(Layout(settings, group).stack)["NOISERAT"] == pytest.approx(1.0, abs=0.03)
    with fits.open(Layout(settings, group).product("postISR", night.frames[0].name)) as hdus:
        dark, bias = (
            read_master(tmp_path / "calibs" / NIGHT.isoformat() / f"{name}2x2.fits") for name in ("dark", "bias")
        )
        assert dark.variance is not None
        assert bias.variance is not None
        scale = exposure / 60.0
        own = dark.variance * 60.0**2 - bias.variance
        expected = np.median((1.0 - scale) ** 2 * bias.variance + scale**2 * own) * Camera().gain ** 2
        assert np.median(hdus["VARCAL"].data) == pytest.approx(expected, rel=0.15)


def test_a_dark_made_with_another_bias_has_errors_of_its_own(camera: Calibrations) -> None:
    for kind in ("bias", "dark"):
        camera.write(kind)
    camera.build()
    bias, dark = (read_master(camera.master(f"{kind}2x2.fits")) for kind in ("bias", "dark"))
    assert bias_in_dark(bias, dark) == pytest.approx(1.0 / 300.0)
    with fits.open(bias.path, mode="update") as hdus:
        hdus[0].data += 1.0
    assert bias_in_dark(read_master(bias.path), dark) == 0.0
    assert bias_in_dark(None, dark) == 0.0


def test_a_master_tells_what_it_is_made_of(camera: Calibrations) -> None:
    biases, darks, flats = camera.write("bias"), camera.write("dark"), camera.write("flat")
    camera.build()
    dark = fits.getheader(camera.master("dark2x2.fits"))
    assert (dark["EXPTIME"], dark["DARKEXP"], dark["DARKBIAS"]) == (1.0, 300.0, False)
    assert dark["BIASFIL"] == "calibs/2026-11-21/bias2x2.fits"
    with fits.open(camera.master("Rflatnorm2x2.fits")) as hdus:
        header, rows = hdus[0].header, hdus["PROVENANCE"].data
        assert (header["NCOMBINE"], header["FILTER"], header["NIGHT"]) == (5, "R", "2026-11-21")
        assert np.median(hdus[0].data) == pytest.approx(1.0, abs=1e-6)
        assert list(rows["ROLE"]) == ["flat"] * 5 + ["master bias", "master dark"]
        assert list(rows["FILE"])[:5] == [path.name for path in flats]
    ledger = read_ledger(camera.settings(), NIGHT)
    assert ledger is not None
    assert set(ledger["inputs"]) == {path.relative_to(camera.root).as_posix() for path in (*biases, *darks, *flats)}


def test_darks_without_biases_keep_the_bias(camera: Calibrations) -> None:
    camera.write("dark")
    camera.build()
    header = fits.getheader(camera.master("dark2x2.fits"))
    assert (header["DARKBIAS"], header["EXPTIME"]) == (True, 300.0)
    assert np.median(fits.getdata(camera.master("dark2x2.fits"))) == pytest.approx(CAMERA.bias_level, abs=30)


def test_darks_of_another_exposure_or_temperature_are_masters_of_their_own(camera: Calibrations) -> None:
    camera.write("bias")
    camera.write("dark", 4)
    camera.write("dark", 3, exposure=60.0)
    camera.write("dark", 3, temperature=-10.0)
    assert sorted(name for name in camera.build() if name.startswith("dark")) == [
        "dark2x2.fits",
        "dark2x2_300s_-10C.fits",
        "dark2x2_60s_-20C.fits",
    ]


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("flat", {"level": 900.0}, "it is too faint: ... ADU, .masters. flat_levels are 2000 to 55000"),
        ("flat", {"level": 56_000.0}, "it is too bright: 5.... ADU|% of its pixels are saturated"),
        ("flat", {"level": 64_000.0}, "9.% of its pixels are saturated"),
        ("bias", {"pedestal": 50.0}, "its level is 50 ADU higher than the middle of its night's"),
        ("dark", {"pedestal": 900.0}, "its level is 3 ADU/s higher than the middle of its night's"),
        ("bias", {"shape": (64, 60)}, "another size or readout mode than the most of this night"),
    ],
    ids=["faint", "bright", "saturated", "bias off", "dark off", "another size"],
)
def test_a_frame_that_is_no_good_is_left_out_with_the_reason(
    camera: Calibrations, kind: str, changes: dict[str, Any], reason: str
) -> None:
    for each in ("bias", "dark", "flat"):
        camera.write(each)
    (bad,) = camera.write(kind, 1, **changes)
    name = {"bias": "bias2x2.fits", "dark": "dark2x2.fits", "flat": "Rflatnorm2x2.fits"}[kind]
    told = camera.build()[name]
    assert told["state"] == "made"
    assert list(told["left_out"]) == [bad.relative_to(camera.root).as_posix()]
    (why,) = told["left_out"].values()
    assert re.search(reason, why), why


def test_frames_are_compared_with_the_last_good_master(camera: Calibrations) -> None:
    before = NIGHT - timedelta(days=2)
    for night in (before, NIGHT):
        camera.write("bias", night=night)
    camera.write("flat", night=before)
    camera.build(before)
    good, bad = camera.write("flat", 3), camera.write("flat", 3, shade=0.2)
    told = camera.build()["Rflatnorm2x2.fits"]
    assert told["compared_with"] == f"calibs/{before}/Rflatnorm2x2.fits"
    assert sorted(told["frames"]) == [path.relative_to(camera.root).as_posix() for path in good]
    assert sorted(told["left_out"]) == [path.relative_to(camera.root).as_posix() for path in bad]
    assert "its light falls otherwise than the last good master" in next(iter(told["left_out"].values()))


def test_too_few_frames_make_no_master_and_say_so(camera: Calibrations) -> None:
    camera.write("bias", 4)
    told = camera.build()["bias2x2.fits"]
    assert (told["state"], told["reason"]) == ("not made", "4 good frames; [masters] minimum_bias is 5")
    assert not camera.master("bias2x2.fits").exists()
    assert not needs_building(camera.settings(), take_inventory(camera.settings()), NIGHT)


def test_a_master_goes_with_its_frames(camera: Calibrations) -> None:
    camera.write("bias")
    flats = camera.write("flat", 4)
    camera.build()
    path = camera.master("Rflatnorm2x2.fits")
    assert path.is_file()
    for flat in flats[1:]:
        flat.unlink()
    told = camera.build()["Rflatnorm2x2.fits"]
    assert told["state"] == "not made"
    assert told["reason"].endswith("minimum_flat is 3; the master made before is removed")
    assert not path.exists()


def test_a_master_of_which_all_frames_are_gone_goes_too(camera: Calibrations) -> None:
    camera.write("bias")
    flats = camera.write("flat", 4)
    camera.build()
    for flat in flats:
        flat.unlink()
    assert camera.build()["Rflatnorm2x2.fits"]["reason"].startswith("its frames are gone")
    assert not camera.master("Rflatnorm2x2.fits").exists()
    assert sorted(camera.build()) == ["bias2x2.fits"]


def test_a_persons_master_stays_when_frames_are_gone(camera: Calibrations) -> None:
    camera.write("bias", 4)
    path = camera.master("bias2x2.fits")
    path.parent.mkdir(parents=True)
    fits.PrimaryHDU(np.full(SHAPE, 310.0, np.float32)).writeto(path)
    assert camera.build()["bias2x2.fits"]["state"] == "left alone"
    assert path.is_file()


def test_a_dark_with_the_bias_in_it_is_not_compared_with_one_without(camera: Calibrations) -> None:
    before = NIGHT - timedelta(days=2)
    for kind in ("bias", "dark"):
        camera.write(kind, night=before)
    camera.build(before)
    camera.write("dark")
    told = camera.build(calibs={"window": {"bias": 1}})["dark2x2.fits"]
    assert (told["state"], told["left_out"], told["compared_with"]) == ("made", {}, "")
    assert fits.getheader(camera.master("dark2x2.fits"))["DARKBIAS"] is True


def test_a_frame_with_pixels_that_are_no_numbers_is_left_out_alone(camera: Calibrations) -> None:
    bad, *_ = camera.write("bias", 6)
    fits.PrimaryHDU(np.full(SHAPE, np.nan, np.float32), fits.getheader(bad)).writeto(bad, overwrite=True)
    told = camera.build()["bias2x2.fits"]
    assert told["state"] == "made"
    assert told["left_out"] == {bad.relative_to(camera.root).as_posix(): "4,096 of its pixels are no numbers"}


def test_a_frame_of_another_gain_is_left_out_alone(camera: Calibrations) -> None:
    camera.write("bias")
    bad, *_ = camera.write("flat", 4)
    fits.setval(bad, "EGAIN", value=9.0)
    told = camera.build()["Rflatnorm2x2.fits"]
    assert told["state"] == "made"
    assert list(told["left_out"]) == [bad.relative_to(camera.root).as_posix()]
    assert "its gain is 9 e-/ADU, that of most of the others" in next(iter(told["left_out"].values()))


def test_flats_without_a_bias_make_no_master(camera: Calibrations) -> None:
    camera.write("flat")
    assert "there is no master bias for the flats" in camera.build()["Rflatnorm2x2.fits"]["reason"]


def test_a_cut_frame_is_left_out(camera: Calibrations) -> None:
    first, *_ = camera.write("bias", 6)
    first.write_bytes(first.read_bytes()[:-3000])
    told = camera.build()["bias2x2.fits"]
    assert told["left_out"] == {first.relative_to(camera.root).as_posix(): "it is cut short"}
    assert len(told["frames"]) == 5


def test_a_persons_master_is_left_alone(camera: Calibrations) -> None:
    camera.write("bias")
    path = camera.master("bias2x2.fits")
    path.parent.mkdir(parents=True)
    fits.PrimaryHDU(np.full(SHAPE, 310.0, np.float32)).writeto(path)
    before = path.read_bytes()
    assert camera.build()["bias2x2.fits"]["state"] == "left alone"
    assert path.read_bytes() == before


def test_only_what_has_changed_is_made_again(camera: Calibrations) -> None:
    camera.write("bias")
    camera.write("flat")
    camera.build()
    before = {path: path.stat().st_ino for path in camera.master("x").parent.glob("*.fits")}
    told = camera.build()
    assert all(one["state"] == "made" for one in told.values())
    assert {path: path.stat().st_ino for path in before} == before
    camera.write("flat", 1)
    assert needs_building(camera.settings(), take_inventory(camera.settings()), NIGHT)
    camera.build()
    assert camera.master("bias2x2.fits").stat().st_ino == before[camera.master("bias2x2.fits")]
    assert fits.getheader(camera.master("Rflatnorm2x2.fits"))["NCOMBINE"] == 6


def test_the_same_frames_make_the_same_bytes(camera: Calibrations, tmp_path: Path) -> None:
    camera.write("bias")
    camera.write("flat")
    camera.build()
    twin = Calibrations(tmp_path / "twin")
    shutil.copytree(camera.root / "raw", twin.root / "raw")
    twin.build()
    for name in ("bias2x2.fits", "Rflatnorm2x2.fits"):
        assert twin.master(name).read_bytes() == camera.master(name).read_bytes()


def test_a_master_whose_noise_reaches_the_products(camera: Calibrations) -> None:
    camera.write("bias", 5)
    camera.write("flat", 5)
    camera.build()
    bias = read_master(camera.master("bias2x2.fits")).variance
    assert bias is not None
    noise = (CAMERA.read_noise / CAMERA.gain) ** 2 + 1 / 12
    assert np.median(bias) == pytest.approx(noise / 5, rel=0.05)


class TestWatch:
    """The watcher finds nights whose calibration frames are ready."""

    def test_a_night_is_ready_when_its_frames_have_settled_and_only_once(self, camera: Calibrations) -> None:
        night = tonight(camera.settings())
        camera.write("bias", night=night)
        settings = camera.settings(watch={"settle_seconds": 20, "readout_seconds": 0})
        watch = Watch(settings)
        watch.look(0.0)
        assert watch.calibrations(0.0) == []
        assert watch.due(0.0) == pytest.approx(20.0)
        watch.look(21.0)
        assert [one.run_id for one in watch.calibrations(21.0)] == [f"{night}__masters"]
        build_masters.run(settings, night)
        watch.look(22.0)
        assert watch.calibrations(22.0) == []

    def test_old_nights_are_left_to_their_own_run(self, camera: Calibrations) -> None:
        camera.write("bias", night=tonight(camera.settings()) - timedelta(days=9))
        watch = Watch(camera.settings())
        watch.look(0.0)
        watch.look(99.0)
        assert watch.calibrations(99.0) == []

    def test_a_run_that_died_is_not_begun_for_ever(self, camera: Calibrations, monkeypatch: pytest.MonkeyPatch) -> None:
        camera.write("bias")
        settings = camera.settings()

        def die(*args: object, **kwargs: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr(build_masters, "write_master", die)
        with pytest.raises(OSError, match="full"):
            build_masters.run(settings, NIGHT)
        inventory = take_inventory(settings)
        assert not has_new_frames(settings, inventory, NIGHT)
        assert needs_building(settings, inventory, NIGHT)
