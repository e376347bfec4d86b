"""`align`: whole pixels onto the reference's grid, nothing wrapped, and one WCS for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import FrameError, FrameLost, SetupError, StaleProduct
from nightdesk.science.flag import NO_DATA
from nightdesk.steps import align, batch, extinction, isr
from tests.small_night import CRPIX, SmallNight

FIRST, SECOND, THIRD = "r0743053", "r0743054", "r0743055"


@pytest.fixture
def night(night: SmallNight) -> SmallNight:
    """The small night, with products that lose no bit."""
    return replace(night, tables={"products": {"depth": "float64"}})


def planes_of(night: SmallNight, name: str, step: str = "shifted") -> dict[str, Any]:
    with fits.open(night.product(step, name)) as hdus:
        return {hdu.name: np.array(hdu.data, dtype=hdu.data.dtype.newbyteorder("=")) for hdu in hdus}


def header_of(night: SmallNight, name: str) -> fits.Header:
    return fits.getheader(night.product("shifted", name))


def brightest(image: Any) -> tuple[int, int]:
    row, column = np.unravel_index(np.argmax(image), image.shape)
    return int(column), int(row)


def reference_pixel(night: SmallNight, name: str) -> tuple[float, float]:
    header = header_of(night, name)
    return header["CRPIX1"], header["CRPIX2"]


def footprint(night: SmallNight, how: str) -> SmallNight:
    return replace(night, tables={**night.tables, "combine": {"footprint": how}})


@pytest.mark.parametrize(("name", "dx", "dy"), [(FIRST, 0, 0), (SECOND, -3, 2), (THIRD, 1, -4)])
def test_the_overlap_is_copied_and_the_rest_is_no_data(night: SmallNight, name: str, dx: int, dy: int) -> None:
    night.run_to("align")
    before, after = planes_of(night, name, "extinction"), planes_of(night, name)
    ny, nx = night.shape
    here = slice(max(-dy, 0), ny - max(dy, 0)), slice(max(-dx, 0), nx - max(dx, 0))
    there = slice(max(dy, 0), ny + min(dy, 0)), slice(max(dx, 0), nx + min(dx, 0))
    outside = np.ones(night.shape, bool)
    outside[there] = False
    assert outside.sum() == abs(dx) * ny + abs(dy) * nx - abs(dx * dy)
    for plane in ("SCI", "VAR", "VARCAL"):
        np.testing.assert_array_equal(after[plane][there], before[plane][here])
        assert not after[plane][outside].any()
    assert (after["DQ"][outside] == NO_DATA).all()
    assert not after["DQ"][there].any()


def test_the_star_is_at_one_place_in_every_frame(night: SmallNight) -> None:
    night.run_to("align")
    x, y = night.star
    for name in night.names:
        assert brightest(planes_of(night, name)["SCI"]) == (x, y)
        header = header_of(night, name)
        assert header["XSHIFT"] == x - night.position(name)[0]
        assert header["YSHIFT"] == y - night.position(name)[1]


@pytest.mark.parametrize(
    ("x", "shift"),
    [("15", 0), ("14.5", 1), ("14.51", 0), ("15.5", 0), ("15.51", -1), ("12.49", 3), ("17.6", -3)],
)
def test_a_decimal_shift_is_rounded_half_upwards(night: SmallNight, x: str, shift: int) -> None:
    night.write_rows(["fname, x, y", f"{FIRST}, 15, 12", f"{SECOND}.fits, {x}, 12", f"{THIRD}, 15, 12"])
    night.run_to("align")
    assert (header_of(night, SECOND)["XSHIFT"], header_of(night, SECOND)["YSHIFT"]) == (shift, 0)


def test_positions_count_from_the_configured_origin(night: SmallNight) -> None:
    """Only differences count, so that the origin matters to what lies outside the frame alone."""
    night.write_rows(["fname,x,y", f"{FIRST},0,0", f"{SECOND},3,1", f"{THIRD},0,0"])
    from_zero = replace(night, tables={"sidecar": {"origin": 0}})
    assert header_of(from_zero.run_to("align"), SECOND)["XSHIFT"] == -3


@pytest.mark.parametrize(("how", "moved"), [("union", (3, 4)), ("intersection", (-1, -2))])
def test_the_place_on_the_detector_follows_the_grid_without_a_wcs(
    night: SmallNight, how: str, moved: tuple[int, int]
) -> None:
    wcs = dict.fromkeys([key for key in night.header(FIRST) if key[:2] in ("CR", "CT", "CD", "CU")])
    for name in night.names:
        night.write_raw(name, LTV1=-8.0, LTV2=-6.0, **wcs)
    header = header_of(footprint(night, how).run_to("align"), SECOND)
    assert "CRPIX1" not in header
    assert (header["LTV1"] + 8, header["LTV2"] + 6) == moved


class TestReference:
    """The first used row is the origin of the grid, and its frame gives the WCS while it is good."""

    def test_every_frame_gets_its_wcs_unchanged(self, night: SmallNight) -> None:
        night.write_sidecar([SECOND, FIRST, THIRD])
        night.run_to("align")
        dx, dy = night.offsets[1]
        for name in night.names:
            assert reference_pixel(night, name) == (CRPIX[0] + dx, CRPIX[1] + dy)
            header = header_of(night, name)
            assert (header["CRVAL1"], header["CD1_1"], header["CTYPE2"]) == (232.0, -2e-4, "DEC--TAN")

    def test_an_unused_row_is_no_reference(self, night: SmallNight) -> None:
        night.write_sidecar([FIRST, SECOND, THIRD], unused=[FIRST])
        night.run_to("align")
        assert header_of(night, SECOND)["XSHIFT"] == 0
        assert header_of(night, THIRD)["XSHIFT"] == 4
        assert not night.product("shifted", FIRST).exists()

    def test_its_position_stays_the_origin_when_it_is_bad(self, night: SmallNight) -> None:
        """The WCS then is the first good frame's, moved as that frame was moved: the same place in the sky."""
        night.run_to("align")
        good = {name: (planes_of(night, name)["SCI"], reference_pixel(night, name)) for name in (SECOND, THIRD)}
        night.write_raw(FIRST, EGAIN=None)
        night.list_raws()
        with pytest.raises(FrameError):
            isr.run(night.settings, night.group, night.names)
        for step in (extinction, align):
            step.run(night.settings, night.group, night.names)
        for name, (data, crpix) in good.items():
            np.testing.assert_array_equal(planes_of(night, name)["SCI"], data)
            assert reference_pixel(night, name) == crpix == CRPIX
        assert header_of(night, THIRD)["CRVAL1"] == 232.0

    def test_frames_without_a_wcs_get_none(self, night: SmallNight) -> None:
        for name in night.names:
            night.write_raw(name, CRPIX1=None, CRPIX2=None, CRVAL1=None, CRVAL2=None, CTYPE1=None, CTYPE2=None)
        night.run_to("align")
        assert "CRPIX1" not in header_of(night, SECOND)

    def test_a_frames_own_wcs_leaves_nothing_behind(self, night: SmallNight) -> None:
        night.write_raw(SECOND, A_ORDER=2, A_0_2=1e-5, PV1_1=3.0, LONPOLE=180.0, WCSNAME="own")
        night.run_to("align")
        left = {"A_ORDER", "A_0_2", "PV1_1", "LONPOLE", "WCSNAME"} & set(header_of(night, SECOND))
        assert left == set()

    def test_of_the_distortion_too(self, night: SmallNight) -> None:
        night.write_raw(FIRST, A_ORDER=2, A_0_2=1e-5)
        night.run_to("align")
        assert header_of(night, THIRD)["A_0_2"] == 1e-5


