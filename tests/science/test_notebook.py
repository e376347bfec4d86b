"""The notebook's arithmetic, compared bit for bit with the notebook's own statements."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nightdesk.science import notebook

GAIN = 1.2999999523162842
COEFFICIENT = 0.0547


@pytest.fixture(params=[1, 2], ids=["seed 1", "seed 2"])
def night(request: pytest.FixtureRequest) -> tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]:
    """Five raws as FITS holds them, and masters in big-endian float32, some of them useless."""
    rng = np.random.default_rng(request.param)
    raws = rng.integers(0, 65536, (5, 21, 34)).astype(np.uint16)
    bias = rng.normal(1000.0, 3.0, (21, 34)).astype(">f4")
    flat = rng.normal(1.0, 0.1, (21, 34)).astype(">f4")
    flat[3, 4], flat[5, 6] = 0.0, np.nan
    return raws, bias, flat


def as_the_notebook(
    raws: NDArray[np.generic], bias: NDArray[np.generic], flat: NDArray[np.generic],
    airmasses: list[float], xs: NDArray[np.generic], ys: NDArray[np.generic],
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Say what the notebook says, in its own order of operations."""
    scis, variances = [], []
    for i, raw in enumerate(raws):
        data = raw.astype("f8")
        data = data - bias
        data = data * GAIN
        var = np.copy(data)
        with np.errstate(divide="ignore", invalid="ignore"):
            data = data / flat
        mags_of_ext = COEFFICIENT * airmasses[i]
        intrinsic = data * (10.0 ** (mags_of_ext / 2.5))
        if i:
            xdiff, ydiff = xs[:1] - xs[i : i + 1], ys[:1] - ys[i : i + 1]
            intrinsic = np.roll(np.roll(intrinsic, xdiff, axis=1), ydiff, axis=0)
            var = np.roll(np.roll(var, xdiff, axis=1), ydiff, axis=0)
        scis.append(intrinsic)
        variances.append(var)
    scistack = np.zeros((*raws.shape[1:], len(raws)))
    varstack = np.zeros((*raws.shape[1:], len(raws)))
    for i in range(len(raws)):
        scistack[:, :, i] = scis[i]
        varstack[:, :, i] = variances[i]
    return scis, np.median(scistack, 2), np.median(varstack, 2) / len(raws)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["whole", "decimal"])
def test_the_same_bits(night: tuple[NDArray[np.generic], ...], frames: int, kind: str) -> None:
    raws, bias, flat = night
    raws = raws[:frames]
    airmasses = [1.72, 1.0311, 1.5999, 2.4, 1.28][:frames]
    xs, ys = np.array([12.5, 13.0, 10.7, 60.2, 12.5]), np.array([9.9, 8.3, 12.0, 9.9, -30.6])
    if kind == "whole":
        xs, ys = xs.astype(int), ys.astype(int)
    expected_frames, expected_sci, expected_var = as_the_notebook(raws, bias, flat, airmasses, xs, ys)

    shifted, variances = [], []
    for i, raw in enumerate(raws):
        data, variance = notebook.calibrate(raw, bias, flat, GAIN)
        data = notebook.correct(data, airmasses[i], COEFFICIENT)
        xdiff, ydiff = (xs[0] - xs[i]).item(), (ys[0] - ys[i]).item()
        shifted.append(notebook.roll(data, xdiff, ydiff))
        variances.append(notebook.roll(variance, xdiff, ydiff))
        assert shifted[-1].tobytes() == expected_frames[i].tobytes()
    sci, var = notebook.median(np.stack(shifted)), notebook.median(np.stack(variances)) / frames
    assert sci.tobytes() == expected_sci.tobytes()
    assert var.tobytes() == expected_var.tobytes()


def test_the_known_number_to_the_last_bit() -> None:
    assert notebook.correct(np.array([[20927.0]]), 1.72, 0.0547).item() == 22821.310206385726


@pytest.mark.parametrize("difference", [1.9, -1.9, 0.999, -0.999, 36.4, -36.4])
def test_decimals_of_a_shift_are_cut_off_as_numpy_does(difference: float) -> None:
    image = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(notebook.roll(image, difference, 0.0), np.roll(image, np.array([difference]), axis=1))
    np.testing.assert_array_equal(notebook.roll(image, 0.0, difference), np.roll(image, np.array([difference]), axis=0))
