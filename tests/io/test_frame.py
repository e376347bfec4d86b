"""Frames on disk: raws as they are read, products as they are written."""

from __future__ import annotations

import gc
import gzip
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import FrameError
from nightdesk.io import hdu
from nightdesk.io.frame import (
    RECIPE,
    Frame,
    Product,
    RowFrame,
    open_frame,
    open_planes,
    read_frame,
    read_raw,
    read_recipe,
    write_frame,
    write_products,
)
from nightdesk.science.flag import FLAG_MEANINGS
from nightdesk.settings import Instrument
from tests.small_night import SmallNight

NAME = "r0743053"
SHAPE = (16, 20)
CAMERA = Instrument()


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return SmallNight(tmp_path, shape=SHAPE)


def frame_of(night: SmallNight, **changes: Any) -> Frame:
    image = night.pixels(NAME).astype(np.float64)
    flags = np.zeros(SHAPE, np.uint16)
    flags[3, 4] = 5
    header = fits.Header([("OBJECT", "M31"), (RECIPE, "abc")])
    return Frame(
        **{"data": image, "variance": image + 1, "shared_variance": image / 9, "flags": flags, "header": header}
        | changes
    )


# Raws


def test_a_raw_is_read_as_it_was_counted(night: SmallNight) -> None:
    pixels, header = read_raw(night.write_raw(NAME), CAMERA)
    np.testing.assert_array_equal(pixels, night.pixels(NAME))
    assert pixels.dtype == np.uint16
    assert (header["OBJECT"], header["EGAIN"]) == ("NGC5949", 2.1)


@pytest.mark.parametrize("kind", ["zipped", "compressed", "in an extension"])
def test_a_raw_may_be_packed(night: SmallNight, kind: str) -> None:
    path = night.write_raw(NAME)
    if kind == "zipped":
        packed = path.with_suffix(".fits.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
    else:
        packed = path.with_suffix(".fits.fz")
        header = fits.Header([("EGAIN", 9.9), ("OBJECT", "M31")])
        image = (fits.CompImageHDU if kind == "compressed" else fits.ImageHDU)(night.pixels(NAME), header)
        fits.HDUList([fits.PrimaryHDU(header=night.header(NAME, OBJECT="none")), image]).writeto(packed)
    pixels, header = read_raw(packed, CAMERA)
    np.testing.assert_array_equal(pixels, night.pixels(NAME))
    assert header["AIRMASS"] == 1.2
    if kind != "zipped":
        assert (header["OBJECT"], header["EGAIN"]) == ("M31", 9.9)


def write_images(path: Path, *shapes: tuple[int, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [fits.ImageHDU(np.full(shape, index, np.int16)) for index, shape in enumerate(shapes, start=1)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


def test_of_several_images_the_configuration_says_which(night: SmallNight) -> None:
    path = write_images(night.raw(NAME), SHAPE, SHAPE)
    with pytest.raises(FrameError, match=r"holds 2 images; say which by extension"):
        read_raw(path, CAMERA)
    pixels, _ = read_raw(path, Instrument(extension=2))
    assert (pixels == 2).all()
    with pytest.raises(FrameError, match="has no extension 3"):
        read_raw(path, Instrument(extension=3))


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        pytest.param([], "holds no image", id="no image"),
        pytest.param([(4, 16, 20)], r"axes (4, 16, 20) (slowest first), which is not two-dimensional", id="cube"),
        pytest.param([(3, 16, 20)], "which is a colour image", id="colour"),
        pytest.param([(20,)], "which is not two-dimensional", id="one axis"),
        pytest.param([(101, 100)], "NAXIS1 x NAXIS2 = 100 x 101 is more than max_pixels = 10000", id="too large"),
    ],
)
def test_what_is_no_image_of_an_allowed_size_is_told(
    night: SmallNight, shapes: list[tuple[int, ...]], told: str
) -> None:
    path = write_images(night.raw(NAME), *shapes)
    with pytest.raises(FrameError) as caught:
        read_raw(path, Instrument(max_pixels=10_000))
    assert str(caught.value).startswith(f"{NAME}.fits: ")
    assert told in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, 2880, 3200])
def test_a_raw_that_is_cut_short_is_told_by_name(night: SmallNight, keep: int) -> None:
    path = night.write_raw(NAME)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FrameError, match=f"^{NAME}.fits: .*Copy it again"):
        read_raw(path, CAMERA)


