"""Raw files: whole or cut short, whose they are, and why some are nobody's."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.io.inventory import take_inventory
from nightdesk.io.raw import RawFacts, folder_night, is_raw_name, list_raw_files, raw_places, stem_of
from nightdesk.settings import Settings
from tests.small_night import NIGHT, SmallNight

FRAME = "r0743053"


@pytest.fixture
def night(tmp_path: Path) -> SmallNight:
    return SmallNight(tmp_path, shape=(16, 20))


def facts_of(night: SmallNight, **settings: Any) -> RawFacts:
    """Return the facts of the only raw on the disk."""
    (facts,) = take_inventory(SmallNight(night.root, tables=settings).settings).raws
    return facts


def write_card(path: Path, keyword: str, text: str) -> None:
    """Overwrite one card of a file with other text, as a camera's own software might have it."""
    content = path.read_bytes()
    start = content.index(keyword.ljust(8).encode() + b"=")
    path.write_bytes(content[:start] + text.encode("latin-1").ljust(80) + content[start + 80 :])


def test_a_raw_says_what_it_is_without_its_pixels(night: SmallNight) -> None:
    path = night.write_raw(FRAME)
    status = path.stat()
    assert facts_of(night) == RawFacts(
        path=f"raw/2026-11-21/{FRAME}.fits",
        name=FRAME,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        kind="science",
        missing=0,
        target_text="NGC5949",
        filter_text="R",
        moment="2026-11-21T22:00:00+00:00",
        night="2026-11-21",
        exposure=60.0,
        binning="2x2",
        shape=(16, 20),
        raw_shape=(16, 20),
        camera="pt5m",
    )


def test_facts_survive_the_cache(night: SmallNight) -> None:
    night.write_raw(FRAME)
    facts = facts_of(night)
    assert RawFacts.from_json(facts.to_json()) == facts


# Which files can be raws


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        pytest.param("r0743053.fits", "r0743053", id="fits"),
        pytest.param("r0743053.FIT", "r0743053", id="any case"),
        pytest.param("r0743053.fts", "r0743053", id="fts"),
        pytest.param("r0743053.fits.fz", "r0743053", id="compressed"),
        pytest.param("r0743053.Fits.GZ", "r0743053", id="zipped"),
        pytest.param("M31.R.001.fit", "M31.R.001", id="points in the name"),
        pytest.param("r0743053.txt", None, id="another kind"),
        pytest.param("r0743053.gz", None, id="zipped, but what"),
        pytest.param("fits", None, id="no extension"),
    ],
)
def test_a_raw_is_known_by_its_extension(name: str, stem: str | None) -> None:
    assert stem_of(name, Settings().files.extensions) == stem
    assert is_raw_name(Settings(), name) == (stem is not None)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(".r0743053.fits", id="dotfile"),
        pytest.param("._r0743053.fits", id="macOS' twin"),
        pytest.param(".r0743053.fits.Xy12Zz", id="rsync's temporary"),
        pytest.param("r0743053.fits.tmp", id="tmp"),
        pytest.param("r0743053.fits~", id="editor's copy"),
        pytest.param("r0743053.fits.part", id="half a download"),
        pytest.param("r0743053.fits.filepart", id="half a transfer"),
        pytest.param(".fits", id="an extension alone"),
    ],
)
def test_temporary_files_are_nobodys(name: str) -> None:
    assert not is_raw_name(Settings(), name)


def test_patterns_and_extensions_are_settings() -> None:
    settings = Settings.model_validate({"files": {"extensions": [".raw"], "ignore": ["dome*"]}})
    assert is_raw_name(settings, "x.RAW")
    assert not is_raw_name(settings, "dome1.raw")
    assert not is_raw_name(settings, "x.fits")


def test_raws_lie_in_both_places_and_nowhere_else(night: SmallNight) -> None:
    wanted = [
        night.write_raw(FRAME, path=night.root / place / f"{FRAME}.fits")
        for place in ("raw", "raw/2026-11-21", "raw/2026-11-21/deeper/still", "processed/NGC5949/R/raws")
    ]
    for place in (
        "calibs",
        "processed/NGC5949/R/2026-11-21/postISR",
        "processed/NGC5949/R/postISR",
        "raw/.hidden",
        "elsewhere",
    ):
        night.write_raw(FRAME, path=night.root / place / f"{FRAME}.fits")
    assert sorted(path for path, _, _ in list_raw_files(night.settings)) == sorted(wanted)
    assert raw_places(night.settings) == [night.root / "raw", night.root / "processed/NGC5949/R/raws"]


