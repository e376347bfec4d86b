"""What a stack says of how it came to be: one sentence a step, whole, in lines that fit; and what went into it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.io.header import LONGEST_LINE, add_step, read_steps
from nightdesk.science.flag import BAD_PIXEL, COSMIC_RAY
from nightdesk.steps import reduce
from tests.small_night import BIAS_LEVEL, GAIN, READ_NOISE, SmallNight


def reduced(root: Path, **options: Any) -> SmallNight:
    night = SmallNight(root, **options).write()
    reduce.run(night.settings, night.group)
    return night


def header_of(night: SmallNight) -> fits.Header:
    return fits.getheader(night.layout.stack)


def test_a_step_breaks_between_words_and_is_read_back_whole() -> None:
    header, sentence = fits.Header(), "Overscan: " + "a level that is told at length, " * 6 + "taken off."
    add_step(header, "ISR: bias.")
    add_step(header, sentence)
    assert all(len(line) <= LONGEST_LINE and set(line.split()) <= set(sentence.split()) | {"ISR:", "bias."}
               for line in header["HISTORY"])  # fmt: skip
    assert read_steps(header) == ["ISR: bias.", sentence]


def test_each_step_reaches_the_stack(tmp_path: Path) -> None:
    night = SmallNight(
        tmp_path,
        tables={
            "repairs": [{"files": "r0743054*", "keyword": "EGAIN", "value": GAIN, "reason": "it lies", "who": "A. O."}],
            "instruments": {"pt5m": {"trim": "[1:30,1:22]"}},
        },
    ).write()
    for name in night.names:
        night.write_raw(name, EGAIN=0.0 if name.endswith("54") else GAIN)
    for master in ("bias2x2.fits", "Rflatnorm2x2.fits"):
        path = night.root / "calibs" / master
        with fits.open(path) as hdus:
            for hdu in hdus:
                hdu.data = hdu.data[:22, :30]
            hdus.writeto(path, overwrite=True)
    reduce.run(night.settings, night.group)
    header = header_of(night)
    assert all(len(line) <= LONGEST_LINE for line in header["HISTORY"])
    steps = read_steps(header)
    assert [step.partition(":")[0] for step in steps] == [
        "Trim",
        "ISR",
        "Repair (r0743054)",
        "Extinction",
        "Align",
        "Combine",
    ]
    assert "ISR: bias, flat; gain 2.1 e-/ADU, read noise 5 e- (RDNOISE)." in steps
    assert "Repair (r0743054): EGAIN = 2.1 (was 0.0): it lies (A. O.)." in steps


@pytest.mark.parametrize(
    ("corrected", "sentence"),
    [
        ((), "Extinction: to above the atmosphere, k = 0.0547 mag/airmass."),
        ((0, 1, 2), "Extinction: the raws were corrected already (EXTCORR = T)."),
        ((1,), "Extinction: to above the atmosphere, k = 0.0547 mag/airmass; 1 of 3 frames were corrected already."),
    ],
    ids=["none", "all", "one"],
)
def test_raws_that_come_corrected_are_told(tmp_path: Path, corrected: tuple[int, ...], sentence: str) -> None:
    night = SmallNight(tmp_path).write()
    for index in corrected:
        night.write_raw(night.names[index], EXTCORR=True)
    reduce.run(night.settings, night.group)
    assert sentence in read_steps(header_of(night))


def test_a_mask_flags_pixels_and_is_no_master_without_noise(tmp_path: Path) -> None:
    night = SmallNight(tmp_path).write()
    shape = night.shape
    for name, image in (("bias2x2.fits", night.bias), ("Rflatnorm2x2.fits", night.flat)):
        cards = {"FILTER": "R"} if "flat" in name else {}
        night.write_master(name, image, np.full(shape, 1e-6, np.float32), **cards)
    mask = np.zeros(shape, np.uint8)
    mask[5, 7] = 1
    night.write_master("badpixels2x2.fits", mask)
    reduce.run(night.settings, night.group)
    frame = night.layout.product("postISR", night.names[0])
    assert fits.getheader(frame)["NOISECAL"] is True
    assert np.argwhere(fits.getdata(frame, "DQ") & BAD_PIXEL).tolist() == [[5, 7]]
    with fits.open(night.layout.stack) as hdus:
        assert hdus["COVERAGE"].data.min() < 3
        assert not (hdus["DQ"].data & BAD_PIXEL).any()
        assert "master bad pixels" in list(hdus["PROVENANCE"].data["ROLE"])
        assert "Bad pixels: flagged by calibs/badpixels2x2.fits." in read_steps(hdus[0].header)


def test_cosmic_rays_found_by_astroscrappy_are_flagged_and_told(tmp_path: Path) -> None:
    pytest.importorskip("astroscrappy", reason="astroscrappy is not installed")
    tables = {"filters": {"R": {"extinction": 0.0547, "cosmic_rays": "astroscrappy"}}}
    night = SmallNight(tmp_path, shape=(64, 64), tables=tables).write()
    pixels = night.pixels(night.names[0]).astype(int)
    pixels[40, 12:15] += 9000
    night.write_raw(night.names[0], pixels.astype(np.uint16))
    reduce.run(night.settings, night.group)
    flags = fits.getdata(night.layout.product("postISR", night.names[0]), "DQ")
    assert (flags[40, 12:15] & COSMIC_RAY).all()
    assert "Cosmic rays: flagged by astroscrappy." in read_steps(header_of(night))


def test_the_biases_that_told_the_read_noise_are_told(tmp_path: Path) -> None:
    tables = {"instruments": {"pt5m": {"keywords": {"read_noise": {"measure": "bias pairs"}}}}}
    night = SmallNight(tmp_path, shape=(48, 64), tables=tables).write()
    random = np.random.default_rng(3)
    for number in (1, 2):
        counts = np.rint(BIAS_LEVEL + random.normal(0.0, READ_NOISE / GAIN, night.shape)).astype(np.uint16)
        path = night.raw(night.names[0]).with_name(f"b{number}.fits")
        night.write_raw(night.names[0], counts, path=path, IMAGETYP="bias", EXPTIME=0.0, OBJECT="bias", FILTER=None)
    reduce.run(night.settings, night.group)
    with fits.open(night.layout.stack) as hdus:
        assert hdus[0].header["RDNSRC"] == "bias pair"
        rows = hdus["PROVENANCE"].data
        assert [row["FILE"] for row in rows if row["ROLE"] == "raw bias"] == ["b1.fits", "b2.fits"]
    inputs = json.loads(night.layout.manifest.read_text())["inputs"]
    assert {Path(one["path"]).name for one in inputs if one["role"].startswith("raw bias")} == {"b1.fits", "b2.fits"}


@pytest.mark.parametrize("method", ["mean", "weighted"])
def test_the_read_noise_of_a_stack_follows_weights_and_scales(tmp_path: Path, method: str) -> None:
    tables = {"combine": {"method": method, "scale": "exposure"}, "filters": {"R": {"extinction": 0.0}}}
    night = SmallNight(tmp_path, shape=(64, 64), tables=tables).write()
    for name, noise, seconds in zip(night.names, (3.0, 10.0, 60.0), (60.0, 30.0, 60.0), strict=True):
        night.write_raw(name, RDNOISE=noise, EXPTIME=seconds)
    reduce.run(night.settings, night.group)
    header = header_of(night)
    scales = [header[f"SCAL{number:04d}"] for number in (1, 2, 3)]
    assert scales == pytest.approx([1.0, 2.0, 1.0])
    noises = np.array([3.0, 10.0, 60.0]) * scales
    weights = np.ones(3)
    if method == "weighted":
        sky = [np.median(fits.getdata(night.layout.product("shifted", name), "VAR")) for name in night.names]
        weights = 1.0 / (np.array(sky) * np.square(scales))
    expected = math.sqrt(np.sum((weights * noises) ** 2)) / np.sum(weights)
    assert header["RDNOISE"] == pytest.approx(expected, rel=0.02)


def test_the_map_of_clipped_values_says_which_frame_each_came_from(tmp_path: Path) -> None:
    night = SmallNight(tmp_path, tables={"combine": {"map_rejections": True}}).write()
    pixels = night.pixels(night.names[1])
    y, x = 10, 20
    pixels[y, x] += 20_000
    night.write_raw(night.names[1], pixels)
    reduce.run(night.settings, night.group)
    dx, dy = night.offsets[1]
    with fits.open(night.layout.stack) as hdus:
        rejected = hdus["REJECTED"].data
        assert rejected.shape == (3, *night.shape)
        assert rejected[:, y - dy, x - dx].tolist() == [0, 1, 0]
        assert rejected.sum() == hdus[0].header["NREJ"] == hdus["NREJ"].data.sum()


def test_frames_of_unequal_exposure_are_scaled_to_the_first(tmp_path: Path) -> None:
    night = SmallNight(tmp_path, tables={"combine": {"scale": "exposure", "method": "mean"}}).write()
    bias = night.bias.astype(float)
    half = np.rint((night.pixels(night.names[1]) - bias) / 2.0 + bias).astype(np.uint16)
    night.write_raw(night.names[1], half, EXPTIME=night.exposure / 2.0)
    reduce.run(night.settings, night.group)
    with fits.open(night.layout.stack) as hdus:
        header = hdus[0].header
        assert [header[f"SCAL{number:04d}"] for number in (1, 2, 3)] == [1.0, 2.0, 1.0]
        assert (header["EXPTIME"], header["TEXPTIME"]) == (60.0, 150.0)
        first = fits.getdata(night.layout.product("shifted", night.names[0]))
        assert np.median(hdus[0].data) == pytest.approx(np.median(first), rel=0.02)
