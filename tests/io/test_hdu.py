"""Files of HDUs as we write them, read back by astropy with its own sums."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.io.hdu import STRIP_BYTES, write_hdus

SHAPES = {"odd": (5, 7), "one pixel": (1, 1), "many strips": (3, STRIP_BYTES // 4 + 3)}


def image(kind: str, shape: tuple[int, int]) -> Any:
    random = np.random.default_rng(3)
    if np.dtype(kind).kind == "f":
        return random.normal(1000.0, 300.0, shape).astype(kind)
    return random.integers(0, np.iinfo(kind).max, shape, endpoint=True).astype(kind)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("kind", ["f4", "f8", "u2", "u1", ">f4", "i4", "i2"])
def test_astropy_reads_what_was_written_and_its_sums_agree(tmp_path: Path, kind: str, shape: tuple[int, int]) -> None:
    pixels = image(kind, shape)
    table = fits.BinTableHDU.from_columns([fits.Column("ROLE", "5A", array=["bias", "flat"])], name="PROVENANCE")
    primary = fits.PrimaryHDU(pixels)
    primary.header.add_history("a line that is longer than a card can hold " * 3)
    write_hdus(tmp_path / "a.fits", [primary, fits.ImageHDU(pixels, name="VAR"), table, fits.ImageHDU(pixels)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # astropy only warns of a wrong sum
        with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
            hdus.verify("exception")
            for number in (0, 1, 3):
                np.testing.assert_array_equal(hdus[number].data, pixels)
                assert {"CHECKSUM", "DATASUM"} <= set(hdus[number].header)
            assert list(hdus["PROVENANCE"].data["ROLE"]) == ["bias", "flat"]


@pytest.mark.parametrize("kind", ["f4", "u2"])
def test_a_changed_byte_spoils_the_sum(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.fits"
    write_hdus(path, [fits.PrimaryHDU(image(kind, (5, 7)))])
    content = bytearray(path.read_bytes())
    content[2880 + 9] ^= 1
    path.write_bytes(content)
    with (
        pytest.warns(match="Datasum verification failed"),
        pytest.warns(match="Checksum verification failed"),
        fits.open(path, checksum=True) as hdus,
    ):
        assert hdus[0].data is not None


def test_the_same_hdus_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_hdus(
            tmp_path / f"{name}.fits", [fits.PrimaryHDU(image("f4", (5, 7))), fits.ImageHDU(image("u2", (5, 7)))]
        )
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()