class TestFootprint:
    """Grids that add or cut columns and rows move CRPIX by what they add or cut, once."""

    @pytest.mark.parametrize(
        ("how", "shape", "left", "bottom"),
        [("first", (24, 32), 0, 0), ("union", (30, 36), 3, 4), ("intersection", (18, 28), -1, -2)],
    )
    def test_shape_and_wcs(self, night: SmallNight, how: str, shape: tuple[int, int], left: int, bottom: int) -> None:
        for name in night.names:
            night.write_raw(name, LTV1=0.0, LTV2=-8.0)
        night = footprint(night, how).run_to("align")
        for name in night.names:
            planes = planes_of(night, name)
            assert planes["SCI"].shape == planes["DQ"].shape == shape
            assert reference_pixel(night, name) == (CRPIX[0] + left, CRPIX[1] + bottom)
            header = header_of(night, name)
            assert (header["LTV1"], header["LTV2"]) == (left, -8.0 + bottom)
            assert brightest(planes["SCI"]) == (night.star[0] + left, night.star[1] + bottom)

    def test_the_union_loses_no_pixel(self, night: SmallNight) -> None:
        night = footprint(night, "union").run_to("align")
        for name in night.names:
            assert np.count_nonzero(planes_of(night, name)["DQ"] == 0) == 24 * 32
            assert planes_of(night, name)["SCI"].sum() == pytest.approx(
                planes_of(night, name, "extinction")["SCI"].sum()
            )

    def test_the_intersection_has_no_empty_pixel(self, night: SmallNight) -> None:
        night = footprint(night, "intersection").run_to("align")
        assert not any(planes_of(night, name)["DQ"].any() for name in night.names)

    def test_frames_that_do_not_overlap_are_told(self, night: SmallNight) -> None:
        night.write_rows(["fname,x,y", f"{FIRST},0.6,12", f"{SECOND},32.4,12", f"{THIRD},16,12"])
        night = footprint(night, "intersection").run_to("extinction")
        with pytest.raises(SetupError, match="The frames have no pixel in common: check the positions"):
            align.run(night.settings, night.group, night.names)

    def test_another_wcs_in_the_header_moves_too(self, night: SmallNight) -> None:
        night.write_raw(FIRST, CTYPE1A="LINEAR", CRPIX1A=1.0, CRPIX2A=1.0)
        night = footprint(night, "union").run_to("align")
        header = header_of(night, THIRD)
        assert (header["CRPIX1A"], header["CRPIX2A"]) == (4.0, 5.0)


