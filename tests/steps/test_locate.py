"""`locate` and what follows it: frames laid on one another by their stars, or left out with the reason."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import GroupError, SetupError, StaleProduct, Waiting
from nightdesk.io.sidecar import read_sidecar
from nightdesk.manifest import read_manifest
from nightdesk.readiness import differs
from nightdesk.science.transform import Transform
from nightdesk.steps import align, ask, find_sidecar, locate, reduce
from tests.star_night import FLIP, SHAPE, StarNight, chi_squares

TURNED = Transform(math.radians(0.5))


def about_centre(degrees: float, dx: float = 0.0, dy: float = 0.0) -> Transform:
    """A rotation about the frame's centre, and a move."""
    centre = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    turned = Transform(math.radians(degrees))
    x, y = centre - turned.matrix @ centre + (dx, dy)
    return Transform(turned.rotation, 1.0, float(x), float(y))


def reduced(night: StarNight) -> str:
    return reduce.run(night.settings, night.group)


def own(night: StarNight) -> Path:
    return night.layout.sidecars[0]


def located(night: StarNight) -> str:
    return locate.run(night.settings, night.group)


def fates(night: StarNight) -> dict[str, dict[str, Any]]:
    manifest = read_manifest(night.settings, night.group)
    assert manifest is not None
    return {raw["name"]: raw for raw in manifest["raws"]}


def rows(night: StarNight) -> dict[str, Any]:
    positions = read_sidecar(night.settings, own(night), names=night.names, shape=night.shape)
    return {row.name: row for row in positions.rows}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., StarNight]:
    """Write a night without a sidecar."""

    def write(**changes: Any) -> StarNight:
        night = StarNight(tmp_path, **changes)
        night.write()
        night.sidecar.unlink()
        return night

    return write