def test_a_folder_named_like_a_raw_is_a_folder(night: SmallNight) -> None:
    night.write_raw(FRAME, path=night.root / "raw/odd.fits" / f"{FRAME}.fits")
    (night.root / "raw/nothing.fits").symlink_to("nowhere")
    os.mkfifo(night.root / "raw/pipe.fits")
    assert facts_of(night).path == f"raw/odd.fits/{FRAME}.fits"


def test_a_link_that_leads_back_is_walked_once(night: SmallNight) -> None:
    night.write_raw(FRAME)
    (night.root / "raw/2026-11-21/again").symlink_to(night.root / "raw")
    assert facts_of(night).name == FRAME


# Whole or cut short


def test_a_file_is_complete_when_it_is_as_long_as_its_headers_say(night: SmallNight) -> None:
    path = night.write_raw(FRAME)
    whole = path.read_bytes()
    pixels = len(whole) // 2880 * 2880 - 2880  # the header takes whole blocks
    data = 16 * 20 * 2
    for size, missing in ((len(whole), 0), (pixels + data, 0), (pixels + data - 1, 1), (pixels, data)):
        path.write_bytes(whole[:size])
        facts = facts_of(night)
        assert (facts.kind, facts.missing, facts.complete) == ("science", missing, missing == 0)


@pytest.mark.parametrize("size", [0, 5, 2000, 2880])
def test_half_a_header_is_not_complete(night: SmallNight, size: int) -> None:
    path = night.write_raw(FRAME, COMMENT="x" * 60, HISTORY="y")
    long = fits.Header.fromfile(path)
    long.extend([("COMMENT", "padding")] * 40)
    fits.PrimaryHDU(night.pixels(FRAME), long).writeto(path, overwrite=True)
    path.write_bytes(path.read_bytes()[:size])
    facts = facts_of(night)
    assert (facts.kind, facts.complete) == ("rejected", False)
    assert "cut short" in facts.reason


def test_an_extension_counts_for_completeness(night: SmallNight) -> None:
    path = night.raw(FRAME)
    path.parent.mkdir(parents=True)
    image = fits.ImageHDU(night.pixels(FRAME))
    fits.HDUList([fits.PrimaryHDU(header=night.header(FRAME)), image]).writeto(path)
    facts = facts_of(night)
    assert (facts.complete, facts.shape, facts.target) == (True, (16, 20), "NGC5949")
    path.write_bytes(path.read_bytes()[:-2880])
    assert facts_of(night).missing == 16 * 20 * 2


def test_bytes_behind_the_last_extension_do_not_matter(night: SmallNight) -> None:
    path = night.write_raw(FRAME)
    path.write_bytes(path.read_bytes() + b"\0" * 5000)
    assert facts_of(night).complete


def test_a_compressed_image_is_known_by_its_own_shape(night: SmallNight) -> None:
    path = night.raw(FRAME).with_suffix(".fits.fz")
    path.parent.mkdir(parents=True)
    image = fits.CompImageHDU(night.pixels(FRAME), night.header(FRAME))
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    facts = facts_of(night)
    assert (facts.name, facts.kind, facts.shape, facts.exposure) == (FRAME, "science", (16, 20), 60.0)


