"""Laws of raw files: whatever the bytes, a file is sorted or told, and never more than its own trouble."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nightdesk.errors import FrameError
from nightdesk.io.frame import read_raw
from nightdesk.io.hdu import write_hdus
from nightdesk.io.header import inherit_header
from nightdesk.io.raw import RawFacts, read_facts
from nightdesk.settings import Instrument, Settings
from tests.small_night import SmallNight

KINDS = {"science", "bias", "dark", "flat", "ignored", "rejected"}
FRAME = "r0743053"
SHAPE = (16, 20)
DATA = 2 * SHAPE[0] * SHAPE[1]

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def raw_bytes(*, extension: bool = False, compressed: bool = False) -> bytes:
    night = SmallNight(Path("/nowhere"), shape=SHAPE)
    pixels, header = night.pixels(FRAME), night.header(FRAME)
    if not extension:
        hdus = [fits.PrimaryHDU(pixels, header)]
    else:
        image = (fits.CompImageHDU if compressed else fits.ImageHDU)(pixels, header)
        hdus = [fits.PrimaryHDU(), image]
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


WHOLE = {
    "plain": raw_bytes(),
    "in an extension": raw_bytes(extension=True),
    "compressed": raw_bytes(extension=True, compressed=True),
}
ZIPPED = gzip.compress(WHOLE["plain"], mtime=0)
PIECES = st.binary(max_size=30) | st.text("ABENDXTSIMPLE='0123456789./-+TF ", max_size=30).map(str.encode)
DAMAGE = st.lists(st.tuples(st.integers(0, 8000), PIECES), min_size=1, max_size=5)


def damaged(content: bytes, damage: list[tuple[int, bytes]]) -> bytes:
    for place, piece in damage:
        place %= len(content)
        content = content[:place] + piece + content[place + len(piece) :]
    return content


def facts_of(root: Path, content: bytes, name: str = "x.fits") -> RawFacts:
    path = root / "raw" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return read_facts(Settings.model_validate({"data": {"root": root}}), path, size=len(content), mtime_ns=0)


@pytest.mark.parametrize("kind", WHOLE)
@one_folder
@given(damage=DAMAGE)
def test_damaged_bytes_are_sorted_or_told(tmp_path: Path, kind: str, damage: list[tuple[int, bytes]]) -> None:
    facts = facts_of(tmp_path, damaged(WHOLE[kind], damage))
    assert facts.kind in KINDS
    assert (facts.reason != "") == (facts.kind in ("rejected", "ignored"))
    if facts.kind == "science":
        assert facts.night
        assert facts.target
        assert facts.filter_name
    assert RawFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize("kind", [*WHOLE, "zipped"])
@one_folder
@given(damage=DAMAGE)
def test_damaged_bytes_are_read_or_a_frame_error(tmp_path: Path, kind: str, damage: list[tuple[int, bytes]]) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(damaged(WHOLE.get(kind, ZIPPED), damage))
    try:
        pixels, header = read_raw(path, Instrument(max_pixels=100_000))
    except FrameError as error:
        told = str(error)
        assert told.startswith("x.fits: ")
        assert "\n" not in told
    else:
        assert pixels.ndim == 2
        write_hdus(tmp_path / "product.fits", [fits.PrimaryHDU(header=inherit_header(header))])
        assert fits.getheader(tmp_path / "product.fits")["NAXIS"] == 0


@one_folder
@given(length=st.integers(0, len(WHOLE["plain"])))
def test_a_file_is_complete_exactly_from_its_announced_length_on(tmp_path: Path, length: int) -> None:
    facts = facts_of(tmp_path, WHOLE["plain"][:length])
    headers = len(WHOLE["plain"]) - 2880
    assert facts.complete == (length >= headers + DATA)
    assert (facts.kind == "science") == (length >= WHOLE["plain"].index(b"END" + b" " * 77) + 3)
    if facts.kind == "science" and not facts.complete:
        assert facts.missing == headers + DATA - length


@one_folder
@given(damage=DAMAGE | st.just([]), keep=st.floats(0, 1))
def test_damaged_zipped_bytes_are_sorted_or_told(tmp_path: Path, damage: list[tuple[int, bytes]], keep: float) -> None:
    zipped = damaged(ZIPPED, damage)
    facts = facts_of(tmp_path, zipped[: round(len(zipped) * keep)], "x.fits.gz")
    assert facts.kind in KINDS


@one_folder
@given(content=st.binary(max_size=6000))
def test_any_bytes_are_rejected(tmp_path: Path, content: bytes) -> None:
    assert facts_of(tmp_path, content).kind == "rejected"


@one_folder
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), depth=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"])
)
def test_a_raw_of_any_depth_is_complete_and_has_its_shape(tmp_path: Path, shape: tuple[int, int], depth: str) -> None:
    header = SmallNight(Path("/nowhere")).header(FRAME)
    stream = io.BytesIO()
    fits.PrimaryHDU(np.zeros(shape, depth), header).writeto(stream)
    facts = facts_of(tmp_path, stream.getvalue())
    assert (facts.kind, facts.complete, facts.shape) == ("science", True, shape)
