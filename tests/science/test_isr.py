"""Signature removal: the formulas by hand, the flags, and noise that is really there."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nightdesk.science.flag import BAD_PIXEL, NO_DATA, SATURATED, UNILLUMINATED
from nightdesk.science.isr import remove_signature
from nightdesk.science.planes import Planes


def one(value: float) -> NDArray[np.float64]:
    return np.array([[value]])


def reduce_one(raw: float = 1100.0, **options: Any) -> Planes:
    """Reduce a single pixel: 100 ADU above the bias at 2 e-/ADU, read noise 5 e-."""
    return remove_signature(one(raw), **{"gain": 2.0, "read_noise": 5.0, "bias": one(1000.0)} | options)


def numbers(planes: Planes) -> tuple[float, float, float]:
    return planes.data.item(), planes.variance.item(), planes.shared_variance.item()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (200.0, 225.0, 0.0)),
        ({"bias_variance": one(3.0)}, (200.0, 225.0 + 12.0, 12.0)),
        ({"flat": one(0.5)}, (400.0, 900.0, 0.0)),
        ({"flat": one(0.5), "flat_variance": one(1e-4)}, (400.0, 900.0 + 64.0, 64.0)),
        ({"flat": one(0.5), "bias_variance": one(3.0)}, (400.0, 900.0 + 48.0, 48.0)),
        ({"dark": one(10.0)}, (180.0, 225.0, 0.0)),
        ({"dark": one(10.0), "dark_scale": 3.0}, (140.0, 225.0, 0.0)),
        ({"dark": one(10.0), "dark_variance": one(0.5), "dark_scale": 3.0}, (140.0, 243.0, 18.0)),
        (
            {"bias_variance": one(3.0), "dark": one(10.0), "dark_variance": one(3.5), "bias_in_dark": 1.0},
            (180.0, 227.0, 2.0),
        ),
        (
            {
                "bias_variance": one(3.0),
                "dark": one(10.0),
                "dark_variance": one(3.5),
                "bias_in_dark": 1.0,
                "dark_scale": 3.0,
            },
            (140.0, 225.0 + 4.0 * 16.5, 4.0 * 16.5),
        ),
        ({"raw": 990.0}, (-20.0, 25.0, 0.0)),
        ({"raw": 1005.0, "dark": one(10.0)}, (-10.0, 35.0, 0.0)),
        ({"bias": None, "dark": one(1010.0), "dark_contains_bias": True}, (180.0, 205.0, 0.0)),
        ({"dark": one(1010.0), "dark_contains_bias": True}, (180.0, 225.0, 0.0)),
        (
            {"dark": one(1010.0), "dark_variance": one(0.5), "bias_variance": one(9.0), "dark_contains_bias": True},
            (180.0, 227.0, 2.0),
        ),
    ],
    ids=[
        "bias alone",
        "noisy bias",
        "flat",
        "noisy flat",
        "noisy bias under a flat",
        "dark",
        "dark of a third of the time",
        "noisy dark of a third of the time",
        "dark made with the same bias: its error drops out",
        "and comes back twofold, squared, where the dark is tripled",
        "negative signal keeps the read noise",
        "the dark's electrons make shot noise",
        "dark with bias alone",
        "dark with bias beside a bias: not subtracted twice",
        "dark with bias: the bias brings no noise",
    ],
)  # fmt: skip
def test_the_formulas_by_hand(options: dict[str, Any], expected: tuple[float, float, float]) -> None:
    assert numbers(reduce_one(**options)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"flat": one(0.0)}, UNILLUMINATED),
        ({"flat": one(-0.3)}, UNILLUMINATED),
        ({"flat": one(0.19)}, UNILLUMINATED),
        ({"flat": one(0.2)}, 0),
        ({"flat": one(0.29), "flat_limit": 0.3}, UNILLUMINATED),
        ({"flat": one(np.nan)}, BAD_PIXEL),
        ({"flat": one(np.inf)}, BAD_PIXEL),
        ({"saturation": 1100.0}, SATURATED),
        ({"saturation": 1100.5}, 0),
        ({"bad_pixels": one(1.0)}, BAD_PIXEL),
        ({"bad_pixels": np.array([[True]])}, BAD_PIXEL),
        ({"bad_pixels": one(0.0)}, 0),
    ],
)
def test_a_flagged_pixel_keeps_a_value(options: dict[str, Any], flag: int) -> None:
    planes = reduce_one(**options)
    assert planes.flags.item() == flag
    divided = options["flat"].item() if "flat" in options and not flag else 1.0
    assert planes.data.item() == pytest.approx(200.0 / divided)
    assert planes.variance.item() == pytest.approx(225.0 / divided**2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("where", "flag"),
    [("raw", NO_DATA), ("bias", NO_DATA | BAD_PIXEL), ("dark", NO_DATA | BAD_PIXEL)],
)
def test_what_is_no_number_is_no_data(where: str, value: float, flag: int) -> None:
    planes = reduce_one(**{"dark": one(10.0)} | {where: value if where == "raw" else one(value)})
    assert planes.flags.item() == flag
    assert numbers(planes) == (0.0, 0.0, 0.0)


def test_a_raw_and_a_bias_that_are_both_infinite_are_no_data() -> None:
    assert numbers(reduce_one(raw=np.inf, bias=one(np.inf))) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
@pytest.mark.parametrize("name", ["bias_variance", "dark_variance", "flat_variance"])
def test_a_masters_variance_that_makes_no_sense_counts_as_none(name: str, value: float) -> None:
    options = {"dark": one(10.0), "flat": one(0.5)}
    assert numbers(reduce_one(**options, **{name: one(value)})) == numbers(reduce_one(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gain": 0.0}, "gain"),
        ({"gain": np.nan}, "gain"),
        ({"read_noise": -1.0}, "read noise"),
        ({"dark": one(1.0), "dark_scale": -1.0}, "scale of the dark"),
        ({"bias": None}, "no bias"),
        ({"bias": None, "dark": one(1.0)}, "no bias"),
        ({"dark": one(1.0), "dark_contains_bias": True, "dark_scale": 2.0}, "cannot be scaled"),
        ({"bias": np.zeros((2, 1))}, "bias has the shape"),
        ({"flat": np.ones((1, 2))}, "flat has the shape"),
        ({"flat": one(1.0), "flat_variance": np.ones((1, 2))}, "flat variance has the shape"),
        ({"bad_pixels": np.zeros((1, 2))}, "bad-pixel mask has the shape"),
        ({"bias": np.zeros((1, 1, 1))}, "two dimensions"),
        ({"flat": one(1.0), "flat_limit": 0.0}, "limit of the flat"),
    ],
)
def test_what_cannot_be_is_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reduce_one(**options)


def test_raws_as_cameras_write_them() -> None:
    """Big-endian files and unsigned integers reduce like the same numbers in float64."""
    counts = np.array([[1000, 20927], [65535, 0]])
    bias = np.full((2, 2), 1000.25)
    expected = remove_signature(counts.astype(float), gain=1.3, read_noise=5.0, bias=bias)
    for kind in ("uint16", ">u2", ">i4", ">f8"):
        planes = remove_signature(counts.astype(kind), gain=1.3, read_noise=5.0, bias=bias.astype(">f4"))
        np.testing.assert_array_equal(planes.data, expected.data)
        assert planes.data.dtype == np.float64


def test_inputs_are_left_alone() -> None:
    raw, bias, flat = one(1100.0), one(1000.0), one(0.1)
    remove_signature(raw, gain=2.0, read_noise=5.0, bias=bias, flat=flat)
    assert (raw.item(), bias.item(), flat.item()) == (1100.0, 1000.0, 0.1)


def test_the_variance_is_the_scatter_of_many_exposures() -> None:
    """Photons, dark current, read-out and masters of a known error: predicted is measured."""
    rng = np.random.default_rng(5)
    shape, gain, read_noise, sky, thermal, flat = (400, 400), 1.4, 6.0, 900.0, 150.0, 0.8
    bias = 1000.0 + rng.normal(0.0, 2.0, shape)
    dark = thermal / gain + rng.normal(0.0, 1.5, shape)
    master_flat = flat + rng.normal(0.0, 0.01, shape)
    electrons = rng.poisson(sky * flat + thermal, shape) + rng.normal(0.0, read_noise, shape)
    planes = remove_signature(
        electrons / gain + 1000.0,
        gain=gain,
        read_noise=read_noise,
        bias=bias,
        bias_variance=np.full(shape, 4.0),
        dark=dark,
        dark_variance=np.full(shape, 2.25),
        flat=master_flat,
        flat_variance=np.full(shape, 1e-4),
    )
    # The standard error of a variance from 160 000 values is 0.35 %.
    assert planes.data.var() == pytest.approx(planes.variance.mean(), rel=0.015)
    shared = (gain**2 * (4.0 + 2.25) + sky**2 * 1e-4) / flat**2
    assert planes.shared_variance.mean() == pytest.approx(shared, rel=0.01)