@pytest.mark.parametrize(
    ("spoil", "kind", "complete"),
    [
        pytest.param(lambda content: content, "science", True, id="whole"),
        pytest.param(lambda content: content[: len(content) // 2], "rejected", False, id="half"),
        pytest.param(lambda content: content[:30] + b"\xff" * 60 + content[90:], "rejected", False, id="spoilt"),
        pytest.param(lambda content: content[:-8] + b"\0" * 8, "rejected", False, id="wrong checksum"),
        pytest.param(lambda content: b"SIMPLE  = T", "rejected", False, id="not zipped"),
        pytest.param(lambda content: b"", "rejected", False, id="empty"),
    ],
)
def test_a_zipped_raw_is_whole_when_it_can_be_unpacked(
    night: SmallNight, spoil: Any, kind: str, complete: bool
) -> None:
    path = night.write_raw(FRAME)
    zipped = path.with_suffix(".fits.gz")
    zipped.write_bytes(spoil(gzip.compress(path.read_bytes(), mtime=0)))
    path.unlink()
    facts = facts_of(night)
    assert (facts.name, facts.kind, facts.complete) == (FRAME, kind, complete)


def test_a_zipped_raw_that_announces_too_much_is_not_unpacked(night: SmallNight) -> None:
    path = night.write_raw(FRAME)
    write_card(path, "NAXIS2", "NAXIS2  =           1000000000")
    path.with_suffix(".fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    facts = facts_of(night)
    assert facts.kind == "rejected"
    assert "more than max_pixels allows" in facts.reason
    assert facts.complete


@pytest.mark.parametrize("content", [b"hello", b"\0" * 9000, b"SIMPLE = T", b"PNG\r\n" * 2000])
def test_what_is_no_fits_file_is_rejected_at_once(night: SmallNight, content: bytes) -> None:
    path = night.raw(FRAME)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    facts = facts_of(night)
    assert (facts.kind, facts.complete) == ("rejected", True)
    assert "not a FITS file" in facts.reason


# Broken headers: one file's trouble


@pytest.mark.parametrize(
    ("keyword", "card", "expected"),
    [
        pytest.param("EXPTIME", "EXPTIME = 3,2E-05", {"kind": "science", "exposure": 3.2e-5}, id="comma in a number"),
        pytest.param("EXPTIME", "EXPTIME =                  nan", {"exposure": None}, id="not a number"),
        pytest.param("EXPTIME", "EXPTIME =                    T", {"exposure": None}, id="yes for a number"),
        pytest.param("EXPTIME", "EXPTIME = '60.0'", {"exposure": 60.0}, id="number as text"),
        pytest.param("OBJECT", "OBJECT  = 'NGC 5949", {"target": "NGC5949"}, id="a quote that is not closed"),
        pytest.param("OBJECT", "OBJECT  = NGC 5949 / name", {"target": "NGC5949"}, id="no quotes"),
        pytest.param("OBJECT", "OBJECT  = 'P\xe9rez 1'", {"target": "P-rez1"}, id="not ASCII"),
        pytest.param("DATE-OBS", "DATE-OBS= 2026-11-21T22:00:00", {"night": "2026-11-21"}, id="date without quotes"),
        pytest.param("DATE-OBS", "DATE-OBS= '0001-01-01T00:00:00'", {"kind": "rejected"}, id="a clock never set"),
        pytest.param("DATE-OBS", "DATE-OBS=           2461366.25", {"kind": "rejected"}, id="a number for a date"),
        pytest.param("NAXIS1", "NAXIS1  = 1 6", {"kind": "rejected"}, id="no count"),
        pytest.param("NAXIS1", "NAXIS1  =                   -5", {"kind": "rejected"}, id="negative count"),
        pytest.param("NAXIS", "NAXIS   =                    0", {"kind": "science", "shape": ()}, id="no image"),
        pytest.param("BITPIX", "BITPIX  = 'abc'", {"kind": "rejected"}, id="no depth"),
    ],
)
def test_a_broken_card_is_the_trouble_of_its_file_alone(
    night: SmallNight, keyword: str, card: str, expected: dict[str, Any]
) -> None:
    write_card(night.write_raw(FRAME), keyword, card)
    facts = facts_of(night)
    assert {name: getattr(facts, name) for name in expected} == expected
    assert (facts.reason != "") == (facts.kind == "rejected")


def test_a_compressed_image_with_a_broken_shape_is_rejected(night: SmallNight) -> None:
    path = night.write_raw(FRAME)
    write_card(path, "CRPIX1", "ZIMAGE  =                    T")
    write_card(path, "CRPIX2", "ZNAXIS  = 'abc'")
    facts = facts_of(night)
    assert (facts.kind, facts.reason) == ("rejected", "ZNAXIS = 'abc' is not a count")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up the right to read everything, where the tests have it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_is_rejected_until_it_may() -> None:
    with tempfile.TemporaryDirectory() as folder:
        night = SmallNight(Path(folder), shape=(16, 20))
        path = night.write_raw(FRAME)
        Path(folder).chmod(0o755)
        path.chmod(0)
        with as_nobody():
            facts = facts_of(night)
            assert (facts.kind, facts.reason) == ("rejected", "it may not be read; give it read permission (chmod a+r)")
        path.chmod(0o644)
        with as_nobody():
            assert facts_of(night).kind == "science"


# Whose it is


def test_blanks_and_letters_outside_ascii_in_a_file_name(night: SmallNight) -> None:
    for name, kind in (("M 31 (R).fits", "science"), ("M31\xe9.fits", "rejected"), ("a\nb.fits", "rejected")):
        path = night.write_raw(FRAME, path=night.root / "raw" / name)
        facts = facts_of(night)
        assert facts.kind == kind
        assert ("rename it" in facts.reason) == (kind == "rejected")
        path.unlink()


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        pytest.param("object", "science", id="object"),
        pytest.param("Light Frame", "science", id="without case"),
        pytest.param(" BIAS ", "bias", id="blanks around"),
        pytest.param("zero", "bias", id="zero"),
        pytest.param("Dark Frame", "dark", id="dark"),
        pytest.param("dome flat", "flat", id="flat"),
        pytest.param(None, "science", id="no word: the configuration's"),
        pytest.param("Focus", "ignored", id="focus"),
        pytest.param("tricolour", "rejected", id="unknown"),
    ],
)
def test_the_header_tells_the_kind_of_frame(night: SmallNight, word: str | None, kind: str) -> None:
    night.write_raw(FRAME, IMAGETYP=word)
    facts = facts_of(night)
    assert facts.kind == kind
    assert (facts.reason == "") == (kind not in ("ignored", "rejected"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"OBJECT": None}, "names no target (OBJECT is missing or blank)", id="no target"),
        pytest.param({"OBJECT": "  "}, "names no target (OBJECT is missing or blank)", id="blank target"),
        pytest.param({"OBJECT": "///"}, "its target is no name: '///' holds no letter or digit", id="target no name"),
        pytest.param({"OBJECT": "x" * 65}, "64 at most", id="target too long"),
        pytest.param({"OBJECT": "deep"}, "reserved", id="reserved target"),
        pytest.param({"FILTER": None}, "names no filter (FILTER is missing or blank)", id="no filter"),
        pytest.param({"DATE_OBS": None}, "has no DATE-OBS, so its night is unknown", id="no date"),
        pytest.param({"DATE_OBS": "2026-11-21"}, "'2026-11-21' has no time of day", id="no time of day"),
        pytest.param({"DATE_OBS": "0001-01-01T00:00:00"}, "outside the calendar", id="before the calendar"),
        pytest.param({"IMAGETYP": "tricolour"}, "its frame type 'tricolour' is not among the words of", id="type"),
    ],
)
def test_a_raw_of_no_group_is_rejected_with_a_reason(night: SmallNight, changes: dict[str, Any], reason: str) -> None:
    night.write_raw(FRAME, **changes)
    facts = facts_of(night)
    assert facts.kind == "rejected"
    assert reason in facts.reason


