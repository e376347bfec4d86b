"""The simulated night: written as a telescope writes, reproducible, and true to its own truth."""

from __future__ import annotations

import json
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import SetupError
from nightdesk.night import night_of, parse_moment
from nightdesk.simulate import (
    Camera,
    SimulatedFrame,
    Simulation,
    crop,
    drop_keyword,
    expose_slowly,
    simulate,
    truncate,
)

NIGHT = date(2026, 11, 21)
SMALL: dict[str, Any] = {"size": (48, 40), "frames": 3, "seed": 5}


@pytest.fixture
def night(tmp_path: Path) -> Simulation:
    return simulate(tmp_path, **SMALL)


def bytes_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def reduce_frame(simulation: Simulation, frame: SimulatedFrame, extinction: float) -> tuple[Any, Any]:
    """Reduce one frame with numpy: electrons above the atmosphere, and the variance of all but the light."""
    calibs = simulation.root / "calibs"
    with fits.open(calibs / "bias2x2.fits") as bias, fits.open(calibs / "Rflatnorm2x2.fits") as flat:
        header = fits.getheader(frame.path)
        gain, noise = header["EGAIN"], header["RDNOISE"]
        level = flat[0].data.astype(float)
        signal = (fits.getdata(frame.path) - bias[0].data.astype(float)) * gain
        factor = 10.0 ** (0.4 * extinction * header["AIRMASS"])
        quantisation = gain**2 / 12.0
        fixed = noise**2 + quantisation + gain**2 * bias["VAR"].data
        shared = (signal / level) ** 2 * flat["VAR"].data
        return signal / level * factor, (fixed / level**2 + shared) * factor**2


@pytest.mark.parametrize("sky", [30.0, 2000.0], ids=["dark sky", "moonlit sky"])
def test_reducing_the_frames_gives_back_the_truth_within_the_noise(tmp_path: Path, sky: float) -> None:
    simulation = simulate(tmp_path, size=(160, 128), frames=3, seed=2, sky=sky, sky_drift=0.2)
    truth = fits.getdata(simulation.truth / "NGC5949/R/2026-11-21.fits").astype(float)
    facts = json.loads((simulation.truth / "NGC5949/R/2026-11-21.json").read_text())
    objects = truth - facts["sky_above_atmosphere"]
    flat = fits.getdata(simulation.root / "calibs/Rflatnorm2x2.fits").astype(float)
    hot = np.zeros(truth.shape, dtype=bool)
    for x, y in facts["hot_pixels"]:
        hot[y, x] = True
    for frame in simulation.frames:
        factor = 10.0 ** (0.4 * facts["extinction"] * frame.airmass)
        reduced, variance = reduce_frame(simulation, frame, facts["extinction"])
        moved = np.roll(objects, (int(frame.dy), int(frame.dx)), axis=(0, 1))
        expected = moved + frame.sky * factor
        normalised = (reduced - expected) / np.sqrt(variance + expected * factor / flat)
        inner = np.s_[26:-26, 26:-26]  # nothing of what np.roll wrapped
        used = normalised[inner][~hot[inner]]
        assert np.mean(used) == pytest.approx(0.0, abs=0.05)
        assert np.mean(used**2) == pytest.approx(1.0, abs=0.06)


def test_the_same_arguments_write_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    options: dict[str, Any] = SMALL | {"raw_calibrations": True, "calibration_frames": 2, "dark_master": True}
    first, second = (simulate(tmp_path / name, **options).root for name in ("a", "b"))
    assert bytes_of(first) == bytes_of(second)


def test_another_seed_is_another_night(tmp_path: Path) -> None:
    first, second = (simulate(tmp_path / str(seed), **SMALL | {"seed": seed}).root for seed in (1, 2))
    assert bytes_of(first).keys() == bytes_of(second).keys()
    assert not set(bytes_of(first).values()) & set(bytes_of(second).values())


