"""Files of HDUs as we write them, read back by astropy with its own sums."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.io import hdu
from nightdesk.io.hdu import STRIP_BYTES, Content, write_hdus, write_together

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


@pytest.mark.parametrize("kind", ["f4", "f8", "u2", "u1"])
@pytest.mark.parametrize("begin", [0, 1, 4, 11])
@pytest.mark.parametrize("strip_bytes", [1, 200, 1 << 19], ids=["few rows", "some rows", "all rows"])
def test_whichever_row_is_the_first_to_be_written_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, begin: int, strip_bytes: int
) -> None:
    planes = [image(kind, (12, 7)), image("f8", (12, 7))]
    hdus = [fits.PrimaryHDU(planes[0]), fits.ImageHDU(planes[1])]
    write_hdus(tmp_path / "whole.fits", hdus)
    monkeypatch.setattr(hdu, "STRIP_BYTES", strip_bytes)
    monkeypatch.setattr(hdu, "BEGUN_BYTES", 100)
    wanted = []

    def _block(first: int, last: int) -> list[Any]:
        wanted.append((first, last))
        return [plane[first:last] for plane in planes]

    write_together([Content(tmp_path / "turned.fits", hdus, _block, begin=begin)])
    assert (tmp_path / "turned.fits").read_bytes() == (tmp_path / "whole.fits").read_bytes()
    rows = [row for part in wanted for row in range(*part)]
    whole_words = kind in ("f4", "f8")  # others stay in their order, for the sum's sake
    assert rows == [(row + (begin if whole_words else 0)) % 12 for row in range(12)]


def test_files_that_are_written_together_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdu, "STRIP_BYTES", 1)
    pixels, turns = image("f8", (8, 7)), []

    def content(name: str) -> Content:
        def _block(first: int, last: int) -> list[Any]:
            turns.append((name, first))
            return [pixels[first:last]]

        return Content(tmp_path / name, [fits.PrimaryHDU(pixels)], _block)

    write_together([content("a"), content("b")])
    assert turns == [("a", 0), ("b", 0), ("a", 4), ("b", 4)]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_that_are_written_together_are_all_there_or_none(tmp_path: Path) -> None:
    pixels = image("f8", (8, 7))

    def _fail(first: int, last: int) -> list[Any]:
        raise OSError("no more")

    good = Content(tmp_path / "a", [fits.PrimaryHDU(pixels)], lambda first, last: [pixels[first:last]])
    with pytest.raises(OSError, match="no more"):
        write_together([good, Content(tmp_path / "b", [fits.PrimaryHDU(pixels)], _fail)])
    assert list(tmp_path.iterdir()) == []


def test_a_strip_is_written_on_where_the_system_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_at_once = hdu.os.pwrite
    write_hdus(tmp_path / "whole.fits", [fits.PrimaryHDU(image("f4", (5, 7)))])
    monkeypatch.setattr(hdu.os, "pwrite", lambda handle, content, place: write_at_once(handle, content[:33], place))
    write_hdus(tmp_path / "bit by bit.fits", [fits.PrimaryHDU(image("f4", (5, 7)))])
    assert (tmp_path / "bit by bit.fits").read_bytes() == (tmp_path / "whole.fits").read_bytes()


def test_what_is_written_is_on_its_way_to_the_disk_while_the_rest_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdu, "STRIP_BYTES", 1)
    monkeypatch.setattr(hdu, "BEGUN_BYTES", 500)
    pixels, steps = image("f8", (40, 7)), []
    monkeypatch.setattr(hdu, "let_go", lambda handle, first, size: steps.append(("sent", first, size)))

    def _block(first: int, last: int) -> list[Any]:
        steps.append(("made", first, last))
        return [pixels[first:last]]

    write_together([Content(tmp_path / "x.fits", [fits.PrimaryHDU(pixels)], _block, begin=20)])
    sent = [step for step in steps if step[0] == "sent"]
    assert [kind for kind, _, _ in steps].index("sent") == 3, "as soon as there is enough"
    places = sorted(byte for _, first, size in sent for byte in range(first, first + size))
    assert places == list(range(2880, 2880 + pixels.nbytes)), "every byte once"
