"""A star that fills its pixels is flagged from the raw to the stack, whatever its header says of saturation."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightdesk.group import Group
from nightdesk.io.header import largest_count
from nightdesk.io.layout import Layout
from nightdesk.science.flag import SATURATED
from nightdesk.settings import Settings
from nightdesk.simulate import drop_keyword, simulate
from nightdesk.steps import reduce

GROUP = Group(date(2026, 11, 21), "NGC5949", "R")


@pytest.mark.parametrize("told", [True, False], ids=["the header tells", "no header tells"])
def test_saturated_stars_are_flagged_through_to_the_stack(tmp_path: Path, told: bool) -> None:
    night = simulate(tmp_path, size=(128, 128), frames=3, exposure=300.0, saturated_stars=3, seed=3, dither=4.0)
    if not told:
        for frame in night.frames:
            drop_keyword(frame.path, "SATURATE")
    settings = Settings.model_validate({"data": {"root": tmp_path}})
    reduce.run(settings, GROUP)
    layout = Layout(settings, GROUP)
    on_grid = np.zeros((128, 128), bool)
    for frame in night.frames:
        full = fits.getdata(frame.path) == 65535
        assert full.any()
        assert ((fits.getdata(layout.product("postISR", frame.name), "DQ") & SATURATED > 0) == full).all()
        with fits.open(layout.product("shifted", frame.name)) as hdus:
            on_grid |= hdus["DQ"].data & SATURATED > 0
    stacked = fits.getdata(layout.stack, "DQ") & SATURATED > 0
    assert stacked.any()
    assert (stacked <= on_grid).all()
    assert np.mean(stacked[on_grid]) > 0.9  # the rest are values that were clipped


@pytest.mark.parametrize(
    ("cards", "largest"),
    [
        ({"BITPIX": 16, "BZERO": 32768}, 65535.0),
        ({"BITPIX": 16}, 32767.0),
        ({"BITPIX": 8}, 255.0),
        ({"BITPIX": 32}, None),
        ({"BITPIX": -32}, None),
        ({"BITPIX": 16, "BSCALE": 2.0}, None),
        ({}, None),
    ],
)
def test_the_largest_count_a_file_can_hold(cards: dict[str, Any], largest: float | None) -> None:
    assert largest_count(fits.Header(list(cards.items()))) == largest
