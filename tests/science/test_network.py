"""The networks that the compiled loops have in their source are those of numpy's way, on every kind of processor."""

from collections.abc import Iterator

import numpy as np
import pytest

from nightdesk.science import compiled
from tools import networks


def test_the_source_has_the_steps_of_today() -> None:
    assert networks.HEADER.read_text() == networks.as_c(), "run: python tools/networks.py"


@pytest.fixture(params=[2, 4, 8])
def width(request: pytest.FixtureRequest) -> Iterator[None]:
    if compiled._library is None:
        pytest.skip("the compiled loops are not there")
    compiled._library.nd_widest(request.param)
    yield
    compiled._library.nd_widest(8)


@pytest.mark.parametrize("size", [1, 7, 8, 67])
@pytest.mark.parametrize("n", [*range(1, 36), 64, 101])
def test_vectors_of_any_width_give_the_middle(n: int, size: int, width: None) -> None:
    rng = np.random.default_rng(n * size)
    values = rng.choice([-np.inf, -1.5, -0.0, 0.0, 1.0, 2.0, 3.0, np.inf], (n, size))
    values[rng.random(values.shape) < 0.5] = rng.normal()
    ranked = np.sort(values, axis=0)
    lower, upper = compiled.middle_values(values, None)
    np.testing.assert_array_equal(lower, ranked[(n - 1) // 2])
    np.testing.assert_array_equal(upper, ranked[n // 2])


@pytest.mark.parametrize("n", [2, 9, 16, 17, 30, 33, 70])
def test_vectors_of_any_width_leave_out_what_does_not_count(n: int, width: None) -> None:
    rng = np.random.default_rng(n)
    values, used = rng.normal(size=(n, 131)), rng.random((n, 131)) < 0.7
    lower, upper = compiled.middle_values(values, used)
    for x in range(131):
        ranked = np.sort(values[used[:, x], x])
        if ranked.size:
            assert (lower[x], upper[x]) == (ranked[(ranked.size - 1) // 2], ranked[ranked.size // 2])
