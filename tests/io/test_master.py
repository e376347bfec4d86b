"""A master as it stands on disk."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import SetupError
from nightdesk.io.master import read_master
from tests.small_night import SmallNight


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return SmallNight(tmp_path, shape=(16, 20))


def test_a_master_is_read_with_its_variance_and_what_it_says_of_itself(night: SmallNight) -> None:
    variance = np.full(night.shape, 0.5, np.float32)
    path = night.write_master("dark2x2.fits", night.bias, variance, EXPTIME=60, DARKBIAS=True)
    master = read_master(path)
    np.testing.assert_array_equal(master.data, night.bias)
    np.testing.assert_array_equal(master.variance, variance)
    assert (master.exposure, master.contains_bias, master.flags) == (60.0, True, None)
    assert master.data.dtype.isnative


def test_a_master_without_a_variance_has_none(night: SmallNight) -> None:
    master = read_master(night.write_master("bias2x2.fits", night.bias))
    assert (master.variance, master.exposure, master.contains_bias) == (None, None, False)


def test_a_variance_that_is_not_wanted_is_not_read(night: SmallNight) -> None:
    path = night.write_master("bias2x2.fits", night.bias, np.full(night.shape, 0.5, np.float32))
    for wanted in (False, True, False):
        master = read_master(path, with_variance=wanted)
        np.testing.assert_array_equal(master.data, night.bias)
        assert (master.variance is not None) == wanted


def test_a_master_may_stand_in_an_extension(night: SmallNight) -> None:
    path = night.root / "dark.fits"
    image = fits.ImageHDU(night.bias, fits.Header([("DARKBIAS", True), ("EXPTIME", 30.0)]))
    flags = fits.ImageHDU(np.zeros(night.shape, np.uint8), name="DQ")
    fits.HDUList([fits.PrimaryHDU(), flags, image]).writeto(path)
    master = read_master(path)
    np.testing.assert_array_equal(master.data, night.bias)
    assert (master.exposure, master.contains_bias) == (30.0, True)
    assert master.flags is not None


def write_odd(path: Path, kind: str) -> None:
    image = fits.PrimaryHDU(np.ones((16, 20), np.float32), fits.Header([("EXPTIME", 60.0)]))
    if kind == "no image":
        fits.PrimaryHDU().writeto(path)
    elif kind == "three axes":
        fits.PrimaryHDU(np.ones((2, 16, 20))).writeto(path)
    elif kind == "variance of another shape":
        fits.HDUList([image, fits.ImageHDU(np.ones((8, 8)), name="VAR")]).writeto(path)
    elif kind == "flags of another shape":
        fits.HDUList([image, fits.ImageHDU(np.ones((8, 8), np.uint8), name="DQ")]).writeto(path)
    elif kind == "cut short":
        image.writeto(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "not FITS":
        path.write_bytes(b"hello " * 1000)
    elif kind == "no count in NAXIS1":
        image.writeto(path)
        path.write_bytes(
            path.read_bytes().replace(b"NAXIS1  =                   20", b"NAXIS1  =                  2 0")
        )
    elif kind == "zipped and damaged":
        image.writeto(path)
        path.write_bytes(gzip.compress(path.read_bytes())[:-8] + b"\0" * 8)
    elif kind == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("no image", "holds no two-dimensional image"),
        ("three axes", "holds no two-dimensional image"),
        ("variance of another shape", "its VAR has the shape (8, 8), its image (16, 20)"),
        ("flags of another shape", "its DQ has the shape (8, 8), its image (16, 20)"),
        ("cut short", "the master cannot be read"),
        ("not FITS", "the master cannot be read"),
        ("no count in NAXIS1", "the master cannot be read"),
        ("zipped and damaged", "the master cannot be read"),
        ("empty", "the master cannot be read"),
    ],
)
def test_a_master_that_is_none_is_told_by_name(tmp_path: Path, kind: str, told: str) -> None:
    path = tmp_path / "bias2x2.fits"
    write_odd(path, kind)
    with pytest.raises(SetupError) as caught:
        read_master(path)
    assert str(caught.value).startswith("bias2x2.fits: ")
    assert told in str(caught.value)
    assert "Replace it." in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "ignore_missing" not in str(caught.value)


def test_a_broken_card_of_a_master_is_no_reason_to_fail(night: SmallNight) -> None:
    path = night.write_master("dark2x2.fits", night.bias, EXPTIME=60.0, DARKBIAS=True)
    content = path.read_bytes()
    start = content.index(b"EXPTIME =")
    path.write_bytes(content[:start] + b"EXPTIME = 60.0.0".ljust(80) + content[start + 80 :])
    master = read_master(path)
    assert (master.exposure, master.contains_bias) == (None, True)


def test_trouble_of_the_disk_is_not_the_masters(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_master(tmp_path / "bias2x2.fits")