def test_a_calibration_needs_no_target(night: SmallNight) -> None:
    night.write_raw(FRAME, IMAGETYP="bias", OBJECT=None, FILTER=None)
    assert (facts_of(night).kind, facts_of(night).night) == ("bias", "2026-11-21")


@pytest.mark.parametrize(
    ("changes", "settings", "what"),
    [
        pytest.param({"OBJECT": "Focus run"}, {}, "targets like 'focus*'", id="target"),
        pytest.param({"IMAGETYP": "ACQUISITION 2"}, {}, "types like 'acquisition*'", id="type"),
        pytest.param({}, {"ignore": {"files": ["R07*"]}}, "files like 'R07*'", id="file"),
        pytest.param({"OBJECT": "dusk"}, {"ignore": {"targets": ["du?k"]}}, "targets like 'du?k'", id="a pattern"),
    ],
)
def test_what_the_configuration_ignores_says_so(
    night: SmallNight, changes: dict[str, Any], settings: dict[str, Any], what: str
) -> None:
    night.write_raw(FRAME, **changes)
    facts = facts_of(night, **settings)
    assert (facts.kind, facts.reason) == ("ignored", f"the configuration ignores {what}")


@pytest.mark.parametrize(
    ("changes", "zone", "expected"),
    [
        pytest.param({"DATE_OBS": "2026-11-22T05:00:00"}, None, "2026-11-21", id="small hours"),
        pytest.param({"DATE_OBS": "2026-11-21T12:00:00"}, None, "2026-11-21", id="noon"),
        pytest.param({"DATE_OBS": "2026-11-21T11:59:59"}, None, "2026-11-20", id="before noon"),
        pytest.param({"DATE_OBS": "2026-11-21", "UT": "22:04:05"}, None, "2026-11-21", id="date and UT"),
        pytest.param({"DATE_OBS": "2026-11-22", "UTSTART": "03:04:05"}, None, "2026-11-21", id="date and UTSTART"),
        pytest.param({"DATE_OBS": "01/09/87", "UT": "04:04:05"}, None, "1987-08-31", id="dd/mm/yy"),
        pytest.param({"DATE_OBS": "2026-11-21T10:00:00"}, "Pacific/Tongatapu", "2026-11-21", id="UTC+13"),
        pytest.param({"DATE_OBS": "2026-11-20T23:30:00"}, "Pacific/Tongatapu", "2026-11-21", id="UTC+13, noon"),
        pytest.param({"DATE_OBS": "2026-04-05T01:59:00"}, "Australia/Sydney", "2026-04-04", id="25 hours, before noon"),
        pytest.param({"DATE_OBS": "2026-04-05T02:00:00"}, "Australia/Sydney", "2026-04-05", id="25 hours, noon"),
    ],
)
def test_date_obs_decides_the_night(
    night: SmallNight, changes: dict[str, Any], zone: str | None, expected: str
) -> None:
    night.write_raw(FRAME, **changes)
    facts = facts_of(night, **({"site": {"timezone": zone}} if zone else {}))
    assert (facts.kind, facts.night) == ("science", expected)