@pytest.mark.parametrize("zone", ["Atlantic/Canary", "Pacific/Auckland", "America/Santiago", "Pacific/Tongatapu"])
def test_frames_belong_to_their_night_and_follow_each_other(tmp_path: Path, zone: str) -> None:
    nights = (date(2026, 4, 4), date(2026, 10, 24))  # clocks change in the small hours that follow
    options: dict[str, Any] = {
        "targets": ("M31", "M33"),
        "filters": ("R", "H"),
        "nights": nights,
        "size": (16, 16),
    }
    simulation = simulate(tmp_path, zone=zone, raw_calibrations=True, calibration_frames=2, **options)
    assert len(simulation.frames) == 2 * 2 * 2 * 3
    for frame in simulation.frames:
        moment = parse_moment(fits.getheader(frame.path)["DATE-OBS"])
        assert night_of(moment, ZoneInfo(zone)) == frame.night == date.fromisoformat(frame.path.parent.name)
        assert moment.astimezone(ZoneInfo(zone)).hour in (20, 21, 22, 23, 0, 1, 2, 3, 4, 5, 6)
    for path in simulation.calibrations:
        moment = parse_moment(fits.getheader(path)["DATE-OBS"])
        assert night_of(moment, ZoneInfo(zone)) == date.fromisoformat(path.parent.name)
    for before, after in pairwise(simulation.frames):
        assert after.date_obs >= before.date_obs + timedelta(seconds=before.exposure)
        assert int(after.name[1:]) > int(before.name[1:])


def test_a_raw_is_written_as_the_telescope_writes_it(night: Simulation) -> None:
    frame = night.frames[0]
    assert frame.path == night.root / "raw/2026-11-21/r0743053.fits"
    stored = fits.getheader(frame.path)
    assert (stored["BITPIX"], stored["BZERO"], stored["NAXIS1"], stored["NAXIS2"]) == (16, 32768, 48, 40)
    assert fits.getdata(frame.path).dtype == np.uint16
    wanted = {"OBJECT": "NGC5949", "FILTER": "R", "IMAGETYP": "object", "EXPTIME": 60.0, "INSTRUME": "pt5m"}
    wanted |= {
        "XBINNING": 2,
        "YBINNING": 2,
        "EGAIN": 1.3,
        "RDNOISE": 8.0,
        "GAIN": 0,
        "AIRMASS": frame.airmass,
    }
    assert {key: stored[key] for key in wanted} == wanted
    assert stored["DATE-OBS"].startswith("2026-11-22T01:2")


def test_the_sidecar_says_where_the_star_is(night: Simulation) -> None:
    header, *rows = night.sidecars[0].read_text().splitlines()
    assert night.sidecars == (night.root / "xys/NGC5949/R/2026-11-21/xy.csv",)
    assert header == "fname,x,y"
    for row, frame in zip(rows, night.frames, strict=True):
        name, x, y = row.split(",")
        assert name == frame.name
        stamp = fits.getdata(frame.path)[int(y) - 4 : int(y) + 3, int(x) - 4 : int(x) + 3]  # 1-based, 7 x 7
        assert np.unravel_index(np.argmax(stamp), stamp.shape) == (3, 3)


def test_frames_of_a_group_never_lie_twice_at_the_same_place(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, size=(32, 32), frames=9, dither=1.0)
    assert len({(frame.dx, frame.dy) for frame in simulation.frames}) == 9
    assert (simulation.frames[0].dx, simulation.frames[0].dy) == (0.0, 0.0)


def test_a_decimal_dither_moves_by_fractions_of_a_pixel(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, decimal_dither=True, **SMALL)
    assert any(frame.dx % 1 for frame in simulation.frames)
    last = simulation.sidecars[0].read_text().splitlines()[-1].split(",")
    assert float(last[1]) == pytest.approx(simulation.frames[-1].x + 1)
    assert float(last[2]) == pytest.approx(simulation.frames[-1].y + 1)


