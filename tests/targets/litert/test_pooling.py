"""MAX_POOL_2D and AVERAGE_POOL_2D against LiteRT, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.ir import QuantParams
from tests.targets.litert.families import Families
from tests.targets.litert.layer_cases import random_activation, random_integers, random_zero_point
from tests.targets.litert.op_cases import Cases, groups, params, scale

CASES = 200


def pool(cases: Cases, op: str, dtype: str = "i8") -> None:
    rng = cases.rng
    spatial = tuple(int(n) for n in rng.integers(5, 12, 2))
    whole = rng.integers(4) == 0
    kernel = spatial if whole else tuple(int(k) for k in rng.integers(1, 5, 2))
    quant = QuantParams.of(scale(rng, -8, 2), random_zero_point(rng, dtype))
    x = cases.input(random_integers(rng, dtype, (int(rng.integers(1, 3)), *spatial, int(rng.integers(1, 36)))), quant)
    made = getattr(cases.build.litert, op)(
        x,
        kernel=kernel,
        stride=tuple(int(s) for s in rng.integers(1, 4, 2)),
        padding="VALID" if whole else str(rng.choice(["SAME", "VALID"])),
        activation=random_activation(rng),
        element=(dtype, quant),
    )
    cases.output(made)


@pytest.mark.parametrize("dtype", ["i8", "u8", "i16"])
@pytest.mark.parametrize(("op", "seed"), [("max_pool_2d", 21), ("average_pool_2d", 22)])
def test_random_pools(litert: Families, op: str, seed: int, dtype: str) -> None:
    for cases in groups(CASES, lambda cases: pool(cases, op, dtype), seed):
        cases.check(litert)


def test_averages_on_both_sides_of_a_half(litert: Families) -> None:
    """Windows of 2, 3, 4 and 6 elements whose sums take every value."""
    cases = Cases(np.random.default_rng(23))
    for kernel in ((1, 2), (1, 3), (2, 2), (2, 3)):
        count = kernel[0] * kernel[1]
        sums = np.arange(-128 * count, 127 * count + 1)
        base, rest = np.divmod(sums, count)
        x = (base[:, None] + (np.arange(count) < rest[:, None])).astype(np.int8)
        quant = params(cases.rng)
        given = cases.input(x.reshape(-1, *kernel, 1), quant)
        attrs = {"kernel": kernel, "stride": (1, 1), "padding": "VALID"}
        cases.output(cases.build.litert.average_pool_2d(given, **attrs, element=("i8", quant)))
    cases.check(litert)