def test_the_folder_does_not_decide_the_night(night: SmallNight) -> None:
    night.write_raw(FRAME, path=night.root / "raw/2026-11-20" / f"{FRAME}.fits")
    assert facts_of(night).night == "2026-11-21"
    assert str(folder_night(facts_of(night).path)) == "2026-11-20"


@pytest.mark.parametrize(
    ("path", "claimed"),
    [
        pytest.param("raw/2026-11-21/r1.fits", "2026-11-21", id="a night"),
        pytest.param("raw/20261121/r1.fits", "2026-11-21", id="without dashes"),
        pytest.param("raw/pt5m/2026-11-21/r1.fits", "2026-11-21", id="deeper"),
        pytest.param("raw/r1.fits", None, id="no folder"),
        pytest.param("raw/2026-11-21.fits", None, id="the file itself"),
        pytest.param("processed/20201010/R/raws/r1.fits", None, id="a target that looks like a date"),
    ],
)
def test_a_folder_of_raw_may_claim_a_night(path: str, claimed: str | None) -> None:
    assert str(folder_night(path)) == str(claimed)


def test_in_the_notebooks_place_folders_name_target_and_filter(night: SmallNight) -> None:
    place = night.root / "processed/NGC5949/R/raws"
    night.write_raw(FRAME, path=place / f"{FRAME}.fits", OBJECT="something else", FILTER=None)
    facts = facts_of(night)
    assert (facts.kind, facts.target, facts.filter_name) == ("science", "NGC5949", "R")


def test_aliases_join_spellings_in_headers(night: SmallNight) -> None:
    aliases = {"filters": {"Filter 2": "R"}, "targets": {"NGC 5949": "NGC5949"}}
    night.write_raw(FRAME, OBJECT="ngc  5949", FILTER="filter 2 ")
    facts = facts_of(night, aliases=aliases)
    assert (facts.target_text, facts.filter_text) == ("NGC5949", "R")


def test_literals_keys_in_order_and_file_names_supply_what_a_header_lacks(night: SmallNight) -> None:
    night.write_raw(FRAME, path=night.root / "raw/tres1-025.fits", OBJECT="", FILTER=None, FILTNAME="V", EXPTIME=None)
    keywords = {
        "target": ["OBJECT", {"file": "^([a-z0-9]+)-"}],
        "filter": ["FILTER", "FILTNAME"],
        "exposure": ["EXPTIME", 60],
    }
    facts = facts_of(night, instruments={"pt5m": {"keywords": keywords}})
    assert (facts.target, facts.filter_name, facts.exposure) == ("tres1", "V", 60.0)


def test_instruments_are_told_apart_by_their_headers(night: SmallNight) -> None:
    instruments = {"blue": {"match": {"INSTRUME": "blue*"}}, "red": {"match": {"INSTRUME": "RED*"}}}
    for word, name, kind in (("Blue 2", "blue", "science"), ("red", "red", "science"), ("green", None, "rejected")):
        night.write_raw(FRAME, INSTRUME=word)
        facts = facts_of(night, instruments=instruments)
        assert (facts.instrument, facts.kind) == (name, kind)
    assert "[instruments.<name>.match]" in facts.reason


def test_with_one_instrument_its_name_is_left_out_of_the_facts(night: SmallNight) -> None:
    night.write_raw(FRAME, INSTRUME="anything")
    assert facts_of(night).instrument is None


def test_a_raw_is_never_touched(night: SmallNight) -> None:
    path = night.write_raw(FRAME)
    before, content = path.stat(), path.read_bytes()
    facts_of(night)
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ino, path.read_bytes()) == (before.st_mtime_ns, before.st_ino, content)


def test_the_night_of_the_small_night_is_its_own(night: SmallNight) -> None:
    night.write_raw(FRAME, np.zeros((16, 20), np.uint16))
    assert facts_of(night).night == NIGHT.isoformat()
