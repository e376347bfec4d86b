"""Files that misbehave, offered as raws beside good frames: what becomes of each, and in which words.

They are real files that others' programs stumbled over; see README.md beside them. The folder is the one that the
environment variable NIGHTDESK_REAL_DATA names (default: ``../shared/data`` beside the checkout). All are offered at
once, in a process of its own: what they take together bounds what any of them takes.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import NightdeskError
from nightdesk.io.inventory import take_inventory
from nightdesk.io.layout import Layout
from nightdesk.io.rejection import night_of_raw
from nightdesk.settings import Settings
from nightdesk.steps import reduce, report
from tests.measured import Measured, measure
from tests.real_data import REAL_DATA, absent
from tests.small_night import SmallNight

ODD = REAL_DATA / "odd_fits"
pytestmark = pytest.mark.skipif(not ODD.is_dir(), reason=absent(ODD))

MOST_SECONDS, MOST_BYTES = 10, 2 * 1024**3

NOT_A_RAW, REJECTED, FLAT, OTHER, LOST = "not a raw", "rejected", "calibration", "another group", "lost"
NO_TARGET = "its header names no target (OBJECT is missing or blank)"
NO_FILTER = "its header names no filter (FILTER is missing or blank)"

Told = tuple[str, str]


def shape(width: int, height: int) -> Told:
    return LOST, f"it is {width} x {height} pixels, the group's other frames are 32 x 24"


def several(number: int) -> Told:
    return LOST, f"it holds {number} images; say which by extension = (number)"


def cut(size: str, missing: str) -> Told:
    return LOST, f"it is cut short: {size} bytes, at least {missing} fewer than its headers say. Copy it again"


NO_IMAGE: Told = LOST, "it holds no image"
MOSAIC: Told = LOST, "BAYERPAT = 'RGGB' says that it is a colour mosaic, which is not reduced"

# File; what becomes of it by pt5m's configuration; and by one that takes every file for a frame of this group, so that
# its pixels are opened.
TABLE: dict[str, tuple[Told, Told]] = {
    "astropy/arange.fits": ((REJECTED, NO_TARGET), (LOST, "its image has the axes (7, 10, 11) (slowest first)")),
    "astropy/blank.fits": ((REJECTED, NO_TARGET), shape(1, 1)),
    "astropy/checksum_false.fits": ((REJECTED, NO_FILTER), shape(30, 40)),
    "astropy/comp.fits": ((REJECTED, NO_FILTER), shape(440, 300)),
    "astropy/compressed_float_bzero.fits": ((REJECTED, NO_TARGET), (LOST, "its image has the axes (3,)")),
    "astropy/compressed_image.fits": ((REJECTED, NO_TARGET), shape(10, 10)),
    "astropy/double_ext.fits": ((REJECTED, NO_FILTER), shape(5, 5)),
    "astropy/fixed-1890.fits": ((REJECTED, NO_TARGET), shape(100, 100)),
    "astropy/group.fits": ((REJECTED, NO_TARGET), NO_IMAGE),
    "astropy/history_header.fits": ((REJECTED, NO_TARGET), NO_IMAGE),
    "astropy/invalid/group_invalid.fits": ((REJECTED, NO_TARGET), NO_IMAGE),
    "astropy/lzw.fits.Z": ((NOT_A_RAW, ""), (NOT_A_RAW, "")),
    "astropy/o4sp040b0_raw.fits": ((REJECTED, "its frame type 'SPECTROSCOPIC' is not among the words"), several(2)),
    "astropy/random_groups.fits": ((REJECTED, NO_FILTER), NO_IMAGE),
    "astropy/scale.fits": ((REJECTED, NO_TARGET), shape(20, 21)),
    "astropy/test0.fits": ((REJECTED, "its frame type 'EXT' is not among the words"), several(4)),
    "astropy/test1.fits": ((REJECTED, "its frame type 'EXT' is not among the words"), several(4)),
    "astropy/verify.fits": ((REJECTED, NO_TARGET), NO_IMAGE),
    "astropy/zerowidth.fits": ((REJECTED, NO_TARGET), (LOST, "axes (0, 777777701) (slowest first), which is empty")),
    "ccdproc/a8280271.fits": ((REJECTED, NO_FILTER), shape(536, 520)),
    "ccdproc/expected_ifc_file_properties.csv": ((NOT_A_RAW, ""), (NOT_A_RAW, "")),
    "ccdproc/flat-mef.fits": ((FLAT, "a flat frame"), several(3)),
    "ccdproc/science-mef.fits": ((OTHER, "has no settings: add [filters."), several(3)),
    "ccdproc/sip-wcs.fit": ((REJECTED, NO_TARGET), shape(100, 50)),
    "fitsio/test_gzip_compressed_image.fits.fz": ((REJECTED, NO_TARGET), shape(10, 10)),
    "fitsio/test_rice_dither2_seed42.fits.fz": ((REJECTED, NO_TARGET), shape(100, 100)),
    "truncated_asi178/Bias_ASIImg_frame0001.fit": ((REJECTED, NO_TARGET), MOSAIC),
    "truncated_asi178/Flat_ASIImg_frame0001.fit": ((REJECTED, NO_TARGET), cut("2,097,152", "366,208")),
    "truncated_asi178/Flat_ASIImg_frame0004.fit": ((REJECTED, NO_TARGET), MOSAIC),
    "truncated_asi178/Flat_ASIImg_frame0007.fit": ((REJECTED, NO_TARGET), cut("1,048,576", "1,414,784")),
    "truncated_asi178/LICENSE": ((NOT_A_RAW, ""), (NOT_A_RAW, "")),
}

TAKEN_AS_THEY_COME = {
    "filter": {"value": "R"},
    "date": {"value": "2026-11-21T22:00:00"},
    "exposure": 60.0,
    "airmass": ["AIRMASS", "SECZ", 1.2],
    "gain": ["EGAIN", 2.0],
    "frame_type": {"value": "object"},
    "binning_x": 2,
    "binning_y": 2,
    "readout_mode": {"value": ""},
}
EVERYTHING_IS_A_FRAME: dict[str, Any] = {
    "instruments": {"pt5m": {"keywords": {**TAKEN_AS_THEY_COME, "target": {"value": "NGC5949"}}}}
}

# Files whose pixels can be reduced by one that knows no better: each alone, as its own night and target.
READABLE = (
    "astropy/checksum_false.fits",
    "astropy/comp.fits",
    "astropy/compressed_image.fits",
    "astropy/double_ext.fits",
    "astropy/fixed-1890.fits",
    "astropy/scale.fits",
    "ccdproc/a8280271.fits",
    "ccdproc/sip-wcs.fit",
    "fitsio/test_gzip_compressed_image.fits.fz",
    "fitsio/test_rice_dither2_seed42.fits.fz",
)
READABLE_IN_EXTENSION_1 = (
    "astropy/o4sp040b0_raw.fits",
    "astropy/test0.fits",
    "astropy/test1.fits",
    "ccdproc/flat-mef.fits",
    "ccdproc/science-mef.fits",
)


@dataclass(frozen=True)
class Outcome:
    """What a data root with odd files came to: each group's last word, and each raw's fate with its reason."""

    sentences: dict[str, str]
    fates: dict[str, Told]


def reduce_all(settings: Settings) -> Outcome:
    """Reduce every group on the disk and write every night's report."""
    warnings.simplefilter("error")
    inventory = take_inventory(settings)
    sentences = {}
    for group in inventory.science:
        try:
            sentences[group.key] = reduce.run(settings, group)
        except NightdeskError as error:
            sentences[group.key] = str(error)
    fates: dict[str, Told] = {}
    for night in {night_of_raw(settings, facts) for facts in inventory.raws}:
        told = json.loads((settings.root / report.run(settings, night)).read_text())
        fates |= {raw["path"].rpartition("/")[2]: (raw["fate"], raw["reason"]) for raw in told["raws"]}
    return Outcome(sentences, fates)