def test_the_airmass_is_that_of_the_position_in_the_header(tmp_path: Path) -> None:
    from astropy import units
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    simulation = simulate(tmp_path, size=(16, 16), nights=(date(2021, 3, 4),), targets=("M81", "M82"))
    site = EarthLocation(lat=28.7606 * units.deg, lon=-17.8792 * units.deg, height=2332 * units.m)
    for frame in simulation.frames:
        header = fits.getheader(frame.path)
        place = SkyCoord(header["RA"], header["DEC"], unit=("hourangle", "deg"))
        with iers.conf.set_temp("auto_download", False):
            middle = Time(header["DATE-OBS"]) + frame.exposure / 2 * units.s
            secant = place.transform_to(AltAz(obstime=middle, location=site)).secz.value
        # Positions are of J2000 and precess by a third of a degree.
        assert header["AIRMASS"] == pytest.approx(secant, rel=0.01)


def test_the_sky_brightens_towards_full_moon_and_by_request(tmp_path: Path) -> None:
    new, full = date(2026, 11, 9), date(2026, 11, 24)
    simulation = simulate(tmp_path / "a", nights=(new, full), **SMALL)
    assert simulation.frames[3].sky > 3 * simulation.frames[0].sky
    forced = simulate(tmp_path / "b", sky=500.0, sky_drift=0.1, **SMALL)
    assert [frame.sky for frame in forced.frames] == pytest.approx([500.0, 525.0, 550.0])


def test_raw_calibrations_average_to_the_masters(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, raw_calibrations=True, calibration_frames=12, **SMALL)
    assert simulation.frames[0].name == "r0743053"
    kinds: dict[str, list[Any]] = {}
    for path in simulation.calibrations:
        kinds.setdefault(fits.getheader(path)["IMAGETYP"], []).append(fits.getdata(path).astype(float))
    assert {kind: len(frames) for kind, frames in kinds.items()} == {"bias": 12, "dark": 12, "flat": 12}
    bias = np.mean(kinds["bias"], axis=0)
    flat = np.mean(kinds["flat"], axis=0) - bias
    with fits.open(simulation.root / "calibs/bias2x2.fits") as master:
        chi = (bias - master[0].data) / np.sqrt(2 * master["VAR"].data)
        assert np.mean(chi**2) == pytest.approx(1.0, abs=0.15)
    with fits.open(simulation.root / "calibs/Rflatnorm2x2.fits") as master:
        assert np.median(master[0].data) == pytest.approx(1.0, abs=1e-6)
        chi = (flat / np.median(flat) - master[0].data) / np.sqrt(2 * master["VAR"].data)
        assert np.mean(chi**2) == pytest.approx(1.0, abs=0.15)


def test_masters_may_be_free_of_noise(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, calibration_frames=0, dark_master=True, **SMALL)
    assert [path.name for path in simulation.masters] == ["bias2x2.fits", "dark2x2.fits", "Rflatnorm2x2.fits"]
    for path in simulation.masters:
        with fits.open(path) as hdus:
            assert len(hdus) == 1
            assert hdus[0].data.dtype.newbyteorder("=") == np.float32


def test_the_dark_master_takes_the_hot_pixels_away(tmp_path: Path) -> None:
    camera = Camera(hot_pixels=0.05, dust=0)
    simulation = simulate(tmp_path, calibration_frames=0, dark_master=True, camera=camera, sky=0.0, **SMALL)
    facts = json.loads((simulation.truth / "NGC5949/R/2026-11-21.json").read_text())
    raw, bias, dark = (
        fits.getdata(path).astype(float) for path in (simulation.frames[0].path, *simulation.masters[:2])
    )
    columns, rows = np.array(facts["hot_pixels"]).T
    assert np.mean((raw - bias)[rows, columns]) > 500
    assert np.median(np.abs((raw - bias - dark)[rows, columns])) < 100


def test_frames_may_lie_where_the_notebook_wants_them(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, place="processed", nights=(NIGHT, NIGHT + timedelta(days=1)), **SMALL)
    assert {frame.path.parent for frame in simulation.frames} == {tmp_path / "processed/NGC5949/R/raws"}
    assert simulation.sidecars == (tmp_path / "xys/NGC5949/R/xy.csv",)
    assert len(simulation.sidecars[0].read_text().splitlines()) == 1 + 6


