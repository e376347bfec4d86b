"""Raws before ISR: repairs, overscan and trim, amplifiers, extensions; and files that unpack to more than they say."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import FrameError, SetupError
from nightdesk.io.frame import read_raw
from nightdesk.io.inventory import take_inventory
from nightdesk.io.master import read_master
from nightdesk.io.repair import idle_repairs
from nightdesk.io.section import parse_section
from nightdesk.manifest import read_manifest
from nightdesk.settings import Instrument, Settings
from nightdesk.steps import reduce, report
from nightdesk.steps.raw_image import RawImage, read_raw_image
from tests.small_night import SmallNight

SHAPE = (20, 30)


def image_of(tmp_path: Path, pixels: np.ndarray, header: dict[str, Any] | None = None, **profile: Any) -> RawImage:
    path = tmp_path / "raw" / "f.fits"
    path.parent.mkdir(exist_ok=True)
    fits.PrimaryHDU(pixels, fits.Header(list((header or {}).items()))).writeto(path, overwrite=True)
    settings = Settings.model_validate({"data": {"root": tmp_path}, "instruments": {"one": profile}})
    return read_raw_image(settings, path, settings.instruments["one"])


def test_a_plain_raw_stays_as_it_is(tmp_path: Path) -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(SHAPE)
    image = image_of(tmp_path, pixels)
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, pixels)
    assert image.history == []


def test_overscan_is_taken_off_before_the_rest_is_trimmed(tmp_path: Path) -> None:
    pixels = np.full(SHAPE, 1500, np.uint16)
    pixels[:, 24:] = 500
    header = {"TRIMSEC": "[1:24,3:20]", "BIASSEC": "[26:30,1:20]", "CRPIX1": 10.0, "CRPIX2": 10.0, "SATURATE": 1400}
    image = image_of(tmp_path, pixels, header, trim="TRIMSEC", overscan={"section": "BIASSEC"})
    assert image.pixels.shape == (18, 24)
    assert np.all(image.pixels == 1000.0)
    assert (image.header["CRPIX1"], image.header["CRPIX2"], image.header["LTV2"]) == (10.0, 8.0, -2.0)
    assert "TRIMSEC" not in image.header
    # saturation is a level of the raw
    assert np.all(image.pixels >= image.saturation)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"trim": "TRIMSEC"}, "the header has no TRIMSEC, which trim of its instrument names"),
        ({"trim": "[1:99,1:20]"}, r"'\[1:99,1:20\]' reaches beyond the image of 30 x 20 pixels"),
        ({"overscan": {"section": "[26:30,5:9]", "method": "row"}}, r"does not lie beside all rows"),
    ],
    ids=["no keyword", "too large", "too short"],
)
def test_a_section_that_does_not_fit_is_told(tmp_path: Path, profile: dict[str, Any], words: str) -> None:
    with pytest.raises(FrameError, match=words):
        image_of(tmp_path, np.zeros(SHAPE, np.uint16), **profile)


def test_a_constant_overscan_may_lie_above(tmp_path: Path) -> None:
    pixels = np.full(SHAPE, 1500, np.uint16)
    pixels[16:] = 500
    image = image_of(tmp_path, pixels, trim="[1:30,1:16]", overscan={"section": "[1:30,18:20]"})
    assert image.pixels.shape == (16, 30)
    assert np.all(image.pixels == 1000.0)


@pytest.mark.parametrize("blank", ["", "middle", True], ids=str)
def test_a_reference_pixel_that_cannot_be_moved_is_told(tmp_path: Path, blank: object) -> None:
    with pytest.raises(FrameError, match=rf"f\.fits: CRPIX1 = {blank!r} is not a number"):
        image_of(tmp_path, np.zeros(SHAPE, np.uint16), {"CRPIX1": blank}, trim="[3:30,1:20]")


def test_a_reference_pixel_with_a_decimal_comma_is_moved(tmp_path: Path) -> None:
    image = image_of(tmp_path, np.zeros(SHAPE, np.uint16), {"CRPIX1": "16,5"}, trim="[3:30,1:20]")
    assert image.header["CRPIX1"] == 14.5


@pytest.mark.parametrize("text", ["[0:3,1:2]", "[3:1,1:2]", "[1:2]", "1:2,3:4"])
def test_what_is_no_section(text: str) -> None:
    with pytest.raises(ValueError, match="no section"):
        parse_section(text)
    assert str(parse_section("[1:318,2:510]")) == "[1:318,2:510]"


def test_amplifiers_are_joined_in_adu_of_the_first(tmp_path: Path) -> None:
    pixels = np.zeros((10, 28), np.uint16)
    pixels[:, :12], pixels[:, 12:14] = 300 + 1000, 300  # light and overscan of the left one,
    pixels[:, 14:16], pixels[:, 16:] = 500, 500 + 500  # overscan and light of the right one, of twice the gain
    amplifiers = [
        {"section": "[1:12,1:10]", "overscan": "[13:14,1:10]", "gain": "AGAIN_01", "read_noise": "ARDNS_01"},
        {"section": "[17:28,1:10]", "overscan": "[15:16,1:10]", "gain": "AGAIN_02", "read_noise": "ARDNS_02"},
    ]
    amplifiers[1]["saturation"] = 900.0  # type: ignore[assignment]
    header = {"AGAIN_01": 1.5, "AGAIN_02": 3.0, "ARDNS_01": 4.0, "ARDNS_02": 8.0, "CRPIX1": 20.0, "CRPIX2": 3.0}
    image = image_of(
        tmp_path, pixels, header, amplifiers=amplifiers, overscan={"section": "[13:14,1:10]", "method": "row"}
    )
    assert image.pixels.shape == (10, 24)
    assert np.allclose(image.pixels, 1000.0)
    assert image.gain == 1.5
    assert image.read_noise is not None
    assert np.unique(image.read_noise[:, :12]) == 4.0
    assert np.unique(image.read_noise[:, 12:]) == 8.0
    saturated = image.pixels >= image.saturation
    assert saturated[:, 12:].all()
    assert not saturated[:, :12].any()
    # the reference pixel stands in the right one, four columns of overscan before it are gone
    assert (image.header["CRPIX1"], image.header["CRPIX2"]) == (16.0, 3.0)
    assert image.header["TRIM"] == "[1:12,1:10], [17:28,1:10]"
    assert (image.header["OVERSCAN"], image.header["OVERMEAN"]) == ("[13:14,1:10], [15:16,1:10]", 400.0)


def test_a_prescan_that_is_cut_off_before_the_amplifiers_moves_the_coordinates(tmp_path: Path) -> None:
    amplifiers = [
        {"section": "[4:15,3:20]", "gain": 1.0, "read_noise": 4.0},
        {"section": "[16:27,3:20]", "gain": 1.0, "read_noise": 4.0},
    ]
    header = {"CRPIX1": 16.0, "CRPIX2": 10.0, "LTV1": 1.0}
    image = image_of(tmp_path, np.zeros(SHAPE, np.uint16), header, amplifiers=amplifiers)
    moved = {keyword: image.header[keyword] for keyword in ("CRPIX1", "CRPIX2", "LTV1", "LTV2")}
    assert moved == {"CRPIX1": 13.0, "CRPIX2": 8.0, "LTV1": -2.0, "LTV2": -2.0}


def test_a_gain_of_no_amplifier_is_missed_by_name(tmp_path: Path) -> None:
    amplifiers = [{"section": "[1:30,1:20]", "gain": "AGAIN_01", "read_noise": 4.0}]
    with pytest.raises(FrameError, match="the header has no AGAIN_01"):
        image_of(tmp_path, np.zeros(SHAPE, np.uint16), amplifiers=amplifiers)


@pytest.mark.parametrize("extension", [2, "CCD"])
def test_an_extension_is_read_by_number_or_name(tmp_path: Path, extension: int | str) -> None:
    path = tmp_path / "mef.fits"
    one, two = np.zeros((5, 5), np.float32), np.ones((6, 7), np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(one, name="GUIDE"), fits.ImageHDU(two, name="CCD")]).writeto(path)
    pixels, _ = read_raw(path, Instrument(extension=extension))
    assert pixels.shape == (6, 7)
    with pytest.raises(FrameError, match="no extension SKY"):
        read_raw(path, Instrument(extension="SKY"))


REPAIR = {"keyword": "egain", "value": 2.1, "reason": "the camera wrote 0", "who": "A. Observer"}


class TestRepairs:
    """Header values put right by configuration."""

    @pytest.fixture
    def night(self, tmp_path: Path) -> SmallNight:
        return SmallNight(tmp_path).write()

    def repaired(self, of: SmallNight, **changes: Any) -> SmallNight:
        return SmallNight(of.root, tables={"repairs": [{**REPAIR, **changes}]})

    @pytest.mark.parametrize("which", [{"files": "R0743053*"}, {"night": "2026-11-21"}], ids=["file", "night"])
    def test_a_repair_is_made_in_memory_and_told(self, night: SmallNight, which: dict[str, str]) -> None:
        path = night.write_raw(night.names[0], EGAIN=0.0)
        before = path.read_bytes()
        night = self.repaired(night, **which)
        reduce.run(night.settings, night.group)
        assert path.read_bytes() == before
        header = fits.getheader(night.product("postISR", night.names[0]))
        assert header["NDGAIN"] == 2.1
        assert "Repair: EGAIN = 2.1 (was 0.0): the camera wrote 0 (A. Observer)." in "".join(header["HISTORY"])

    def test_other_frames_are_not_touched(self, night: SmallNight) -> None:
        night = self.repaired(night, files="r0743053*", value=7.0).run_to("isr")
        gains = [fits.getheader(night.product("postISR", name))["NDGAIN"] for name in night.names]
        assert gains == [7.0, 2.1, 2.1]

    @pytest.mark.parametrize("keep", ["all", "stack"])
    def test_repairs_stand_in_the_ledger_and_their_number_in_the_stack(self, night: SmallNight, keep: str) -> None:
        night.write_raw(night.names[0], EGAIN=0.0)
        repairs = [{**REPAIR, "night": "2026-11-21"}, {**REPAIR, "keyword": "OBSERVER", "value": "A", "files": "*53*"}]
        night = SmallNight(night.root, tables={"repairs": repairs, "products": {"keep": keep}})
        reduce.run(night.settings, night.group)
        manifest = read_manifest(night.settings, night.group)
        assert manifest is not None
        first, *others = (raw["repairs"] for raw in manifest["raws"])
        told = {"keyword": "EGAIN", "was": "0.0", "value": 2.1, "reason": "the camera wrote 0", "who": "A. Observer"}
        assert first == [told, {**told, "keyword": "OBSERVER", "was": None, "value": "A"}]
        assert others == [[{**told, "was": "2.1"}]] * 2
        assert fits.getheader(night.layout.stack)["NREPAIR"] == 4

    def test_a_repair_of_no_frame_is_told(self, night: SmallNight) -> None:
        repairs = [{**REPAIR, "files": "r07530*"}, {**REPAIR, "night": "2026-11-21"}, {**REPAIR, "files": "r07430*"}]
        night = SmallNight(night.root, tables={"repairs": repairs})
        raws = take_inventory(night.settings).raws
        (idle,) = idle_repairs(night.settings, raws)
        assert idle == "the repair of egain (files = r07530*) concerns no raw on the disk"
        told = json.loads((night.root / report.run(night.settings, night.night)).read_text())
        assert told["repairs"] == [idle]

    def test_a_repair_can_mend_what_sorts_a_frame(self, night: SmallNight) -> None:
        night.write_raw(night.names[0], FILTER="")
        kinds = [facts.kind for facts in take_inventory(night.settings).raws]
        assert kinds.count("rejected") == 1
        mended = self.repaired(night, files="r0743053*", keyword="FILTER", value="R")
        assert {facts.filter_text for facts in take_inventory(mended.settings).raws} == {"R"}

    def test_only_what_a_changed_repair_touches_is_done_again(self, night: SmallNight) -> None:
        reduce.run(night.settings, night.group)
        before = night.states()
        night = self.repaired(night, files="r0743054*", value=2.2)
        reduce.run(night.settings, night.group)
        done = night.rewritten(before)
        assert "postISR/r0743054.fits" in done
        assert "postISR/r0743053.fits" not in done

    def test_a_suspicious_airmass_is_a_warning_on_the_frame(self, night: SmallNight) -> None:
        night.write_raw(night.names[1], AIRMASS=2.5, RA="06:09:23", DEC="+34:09:11", DATE_OBS="2026-11-22T01:28:12")
        reduce.run(night.settings, night.group)
        manifest = read_manifest(night.settings, night.group)
        assert manifest is not None
        warned = {raw["name"]: raw["warning"] for raw in manifest["raws"] if "warning" in raw}
        assert list(warned) == [night.names[1]]
        assert warned[night.names[1]].startswith("AIRMASS = 2.5, but coordinates and time give an airmass of 1.")


class TestUnpacking:
    """Compressed files that would unpack to more than they say."""

    def squeezed(self, path: Path, **kwargs: Any) -> Path:
        image = np.zeros((64, 64), np.int16)
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, **kwargs)]).writeto(path)
        return path

    @pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
    def test_honest_files_are_read(self, tmp_path: Path, kind: str) -> None:
        path = self.squeezed(tmp_path / "f.fits.fz", compression_type=kind, tile_shape=(16, 64))
        assert read_raw(path, Instrument())[0].shape == (64, 64)

    def test_a_tile_that_holds_too_much_is_not_unpacked(self, tmp_path: Path) -> None:
        path = self.squeezed(tmp_path / "f.fits.fz", compression_type="GZIP_1", tile_shape=(64, 64))
        bomb = gzip.compress(bytes(50_000_000), 9)
        with fits.open(path, disable_image_compression=True) as hdus:
            header = hdus[1].header.copy()
        column = fits.Column("COMPRESSED_DATA", "1PB()", array=np.array([np.frombuffer(bomb, np.uint8)], dtype=object))
        table = fits.BinTableHDU.from_columns([column])
        for card in header.cards:
            if card.keyword.startswith("Z"):
                table.header.append(card)
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
        with pytest.raises(FrameError, match=r"its tile 1 unpacks to more than the 32,768 bytes"):
            read_raw(path, Instrument())

    def test_a_tile_larger_than_the_image_is_refused(self, tmp_path: Path) -> None:
        path = self.squeezed(tmp_path / "f.fits.fz", compression_type="RICE_1", tile_shape=(16, 64))
        content = path.read_bytes()
        card = content.index(b"ZTILE1  =")
        path.write_bytes(content[:card] + b"ZTILE1  =           2000000000".ljust(80) + content[card + 80 :])
        with pytest.raises(FrameError, match="ZTILE1 = 2000000000 does not fit ZNAXIS1 = 64"):
            read_raw(path, Instrument())

    def test_a_tile_whose_stream_says_another_size_is_refused(self, tmp_path: Path) -> None:
        path = self.squeezed(tmp_path / "f.fits.fz", compression_type="HCOMPRESS_1", tile_shape=(64, 64))
        content = bytearray(path.read_bytes())
        begin = content.index(b"\xdd\x99") + 2
        content[begin : begin + 8] = struct.pack(">ii", 128, 128)
        path.write_bytes(content)
        for read in (partial(read_raw, instrument=Instrument()), read_master):
            with pytest.raises((FrameError, SetupError), match="tile 1 says that it is of 128 x 128 pixels"):
                read(path)

    def test_tiles_at_the_edge_are_as_long_as_they_are(self, tmp_path: Path) -> None:
        image = np.arange(70 * 90, dtype=np.int16).reshape(70, 90)
        path = tmp_path / "f.fits.fz"
        hdu = fits.CompImageHDU(image, compression_type="HCOMPRESS_1", tile_shape=(32, 40))
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        assert np.array_equal(read_raw(path, Instrument())[0], image)

    def test_what_lies_behind_the_last_image_is_not_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "f.fits.gz"
        with gzip.open(path, "wb", compresslevel=1) as stream:
            fits.PrimaryHDU(np.ones((10, 10), np.int16)).writeto(stream)
            for _ in range(300):
                stream.write(bytes(1_000_000))
        for read in (partial(read_raw, instrument=Instrument()), read_master):
            tracemalloc.start()
            read(path)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 10_000_000

    def test_an_unpacked_file_is_held_once(self, tmp_path: Path) -> None:
        path = tmp_path / "f.fits.gz"
        with gzip.open(path, "wb", compresslevel=1) as stream:
            fits.PrimaryHDU(np.zeros((2500, 4000), np.uint8)).writeto(stream)
        tracemalloc.start()
        read_raw(path, Instrument())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3.3 * 10_000_000  # the pixels, and what was unpacked while it grew

    def test_a_master_that_announces_too_much_is_not_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "bias2x2.fits.gz"
        header = fits.Header([("SIMPLE", True), ("BITPIX", -64), ("NAXIS", 2), ("NAXIS1", 10**6), ("NAXIS2", 10**6)])
        path.write_bytes(gzip.compress(header.tostring().encode() + bytes(2880)))
        with pytest.raises(SetupError, match="its headers announce 8,000,000,002,880 bytes unpacked"):
            read_master(path)

    def test_an_image_larger_than_max_pixels_is_not_unpacked(self, tmp_path: Path) -> None:
        path = self.squeezed(tmp_path / "f.fits.fz")
        with pytest.raises(FrameError, match="more than max_pixels = 1000"):
            read_raw(path, Instrument(max_pixels=1000))

    def test_many_small_images_in_one_gz_are_too_much_together(self, tmp_path: Path) -> None:
        night = SmallNight(tmp_path, tables={"instruments": {"pt5m": {"max_pixels": 1000}}})
        path = night.raw("r0743053").with_suffix(".fits.gz")
        path.parent.mkdir(parents=True)
        images = [fits.ImageHDU(np.zeros((30, 30), np.float64)) for _ in range(9)]
        with gzip.open(path, "wb") as stream:
            fits.HDUList([fits.PrimaryHDU(), *images]).writeto(stream)
        (facts,) = take_inventory(night.settings).raws
        assert (facts.kind, "more than max_pixels allows" in facts.reason) == ("rejected", True)
