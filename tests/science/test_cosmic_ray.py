"""Hits are flagged, stars are not, and without the optional package the message says what to do."""

import sys

import numpy as np
import pytest

from nightdesk.science.cosmic_ray import flag_cosmic_rays
from nightdesk.science.flag import BAD_PIXEL, COSMIC_RAY
from nightdesk.science.planes import Planes


def frame() -> Planes:
    """Return a frame with one star, one hit of three pixels and one bad pixel."""
    y, x = np.mgrid[:100, :100]
    light = 300.0 + 4000.0 * np.exp(-((x - 60) ** 2 + (y - 40) ** 2) / 4.5)
    data = np.random.default_rng(1).poisson(light).astype(float)
    data[20:23, 30] += 3000.0
    data[80, 80] += 3000.0
    flags = np.zeros(data.shape, np.uint16)
    flags[80, 80] = BAD_PIXEL
    return Planes(data, np.maximum(data, 0) + 25.0, np.zeros(data.shape), flags)


def test_hits_are_flagged_and_stars_are_not() -> None:
    pytest.importorskip("astroscrappy")
    planes = frame()
    flagged = flag_cosmic_rays(planes, read_noise=5.0)
    hit = (flagged.flags & COSMIC_RAY) != 0
    assert hit[20:23, 30].all()
    assert not hit[30:50, 50:70].any()
    assert np.count_nonzero(hit) < 12
    assert flagged.flags[80, 80] == BAD_PIXEL
    assert flagged.flags.dtype == np.uint16
    np.testing.assert_array_equal(flagged.data, planes.data)


def test_without_astroscrappy_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "astroscrappy", None)
    with pytest.raises(ValueError, match="install it, or switch the option off"):
        flag_cosmic_rays(frame(), read_noise=5.0)