def test_names_with_blanks_stay_in_the_header_and_make_clean_folders(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, targets=("NGC 5949",), size=(16, 16))
    assert fits.getheader(simulation.frames[0].path)["OBJECT"] == "NGC 5949"
    assert simulation.sidecars == (tmp_path / "xys/NGC5949/R/2026-11-21/xy.csv",)


def test_each_filter_may_have_its_own_exposure_time(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, filters=("R", "H"), exposure={"R": 60.0, "H": 300.0}, size=(16, 16))
    assert [frame.exposure for frame in simulation.frames] == [60.0] * 3 + [300.0] * 3
    assert len(simulation.group("NGC5949", "H", NIGHT)) == 3


def test_a_bright_star_saturates(tmp_path: Path) -> None:
    simulation = simulate(tmp_path, size=(128, 128), frames=1, exposure=300.0, saturated_stars=3, seed=3)
    assert fits.getdata(simulation.frames[0].path).max() == 65535


def test_an_exposure_time_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="filter H"):
        simulate(tmp_path, filters=("R", "H"), exposure={"R": 60.0}, size=(16, 16))


def test_more_frames_keep_the_dithers_of_fewer(tmp_path: Path) -> None:
    few, many = (simulate(tmp_path / str(n), size=(40, 40), frames=n).frames for n in (3, 6))
    assert [(frame.dx, frame.dy) for frame in few] == [(frame.dx, frame.dy) for frame in many[:3]]


def test_progress_counts_the_frames(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    options: dict[str, Any] = {"raw_calibrations": True, "calibration_frames": 1, **SMALL}
    simulate(tmp_path, progress=lambda done, total: seen.append((done, total)), **options)
    assert seen == [(number, 6) for number in range(1, 7)]


def test_a_telescopes_data_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "calibs").mkdir()
    (tmp_path / "calibs/bias2x2.fits").write_bytes(b"real")
    with pytest.raises(SetupError, match="already holds data"):
        simulate(tmp_path, **SMALL)
    assert bytes_of(tmp_path) == {"calibs/bias2x2.fits": b"real"}


def test_a_night_too_short_for_the_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="a night has room for 14"):
        simulate(tmp_path, frames=60, exposure=900.0, size=(16, 16))


def test_a_camera_writes_the_header_first_and_grows_the_file_in_place(night: Simulation, tmp_path: Path) -> None:
    source = night.frames[0].path
    copy = tmp_path / "new" / source.name
    sizes: list[int] = []
    expose_slowly(source, copy, chunks=4, seconds=2.0, pause=lambda seconds: sizes.append(copy.stat().st_size))
    assert sizes[0] % 2880 == 0
    assert source.read_bytes()[: sizes[0]].rstrip().endswith(b"END")
    assert len(sizes) == 4
    assert sizes == sorted(set(sizes))
    assert copy.read_bytes() == source.read_bytes()
    assert sizes[-1] < copy.stat().st_size


def test_a_frame_can_be_cut_short(night: Simulation) -> None:
    path = night.frames[0].path
    whole = path.read_bytes()
    assert truncate(path, 0.7).read_bytes() == whole[: int(0.7 * len(whole))]


def test_a_frame_can_lose_a_keyword_and_nothing_else(night: Simulation) -> None:
    path = night.frames[0].path
    pixels, header = fits.getdata(path), fits.getheader(path)
    drop_keyword(path, "EGAIN")
    assert set(header) - set(fits.getheader(path)) == {"EGAIN"}
    np.testing.assert_array_equal(fits.getdata(path), pixels)


def test_a_frame_can_have_the_wrong_shape(night: Simulation) -> None:
    path = night.frames[0].path
    assert fits.getdata(crop(path, columns=4, rows=2)).shape == (38, 44)
    assert fits.getdata(path).dtype == np.uint16
