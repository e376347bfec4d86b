"""`publish`: the stack as a picture that a person can look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nightdesk.errors import StaleProduct
from nightdesk.steps import combine, publish
from tests.small_night import SmallNight


def combined(night: SmallNight) -> SmallNight:
    night.run_to("align")
    combine.run(night.settings, night.group, night.names)
    return night


@pytest.fixture
def night(night: SmallNight) -> SmallNight:
    """The small night, combined."""
    return combined(night)


def picture_of(night: SmallNight) -> np.ndarray:
    with Image.open(night.layout.picture) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        return np.asarray(picture)


def test_the_picture_has_y_upwards_and_the_star_where_it_is(tmp_path: Path) -> None:
    night = combined(SmallNight(tmp_path, star=(22, 6)).write())
    assert publish.run(night.settings, night.group) == "processed/NGC5949/R/2026-11-21/combined/combined.png"
    grey = picture_of(night)
    assert grey.shape == night.shape
    rows, columns = np.nonzero(grey == 255)
    assert np.median(columns) == pytest.approx(22, abs=1)
    assert np.median(rows) == pytest.approx(night.shape[0] - 1 - 6, abs=1)


def test_the_sky_is_dark_and_no_data_is_black(night: SmallNight) -> None:
    union = combined(replace(night, tables={"combine": {"footprint": "union"}}))
    publish.run(union.settings, union.group)
    grey = picture_of(union)
    assert (grey == 0).any()
    assert 1 <= np.median(grey[grey > 0]) < 200


def test_returns_at_once_when_current(night: SmallNight) -> None:
    publish.run(night.settings, night.group)
    before = night.states()
    publish.run(night.settings, night.group)
    assert night.rewritten(before) == []


def test_another_stack_is_drawn_anew(night: SmallNight) -> None:
    publish.run(night.settings, night.group)
    before = night.states()
    combine.run(night.settings, night.group, night.names[:2])
    publish.run(night.settings, night.group)
    assert night.rewritten(before) == ["combined/combined.fits", "combined/combined.png"]


def test_a_broken_picture_is_drawn_anew(night: SmallNight) -> None:
    publish.run(night.settings, night.group)
    night.layout.picture.write_bytes(night.layout.picture.read_bytes()[:50])
    publish.run(night.settings, night.group)
    assert picture_of(night).shape == night.shape


def test_without_a_stack_it_can_be_tried_again(night: SmallNight) -> None:
    night.layout.stack.unlink()
    with pytest.raises(StaleProduct, match=r"combined/combined\.fits is missing; combine makes it"):
        publish.run(night.settings, night.group)
