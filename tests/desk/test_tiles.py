"""Coding, tiles and rectangles: what a viewer paints is what the file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from nightdesk.desk.coding import Coding
from nightdesk.desk.plane import find_planes, halve_flags
from nightdesk.desk.pyramid import MAGIC, TILE, Pyramid, as_counts, halve, levels_of, write_pyramid
from nightdesk.science.flag import NO_DATA, SATURATED


@given(st.floats(-1e5, 1e5), st.floats(0.01, 1e4), st.floats(-1000, 1e6))
def test_a_value_comes_back_to_a_small_part_of_the_noise_or_of_itself(sky: float, noise: float, depth: float) -> None:
    coding = Coding.of(sky, noise)
    value = sky + depth * noise
    back = coding.decode(coding.encode(np.array([value])))[0]
    rounding = 4e-7 * (abs(value) + abs(sky))  # of the float32 in which tiles are made
    assert abs(back - value) <= 0.001 * noise + 0.0004 * abs(depth) * noise + rounding


def test_what_is_no_number_is_coded_as_nothing_and_comes_back_as_such() -> None:
    coding = Coding.of(100.0, 5.0)
    numbers = coding.encode(np.array([np.nan, np.inf, 1e30, -1e30, 100.0]))
    assert numbers.tolist()[:2] == [0, 0]
    assert (numbers[2:] > 0).all()
    assert np.isnan(coding.decode(np.array([0]))[0])


@pytest.mark.parametrize(("sky", "noise"), [(0.0, 0.0), (float("nan"), 1.0), (5.0, float("nan"))])
def test_an_image_without_sky_or_noise_can_still_be_coded(sky: float, noise: float) -> None:
    assert Coding.of(sky, noise).encode(np.array([3.0]))[0] > 0


def test_a_mean_of_four_leaves_out_what_is_no_number() -> None:
    values = np.array([[1.0, np.nan, 5.0], [3.0, np.nan, 7.0], [9.0, 11.0, np.nan]], np.float32)
    assert halve(values).tolist()[0] == [2.0, 6.0]
    assert halve(values)[1, 0] == 10.0
    assert np.isnan(halve(values)[1, 1])


def test_a_flag_of_one_pixel_is_the_flag_of_its_bin() -> None:
    flags = np.zeros((5, 3), np.uint8)
    flags[4, 2], flags[0, 1] = 4, 1
    flags[1, 0] = 8
    assert halve_flags(flags).tolist() == [[9, 0], [0, 0], [0, 4]]


@pytest.mark.parametrize(
    ("shape", "levels"), [((1, 1), 0), ((256, 256), 0), ((257, 10), 1), ((4096, 4096), 4), ((5000, 300), 5)]
)
def test_an_image_is_halved_until_it_fits_into_a_tile(shape: tuple[int, int], levels: int) -> None:
    assert levels_of(shape) == levels


def image(shape: tuple[int, int] = (600, 530)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    data = random.normal(1000.0, 10.0, shape).astype(np.float32)
    flags = np.zeros(shape, np.uint16)
    flags[:7] = NO_DATA
    flags[300, 200] = SATURATED
    return data, flags


def counts(shape: tuple[int, int] = (600, 530)) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    clipped = np.where(random.random(shape) < 0.001, 300, 0).astype(np.uint16)
    return {"coverage": random.integers(0, 12, shape).astype(np.uint16), "rejected": clipped}


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    data, flags = image()
    path = tmp_path / "stack.tiles"
    write_pyramid(path, data, flags, Coding.of(1000.0, 10.0), "made of this", counts())
    opened = Pyramid.open(path)
    assert opened is not None
    return opened


def test_every_tile_of_every_level_is_the_mean_of_its_pixels(pyramid: Pyramid) -> None:
    data, flags = image()
    known = np.where(flags & NO_DATA, np.nan, data)
    bits = flags.astype(np.uint8)
    for level, (rows, columns) in enumerate(pyramid.levels, start=1):
        known = halve(known)
        bits = halve_flags(bits)
        assert known.shape == (rows, columns)
        for row in range(-(-rows // TILE)):
            for column in range(-(-columns // TILE)):
                part = (slice(row * TILE, (row + 1) * TILE), slice(column * TILE, (column + 1) * TILE))
                ny, nx = known[part].shape
                made = np.frombuffer(pyramid.tile("sci", level, row, column), "<u2").reshape(TILE, TILE)[:ny, :nx]
                np.testing.assert_allclose(pyramid.coding.decode(made), known[part], rtol=0, atol=0.02)
                marked = np.frombuffer(pyramid.tile("dq", level, row, column), np.uint8).reshape(TILE, TILE)[:ny, :nx]
                assert (marked == bits[part]).all()


def test_frames_are_counted_on_the_mean_and_clipped_values_by_the_worst_pixel(pyramid: Pyramid) -> None:
    coverage, clipped = counts()["coverage"].astype(np.float32), counts()["rejected"]
    for level in range(1, len(pyramid.levels) + 1):
        coverage = halve(coverage)
        clipped = np.pad(clipped, [(0, length % 2) for length in clipped.shape])
        clipped = clipped.reshape(clipped.shape[0] // 2, 2, -1, 2).max(axis=(1, 3))
        for kind, expected in (("coverage", np.rint(coverage)), ("rejected", np.minimum(clipped, 255))):
            made = np.frombuffer(pyramid.tile(kind, level, 0, 0), np.uint8).reshape(TILE, TILE)
            part = expected[:TILE, :TILE]
            np.testing.assert_array_equal(made[: part.shape[0], : part.shape[1]], part)
    assert pyramid.tile("var", 1, 0, 0) is None


def test_tiles_that_are_not_written_are_made_of_the_file_alike(tmp_path: Path, pyramid: Pyramid) -> None:
    path = tmp_path / "counts.fits"
    hdus = [fits.PrimaryHDU(counts()["coverage"]), fits.ImageHDU(counts()["rejected"], name="NREJ")]
    fits.HDUList(hdus).writeto(path)
    planes = find_planes(path)
    for level, (rows, columns) in enumerate(pyramid.levels, start=1):
        whole = slice(0, min(rows, TILE)), slice(0, min(columns, TILE))
        for kind, name in (("coverage", "SCI"), ("rejected", "NREJ")):
            made = as_counts(planes[name].binned(level, *whole, most=kind == "rejected"))
            tile = np.frombuffer(pyramid.tile(kind, level, 0, 0), np.uint8).reshape(TILE, TILE)
            off = np.abs(made.astype(int) - tile[: made.shape[0], : made.shape[1]])
            assert off.max() <= (1 if kind == "coverage" else 0)  # a mean of means at the edge of an odd image


@pytest.mark.parametrize("place", [(0, 0, 0), (3, 0, 0), (1, 2, 0), (1, 0, -1), (-1, 0, 0)])
def test_a_tile_that_is_not_there_is_none(pyramid: Pyramid, place: tuple[int, int, int]) -> None:
    assert pyramid.tile("sci", *place) is None


@pytest.mark.parametrize("content", [b"", b"something else", MAGIC + b"zzzzzzzz", MAGIC + b"00000002{"])
def test_a_file_of_another_kind_is_no_pyramid(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert Pyramid.open(tmp_path / "x") is None
    assert Pyramid.open(tmp_path / "none") is None


@pytest.fixture(params=["float32", "float64", "uint16", "int16", "int32"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    random = np.random.default_rng(6)
    data = random.normal(1000.0, 50.0, (301, 257)).astype(request.param)
    flags = random.integers(0, 128, data.shape).astype(np.uint16)
    path = tmp_path / "image.fits"
    hdus = [fits.PrimaryHDU(data), fits.ImageHDU(data, name="VAR"), fits.ImageHDU(flags, name="DQ")]
    fits.HDUList(hdus).writeto(path)
    return path, data, flags


@pytest.mark.parametrize(
    ("rows", "columns"),
    [((0, 1), (0, 1)), ((300, 301), (256, 257)), ((10, 200), (40, 60)), ((0, 301), (0, 257)), ((290, 400), (250, 300))],
    ids=["first pixel", "last pixel", "middle", "all", "over the edge"],
)
def test_a_rectangle_is_what_the_file_has(
    written: tuple[Path, np.ndarray, np.ndarray], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    path, data, flags = written
    planes = find_planes(path)
    part = slice(*rows), slice(*columns)
    for name, expected in (("SCI", data), ("VAR", data), ("DQ", flags)):
        np.testing.assert_array_equal(planes[name].read(*part), expected[part])


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_binned_pixels_are_means_and_binned_flags_every_flag(
    written: tuple[Path, np.ndarray, np.ndarray], level: int
) -> None:
    path, data, flags = written
    values, bits = data.astype(np.float32), flags.astype(np.uint8)
    for _ in range(level):
        bits = halve_flags(bits)
    planes = find_planes(path)
    whole = slice(0, 4096)
    np.testing.assert_array_equal(planes["DQ"].binned_flags(level, whole, whole), bits)
    binned = planes["SCI"].binned(level, slice(0, -(-301 // 2**level)), slice(0, -(-257 // 2**level)))
    expected = values[: 2**level, : 2**level].mean()
    assert binned[0, 0] == pytest.approx(expected, rel=1e-5)
    assert binned.shape == bits.shape
    assert binned[-1, -1] == pytest.approx(
        values[(bits.shape[0] - 1) * 2**level :, (bits.shape[1] - 1) * 2**level :].mean(), rel=1e-5
    )


def test_a_file_that_is_cut_short_is_told(written: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path, _, _ = written
    planes = find_planes(path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(EOFError, match="cut short"):
        planes["SCI"].read(slice(200, 300), slice(0, 257))


def test_a_file_that_was_replaced_is_looked_at_anew(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    fits.writeto(path, np.zeros((10, 10), np.float32))
    assert find_planes(path)["SCI"].shape == (10, 10)
    fits.writeto(path, np.zeros((20, 30), np.float64), overwrite=True)
    assert find_planes(path)["SCI"].shape == (20, 30)
