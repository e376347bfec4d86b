"""`combine`: which frames a stack is made of, in which order, and what it says of itself."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import FrameError, FrameLost, GroupError, StaleProduct, Waiting
from nightdesk.science.flag import NO_DATA
from nightdesk.settings import Machine
from nightdesk.steps import align, combine, extinction, isr
from tests.small_night import SmallNight

FIRST, SECOND, THIRD = "r0743053", "r0743054", "r0743055"


def stack_of(night: SmallNight) -> fits.HDUList:
    with fits.open(night.layout.stack, memmap=False) as hdus:
        return fits.HDUList([hdu.copy() for hdu in hdus])


def combined(night: SmallNight, names: list[str] | None = None) -> dict[str, Any]:
    return combine.run(night.settings, night.group, night.names if names is None else names)


def spoil(night: SmallNight, name: str) -> None:
    """Break one raw and reduce the others."""
    night.write_raw(name, EGAIN=None)
    night.list_raws()
    for step in (isr, extinction, align):
        for one in night.names:
            try:
                step.run(night.settings, night.group, [one])
            except (FrameError, FrameLost):
                assert one == name


def test_it_tells_frames_exposure_and_path(night: SmallNight) -> None:
    night.run_to("align")
    assert combined(night) == {
        "frames": 3,
        "exposure": 180.0,
        "path": "processed/NGC5949/R/2026-11-21/combined/combined.fits",
        "left_out": {},
    }


def test_planes_stand_at_their_places(night: SmallNight) -> None:
    night.run_to("align")
    combined(night)
    hdus = stack_of(night)
    assert [hdu.name for hdu in hdus] == ["SCI", "VAR", "DQ", "COVERAGE", "PROVENANCE", "VARCAL", "NREJ"]
    assert [hdu.data.dtype.newbyteorder("=").name for hdu in hdus[:4]] == ["float32", "float32", "uint16", "uint16"]
    assert (hdus[0].header["BUNIT"], hdus[1].header["BUNIT"]) == ("electron", "electron2")


def test_it_is_the_median_of_the_aligned_frames_at_one_sky(night: SmallNight) -> None:
    night = replace(night, tables={"products": {"depth": "float64"}, "combine": {"clip_sigma": 1e6}}).run_to("align")
    combined(night)
    hdus = stack_of(night)
    aligned = [fits.getdata(night.product("shifted", name)) for name in night.names]
    zeros = [hdus[0].header[f"SKYZ{number:04d}"] for number in (1, 2, 3)]
    assert zeros[0] == 0
    levels = [np.median(frame[frame != 0]) for frame in aligned]
    np.testing.assert_allclose(zeros, np.array(levels) - levels[0], atol=8)
    whole = hdus["COVERAGE"].data == 3
    assert whole[4:20, 3:29].all()
    median = np.median([frame - zero for frame, zero in zip(aligned, zeros, strict=True)], axis=0)
    np.testing.assert_allclose(hdus[0].data[whole], median[whole], rtol=1e-12)


def test_the_sky_can_stay_as_it_was(night: SmallNight) -> None:
    tables = {"products": {"depth": "float64"}, "combine": {"clip_sigma": 1e6, "match_sky": False}}
    night = replace(night, tables=tables).run_to("align")
    combined(night)
    hdus = stack_of(night)
    median = np.median([fits.getdata(night.product("shifted", name)) for name in night.names], axis=0)
    whole = hdus["COVERAGE"].data == 3
    np.testing.assert_allclose(hdus[0].data[whole], median[whole], rtol=1e-12)
    assert hdus[0].header["SKYZ0002"] == 0


def test_coverage_counts_the_frames_at_each_pixel(night: SmallNight) -> None:
    night.run_to("align")
    combined(night)
    hdus = stack_of(night)
    coverage = hdus["COVERAGE"].data
    assert (coverage[:2, :].max(), coverage[12, 0], coverage[12, 31]) == (2, 2, 2)
    assert coverage.min() >= 1, "the reference frame covers its own footprint"


def test_where_no_frame_has_data_it_says_so(night: SmallNight) -> None:
    night = replace(night, tables={"combine": {"footprint": "union"}}).run_to("align")
    combined(night)
    hdus = stack_of(night)
    nothing = hdus["COVERAGE"].data == 0
    assert nothing.any()
    assert not hdus[0].data[nothing].any()
    assert not hdus[1].data[nothing].any()
    assert (hdus["DQ"].data[nothing] == NO_DATA).all()


def test_the_header_says_what_the_pixels_mean(night: SmallNight) -> None:
    night.run_to("align")
    combined(night)
    header, clipped = stack_of(night)[0].header, stack_of(night)["NREJ"].data
    assert [header[f"IMCMB{number:03d}"] for number in (1, 2, 3)] == night.names
    assert (header["NCOMBINE"], header["COMBMETH"]) == (3, "median")
    assert (header["EXPTIME"], header["TEXPTIME"]) == (60.0, 180.0)
    assert header["DATE-BEG"] == "2026-11-21T22:00:00.000"
    assert header["DATE-END"] == "2026-11-21T22:03:24.000"
    assert header["DATE-AVG"] == "2026-11-21T22:01:42.000"
    assert "DATE-OBS" not in header
    assert (header["AIRMSTRT"], header["AIRMEND"]) == (1.2, pytest.approx(1.4))
    assert header["AIRMASS"] == pytest.approx(1.3)
    assert (header["GAIN"], header["EGAIN"]) == (1.0, 1.0)
    factors = [10 ** (0.4 * 0.0547 * airmass) for airmass in (1.2, 1.3, 1.4)]
    one = 5.0 * np.sqrt(np.mean(np.square(factors)))
    assert header["RDNOISE"] == pytest.approx(one * np.sqrt(1.3460 / 3), rel=1e-3)
    assert header["NREJ"] == clipped.sum(dtype=int)
    assert 0.5 < header["NOISERAT"] < 1.5
    assert len(header["NDCONF"]) == 64
    assert header["CRPIX1"] == 16.5


def test_provenance_names_every_file_with_its_hash(night: SmallNight) -> None:
    night.run_to("align")
    combined(night)
    rows = stack_of(night)["PROVENANCE"].data
    files = {
        **{f"{name}.fits": night.raw(name) for name in night.names},
        "bias2x2.fits": night.root / "calibs" / "bias2x2.fits",
        "Rflatnorm2x2.fits": night.root / "calibs" / "Rflatnorm2x2.fits",
        "xy.csv": night.sidecar,
    }
    assert list(rows["ROLE"]) == ["science"] * 3 + ["master bias", "master flat", "sidecar"]
    assert list(rows["FILE"]) == list(files)
    assert list(rows["SHA256"]) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files.values()]
    assert rows["SKYZERO"][0] == 0


def test_checksums_hold(night: SmallNight) -> None:
    night.run_to("align")
    combined(night)
    with fits.open(night.layout.stack, checksum=True) as hdus:  # a wrong sum would be a warning, and so an error
        assert all("CHECKSUM" in hdu.header for hdu in hdus)
        hdus.verify("exception")


class TestChoice:
    """Which frames, in which order."""

    def test_the_order_is_the_sidecars(self, night: SmallNight) -> None:
        night.write_sidecar([THIRD, FIRST, SECOND])
        night.run_to("align")
        combined(night)
        header = stack_of(night)[0].header
        assert [header[f"IMCMB{number:03d}"] for number in (1, 2, 3)] == [THIRD, FIRST, SECOND]
        assert header["CRPIX1"] == 16.5 - 1

    def test_use_0_leaves_a_frame_out(self, night: SmallNight) -> None:
        night.write_sidecar(unused=[SECOND])
        night.run_to("align")
        told = combined(night)
        assert told["frames"] == 2
        assert told["left_out"] == {SECOND: "the sidecar leaves it out (use = 0)"}

    def test_a_frame_without_a_row_is_left_out(self, night: SmallNight) -> None:
        night.write_sidecar([FIRST, THIRD])
        night.run_to("extinction")
        with pytest.raises(FrameError):
            align.run(night.settings, night.group, night.names)
        told = combined(night, [FIRST, THIRD])
        assert told["frames"] == 2
        assert "has no row for it" in told["left_out"][SECOND]

    def test_also_when_it_was_never_aligned(self, night: SmallNight) -> None:
        night.write_sidecar([FIRST, THIRD])
        night.run_to("extinction")
        align.run(night.settings, night.group, [FIRST, THIRD])
        assert combined(night)["left_out"] == {SECOND: "the sidecar has no row for it"}

    def test_a_lost_frame_is_left_out_with_its_reason(self, night: SmallNight) -> None:
        spoil(night, SECOND)
        told = combined(night)
        assert told["frames"] == 2
        assert "has no EGAIN" in told["left_out"][SECOND]

    def test_a_frame_whose_tasks_did_not_succeed_is_left_out(self, night: SmallNight) -> None:
        night.run_to("align")
        assert combined(night, [FIRST, THIRD])["left_out"] == {SECOND: "its tasks did not succeed"}

    def test_a_name_that_is_no_frame_of_the_run_is_not_used(self, night: SmallNight) -> None:
        """A run that has shrunk: Airflow still knows the mapped task of a frame that was removed."""
        night.run_to("align")
        night.raw(SECOND).unlink()
        night.list_raws()
        assert combined(night, night.names)["frames"] == 2

    def test_a_product_that_is_not_current_can_be_tried_again(self, night: SmallNight) -> None:
        night.run_to("align")
        night.write_raw(SECOND, AIRMASS=1.9)
        with pytest.raises(StaleProduct, match=f"{SECOND}: its aligned product is not made from"):
            combined(night)

    def test_a_single_frame_needs_no_sidecar(self, tmp_path: Path) -> None:
        night = SmallNight(tmp_path, offsets=((0, 0),)).write()
        night.sidecar.unlink()
        night.run_to("align")
        assert combined(night)["frames"] == 1
        hdus = stack_of(night)
        np.testing.assert_array_equal(hdus[0].data, fits.getdata(night.product("shifted", FIRST)))
        np.testing.assert_allclose(hdus[1].data, fits.getdata(night.product("shifted", FIRST), "VAR"), rtol=1e-6)

    def test_several_frames_without_positions_wait(self, night: SmallNight) -> None:
        night.sidecar.unlink()
        night.run_to("extinction")
        with pytest.raises(Waiting, match="2026-11-21/NGC5949/R waits for positions"):
            combined(night)

    def test_nothing_to_combine_is_told_with_each_frames_reason(self, night: SmallNight) -> None:
        for name in night.names:
            night.write_raw(name, EGAIN=None)
        night.list_raws()
        with pytest.raises(FrameError):
            isr.run(night.settings, night.group, night.names)
        with pytest.raises(GroupError, match="there is no frame to combine") as caught:
            combined(night)
        assert all(name in str(caught.value) for name in night.names)

    def test_a_frame_without_sky_is_lost_and_not_the_group(self, night: SmallNight) -> None:
        night.write_raw(SECOND, np.full(night.shape, np.nan, np.float32))
        night.run_to("align")
        assert combined(night)["frames"] == 2
        assert "sky cannot be measured" in night.layout.failure(SECOND).read_text()


class TestCurrent:
    """A stack that is made from the same frames is left alone."""

    def test_returns_at_once_and_tells_the_same(self, night: SmallNight, monkeypatch: pytest.MonkeyPatch) -> None:
        night.run_to("align")
        told = combined(night)
        before = night.states()
        monkeypatch.setattr(combine, "combine_block", lambda *_, **__: pytest.fail("it was combined again"))
        assert combined(night) == told
        assert night.rewritten(before) == []

    @pytest.mark.parametrize(
        "tables",
        [{"combine": {"method": "mean"}}, {"combine": {"clip_sigma": 3.0}}, {"combine": {"match_sky": False}}],
        ids=["method", "clip", "sky"],
    )
    def test_another_way_of_combining_makes_it_anew(self, night: SmallNight, tables: dict[str, Any]) -> None:
        night.run_to("align")
        combined(night)
        before = night.states()
        combined(replace(night, tables=tables))
        assert night.rewritten(before) == ["combined/combined.fits"]

    def test_fewer_frames_make_it_anew(self, night: SmallNight) -> None:
        night.run_to("align")
        combined(night)
        before = night.states()
        assert combined(night, [FIRST, THIRD])["frames"] == 2
        assert night.rewritten(before) == ["combined/combined.fits"]


@pytest.mark.parametrize("profile", ["standard", "notebook"])
def test_blocks_of_rows_give_the_same_stack(night: SmallNight, monkeypatch: pytest.MonkeyPatch, profile: str) -> None:
    night = replace(night, profile=profile)
    night.run_to("align")
    combined(night)
    whole = night.layout.stack.read_bytes()
    night.layout.stack.unlink()
    blocks = [slice(0, 5), slice(5, 17), slice(17, night.shape[0])]
    monkeypatch.setattr(Machine, "blocks", lambda *_, **__: blocks)
    combined(night)
    assert night.layout.stack.read_bytes() == whole


def test_the_notebooks_stack_has_the_references_header_in_both_hdus(night: SmallNight) -> None:
    night = replace(night, profile="notebook")
    night.write_sidecar([THIRD, FIRST, SECOND])
    night.run_to("align")
    combined(night)
    hdus = stack_of(night)
    assert len(hdus) == 2
    for hdu in hdus:
        assert (hdu.header["CRPIX1"], hdu.header["AIRMASS"]) == (15.5, pytest.approx(1.4))
        assert hdu.data.dtype.newbyteorder("=").name == "float64"