def judge(measured: Measured) -> Outcome:
    """Return the outcome, if it came soon, with little memory, and in words for a person."""
    assert measured.seconds < MOST_SECONDS
    assert measured.peak_bytes < MOST_BYTES
    outcome: Outcome = measured.result
    for words in [*outcome.sentences.values(), *(reason for _, reason in outcome.fates.values())]:
        assert "Traceback" not in words
        assert "Error" not in words
        assert "astropy" not in words.replace("astropy/", "")
        assert words.isprintable()
    return outcome


def offer(night: SmallNight, file: str, prefix: str = "") -> Path:
    place = night.raw("any").with_name(prefix + Path(file).name)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ODD / file, place)
    return place


Reduced = tuple[SmallNight, Outcome]


@pytest.fixture(scope="module")
def everything(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    """Eight good frames and every odd file, reduced by one of the two configurations."""
    night = SmallNight(tmp_path_factory.mktemp("odd"), offsets=((0, 0), *[(1, 2), (-3, 1)] * 3, (2, 2)))
    night = replace(night, tables=request.param).write()
    stems = [offer(night, file).name.partition(".")[0] for file in TABLE]
    night.write_rows([*night.sidecar.read_text().split(), *(f"{stem},5,5,1" for stem in stems)])
    return night, judge(measure(reduce_all, night.settings))


def test_the_table_has_every_file() -> None:
    assert {path.relative_to(ODD).as_posix() for path in ODD.rglob("*") if path.is_file()} == set(TABLE)


@pytest.mark.parametrize("everything", [{}], ids=["pt5m"], indirect=True)
class TestPlainConfiguration:
    """Most odd files name no target or no filter: they are put aside with that reason."""

    @pytest.mark.parametrize("file", TABLE)
    def test_what_becomes_of_it(self, everything: Reduced, file: str) -> None:
        night, outcome = everything
        wanted, sentence = TABLE[file][0]
        fate, reason = outcome.fates.get(Path(file).name, (NOT_A_RAW, ""))
        if wanted == OTHER:
            (reason,) = [words for key, words in outcome.sentences.items() if key != night.group.key]
            assert fate == LOST
        else:
            assert fate == wanted
        assert sentence in reason
        if wanted == REJECTED:
            (place,) = (night.root / "rejected").glob(f"*/{Path(file).name.rsplit('.fit', 1)[0]}.json")
            assert json.loads(place.read_text())["reason"] == reason

    def test_the_good_frames_beside_them_are_reduced(self, everything: Reduced) -> None:
        night, outcome = everything
        assert outcome.sentences[night.group.key].startswith(f"{night.group.key} is done: 8 frames are in the stack.")


@pytest.mark.parametrize("everything", [EVERYTHING_IS_A_FRAME], ids=["all frames"], indirect=True)
class TestEverythingIsAFrame:
    """Every file is taken for a frame of the group, so that its pixels are opened."""

    @pytest.mark.parametrize("file", TABLE)
    def test_what_becomes_of_it(self, everything: Reduced, file: str) -> None:
        night, outcome = everything
        name = Path(file).name
        wanted, sentence = TABLE[file][1]
        fate, reason = outcome.fates.get(name, (NOT_A_RAW, ""))
        assert fate == wanted
        assert sentence in reason
        if fate == LOST:
            assert reason.startswith(f"{name}: ")
            assert f"{name.partition('.')[0]} was lost: {reason}" in outcome.sentences[night.group.key]

    def test_the_good_frames_beside_them_are_reduced(self, everything: Reduced) -> None:
        night, outcome = everything
        odd = sum(told[1][0] == LOST for told in TABLE.values())
        assert outcome.sentences[night.group.key].startswith(
            f"{night.group.key} is partial: 8 of {8 + odd} frames are in the stack."
        )
        assert all(outcome.fates[f"{name}.fits"] == ("used", "") for name in night.names)

    @pytest.mark.parametrize("file", TABLE)
    def test_it_is_not_touched(self, everything: Reduced, file: str) -> None:
        night, _ = everything
        assert night.raw("any").with_name(Path(file).name).read_bytes() == (ODD / file).read_bytes()


def reduce_each_alone(root: Path, files: Iterable[str], extension: int | None) -> Reduced:
    """Reduce some files, each on a night and as a target of its own, with a bias of zeros and without a flat."""
    night_and_target = {
        "target": {"file": r"^[0-9-]+_([^.]+)"},
        "date": {"file": r"^([0-9-]+)_"},
        "time": {"value": "22:00:00"},
    }
    instrument = {"keywords": {**TAKEN_AS_THEY_COME, **night_and_target}} | (
        {} if extension is None else {"extension": extension}
    )
    tables = {"filters": {"R": {"extinction": 0.1, "flat": "none"}}, "instruments": {"pt5m": instrument}}
    night = SmallNight(root, offsets=(), tables=tables)
    for number, file in enumerate(files):
        day = date(2020, 1, 1) + timedelta(days=number)
        odd = offer(night, file, prefix=f"{day.isoformat()}_")
        night.write_master(f"{day.isoformat()}/bias2x2.fits", np.zeros(pixels_of(odd, extension).shape, np.float32))
    return night, judge(measure(reduce_all, night.settings))


def pixels_of(path: Path, extension: int | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, memmap=False) as hdus:
            images = [hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None]
            return images[0] if extension is None else hdus[extension].data


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    """Files with one image."""
    return reduce_each_alone(tmp_path_factory.mktemp("readable"), READABLE, None)


@pytest.fixture(scope="module")
def readable_in_extension_1(tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    """Files with several images, of which the configuration chooses one."""
    return reduce_each_alone(tmp_path_factory.mktemp("extension"), READABLE_IN_EXTENSION_1, 1)


@pytest.mark.parametrize(
    ("fixture", "file"),
    [
        *(pytest.param("readable", file, id=file) for file in READABLE),
        *(pytest.param("readable_in_extension_1", file, id=file) for file in READABLE_IN_EXTENSION_1),
    ],
)
def test_odd_pixels_and_headers_go_through_every_step(request: pytest.FixtureRequest, fixture: str, file: str) -> None:
    night, outcome = request.getfixturevalue(fixture)
    odd = next(night.raw("any").parent.glob(f"*_{Path(file).name}"))
    (group,) = (
        group for group in take_inventory(night.settings).science if odd.name.startswith(group.night.isoformat())
    )
    assert "is done: 1 frame" in outcome.sentences[group.key]
    layout = Layout(night.settings, group)
    frame = fits.getheader(layout.product("extinction", odd.name.partition(".")[0]))
    expected = pixels_of(odd, 1 if file in READABLE_IN_EXTENSION_1 else None) * (
        frame["NDGAIN"] * 10 ** (0.4 * frame["EXTK"] * frame["AIRMASS"])
    )
    with fits.open(layout.stack, checksum=True) as hdus:
        hdus.verify("exception")
        assert np.isfinite(hdus["SCI"].data).all()
        assert (hdus["VAR"].data >= 0).all()
        good = hdus["DQ"].data == 0
        assert good.any()
        np.testing.assert_allclose(hdus["SCI"].data[good], expected[good], rtol=1e-5, atol=1e-4)
