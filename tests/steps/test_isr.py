"""`isr`: the arithmetic of one frame in its file, what makes a frame bad, and when there is nothing to do."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import FrameError, SetupError, StaleProduct
from nightdesk.science.flag import BAD_PIXEL, NO_DATA, SATURATED, UNILLUMINATED
from nightdesk.steps import isr
from tests.small_night import GAIN, READ_NOISE, SmallNight

BAD = "r0743054"
GOOD = ("r0743053", "r0743055")


def planes_of(path: Path) -> dict[str, Any]:
    with fits.open(path) as hdus:
        return {hdu.name: np.array(hdu.data, dtype=hdu.data.dtype.newbyteorder("=")) for hdu in hdus}


def header_of(night: SmallNight, name: str) -> fits.Header:
    return fits.getheader(night.product("postISR", name))


def exact(night: SmallNight, **tables: Any) -> SmallNight:
    """The same night with products that lose no bit."""
    return replace(night, tables={"products": {"depth": "float64"}, **night.tables, **tables})


def expected(night: SmallNight, name: str, *, dark: float = 0.0, dark_variance: float = 0.0) -> tuple[Any, Any, Any]:
    """The formulae of one frame, written down once more: SCI, VAR and VARCAL after bias, dark (e-) and flat."""
    level = np.median(night.flat.astype(float))
    flat, flat_variance = night.flat / level, float(np.float32(1e-6)) / level**2
    signal = (night.pixels(name) - night.bias.astype(float)) * GAIN - dark
    independent = (np.maximum(signal + dark, 0) + READ_NOISE**2) / flat**2
    shared = (GAIN**2 * float(np.float32(0.4)) + dark_variance) / flat**2 + (signal / flat**2) ** 2 * flat_variance
    return signal / flat, independent + shared, shared


def test_signal_and_variances_follow_the_formulae(night: SmallNight) -> None:
    night = exact(night).run_to("isr")
    for name in night.names:
        planes = planes_of(night.product("postISR", name))
        data, variance, shared = expected(night, name)
        np.testing.assert_allclose(planes["SCI"], data, rtol=1e-12)
        np.testing.assert_allclose(planes["VAR"], variance, rtol=1e-12)
        np.testing.assert_allclose(planes["VARCAL"], shared, rtol=1e-12)
        assert not planes["DQ"].any()


def test_planes_stand_at_their_places_in_their_types(night: SmallNight) -> None:
    night.run_to("isr")
    with fits.open(night.product("postISR", "r0743053")) as hdus:
        assert [hdu.name for hdu in hdus] == ["SCI", "VAR", "DQ", "VARCAL"]
        assert [hdu.data.dtype.name for hdu in hdus] == ["float32", "float32", "uint16", "float32"]
        assert [hdu.header.get("BUNIT") for hdu in hdus] == ["electron", "electron2", None, "electron2"]
        assert (hdus["DQ"].header["MSKN0000"], hdus["DQ"].header["MSKM0000"]) == ("bad pixel", 1)


def test_the_header_says_what_was_done(night: SmallNight) -> None:
    night.run_to("isr")
    header = header_of(night, "r0743053")
    assert (header["EGAIN"], header["NDGAIN"], header["RDNOISE"], header["RDNSRC"]) == (1.0, GAIN, 5.0, "RDNOISE")
    assert (header["BIASCOR"], header["BIASFIL"]) == (True, "calibs/bias2x2.fits")
    assert (header["FLATCOR"], header["FLATFIL"]) == (True, "calibs/Rflatnorm2x2.fits")
    assert header["DARKCOR"] is False
    assert "DARKFIL" not in header
    assert header["NOISECAL"] is True
    assert any("ISR: bias, flat; gain 2.1 e-/ADU, read noise 5 e- (RDNOISE)." in line for line in header["HISTORY"])
    assert (header["OBJECT"], header["CRPIX1"]) == ("NGC5949", 16.5)


def test_masters_without_variance_are_told(night: SmallNight) -> None:
    night.write_master("bias2x2.fits", night.bias)
    night.run_to("isr")
    assert header_of(night, "r0743053")["NOISECAL"] is False


def test_no_flat_is_told_in_the_header(night: SmallNight) -> None:
    night = exact(night, filters={"R": {"extinction": 0.0547, "flat": "none"}}).run_to("isr")
    header = header_of(night, "r0743053")
    assert header["FLATCOR"] is False
    assert any("no flat (the configuration says so)" in line for line in header["HISTORY"])
    data = planes_of(night.product("postISR", "r0743053"))["SCI"]
    np.testing.assert_allclose(data, (night.pixels("r0743053") - night.bias.astype(float)) * GAIN, rtol=1e-12)


def test_a_flat_is_normalised_when_it_is_read(night: SmallNight) -> None:
    night.write_master("Rflatnorm2x2.fits", night.flat * 23000, np.full(night.shape, 1e-6 * 23000**2, np.float32))
    night = exact(night).run_to("isr")
    data, variance, _ = expected(night, "r0743053")
    planes = planes_of(night.product("postISR", "r0743053"))
    np.testing.assert_allclose(planes["SCI"], data, rtol=1e-6)
    np.testing.assert_allclose(planes["VAR"], variance, rtol=1e-6)


def test_a_dark_without_bias_scales_with_the_exposure(night: SmallNight) -> None:
    dark = np.full(night.shape, 8.0, np.float32)
    night.write_master("dark2x2.fits", dark, np.full(night.shape, 0.5, np.float32), EXPTIME=120.0, DARKBIAS=False)
    night = exact(night).run_to("isr")
    scale = 60 / 120 * GAIN
    data, variance, shared = expected(night, "r0743053", dark=8.0 * scale, dark_variance=0.5 * scale**2)
    planes = planes_of(night.product("postISR", "r0743053"))
    np.testing.assert_allclose(planes["SCI"], data, rtol=1e-12)
    np.testing.assert_allclose(planes["VAR"], variance, rtol=1e-12)
    np.testing.assert_allclose(planes["VARCAL"], shared, rtol=1e-12)
    assert header_of(night, "r0743053")["DARKBIAS"] is False


@pytest.mark.parametrize("with_bias", [True, False], ids=["beside a master bias", "alone"])
def test_with_a_dark_that_contains_the_bias_no_bias_is_subtracted(night: SmallNight, with_bias: bool) -> None:
    night.write_master("dark2x2.fits", night.bias + 8, EXPTIME=60.2, DARKBIAS=True)
    if not with_bias:
        (night.root / "calibs" / "bias2x2.fits").unlink()
    night = exact(night).run_to("isr")
    raw = night.pixels("r0743053").astype(float)
    level = np.median(night.flat.astype(float))
    planes = planes_of(night.product("postISR", "r0743053"))
    np.testing.assert_allclose(planes["SCI"], (raw - night.bias - 8) * GAIN / (night.flat / level), rtol=1e-12)
    header = header_of(night, "r0743053")
    assert (header["DARKBIAS"], header["BIASCOR"], header["NOISECAL"]) == (True, with_bias, False)


@pytest.mark.parametrize(
    ("cards", "sentence"),
    [
        (
            {"EXPTIME": 30.0, "DARKBIAS": True},
            r"contains the bias .* cannot be scaled from 30 s to the 60 s of the frames.* dark = \"none\"",
        ),
        ({"DARKBIAS": False}, r"calibs/dark2x2\.fits: the master dark has no EXPTIME\. Write its exposure time"),
        ({"EXPTIME": 0.0, "DARKBIAS": False}, "has no EXPTIME"),
    ],
    ids=["bias within, another exposure", "no exposure", "no time at all"],
)
def test_a_dark_that_does_not_fit_stops_the_group(night: SmallNight, cards: dict[str, Any], sentence: str) -> None:
    night.write_master("dark2x2.fits", night.bias, **cards)
    with pytest.raises(SetupError, match=sentence):
        night.run_to("isr")


def overwrite(night: SmallNight, content: bytes) -> None:
    night.raw(BAD).write_bytes(content)


def cut(night: SmallNight) -> None:
    overwrite(night, night.raw(BAD).read_bytes()[:-2880])


def cut_header(night: SmallNight) -> None:
    overwrite(night, night.raw(BAD).read_bytes()[:1000])


def hdus(*images: Any) -> Callable[[SmallNight], None]:
    def write(night: SmallNight) -> None:
        primary = fits.PrimaryHDU(header=night.header(BAD))
        fits.HDUList([primary, *images]).writeto(night.raw(BAD), overwrite=True)

    return write


def image(*shape: int) -> fits.ImageHDU:
    return fits.ImageHDU(np.ones(shape, np.int16))


def header_change(**changes: Any) -> Callable[[SmallNight], Path]:
    return lambda night: night.write_raw(BAD, **changes)


def pixels(*shape: int) -> Callable[[SmallNight], Path]:
    return lambda night: night.write_raw(BAD, np.ones(shape, np.uint16))


def broken_card(night: SmallNight) -> None:
    """EXPTIME as a camera wrote it in a country of decimal commas."""
    content = night.raw(BAD).read_bytes()
    start = content.index(b"EXPTIME =")
    overwrite(night, content[:start] + b"EXPTIME = 3,2,1E-05".ljust(80) + content[start + 80 :])


def gone(night: SmallNight) -> None:
    night.raw(BAD).unlink()


def table_only(night: SmallNight) -> None:
    hdus(fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])]))(night)


LISTED_FIRST = {"gone", "its header lost its END", "not FITS any more", "empty", "another target now", "a bias now"}
FAULTS: dict[str, tuple[Callable[[SmallNight], object], str]] = {
    "truncated": (cut, r"cut short: [\d,]+ bytes, at least [\d,]+ fewer than its headers say\. Copy it again"),
    "wrong shape": (pixels(24, 30), r"it is 30 x 24 pixels, the group's other frames are 32 x 24\. Remove it"),
    "no EGAIN": (
        header_change(EGAIN=None),
        r"the header has no EGAIN \(gain, e-/ADU\)\. Mend the header, or give gain",
    ),
    "EGAIN is text": (header_change(EGAIN="high"), r"EGAIN = 'high' is not a number .*Mend the header"),
    "EGAIN is a switch": (header_change(EGAIN=True), "EGAIN = True is not a number"),
    "EGAIN is 0": (header_change(EGAIN=0.0), r"EGAIN = 0\.0 cannot be the gain, e-/ADU, which is above 0"),
    "EGAIN is vast": (header_change(EGAIN=1e200), r"EGAIN = 1e\+200 is beyond all bounds \(gain, e-/ADU\)"),
    "EGAIN is blank": (header_change(EGAIN="  "), "the header has no EGAIN"),
    "no AIRMASS": (header_change(AIRMASS=None), r"the header has no AIRMASS \(airmass\)"),
    "AIRMASS is text": (header_change(AIRMASS="low"), "AIRMASS = 'low' is not a number"),
    "AIRMASS below 1": (header_change(AIRMASS=0.4), r"AIRMASS = 0\.4 cannot be the airmass, which is at least 1"),
    "no EXPTIME": (header_change(EXPTIME=None), "the header has no EXPTIME or EXPOSURE"),
    "EXPTIME is text": (header_change(EXPTIME="long"), "EXPTIME = 'long' is not a number"),
    "EXPTIME is vast": (
        header_change(EXPTIME=1e14, RA="06:09:23", DEC="+34:09:11"),
        r"EXPTIME = 1(e\+14|0{14}\.0) is beyond all bounds \(exposure time, s\)",
    ),
    "EXPTIME is no FITS value": (broken_card, "EXPTIME = '3,2,1E-05' is not a number"),
    "read noise is vast": (header_change(RDNOISE=1e200), r"RDNOISE = 1e\+200 is beyond all bounds \(read noise, e-\)"),
    "read noise is negative": (header_change(RDNOISE=-1.0), r"RDNOISE = -1\.0 cannot be the read noise"),
    "three axes": (pixels(2, 24, 32), r"axes \(2, 24, 32\).*which is not two-dimensional\. Remove it"),
    "a colour image": (pixels(3, 24, 32), "which is a colour image"),
    "one axis": (pixels(768), r"axes \(768,\).*not two-dimensional"),
    "a colour mosaic": (header_change(BAYERPAT="RGGB"), "BAYERPAT = 'RGGB' says that it is a colour mosaic"),
    "several images": (hdus(image(24, 32), image(24, 32)), r"it holds 2 images; say which by extension = \(number\)"),
    "no image": (table_only, "it holds no image"),
    "gone": (gone, "its raw file is gone. Clear the whole run"),
    "its header lost its END": (cut_header, "its header is cut short"),
    "not FITS any more": (lambda night: overwrite(night, b"hello" * 2000), "it is not a FITS file"),
    "empty": (lambda night: overwrite(night, b""), "its header is cut short"),
    "another target now": (
        header_change(OBJECT="M31"),
        r"its header now says 2026-11-21/M31/R, not 2026-11-21/NGC5949/R",
    ),
    "a bias now": (header_change(IMAGETYP="bias"), "its header now says bias"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_frame_is_named_and_the_others_are_written(night: SmallNight, fault: str) -> None:
    spoil, sentence = FAULTS[fault]
    if fault in LISTED_FIRST:
        night.list_raws()
        spoil(night)
    else:
        spoil(night)
        night.list_raws()
    with pytest.raises(FrameError, match=sentence) as caught:
        isr.run(night.settings, night.group, night.names)
    assert BAD in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert not night.product("postISR", BAD).exists()
    assert all(night.product("postISR", name).exists() for name in GOOD)
    loss = json.loads(night.layout.failure(BAD).read_text())
    assert (loss["frame"], loss["step"], loss["reason"]) == (BAD, "isr", str(caught.value))


def test_too_many_pixels_are_not_read(night: SmallNight) -> None:
    night.write_raw(BAD, np.zeros((48, 64), np.uint16))
    small = replace(night, tables={"instruments": {"pt5m": {"max_pixels": 1000}}})
    small.list_raws()
    with pytest.raises(FrameError, match="NAXIS1 x NAXIS2 = 64 x 48 is more than max_pixels = 1000") as caught:
        isr.run(small.settings, small.group, small.names)
    assert "raise max_pixels" in str(caught.value)
    assert all(small.product("postISR", name).exists() for name in GOOD)


def test_a_header_that_promises_a_vast_image_costs_neither_time_nor_memory(night: SmallNight) -> None:
    content = night.raw(BAD).read_bytes()
    for axis in (b"NAXIS1", b"NAXIS2"):
        start = content.index(axis)
        content = content[:start] + (axis.ljust(8) + b"= 1000000000").ljust(80) + content[start + 80 :]
    overwrite(night, content)
    night.list_raws()
    with pytest.raises(FrameError, match="cut short"):
        isr.run(night.settings, night.group, night.names)


def test_a_header_that_promises_a_billion_axes_is_left_out_at_once(night: SmallNight) -> None:
    content = night.raw(BAD).read_bytes()
    start = content.index(b"NAXIS ")
    overwrite(night, content[:start] + b"NAXIS   = 999999999".ljust(80) + content[start + 80 :])
    assert night.list_raws() == [[name] for name in GOOD]


def test_several_bad_frames_of_a_batch_are_all_named_after_the_good_ones(night: SmallNight) -> None:
    cut(night)
    night.write_raw("r0743053", EGAIN=None)
    night.list_raws()
    with pytest.raises(FrameError, match=r"r0743053\.fits: the header has no EGAIN.*r0743054\.fits: it is cut short"):
        isr.run(night.settings, night.group, night.names)
    assert night.product("postISR", "r0743055").exists()


def test_a_card_that_nobody_asks_for_may_be_broken(night: SmallNight) -> None:
    content = night.raw(BAD).read_bytes()
    start = content.index(b"INSTRUME=")
    overwrite(night, content[:start] + b"INSTRUME= 'half a te\xe9".ljust(80) + content[start + 80 :])
    night.run_to("isr")
    assert night.product("postISR", BAD).exists()


class TestFlags:
    """Which pixels are flagged, and what they hold."""

    def planes(self, night: SmallNight, name: str = "r0743053") -> dict[str, Any]:
        planes = planes_of(exact(night).run_to("isr").product("postISR", name))
        for plane in ("SCI", "VAR", "VARCAL"):
            assert np.isfinite(planes[plane]).all()
        assert (planes["VAR"] >= planes["VARCAL"]).all()
        assert (planes["VARCAL"] >= 0).all()
        return planes

    def test_nan_and_infinity_are_no_data(self, night: SmallNight) -> None:
        image = night.pixels("r0743053").astype(np.float32)
        image[2, 3], image[4, 5], image[6, 7] = np.nan, np.inf, -np.inf
        night.write_raw("r0743053", image)
        planes = self.planes(night)
        where = planes["DQ"] == NO_DATA
        assert sorted(zip(*np.nonzero(where), strict=True)) == [(2, 3), (4, 5), (6, 7)]
        assert not planes["DQ"][~where].any()
        assert not planes["SCI"][where].any()
        assert not planes["VAR"][where].any()

    def test_blank_is_no_data(self, night: SmallNight) -> None:
        image = night.pixels("r0743053").astype(np.int16)
        image[2, 3] = -32768
        hdu = fits.PrimaryHDU(image, night.header("r0743053"))
        hdu.header["BLANK"] = -32768
        hdu.writeto(night.raw("r0743053"), overwrite=True)
        planes = self.planes(night)
        assert list(zip(*np.nonzero(planes["DQ"]), strict=True)) == [(2, 3)]
        assert planes["DQ"][2, 3] == NO_DATA

    def test_saturation_where_a_limit_is_set(self, night: SmallNight) -> None:
        image = night.pixels("r0743053")
        image[2, 3], image[4, 5], image[6, 7] = 60000, 59999, 65535
        night.write_raw("r0743053", image)
        flags = self.planes(night)["DQ"]  # without a limit, what the file's numbers cannot exceed
        assert list(zip(*np.nonzero(flags), strict=True)) == [(6, 7)]
        assert flags[6, 7] == SATURATED
        limit = replace(night, tables={"instruments": {"pt5m": {"keywords": {"saturation": 60000}}}})
        flags = self.planes(limit)["DQ"]
        assert sorted(zip(*np.nonzero(flags == SATURATED), strict=True)) == [(2, 3), (6, 7)]

    def test_a_flat_that_is_zero_low_negative_or_nan_is_not_divided_by(self, night: SmallNight) -> None:
        flat = night.flat
        flat[0, 0], flat[0, 1], flat[0, 2], flat[0, 3], flat[0, 4] = 0.0, 0.19, -1.0, np.nan, 0.21
        night.write_master("Rflatnorm2x2.fits", flat, np.full(night.shape, 1e-6, np.float32))
        planes = self.planes(night)
        assert planes["DQ"][0, :5].tolist() == [UNILLUMINATED, UNILLUMINATED, UNILLUMINATED, BAD_PIXEL, 0]
        assert not planes["DQ"][1:].any()
        electrons = (night.pixels("r0743053") - night.bias.astype(float)) * GAIN
        np.testing.assert_allclose(planes["SCI"][0, :4], electrons[0, :4], rtol=1e-12)

    def test_the_flats_limit_is_a_setting(self, night: SmallNight) -> None:
        flat = night.flat
        flat[0, 0] = 0.4
        night.write_master("Rflatnorm2x2.fits", flat)
        assert not self.planes(night)["DQ"].any()
        assert self.planes(replace(night, tables={"calibs": {"flat_limit": 0.5}}))["DQ"][0, 0] == UNILLUMINATED

    def test_a_bias_that_is_no_number_is_no_data(self, night: SmallNight) -> None:
        bias = night.bias
        bias[3, 3] = np.nan
        night.write_master("bias2x2.fits", bias)
        assert self.planes(night)["DQ"][3, 3] == NO_DATA | BAD_PIXEL

    def test_negative_signal_keeps_its_read_noise(self, night: SmallNight) -> None:
        image = night.pixels("r0743053")
        image[5, 5] = 0
        night.write_raw("r0743053", image)
        planes = self.planes(night)
        assert planes["SCI"][5, 5] < 0
        level = np.median(night.flat.astype(float))
        assert planes["VAR"][5, 5] - planes["VARCAL"][5, 5] == pytest.approx(25.0 / (night.flat[5, 5] / level) ** 2)


def compressed(night: SmallNight) -> str:
    primary, image = (
        fits.PrimaryHDU(),
        fits.CompImageHDU(night.pixels(BAD), night.header(BAD), compression_type="RICE_1"),
    )
    fits.HDUList([primary, image]).writeto(night.raw(BAD).with_suffix(".fits.fz"))
    return ".fits.fz"


def gzipped(night: SmallNight) -> str:
    content = gzip.compress(night.raw(BAD).read_bytes(), mtime=0)
    night.raw(BAD).with_suffix(".FITS.GZ").write_bytes(content)
    return ".FITS.GZ"


def in_extension(night: SmallNight) -> str:
    hdus(fits.ImageHDU(night.pixels(BAD)))(night)
    night.raw(BAD).rename(night.raw(BAD).with_suffix(".fts"))
    return ".fts"


def as_floats(night: SmallNight) -> str:
    night.write_raw(BAD, night.pixels(BAD).astype(np.float32), path=night.raw(BAD).with_suffix(".fit"))
    return ".fit"


@pytest.mark.parametrize("store", [compressed, gzipped, in_extension, as_floats])
def test_the_same_pixels_in_another_kind_of_file_give_the_same_frame(
    night: SmallNight, store: Callable[[SmallNight], str]
) -> None:
    night.run_to("isr")
    plain = planes_of(night.product("postISR", BAD))
    suffix = store(night)
    if night.raw(BAD).exists():
        night.raw(BAD).unlink()
    night.run_to("isr")
    assert night.raw(BAD).with_suffix(suffix).exists()
    stored = planes_of(night.product("postISR", BAD))
    for plane, values in plain.items():
        np.testing.assert_array_equal(stored[plane], values)


def test_one_of_several_images_can_be_chosen(night: SmallNight) -> None:
    hdus(fits.ImageHDU(np.zeros((5, 5), np.int16)), fits.ImageHDU(night.pixels(BAD)))(night)
    chosen = replace(night, tables={"instruments": {"pt5m": {"extension": 2}}})
    chosen.list_raws()
    isr.run(chosen.settings, chosen.group, [BAD])
    np.testing.assert_allclose(
        planes_of(chosen.product("postISR", BAD))["SCI"], expected(night, BAD)[0].astype(np.float32), rtol=1e-6
    )


class TestMasters:
    """Masters that cannot serve stop the group at once: no frame is to blame."""

    def test_another_shape(self, night: SmallNight) -> None:
        night.write_master("bias2x2.fits", np.zeros((10, 12), np.float32))
        with pytest.raises(SetupError, match=r"calibs/bias2x2\.fits \(it is 12 x 10 pixels, the frames are 32 x 24\)"):
            night.list_raws()

    def test_unreadable(self, night: SmallNight) -> None:
        (night.root / "calibs" / "bias2x2.fits").write_bytes(b"no")
        with pytest.raises(SetupError, match=r"bias2x2\.fits: the master cannot be read .* Replace"):
            night.list_raws()

    def test_a_flat_of_zeros(self, night: SmallNight) -> None:
        night.write_master("Rflatnorm2x2.fits", np.zeros(night.shape, np.float32))
        night.list_raws()
        with pytest.raises(SetupError, match=r"calibs/Rflatnorm2x2\.fits: The median of a flat must be above 0"):
            isr.run(night.settings, night.group, night.names)

    def test_a_nights_own_is_preferred(self, night: SmallNight) -> None:
        night.write_master("2026-11-21/bias2x2.fits", night.bias + 10)
        night = exact(night).run_to("isr")
        assert header_of(night, "r0743053")["BIASFIL"] == "calibs/2026-11-21/bias2x2.fits"


class TestCurrent:
    """A product that records the same inputs is left alone; what has changed is made anew, and nothing else."""

    def test_returns_at_once(self, night: SmallNight) -> None:
        before = night.run_to("isr").states()
        assert len(before) == 3
        assert night.run_to("isr").rewritten(before) == []

    def test_no_pixel_is_read_for_it(self, night: SmallNight, monkeypatch: pytest.MonkeyPatch) -> None:
        night.run_to("isr")
        monkeypatch.setattr(isr, "read_raw_image", lambda *_: pytest.fail("a raw was read"))
        isr.run(night.settings, night.group, night.names)

    def test_a_touched_file_is_the_same_file(self, night: SmallNight) -> None:
        before = night.run_to("isr").states()
        for path in (night.raw(BAD), night.root / "calibs" / "bias2x2.fits"):
            path.touch()
        assert night.run_to("isr").rewritten(before) == []

    def test_a_changed_raw(self, night: SmallNight) -> None:
        before = night.run_to("isr").states()
        night.write_raw(BAD, AIRMASS=1.9)
        assert night.run_to("isr").rewritten(before) == [f"postISR/{BAD}.fits"]

    @pytest.mark.parametrize("file", ["bias2x2.fits", "Rflatnorm2x2.fits"])
    def test_a_changed_master(self, night: SmallNight, file: str) -> None:
        before = night.run_to("isr").states()
        night.write_master(file, night.bias + 1)
        assert len(night.run_to("isr").rewritten(before)) == 3

    @pytest.mark.parametrize(
        ("tables", "redone"),
        [
            ({"products": {"depth": "float64"}}, 3),
            ({"calibs": {"flat_limit": 0.1}}, 3),
            ({"instruments": {"pt5m": {"keywords": {"gain": 1.5}}}}, 3),
            ({"filters": {"R": {"extinction": 0.2}}}, 0),
            ({"instruments": {"pt5m": {"max_pixels": 1_000_000}}}, 0),
            ({"combine": {"method": "mean"}}, 0),
            ({"watch": {"settle_seconds": 1}}, 0),
        ],
        ids=["depth", "flat limit", "gain", "extinction", "max_pixels", "method", "watch"],
    )
    def test_a_changed_setting(self, night: SmallNight, tables: dict[str, Any], redone: int) -> None:
        before = night.run_to("isr").states()
        assert len(replace(night, tables=tables).run_to("isr").rewritten(before)) == redone

    def test_a_mended_frame(self, night: SmallNight) -> None:
        whole = night.raw(BAD).read_bytes()
        cut(night)
        night.list_raws()
        with pytest.raises(FrameError):
            isr.run(night.settings, night.group, night.names)
        before = night.states()
        overwrite(night, whole)
        isr.run(night.settings, night.group, [BAD])
        assert night.rewritten(before) == [f"postISR/{BAD}.fits"]
        assert not night.layout.failure(BAD).exists()
        raws = json.loads(night.layout.inputs.read_text())["raws"]
        status = night.raw(BAD).stat()
        entry = raws[f"raw/2026-11-21/{BAD}.fits"]
        assert (entry["size"], entry["mtime_ns"]) == (status.st_size, status.st_mtime_ns)

    def test_a_lost_frame_takes_its_later_products_along(self, night: SmallNight) -> None:
        night.run_to("align")
        cut(night)
        with pytest.raises(FrameError):
            isr.run(night.settings, night.group, night.names)
        assert not night.product("extinction", BAD).exists()
        assert not night.product("shifted", BAD).exists()

    def test_without_inputs_it_can_be_tried_again(self, night: SmallNight) -> None:
        with pytest.raises(StaleProduct, match=r"inputs\.json is missing; list_frames writes it"):
            isr.run(night.settings, night.group, night.names)


def test_raws_masters_and_sidecar_are_never_touched(night: SmallNight) -> None:
    def given() -> dict[Path, tuple[str, int]]:
        files = [
            path for place in ("raw", "calibs", "xys") for path in (night.root / place).rglob("*") if path.is_file()
        ]
        return {path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}

    before = given()
    night.run_to("align")
    assert given() == before
    assert len(before) == 6


def test_nothing_but_products_is_left_behind(night: SmallNight) -> None:
    night.run_to("isr")
    left = sorted(path.name for path in night.layout.folder.rglob("*") if path.is_file())
    assert left == [".inputs.lock", ".lock", "inputs.json", *(f"{name}.fits" for name in night.names)]


def test_a_product_of_another_night_under_the_same_name_is_not_current(night: SmallNight) -> None:
    night.run_to("isr")
    shutil.copy(night.product("postISR", "r0743053"), night.product("postISR", BAD))
    before = night.states()
    assert night.run_to("isr").rewritten(before) == [f"postISR/{BAD}.fits"]
