"""`extinction`: signal and noise above the atmosphere, once and only once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.errors import FrameError, FrameLost, StaleProduct
from nightdesk.steps import batch, extinction, isr
from tests.small_night import SmallNight

BAD = "r0743054"


@pytest.fixture
def night(night: SmallNight) -> SmallNight:
    """The small night, with products that lose no bit."""
    return replace(night, tables={"products": {"depth": "float64"}})


def planes_of(night: SmallNight, step: str, name: str) -> dict[str, Any]:
    with fits.open(night.product(step, name)) as hdus:
        return {hdu.name: np.array(hdu.data, dtype=hdu.data.dtype.newbyteorder("=")) for hdu in hdus}


def header_of(night: SmallNight, name: str) -> fits.Header:
    return fits.getheader(night.product("extinction", name))


def spoil(night: SmallNight, *names: str) -> None:
    """Break raws, and let isr say so."""
    for name in names:
        night.write_raw(name, EGAIN=None)
    night.list_raws()
    with pytest.raises(FrameError):
        isr.run(night.settings, night.group, night.names)


def test_signal_scales_by_the_factor_and_both_variances_by_its_square(night: SmallNight) -> None:
    night.run_to("extinction")
    for index, name in enumerate(night.names):
        before, after = planes_of(night, "postISR", name), planes_of(night, "extinction", name)
        factor = 10.0 ** ((0.0547 * (1.2 + 0.1 * index)) / 2.5)
        np.testing.assert_allclose(after["SCI"], before["SCI"] * factor, rtol=1e-14)
        np.testing.assert_allclose(after["VAR"], before["VAR"] * factor**2, rtol=1e-14)
        np.testing.assert_allclose(after["VARCAL"], before["VARCAL"] * factor**2, rtol=1e-14)
        np.testing.assert_array_equal(after["DQ"], before["DQ"])


def test_the_header_says_what_was_done(night: SmallNight) -> None:
    night.run_to("extinction")
    header = header_of(night, "r0743053")
    cards = [header[key] for key in ("EXTCORR", "EXTK", "EXTSIG", "EXTSRC", "EXTREF", "AIRMASS")]
    assert cards == [True, 0.0547, 0.03, "configuration", "TOA", 1.2]
    assert any(line.startswith("Extinction: k = 0.0547 mag/airmass at airmass 1.2") for line in header["HISTORY"])


def test_the_filters_own_coefficient_counts_whatever_the_case(night: SmallNight) -> None:
    tables = {"filters": {"r": {"extinction": 0.2, "extinction_sigma": 0.01}}}
    header = header_of(replace(night, tables=tables).run_to("extinction"), "r0743053")
    assert (header["EXTK"], header["EXTSIG"]) == (0.2, 0.01)


def test_a_frame_that_was_corrected_is_never_corrected_again(night: SmallNight) -> None:
    night.write_raw(BAD, EXTCORR=True)
    night.run_to("extinction")
    before, after = planes_of(night, "postISR", BAD), planes_of(night, "extinction", BAD)
    np.testing.assert_array_equal(after["SCI"], before["SCI"])
    np.testing.assert_array_equal(after["VAR"], before["VAR"])


@pytest.mark.parametrize(
    ("source", "comment"),
    [
        (1.5, "airmass given by configuration"),
        (["AIRMASS", 1.5], "airmass given by configuration"),
        (["SECZ", "AIRMASS"], "effective airmass"),
    ],
    ids=["literal", "literal after a keyword", "another keyword"],
)
def test_airmass_can_come_from_elsewhere(night: SmallNight, source: Any, comment: str) -> None:
    night.write_raw("r0743053", AIRMASS=None, SECZ=1.5)
    night = replace(night, tables={"instruments": {"pt5m": {"keywords": {"airmass": source}}}})
    header = header_of(night.run_to("extinction"), "r0743053")
    assert header["AIRMASS"] == 1.5
    assert header.comments["AIRMASS"] == comment


def test_returns_at_once_when_current(night: SmallNight, monkeypatch: pytest.MonkeyPatch) -> None:
    before = night.run_to("extinction").states()
    for module, reading in ((extinction, "read_frame"), (batch, "open_frame")):
        monkeypatch.setattr(module, reading, lambda *_: pytest.fail("a frame was read"))
    assert night.run_to("extinction").rewritten(before) == []


def test_a_changed_coefficient_redoes_extinction_but_not_isr(night: SmallNight) -> None:
    before = night.run_to("extinction").states()
    other = replace(night, tables={**night.tables, "filters": {"R": {"extinction": 0.2}}})
    assert other.run_to("extinction").rewritten(before) == [f"extinction/{name}.fits" for name in night.names]


def test_a_predecessor_that_is_missing_can_be_tried_again(night: SmallNight) -> None:
    night.list_raws()
    with pytest.raises(
        StaleProduct, match=r"r0743053: processed/.*/postISR/r0743053\.fits is missing or not made from"
    ):
        extinction.run(night.settings, night.group, night.names)


def test_a_predecessor_made_from_another_raw_is_refused(night: SmallNight) -> None:
    night.run_to("isr")
    night.write_raw(BAD, AIRMASS=1.9)
    with pytest.raises(StaleProduct, match=BAD):
        extinction.run(night.settings, night.group, [BAD])


def test_frames_lost_in_isr_are_passed_over(night: SmallNight) -> None:
    spoil(night, BAD)
    extinction.run(night.settings, night.group, night.names)
    assert sorted(path.stem for path in night.product("extinction", BAD).parent.iterdir()) == [
        "r0743053",
        "r0743055",
    ]


def test_a_batch_of_lost_frames_is_no_second_red_square(night: SmallNight) -> None:
    spoil(night, BAD, "r0743055")
    with pytest.raises(FrameLost, match=rf"{BAD} was lost in isr: .*has no EGAIN.* r0743055 was lost in isr"):
        extinction.run(night.settings, night.group, [BAD, "r0743055"])


def test_a_frame_that_is_mended_is_no_longer_lost(night: SmallNight) -> None:
    spoil(night, BAD)
    night.write_raw(BAD)
    isr.run(night.settings, night.group, [BAD])
    extinction.run(night.settings, night.group, [BAD])
    assert night.product("extinction", BAD).exists()
