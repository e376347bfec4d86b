"""Deep stacks are the same bytes wherever they are made, and frames are brought to the brightness of their stars."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import pytest
from astropy.io import fits

from nightdesk.science.transform import Transform
from nightdesk.steps import deep, reduce
from tests.star_night import StarNight

NIGHTS = (date(2026, 11, 21), date(2026, 11, 22))


def deep_hash(root: Path) -> str:
    """Reduce two nights below a folder and stack them."""
    for number, night in enumerate(NIGHTS):
        stars = StarNight(root, night=night, first=743053 + 10 * number, shape=(220, 240), number=30).write()
        stars.sidecar.unlink()
        reduce.run(stars.settings, stars.group)
    deep.run(stars.settings, target="NGC5949", filter_name="R")
    return hashlib.sha256((root / "deep" / "NGC5949" / "R" / "deep.fits").read_bytes()).hexdigest()


def test_a_deep_stack_is_the_same_bytes_in_another_folder(tmp_path: Path) -> None:
    assert deep_hash(tmp_path / "one") == deep_hash(tmp_path / "another" / "place")


class HazyNight(StarNight):
    """A night whose second frame lets 60 % of the starlight through."""

    def pixels(self, name: str):  # type: ignore[no-untyped-def]
        clear = name != self.names[1]
        return super().pixels(name) if clear else StarNight(**{**vars(self), "light": 0.6}).pixels(name)


def test_frames_are_scaled_by_their_stars(tmp_path: Path) -> None:
    places = (Transform(), Transform(dx=6.0, dy=-4.0), Transform(dx=-9.0, dy=7.0))
    night = HazyNight(tmp_path, places=places, shape=(220, 240), number=40, tables={"combine": {"scale": "stars"}})
    night.write()
    reduce.run(night.settings, night.group)
    header = fits.getheader(night.layout.stack)
    # each frame is brought above the atmosphere of its own airmass, though all saw the same light
    above = [fits.getheader(night.product("shifted", name))["AIRMASS"] for name in night.names]
    factors = [10 ** (0.4 * 0.0547 * airmass) for airmass in above]
    assert header["SCAL0001"] == 1.0
    assert header["SCAL0002"] == pytest.approx(factors[0] / factors[1] / 0.6, rel=0.02)
    assert header["SCAL0003"] == pytest.approx(factors[0] / factors[2], rel=0.02)