def test_a_compressed_raw_whose_tiles_are_damaged_is_told(night: SmallNight) -> None:
    path = night.raw(NAME)
    path.parent.mkdir(parents=True)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(night.pixels(NAME), night.header(NAME))])
    hdus.writeto(path)
    content = path.read_bytes()
    tiles = len(content.rstrip(b"\0"))
    told = 0
    for place in range(tiles - 200, tiles, 10):
        path.write_bytes(content[:place] + b"\0" + content[place + 1 :])
        try:
            read_raw(path, CAMERA)  # a tile may be damaged and still unpack
        except FrameError as error:
            told += "Copy it again" in str(error)
    assert told > 0


@pytest.mark.timeout(20)
def test_a_zipped_raw_that_is_damaged_is_told_and_not_read_for_ever(night: SmallNight) -> None:
    path = night.write_raw(NAME)
    whole = gzip.compress(path.read_bytes())
    for content in (whole[:-8] + b"\0" * 8, whole[: len(whole) // 2], whole[:40] + b"\xff" * 40 + whole[80:]):
        path.write_bytes(content)
        with pytest.raises(FrameError, match=f"^{NAME}.fits: .*Copy it again"):
            read_raw(path, CAMERA)


def test_a_zipped_raw_that_unpacks_to_too_much_is_told(night: SmallNight) -> None:
    path = night.write_raw(NAME)
    large = fits.ImageHDU(np.zeros((2000, 3000), np.int16))
    fits.HDUList([fits.PrimaryHDU(), large]).writeto(path, overwrite=True)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(FrameError, match=r"its headers announce 12,00.,... bytes unpacked, more than"):
        read_raw(path, Instrument(max_pixels=100_000))


def test_a_raw_that_is_gone_is_the_disks_trouble(night: SmallNight) -> None:
    with pytest.raises(FileNotFoundError):
        read_raw(night.raw(NAME), CAMERA)


# Products


@pytest.mark.parametrize("depth", ["float32", "float64"])
def test_a_product_has_its_planes_at_their_places(night: SmallNight, depth: str) -> None:
    path = night.root / "x.fits"
    extra = fits.ImageHDU(np.ones(SHAPE, np.uint16), name="COVERAGE")
    write_frame(path, frame_of(night), depth=depth, extra=[extra])
    with fits.open(path, checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["SCI", "VAR", "DQ", "VARCAL", "COVERAGE"]
        assert [hdu.header.get("BUNIT") for hdu in hdus[:4]] == ["electron", "electron2", None, "electron2"]
        assert [hdu.data.dtype.name for hdu in hdus] == [depth, depth, "uint16", depth, "uint16"]
        assert hdus["DQ"].data[3, 4] == 5
        header = hdus["DQ"].header
        assert {header[f"MSKM{n:04d}"]: header[f"MSKN{n:04d}"] for n in range(len(FLAG_MEANINGS))} == FLAG_MEANINGS
        assert all("CHECKSUM" in hdu.header and "DATASUM" in hdu.header for hdu in hdus)


def test_a_stack_has_no_shared_variance_of_its_own(night: SmallNight) -> None:
    path = night.root / "x.fits"
    write_frame(path, frame_of(night, shared_variance=None), depth="float32")
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["SCI", "VAR", "DQ"]
    assert read_frame(path).shared_variance is None


def test_a_product_of_the_notebook_is_two_images_with_the_same_header(night: SmallNight) -> None:
    path = night.root / "x.fits"
    frame = frame_of(night, shared_variance=None, flags=None)
    write_frame(path, frame, depth="float64")
    with fits.open(path) as hdus:
        assert [type(hdu) for hdu in hdus] == [fits.PrimaryHDU, fits.ImageHDU]
        assert hdus[0].header["OBJECT"] == hdus[1].header["OBJECT"] == "M31"
        np.testing.assert_array_equal(hdus[1].data, frame.variance)
    assert read_frame(path).flags is None


def test_the_same_frame_gives_the_same_bytes(night: SmallNight, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = night.root / "a.fits", night.root / "deeper/b.fits"
    write_frame(first, frame_of(night), depth="float32")
    monkeypatch.setenv("TZ", "Pacific/Tongatapu")
    write_frame(second, frame_of(night), depth="float32")
    assert first.read_bytes() == second.read_bytes()
    assert b"20" + b"26-" not in first.read_bytes()[: 2880 * 2]  # no date of today's


@pytest.mark.parametrize("planes", ["standard", "notebook"])
@pytest.mark.parametrize("strip_bytes", [1, 700, 1 << 18], ids=["few rows", "some rows", "all rows"])
def test_rows_that_are_made_when_they_are_written_give_the_same_bytes(
    night: SmallNight, monkeypatch: pytest.MonkeyPatch, planes: str, strip_bytes: int
) -> None:
    shape = (15, 7)  # its last rows are no whole words of flags
    cut = {name: getattr(frame_of(night), name)[:15, :7] for name in ("data", "variance", "shared_variance", "flags")}
    if planes == "notebook":
        cut |= {"shared_variance": None, "flags": None}
    frame = frame_of(night, **cut)
    whole, made, again = (night.root / name for name in ("whole.fits", "made.fits", "again.fits"))
    write_frame(whole, frame, depth="float32")
    monkeypatch.setattr(hdu, "STRIP_BYTES", strip_bytes)
    wanted = []

    def _block(first: int, last: int) -> Any:
        wanted.append((first, last))
        return frame.block(first, last)

    write_frame(made, RowFrame(shape, frame.header, _block, standard=planes == "standard"), depth="float32")
    assert made.read_bytes() == whole.read_bytes()
    assert [row for rows in wanted for row in range(*rows)] == list(range(15)), "each row is made once"
    write_frame(again, open_frame(made), depth="float32")
    assert again.read_bytes() == whole.read_bytes()


def test_writing_leaves_the_frame_as_it_was(night: SmallNight) -> None:
    frame = frame_of(night)
    header, data = frame.header.copy(), frame.data.copy()
    write_frame(night.root / "x.fits", frame, depth="float32")
    np.testing.assert_array_equal(frame.data, data)
    assert frame.header["OBJECT"] == header["OBJECT"]


def test_planes_are_read_native_and_writable(night: SmallNight) -> None:
    path = night.root / "x.fits"
    write_frame(path, frame_of(night), depth="float32")
    frame = read_frame(path)
    for plane in (frame.data, frame.variance, frame.shared_variance, frame.flags):
        assert plane is not None
        assert plane.dtype.isnative
        plane[0, 0] = 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"variance": np.ones((3, 3))}, id="another shape"),
        pytest.param({"flags": np.zeros((2, 2), np.uint16)}, id="flags of another shape"),
        pytest.param(dict.fromkeys(("data", "variance", "shared_variance", "flags"), np.ones(5)), id="one axis"),
    ],
)
def test_planes_must_share_one_shape_of_two_axes(night: SmallNight, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must share one shape \(ny, nx\)"):
        frame_of(night, **changes)


def test_the_recipe_is_read_without_the_pixels(night: SmallNight) -> None:
    path = night.root / "x.fits"
    assert read_recipe(path) is None
    write_frame(path, frame_of(night), depth="float32")
    assert read_recipe(path) == "abc"


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 3000, b"SIMPLE  =                    T" + b" " * 50])
def test_what_is_no_product_has_no_recipe(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(content)
    assert read_recipe(path) is None
    assert read_recipe(tmp_path) is None


def test_a_header_without_an_end_has_no_recipe(night: SmallNight) -> None:
    path = night.root / "x.fits"
    write_frame(path, frame_of(night), depth="float32")
    content = path.read_bytes()
    path.write_bytes(content[:2880].replace(b"END" + b" " * 77, b" " * 80))
    assert read_recipe(path) is None


def test_planes_are_found_in_their_file(night: SmallNight) -> None:
    path = night.root / "x.fits"
    frame = frame_of(night)
    write_frame(path, frame, depth="float64")
    header, planes = open_planes(path)
    assert header[RECIPE] == "abc"
    assert sorted(planes) == ["DQ", "SCI", "VAR", "VARCAL"]
    rows = np.empty((4, SHAPE[1]), planes["VAR"].stored)
    planes["VAR"].read_into(rows, 3, once=True)
    np.testing.assert_array_equal(rows, frame.variance[3:7])
    with pytest.raises(FrameError, match="cut short while it was read"):
        planes["VARCAL"].read_into(np.empty((4000, SHAPE[1])), 3)


def test_a_frame_that_is_written_takes_no_more_memory(night: SmallNight) -> None:
    frame = frame_of(night)
    planes = [weakref.ref(plane) for plane in (frame.data, frame.variance, frame.flags)]
    gc.disable()  # which would find them at some later time, with those of many frames
    try:
        first = Product(night.root / "a.fits", frame, depth="float32")
        write_products([first, Product(night.root / "b.fits", first.read_back(), depth="float32")])
        del frame, first
        assert [plane() for plane in planes] == [None, None, None]
    finally:
        gc.enable()
    assert (night.root / "a.fits").read_bytes() == (night.root / "b.fits").read_bytes()
