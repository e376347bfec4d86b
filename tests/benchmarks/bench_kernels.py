"""How long the kernels take, with pytest-benchmark: `make bench`, or pytest tests/benchmarks/bench_kernels.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nightdesk.science import compiled
from nightdesk.science.combine import combine_frames
from nightdesk.science.median import middle_values

pytest.importorskip("pytest_benchmark")
LIBRARY = compiled._library
PIXELS = (32, 1024)


@pytest.fixture(params=["numpy", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "_library", None)
    elif LIBRARY is None:
        pytest.skip("the compiled loops are not there")


def values(n: int) -> Any:
    return np.random.default_rng(n).normal(1000.0, 32.0, (n, *PIXELS))


@pytest.mark.parametrize("n", [3, 10, 30, 100])
def test_numpys_own_median(n: int, benchmark: Any) -> None:
    cube = np.ascontiguousarray(np.moveaxis(values(n), 0, -1))
    benchmark(lambda: np.median(cube, axis=2))


@pytest.mark.parametrize("n", [3, 10, 30, 100])
def test_middle_values(n: int, way: None, benchmark: Any) -> None:
    cube = values(n)
    benchmark(lambda: middle_values(cube, None))


@pytest.mark.parametrize("method", ["median", "weighted"])
@pytest.mark.parametrize("n", [3, 10, 30, 100])
def test_the_whole_stack(n: int, method: Any, way: None, benchmark: Any) -> None:
    cube = values(n)
    noise, shared, flags = cube + 50.0, np.full(cube.shape, 7.0), np.zeros(cube.shape, np.uint16)
    options = {"offset_groups": range(n), "sigmas": np.linspace(32, 33, n), "level": 1000.0}
    benchmark(lambda: combine_frames(cube, noise, shared, flags, method=method, **options))
