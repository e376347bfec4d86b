"""Images smoothed by a Gaussian."""

import numpy as np
import pytest
from scipy import ndimage

from nightdesk.science import compiled
from nightdesk.science.smoothing import smooth


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (40, 2), (3, 50), (70, 33)])
@pytest.mark.parametrize("sigma", [0.3, 1.27, 4.2])
def test_it_is_that_of_scipy(shape: tuple[int, int], sigma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(1).normal(10.0, 20.0, shape).astype(np.float32)
    found = smooth(image, sigma)
    expected = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
    monkeypatch.setattr(compiled, "_library", None)
    np.testing.assert_array_equal(smooth(image, sigma), found)
