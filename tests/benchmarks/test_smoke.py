"""Every benchmark runs and gives a figure; how large it is, no test asks."""

from __future__ import annotations

import math
import shutil

import pytest

from tests.benchmarks.__main__ import BENCHMARKS, benchmark
from tests.benchmarks.measure import Size

TINY = Size(repeats=1, batch=1, training_batch=2, channels=(2, 2, 2), nodes=(70,))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_gives_a_figure(name: str) -> None:
    if name == "c99" and shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    result = benchmark(name)(TINY)
    assert result.name == name
    assert math.isfinite(result.value)
    assert result.value > 0
    assert result.details.get("interpreter, output elements that differ", 0) == 0
    assert result.name in str(result)