class TestLeftOut:
    """Frames that the sidecar does not place."""

    def test_one_without_a_row_is_lost_with_advice_after_the_others_are_written(self, night: SmallNight) -> None:
        night.write_sidecar([FIRST, THIRD])
        night.run_to("extinction")
        sentence = rf"{SECOND}: xys/NGC5949/R/xy\.csv has no row for it\. Add one, or add a column use with 0"
        with pytest.raises(FrameError, match=sentence):
            align.run(night.settings, night.group, night.names)
        assert night.product("shifted", THIRD).exists()

    def test_one_with_use_0_is_passed_over_in_silence(self, night: SmallNight) -> None:
        night.write_sidecar(unused=[SECOND])
        night.run_to("align")
        assert not night.product("shifted", SECOND).exists()
        align.run(night.settings, night.group, [SECOND])

    def test_one_lost_earlier_is_not_lost_twice(self, night: SmallNight) -> None:
        night.write_raw(SECOND, EGAIN=None)
        night.list_raws()
        with pytest.raises(FrameError):
            isr.run(night.settings, night.group, night.names)
        extinction.run(night.settings, night.group, night.names)
        with pytest.raises(FrameLost, match=f"{SECOND} was lost in isr"):
            align.run(night.settings, night.group, [SECOND])

    def test_a_row_that_was_forgotten_and_is_added_is_enough(self, night: SmallNight) -> None:
        night.write_sidecar([FIRST, THIRD])
        night.run_to("extinction")
        with pytest.raises(FrameError):
            align.run(night.settings, night.group, night.names)
        before = night.states()
        night.write_sidecar()
        align.run(night.settings, night.group, night.names)
        assert night.rewritten(before) == [f"shifted/{SECOND}.fits"]


class TestCurrent:
    """What is aligned as the sidecar has it is left alone."""

    def test_returns_at_once(self, night: SmallNight, monkeypatch: pytest.MonkeyPatch) -> None:
        before = night.run_to("align").states()
        assert len(before) == 9
        monkeypatch.setattr(batch, "open_frame", lambda *_: pytest.fail("a frame was read"))
        assert night.run_to("align").rewritten(before) == []

    def test_another_position_of_one_frame_redoes_that_one(self, night: SmallNight) -> None:
        before = night.run_to("align").states()
        lines = night.sidecar.read_text().split()
        night.write_rows([*lines[:2], f"{SECOND},20,12,1", lines[3]])
        assert night.run_to("align").rewritten(before) == [f"shifted/{SECOND}.fits"]

    def test_the_same_positions_written_anew_redo_nothing(self, night: SmallNight) -> None:
        before = night.run_to("align").states()
        night.write_rows([line.replace(",", " ,  ") for line in night.sidecar.read_text().split()])
        assert night.run_to("align").rewritten(before) == []

    def test_another_reference_redoes_all(self, night: SmallNight) -> None:
        before = night.run_to("align").states()
        night.write_sidecar([THIRD, FIRST, SECOND])
        assert len(night.run_to("align").rewritten(before)) == 3

    def test_a_predecessor_that_is_not_current_can_be_tried_again(self, night: SmallNight) -> None:
        night.run_to("isr")
        with pytest.raises(StaleProduct, match=r"extinction/r0743053\.fits is missing or not made from"):
            align.run(night.settings, night.group, night.names)


class TestNotebookProfile:
    """The notebook rolls: edges wrap around, decimals are cut off, headers are the frame's own."""

    @pytest.mark.parametrize(
        ("x", "y", "dx", "dy"),
        [("13", "15", 2, -3), ("12.01", "14.99", 2, -2), ("15.9", "12.9", 0, 0)],
        ids=["whole", "decimal", "below one"],
    )
    def test_it_rolls(self, night: SmallNight, x: str, y: str, dx: int, dy: int) -> None:
        night = replace(night, profile="notebook", tables={})
        night.write_rows(["fname,x,y", f"{FIRST},15,12", f"{SECOND},{x},{y}", f"{THIRD},15,12"])
        night.run_to("align")
        with (
            fits.open(night.product("extinction", SECOND)) as before,
            fits.open(night.product("shifted", SECOND)) as after,
        ):
            for hdu in (0, 1):
                rolled = np.roll(np.roll(before[hdu].data, dx, axis=1), dy, axis=0)
                np.testing.assert_array_equal(after[hdu].data, rolled)
            assert after[0].header["CRPIX1"] == CRPIX[0] + night.offsets[1][0]
            assert len(after) == 2


def test_of_a_batch_that_failed_for_one_frame_the_others_are_known(night: SmallNight) -> None:
    night.write_sidecar([FIRST, THIRD])
    with pytest.raises(FrameError, match=SECOND):
        night.run_to("align")
    assert batch.aligned_of(night.settings, night.group, night.names) == [FIRST, THIRD]
    night.product("shifted", THIRD).unlink()
    assert batch.aligned_of(night.settings, night.group, night.names) == [FIRST]
