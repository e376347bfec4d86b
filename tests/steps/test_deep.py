"""`deep`: nights laid on one another, scaled, weighted; what each night's masters have to do with the others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from nightdesk.cli import app
from nightdesk.errors import GroupError, SetupError, Waiting
from nightdesk.io.atomic import read_json
from nightdesk.science.transform import Transform, half_turn
from nightdesk.steps import deep, reduce
from tests.star_night import FLIP, StarNight, chi_squares

NIGHTS = (date(2026, 11, 21), date(2026, 11, 22), date(2026, 12, 3))
SHAPE = (220, 240)


def places(dx: float, dy: float) -> tuple[Transform, ...]:
    return tuple(Transform(dx=dx + x, dy=dy + y) for x, y in ((0, 0), (6, -4), (-5, 7)))


@pytest.fixture
def nights(tmp_path: Path) -> Callable[..., list[StarNight]]:
    """Write and reduce nights; each has a pointing of its own and what the air let through."""

    def write(*changes: dict[str, Any], tables: dict[str, Any] | None = None) -> list[StarNight]:
        made = []
        for number, change in enumerate(changes):
            night = StarNight(
                tmp_path,
                **{
                    "night": NIGHTS[number],
                    "first": 743053 + 10 * number,
                    "shape": SHAPE,
                    "number": 30,
                    "tables": tables or {},
                    "places": places(9.0 * number, -6.0 * number),
                    **change,
                },
            )
            night.write()
            night.sidecar.unlink()
            made.append(night)
        for night in made:
            reduce.run(night.settings, night.group)
        return made

    return write


def run(night: StarNight, **changes: Any) -> dict[str, Any]:
    return deep.run(night.settings, target="NGC5949", filter_name="R", **changes)


def stack_of(night: StarNight) -> Path:
    return night.root / "deep" / "NGC5949" / "R" / "deep.fits"


def test_nights_become_one_image(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {"light": 0.7}, {})
    answer = run(made[0])
    assert answer["nights"] == [night.isoformat() for night in NIGHTS]
    assert answer["exposure"] == 540.0
    assert answer["left_out"] == {}
    header = fits.getheader(stack_of(made[0]))
    assert header["SCAL0002"] == pytest.approx(1 / 0.7, rel=0.02)
    assert header["WGHT0002"] < header["WGHT0001"] == pytest.approx(header["WGHT0003"], rel=0.1)
    assert sum(header[f"WGHT{n:04d}"] for n in (1, 2, 3)) == pytest.approx(1.0)
    assert header["NOISERAT"] == pytest.approx(1.0, abs=0.05)
    assert stack_of(made[0]).with_suffix(".png").is_file()
    with fits.open(stack_of(made[0])) as hdus:
        assert [hdu.name for hdu in hdus] == ["SCI", "VAR", "DQ", "COVERAGE", "PROVENANCE"]
        assert hdus["COVERAGE"].data.max() == 3
        assert len(hdus["PROVENANCE"].data) == 3


def test_it_is_deeper_than_a_night(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {}, {})
    run(made[0])
    inner = slice(60, 160), slice(60, 160)
    one, all_nights = (fits.getdata(path, "VAR")[inner] for path in (made[0].layout.stack, stack_of(made[0])))
    assert np.median(one / all_nights) == pytest.approx(3.0, rel=0.1)


def test_stars_lie_on_the_first_nights(nights: Callable[..., list[StarNight]]) -> None:
    from nightdesk.science.match import match_stars
    from nightdesk.science.star import find_stars

    made = nights({}, {}, {"places": tuple(FLIP.after(place) for place in places(3.0, 4.0)), "shape": SHAPE})
    answer = run(made[0])
    assert len(answer["nights"]) == 3
    stars = [find_stars(fits.getdata(path).astype(float)) for path in (stack_of(made[0]), made[0].layout.stack)]
    match = match_stars(stars[0], stars[1], SHAPE)
    assert match.accepted
    assert np.hypot(*match.transform.shift_at(120, 110)) < 0.5


def test_shared_masters_are_counted_once(nights: Callable[..., list[StarNight]]) -> None:
    """Three nights at one pointing with one noisy flat: its noise does not average down."""
    still = {"places": (Transform(), Transform(), Transform())}
    made = nights(still, still, still)
    flat = made[0].root / "calibs" / "Rflatnorm2x2.fits"
    with fits.open(flat, mode="update") as hdus:
        hdus["VAR"].data[:] = 1e-3
    for night in made:
        reduce.run(night.settings, night.group)
    run(made[0])
    shared = np.median(fits.getdata(made[0].layout.stack, "VARCAL"))
    assert np.median(fits.getdata(stack_of(made[0]), "VAR")) > shared > 0
    own = made[1].root / "calibs" / NIGHTS[1].isoformat()
    own.mkdir()
    with fits.open(flat) as hdus:
        hdus[0].data[0, 0] *= 1.0001  # another flat, as noisy
        hdus.writeto(own / flat.name)
    before = np.median(fits.getdata(stack_of(made[0]), "VAR"))
    reduce.run(made[1].settings, made[1].group)
    run(made[0])
    assert np.median(fits.getdata(stack_of(made[0]), "VAR")) < 0.8 * before


@pytest.mark.parametrize("own_flat", [False, True], ids=["one flat", "a flat of its own"])
def test_a_flat_is_shared_whatever_the_bias(nights: Callable[..., list[StarNight]], own_flat: bool) -> None:
    """Each night has a bias of its own; its noisy flat is one and the same, unless it has its own too."""
    still = {"places": (Transform(), Transform(), Transform())}
    made = nights(still, still)
    calibs = made[0].root / "calibs"
    with fits.open(calibs / "Rflatnorm2x2.fits", mode="update") as hdus:
        hdus["VAR"].data[:] = 1e-3
    for number, night in enumerate(NIGHTS[:2]):
        own = calibs / night.isoformat()
        own.mkdir()
        for name in ("bias2x2.fits", "Rflatnorm2x2.fits")[: 1 + own_flat]:
            with fits.open(calibs / name) as hdus:
                hdus[0].data[0, 0] *= 1.0001 + 0.0001 * number
                hdus.writeto(own / name)
    for night in made:
        reduce.run(night.settings, night.group)
    run(made[0])
    nightly, deep_one = (
        np.median(fits.getdata(path, "VAR")[60:160, 60:160]) for path in (made[0].layout.stack, stack_of(made[0]))
    )
    shared = np.median(fits.getdata(made[0].layout.stack, "VARCAL"))
    assert deep_one == pytest.approx((nightly - shared) / 2 + shared / (2 if own_flat else 1), rel=0.02)


def test_a_night_turned_by_180_degrees_shares_no_errors(nights: Callable[..., list[StarNight]]) -> None:
    """Its pixels are others, though its masters and its pointing are the same."""
    flip = half_turn(SHAPE)
    made = nights({"places": (Transform(),) * 3}, {"places": (flip,) * 3})
    with fits.open(made[0].root / "calibs" / "Rflatnorm2x2.fits", mode="update") as hdus:
        hdus["VAR"].data[:] = 1e-3
    for night in made:
        reduce.run(night.settings, night.group)
    run(made[0])
    nightly, deep_one = (
        np.median(fits.getdata(path, "VAR")[60:160, 60:160]) for path in (made[0].layout.stack, stack_of(made[0]))
    )
    assert deep_one == pytest.approx(nightly / 2, rel=0.02)


def test_a_turned_night_is_left_out_by_whole_pixels(nights: Callable[..., list[StarNight]]) -> None:
    centre = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    turned = Transform(math.radians(1.2))
    dx, dy = centre - turned.matrix @ centre
    places = tuple(Transform(turned.rotation, 1.0, dx + x, dy + y) for x, y in ((0, 0), (6, -4), (-5, 7)))
    made = nights({}, {}, {"places": places})
    answer = run(made[0])
    assert answer["nights"] == [night.isoformat() for night in NIGHTS[:2]]
    reason = answer["left_out"][NIGHTS[2].isoformat()]
    assert re.search(r"still [12]\.\d+ px from those of 2026-11-21 .*turned by -?1\.[12]\d degrees", reason)
    assert 'resample = "auto"' in reason


def test_seeing_is_not_transparency(nights: Callable[..., list[StarNight]]) -> None:
    shape = {"shape": (400, 420), "number": 40}
    made = nights({"fwhm": 3.0, **shape}, {"fwhm": 4.5, **shape})
    run(made[0])
    assert fits.getheader(stack_of(made[0]))["SCAL0002"] == pytest.approx(1.0, abs=0.015)


def test_the_header_is_that_of_all_nights(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {"exposure": 120.0}, {})
    run(made[0])
    header, *singles = (fits.getheader(path) for path in (stack_of(made[0]), *(night.layout.stack for night in made)))
    weights = np.array([header[f"WGHT{n:04d}"] * header[f"SCAL{n:04d}"] for n in (1, 2, 3)])
    noise = np.sqrt(np.sum((weights * [one["RDNOISE"] for one in singles]) ** 2))
    assert header["RDNOISE"] == pytest.approx(noise)
    times = [one["TEXPTIME"] for one in singles]
    assert header["AIRMASS"] == pytest.approx(np.average([one["AIRMASS"] for one in singles], weights=times))
    assert (header["AIRMSTRT"], header["AIRMEND"]) == (singles[0]["AIRMSTRT"], singles[2]["AIRMEND"])
    assert (header["DATE-BEG"], header["DATE-END"]) == (singles[0]["DATE-BEG"], singles[2]["DATE-END"])
    assert singles[0]["DATE-AVG"] < header["DATE-AVG"] < singles[2]["DATE-AVG"]


def test_the_same_nights_give_the_same_bytes_and_no_work(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {})
    first = run(made[0])
    content, inode = stack_of(made[0]).read_bytes(), stack_of(made[0]).stat().st_ino
    assert run(made[0]) == first
    assert stack_of(made[0]).stat().st_ino == inode
    stack_of(made[0]).unlink()
    run(made[0])
    assert stack_of(made[0]).read_bytes() == content


def test_some_nights_can_be_chosen(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {}, {})
    whole = run(made[0])
    some = run(made[0], nights=[NIGHTS[2], NIGHTS[0]])
    assert some["nights"] == [NIGHTS[0].isoformat(), NIGHTS[2].isoformat()]
    assert some["path"] == "deep/NGC5949/R/2026-11-21_2026-12-03/deep.fits"
    assert run(made[0]) == whole
    assert (made[0].root / some["path"]).is_file()
    answer = run(made[0], nights=[*NIGHTS, date(2026, 1, 1)])
    assert answer["left_out"] == {"2026-01-01": "it has no stack"}


def test_another_field_is_left_out_with_the_reason(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {"seed": 8}, {})
    answer = run(made[0])
    assert answer["nights"] == [NIGHTS[0].isoformat(), NIGHTS[2].isoformat()]
    assert "do not match those of 2026-11-21" in answer["left_out"][NIGHTS[1].isoformat()]
    manifest = read_json(stack_of(made[0]).with_name("manifest.json"))
    assert isinstance(manifest, dict)
    assert manifest["refused"] == answer["left_out"]


def test_no_two_nights_alike_is_an_error(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {"seed": 8})
    with pytest.raises(GroupError, match=r"fewer than two nights.*2026-11-22: its stars do not match"):
        run(made[0])


def test_a_single_night_is_waited_for_company(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({})
    with pytest.raises(Waiting, match="1 nights have a stack"):
        run(made[0])


def test_names_are_checked(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({})
    with pytest.raises(SetupError):
        deep.run(made[0].settings, target="../..", filter_name="R")


@pytest.mark.parametrize("how", ["subpixel", "similarity", "auto"])
def test_fractions_of_a_pixel_keep_the_noise_right(nights: Callable[..., list[StarNight]], how: str) -> None:
    shape = (800, 840)
    made = nights(
        {"shape": shape},
        {"shape": shape, "places": places(4.5, 3.5)},
        {"shape": shape, "places": places(-2.5, 0.5)},
        tables={"align": {"resample": how}},
    )
    run(made[0])
    assert chi_squares(stack_of(made[0])) == pytest.approx((1.0, 1.0), abs=0.05)


def test_the_command_says_what_it_made(nights: Callable[..., list[StarNight]]) -> None:
    made = nights({}, {})
    arguments = ["deep", str(made[0].root), "--target", "NGC5949", "--filter", "R"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 nights, 360 s." in result.output
    result = CliRunner().invoke(
        app, [*arguments, "--night", "2026-11-21", "--night", "2026-11-22", "--night", "2026-01-01"]
    )
    assert result.exit_code == 1
    assert "it has no stack" in result.output
    assert CliRunner().invoke(app, [*arguments, "--night", "2026-11-21"]).exit_code == 2
    assert CliRunner().invoke(app, [*arguments, "--night", "yesterday"]).exit_code == 2