class TestAutomaticSidecar:
    def test_shifts_are_those_of_the_sky(self, make: Callable[..., StarNight]) -> None:
        night = make()
        assert "3 frames are in the stack" in reduced(night)
        for index, name in enumerate(night.names):
            placement = rows(night)[name].placement
            assert (placement.dx, placement.dy) == pytest.approx(night.true_shift(index), abs=0.1)
        raws = fates(night)
        assert all(raw["residual"] < 0.75 for raw in raws.values())
        assert raws[night.names[1]]["matches"] >= 10

    def test_the_star_is_where_the_sidecar_says(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        for name, row in rows(night).items():
            x, y = round(row.x) - 1, round(row.y) - 1
            around = night.pixels(name)[y - 3 : y + 4, x - 3 : x + 4]
            assert np.unravel_index(around.argmax(), around.shape) == pytest.approx((3, 3), abs=1)

    def test_it_is_a_product_and_no_input(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        assert not differs(night.settings, night.group)
        own(night).unlink()
        assert not differs(night.settings, night.group)

    def test_a_rerun_changes_nothing(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        before, sidecar = night.states(), own(night).stat().st_ino
        reduced(night)
        assert night.rewritten(before) == []
        assert own(night).stat().st_ino == sidecar

    def test_the_same_frames_give_the_same_bytes_elsewhere(
        self, make: Callable[..., StarNight], tmp_path: Path
    ) -> None:
        night = make()
        other = StarNight(tmp_path / "other").write()
        other.sidecar.unlink()
        for one in (night, other):
            reduced(one)
        assert own(night).read_bytes() == own(other).read_bytes()
        assert night.layout.stack.read_bytes() == other.layout.stack.read_bytes()

    def test_it_is_renewed_when_a_frame_comes(self, make: Callable[..., StarNight]) -> None:
        whole = make()
        last = whole.names[-1]
        raw = whole.raw(last).read_bytes()
        whole.raw(last).unlink()
        reduced(whole)
        assert list(rows(whole)) == whole.names[:2]
        whole.raw(last).write_bytes(raw)
        reduced(whole)
        assert list(rows(whole)) == whole.names

    def test_a_deleted_one_is_written_again(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        first = own(night).read_bytes()
        own(night).unlink()
        reduced(night)
        assert own(night).read_bytes() == first

    def test_a_flipped_frame_is_turned_back_without_interpolation(self, make: Callable[..., StarNight]) -> None:
        night = make(places=(Transform(), FLIP.after(Transform(dx=4.2, dy=3.3)), Transform(dx=-5.0, dy=1.0)))
        reduced(night)
        name = night.names[1]
        header = fits.getheader(night.product("shifted", name))
        assert header["FLIPPED"] is True
        before = fits.getdata(night.product("extinction", name))[::-1, ::-1]
        after = fits.getdata(night.product("shifted", name))
        dx, dy = header["XSHIFT"], header["YSHIFT"]
        assert (after[40:120, 40:120] == before[40 - dy : 120 - dy, 40 - dx : 120 - dx]).all()
        assert fates(night)[name]["residual"] < 0.75
        assert "1 frames turned by 180 degrees" in str(fits.getheader(night.layout.stack)["HISTORY"])

    def test_an_empty_frame_is_left_out_with_its_figures(self, make: Callable[..., StarNight]) -> None:
        night = make(empty=(1,))
        with pytest.raises(GroupError, match="too few stars: 0 stars were found in it"):
            reduced(night)
        lost = fates(night)[night.names[1]]
        assert lost["fate"] == "lost"
        assert "5 must match" in lost["reason"]
        assert [name for name, raw in fates(night).items() if raw["fate"] == "used"] == [night.names[0], night.names[2]]

    def test_an_empty_first_frame_is_not_the_reference(self, make: Callable[..., StarNight]) -> None:
        night = make(empty=(0,))
        with pytest.raises(GroupError, match="2 of 3 frames"):
            reduced(night)
        assert next(iter(rows(night))) == night.names[1]

    def test_a_field_without_stars_waits_for_a_person(self, make: Callable[..., StarNight]) -> None:
        night = make(number=2)
        sentence = reduced(night)
        assert "waits for positions" in sentence
        assert "too few stars" in sentence
        assert not own(night).exists()

    def test_the_best_reference_is_the_sharpest(self, make: Callable[..., StarNight]) -> None:
        night = make(tables={"align": {"reference": "best"}})
        last = night.names[-1]
        night.write_raw(last, replace(night, fwhm=2.2).pixels(last))
        reduced(night)
        assert next(iter(rows(night))) == last

    def test_a_trimmed_detector_counts_as_the_raw_does(self, make: Callable[..., StarNight]) -> None:
        assert locate._trimmed(fits.Header({"LTV1": -8.0, "LTV2": -2.0})) == (8.0, 2.0)


class TestAPersonsSidecar:
    def test_it_wins_and_is_never_touched(self, make: Callable[..., StarNight]) -> None:
        night = make()
        night.write_sidecar()
        before = night.sidecar.read_bytes()
        assert "is a person's" in (reduced(night), located(night))[1]
        assert night.sidecar.read_bytes() == before
        assert not own(night).exists()

    def test_one_that_comes_later_replaces_nightdesks(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        night.write_sidecar()
        assert differs(night.settings, night.group)
        reduced(night)
        header = fits.getheader(night.product("shifted", night.names[1]))
        x, y = (a - b for a, b in zip(night.position(night.names[0]), night.position(night.names[1]), strict=True))
        assert (header["XSHIFT"], header["YSHIFT"]) == (x, y)

    def test_one_that_a_person_edited_is_the_persons(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        text = own(night).read_text().replace(f"{night.names[2]},", f"{night.names[2]},1", 1)
        own(night).write_text(text)
        assert differs(night.settings, night.group)
        assert "is a person's" in located(night)
        assert own(night).read_text() == text
        assert all(row.placement is None for row in rows(night).values())

    def test_one_that_appears_while_nightdesk_writes_is_kept(self, make: Callable[..., StarNight]) -> None:
        from nightdesk.io.sidecar import write_own_sidecar

        night = make()
        own(night).parent.mkdir(parents=True)
        own(night).write_text("fname,x,y\nmine,1,2\n")
        write_own_sidecar(own(night), [])
        assert own(night).read_text() == "fname,x,y\nmine,1,2\n"

    def test_rough_positions_are_refined_on_request(self, make: Callable[..., StarNight]) -> None:
        night = make(tables={"align": {"refine": True, "resample": "subpixel"}})
        wrong = {name: (x + 3, y - 2) for name in night.names for x, y in [night.position(name)]}
        night.write_rows(["fname,x,y", *(f"{name},{x + 1},{y + 1}" for name, (x, y) in wrong.items())])
        before = night.sidecar.read_bytes()
        reduced(night)
        assert night.sidecar.read_bytes() == before
        for index, name in enumerate(night.names[1:], start=1):
            header = fits.getheader(night.product("shifted", name))
            assert (header["XSHIFT"], header["YSHIFT"]) == pytest.approx(night.true_shift(index), abs=0.15)
            assert "px from the position given" in fates(night)[name]["note"]

    def test_a_position_without_a_star_is_kept_and_noted(self, make: Callable[..., StarNight]) -> None:
        night = make(tables={"align": {"refine": True, "refine_limit": 1.0}}, number=24)
        night.write_rows(["fname,x,y", *(f"{name},3,3" for name in night.names)])
        night.list_raws()
        night.run_to("extinction")
        assert "no star is within 1 px of the position given" in located(night)

    def test_a_wrong_position_is_found_out_by_the_stars(self, make: Callable[..., StarNight]) -> None:
        night = make()
        lines = ["fname,x,y"]
        for index, name in enumerate(night.names):
            x, y = night.position(name)
            lines.append(f"{name},{x + 1 + 8 * (index == 2)},{y + 1}")
        night.write_rows(lines)
        with pytest.raises(
            GroupError, match=r"still [78]\.\d+ px from those of r0743053 \(\d+ stars; the limit is 1.5 px"
        ):
            reduced(night)
        assert fates(night)[night.names[1]]["fate"] == "used"

    def test_the_figures_of_a_lost_frame_are_in_the_manifest(self, make: Callable[..., StarNight]) -> None:
        night = make()
        night.write_sidecar()
        x, y = night.position(night.names[2])
        night.write_rows([*night.sidecar.read_text().splitlines()[:3], f"{night.names[2]},{x + 9},{y + 1},1"])
        with pytest.raises(GroupError, match="partial"):
            reduced(night)
        lost = fates(night)[night.names[2]]
        assert lost["fate"] == "lost"
        assert lost["residual"] == pytest.approx(8.0, abs=0.8)
        assert lost["matches"] >= 10

    @pytest.mark.parametrize("change", [{"empty": (2,)}, {}], ids=["empty", "another field"])
    def test_a_frame_without_the_reference_frames_stars_is_lost(
        self, make: Callable[..., StarNight], change: dict[str, Any]
    ) -> None:
        night = make(number=60, **change)
        night.write_sidecar()
        if not change:
            night.write_raw(night.names[2], replace(night, seed=55).pixels(night.names[2]))
        with pytest.raises(GroupError, match=rf"{night.names[2]} was lost: .*do not match the \d+ of {night.names[0]}"):
            reduced(night)

    def test_where_stars_are_few_nothing_is_verified_and_that_is_said(self, make: Callable[..., StarNight]) -> None:
        night = make(number=3)
        night.write_sidecar()
        reduced(night)
        assert "not verified" in fates(night)[night.names[2]]["note"]
        assert "note" not in fates(night)[night.names[0]]
        known = [fits.getheader(night.product("shifted", name))["ARESKNWN"] for name in night.names]
        assert known == [True, False, False]

    @pytest.mark.parametrize("refine", [False, True])
    def test_a_flip_that_nobody_told_is_turned_back(self, make: Callable[..., StarNight], refine: bool) -> None:
        flipped = FLIP.after(Transform(dx=3.0, dy=2.0))
        night = make(places=(Transform(), flipped, Transform(dx=4, dy=-3)), tables={"align": {"refine": refine}})
        night.write_sidecar()
        assert "3 frames are in the stack" in reduced(night)
        header = fits.getheader(night.product("shifted", night.names[1]))
        assert header["FLIPPED"] is True
        assert (header["XSHIFT"], header["YSHIFT"]) == pytest.approx((-3.0, -2.0), abs=1)
        assert fates(night)[night.names[1]]["residual"] < 1.0

    def test_a_row_added_to_nightdesks_file_loses_no_flipped_frame(self, make: Callable[..., StarNight]) -> None:
        places = (Transform(), FLIP.after(Transform(dx=4.2, dy=3.3)), Transform(dx=-5, dy=1), Transform(dx=3, dy=3))
        night = make(places=places, empty=(3,))
        with pytest.raises(GroupError):
            reduced(night)
        own(night).write_text(f"{own(night).read_text()}{night.names[3]},90,80,,,,,,,\n")
        assert "4 frames are in the stack" in reduced(night)
        assert "not verified" in fates(night)[night.names[3]]["note"]
        assert fits.getheader(night.product("shifted", night.names[1]))["FLIPPED"] is True

    @pytest.mark.parametrize("how", ["auto", "integer"])
    def test_a_persons_turned_frame_is_turned_back_by_auto(self, make: Callable[..., StarNight], how: str) -> None:
        night = make(places=(Transform(), Transform(dx=5.0), about_centre(0.7)), tables={"align": {"resample": how}})
        night.write_sidecar()
        reduced(night)
        header = fits.getheader(night.product("shifted", night.names[2]))
        assert header["ALIGNWAY"] == ("similarity" if how == "auto" else "integer")
        assert header["ROTATED"] == pytest.approx(-0.7 if how == "auto" else 0.0, abs=0.05)

    def test_the_best_frame_is_the_reference_of_a_persons_too(self, make: Callable[..., StarNight]) -> None:
        night = make(tables={"align": {"reference": "best"}})
        night.write_sidecar()
        last = night.names[-1]
        night.write_raw(last, replace(night, fwhm=2.2).pixels(last))
        reduced(night)
        shifts = {name: fits.getheader(night.product("shifted", name))["XSHIFT"] for name in night.names}
        x = {name: night.position(name)[0] for name in night.names}
        assert shifts == {name: x[last] - x[name] for name in night.names}

    def test_in_a_crowd_one_star_is_meant_in_every_frame(self, make: Callable[..., StarNight]) -> None:
        """Positions four pixels off, to one side and the other: the nearest star is another in each frame."""
        night = make(tables={"align": {"refine": True}}, number=300, shape=(300, 300))
        lines = [
            f"{name},{x + 1 + 4 * (-1) ** i},{y + 3}"
            for i, name in enumerate(night.names)
            for x, y in [night.position(name)]
        ]
        night.write_rows(["fname,x,y", *lines])
        assert "3 frames are in the stack" in reduced(night)
        for index, name in enumerate(night.names):
            header = fits.getheader(night.product("shifted", name))
            assert (header["XSHIFT"], header["YSHIFT"]) == pytest.approx(night.true_shift(index), abs=0.7)

    def test_a_corrected_position_forgets_the_loss(self, make: Callable[..., StarNight]) -> None:
        night = make()
        night.write_rows(["fname,x,y", *(f"{name},50,50" for name in night.names)])
        with pytest.raises(GroupError, match="partial"):
            reduced(night)
        night.write_sidecar()
        assert "3 frames are in the stack" in reduced(night)


class TestModes:
    @pytest.mark.parametrize("mode", ["wait", "require"])
    def test_only_auto_looks_for_stars(self, make: Callable[..., StarNight], mode: str) -> None:
        night = make(tables={"align": {"mode": mode}})
        assert "waits for positions" in reduced(night)
        assert not own(night).exists()

    def test_require_takes_no_sidecar_of_nightdesks(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        assert own(night).exists()
        assert "waits for positions" in reduced(replace(night, tables={"align": {"mode": "require"}}))

    def test_the_notebook_asks_a_person(self, make: Callable[..., StarNight]) -> None:
        night = make(profile="notebook")
        assert "waits for positions" in reduced(night)

    def test_a_person_is_asked_and_the_answer_is_the_sidecar(self, make: Callable[..., StarNight]) -> None:
        night = make(tables={"align": {"mode": "wait"}})
        reduced(night)
        assert ask.frames_to_ask(night.settings, night.group) == night.names
        answers = {name: "{}, {}".format(*(v + 1 for v in night.position(name))) for name in night.names}
        assert "3 positions" in ask.run(night.settings, night.group, answers)
        assert own(night).read_text().startswith("fname,x,y\nr0743053,")
        assert ask.frames_to_ask(night.settings, night.group) == []
        assert "3 frames are in the stack" in reduced(night)

    def test_an_answer_replaces_what_nightdesk_found_before(self, make: Callable[..., StarNight]) -> None:
        night = make()
        reduced(night)
        waiting = replace(night, tables={"align": {"mode": "wait"}})
        assert ask.frames_to_ask(waiting.settings, waiting.group) == night.names
        answers = {name: "{}, {}".format(*(v + 1 for v in night.position(name))) for name in night.names}
        assert "3 positions" in ask.run(waiting.settings, waiting.group, answers)
        assert ask.frames_to_ask(waiting.settings, waiting.group) == []
        assert "3 frames are in the stack" in reduced(waiting)

    @pytest.mark.parametrize("text", ["9999, 5", "181, 20", "20, 161", "0, 0"])
    def test_an_answer_outside_the_frame_is_not_written(self, make: Callable[..., StarNight], text: str) -> None:
        night = make(tables={"align": {"mode": "wait"}})
        reduced(night)
        with pytest.raises(SetupError, match=r"r0743053: .* lies outside the frame, which is 180 x 160 pixels"):
            ask.run(night.settings, night.group, {night.names[0]: text, night.names[1]: "180, 160"})
        assert not own(night).exists()
        assert ask.frames_to_ask(night.settings, night.group) == night.names

    def test_an_answer_does_not_replace_what_came_meanwhile(self, make: Callable[..., StarNight]) -> None:
        night = make(tables={"align": {"mode": "wait"}})
        night.list_raws()
        own(night).parent.mkdir(parents=True)
        own(night).write_text("fname,x,y\n")
        assert "meanwhile" in ask.run(night.settings, night.group, {night.names[0]: "3, 4"})

    @pytest.mark.parametrize("text", ["12", "a, b", "-3, 4", "1, 2, 3"])
    def test_what_is_no_position_is_refused_by_frame(self, make: Callable[..., StarNight], text: str) -> None:
        night = make(tables={"align": {"mode": "wait"}})
        night.list_raws()
        with pytest.raises(SetupError, match="r0743053"):
            ask.run(night.settings, night.group, {night.names[0]: text})

    def test_nothing_written_is_no_sidecar(self, make: Callable[..., StarNight]) -> None:
        night = make(tables={"align": {"mode": "wait"}})
        night.list_raws()
        assert ask.run(night.settings, night.group, {night.names[0]: None}) == "No position was given."
        with pytest.raises(Waiting):
            find_sidecar.run(night.settings, night.group)

    def test_by_the_wcs_where_stars_do_not_do(self, make: Callable[..., StarNight]) -> None:
        night = make(number=3, tables={"align": {"use_wcs": True, "resample": "subpixel"}})
        reduced(night)
        for index, name in enumerate(night.names):
            header = fits.getheader(night.product("shifted", name))
            assert (header["XSHIFT"], header["YSHIFT"]) == pytest.approx(night.true_shift(index), abs=0.01)

    def test_before_list_frames_it_is_too_early(self, make: Callable[..., StarNight]) -> None:
        with pytest.raises(StaleProduct):
            located(make())


class TestResampling:
    PLACES = (Transform(), Transform(dx=5.5, dy=-3.25), Transform(TURNED.rotation, 1.0, 2.0, 1.0))

    @pytest.mark.parametrize(
        ("how", "ways"),
        [
            ("integer", ["integer", "integer", "integer"]),
            ("subpixel", ["integer", "subpixel", "subpixel"]),
            ("similarity", ["integer", "similarity", "similarity"]),
            ("auto", ["integer", "integer", "similarity"]),
        ],
    )
    def test_the_header_says_what_was_done(self, make: Callable[..., StarNight], how: str, ways: list[str]) -> None:
        night = make(places=self.PLACES, tables={"align": {"resample": how}})
        reduced(night)
        headers = [fits.getheader(night.product("shifted", name)) for name in night.names]
        assert [header["ALIGNWAY"] for header in headers] == ways
        assert all(header["VARCONV"] == "pixel" for header in headers)
        assert all((header["CORRFACT"] > 1) == (way != "integer") for header, way in zip(headers, ways, strict=True))

    @pytest.mark.parametrize("how", ["union", "intersection"])
    def test_a_turned_frame_counts_by_its_corners(self, make: Callable[..., StarNight], how: str) -> None:
        tables = {"align": {"resample": "similarity"}, "combine": {"footprint": how}}
        night = make(places=(Transform(), about_centre(2.5, 20.0, -5.0)), tables=tables)
        reduced(night)
        ny, nx = SHAPE
        corners = night.places[1].inverse().apply([[0, 0], [nx - 1, 0], [nx - 1, ny - 1], [0, ny - 1]])
        low, high = np.minimum(corners.min(axis=0), 0), np.maximum(corners.max(axis=0), (nx - 1, ny - 1))
        header = fits.getheader(night.layout.stack)
        if how == "union":
            assert (header["NAXIS1"], header["NAXIS2"]) == pytest.approx(high - low + 1, abs=1)
            assert (90.5 - header["CRPIX1"], 80.5 - header["CRPIX2"]) == pytest.approx(low, abs=1)
        else:
            assert (fits.getdata(night.layout.stack, "COVERAGE") == 2).all()

    def test_whole_pixels_do_not_hide_a_rotation(self, make: Callable[..., StarNight]) -> None:
        """About the centre nothing moves; the corners do, by 3 pixels."""
        night = make(places=(Transform(), Transform(dx=5.0), about_centre(1.6)), number=40)
        sentence = r'still [1-3]\.\d+ px .* turned by -?1\.[56]\d degrees, .*set \[align\] resample = "auto"'
        with pytest.raises(GroupError, match=sentence):
            reduced(night)
        assert fates(night)[night.names[2]]["residual"] > 1.5
        assert "3 frames are in the stack" in reduced(replace(night, tables={"align": {"resample": "auto"}}))
        assert fates(night)[night.names[2]]["residual"] < 0.3

    def test_a_turned_frame_lies_right_to_its_corners(self, make: Callable[..., StarNight]) -> None:
        from nightdesk.science.match import match_stars
        from nightdesk.science.star import find_stars

        night = make(places=self.PLACES, tables={"align": {"resample": "auto"}})
        reduced(night)
        stars = [find_stars(fits.getdata(night.product("shifted", night.names[k])).astype(float)) for k in (0, 2)]
        match = match_stars(stars[1], stars[0], SHAPE)
        assert match.accepted
        assert max(np.hypot(*match.transform.shift_at(x, y)) for x in (10, 170) for y in (10, 150)) < 0.2

    @pytest.mark.parametrize("how", ["integer", "subpixel", "similarity"])
    def test_the_noise_is_the_predicted_one(self, make: Callable[..., StarNight], how: str) -> None:
        random = np.random.default_rng(4)
        places = (Transform(), *(Transform(dx=dx, dy=dy) for dx, dy in random.uniform(-6, 6, (4, 2))))
        night = make(places=places, shape=(800, 840), number=20, tables={"align": {"resample": how}})
        reduced(night)
        header = fits.getheader(night.layout.stack)
        assert chi_squares(night.layout.stack) == pytest.approx((1.0, 1.0), abs=0.05)
        assert header["NOISERAT"] == pytest.approx(1.0, abs=0.06)  # whole counts are coarse for a MAD
        assert (header["CORRFACT"] > 1) == (how != "integer")


class TestSolving:
    @pytest.fixture
    def solver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Install a solve-field that does what its script says."""

        def install(script: str) -> None:
            folder = tmp_path / "bin"
            folder.mkdir()
            program = folder / "solve-field"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

        return install

    def test_the_solution_lies_beside_the_stack(
        self, make: Callable[..., StarNight], solver: Callable[[str], None]
    ) -> None:
        solver('while [ "$1" != --wcs ]; do shift; done; echo solved > "$2"')
        night = make()
        reduced(night)
        assert night.layout.stack.with_suffix(".wcs").read_text() == "solved\n"

    @pytest.mark.parametrize("script", ["echo no index files >&2; exit 1", "exit 0", "kill -9 $$"])
    def test_its_failure_is_no_failure(
        self, make: Callable[..., StarNight], solver: Callable[[str], None], script: str
    ) -> None:
        solver(script)
        night = make()
        assert "is done" in reduced(night)
        assert not night.layout.stack.with_suffix(".wcs").exists()

    @pytest.mark.parametrize("solve", ["auto", "never"])
    def test_the_solution_of_an_earlier_stack_goes(
        self,
        make: Callable[..., StarNight],
        solver: Callable[[str], None],
        monkeypatch: pytest.MonkeyPatch,
        solve: str,
    ) -> None:
        solver('while [ "$1" != --wcs ]; do shift; done; echo solved > "$2"')
        night = make()
        reduced(night)
        solution = night.layout.stack.with_suffix(".wcs")
        assert solution.exists()
        monkeypatch.setenv("PATH", "")  # no solver any more
        reduced(replace(night, tables={"align": {"solve": solve}, "combine": {"footprint": "union"}}))
        assert not solution.exists()

    def test_it_can_be_left_out(self, make: Callable[..., StarNight], solver: Callable[[str], None]) -> None:
        solver('while [ "$1" != --wcs ]; do shift; done; echo solved > "$2"')
        night = make(tables={"align": {"solve": "never"}})
        reduced(night)
        assert not night.layout.stack.with_suffix(".wcs").exists()


def test_align_alone_takes_what_is_there(make: Callable[..., StarNight]) -> None:
    night = make()
    night.run_to("extinction")
    located(night)
    align.run(night.settings, night.group, night.names)
    assert night.product("shifted", night.names[1]).exists()
