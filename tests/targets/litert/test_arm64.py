"""Layers and pools on an emulated 64-bit ARM, byte for byte: the reference kernels and the default interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.targets.litert.families import Families
from tests.targets.litert.layer_cases import KINDS, LAYERS, boundary
from tests.targets.litert.op_cases import Cases, groups
from tests.targets.litert.test_layers import ALL, OTHERS, POWERS, REFUSED
from tests.targets.litert.test_matmul import matmul
from tests.targets.litert.test_pooling import pool

pytestmark = pytest.mark.emulated
SAMPLE = [
    *[("conv_2d", name) for name in ("int8", "int8, the weight an input", "uint8", "16x8, a bias of int32")],
    *[("fully_connected", name) for name in ("int8", "uint8", "16x8 without a bias", "int8 by int4 per tensor")],
    ("depthwise_conv_2d", "int8, the weight an input"),
    ("transpose_conv", "16x8, a bias of int32"),
]
REST = [case for case in ALL if case not in REFUSED]


def check(families: Families, op: str, name: str, count: int, factors: list[float]) -> None:
    """Random cases, and accumulators around the steps of the result.

    The optimized TRANSPOSE_CONV of uint8 is wrong on cores without dot product where codes of 0 meet in pairs.
    """
    kind = replace(KINDS[name], narrow=True)
    for cases in groups(count, lambda cases: LAYERS[op](cases, kind), seed=81):
        cases.check(families)
    if kind.bias is not None:
        cases = Cases(np.random.default_rng(82))
        for factor in factors:
            boundary(cases, op, kind, factor)
        cases.check(families)


@pytest.mark.parametrize(("op", "name"), SAMPLE)
def test_a_sample_of_layers(litert_arm64: Families, op: str, name: str) -> None:
    check(litert_arm64, op, name, 10, [*OTHERS[:3], 2.0**-9])


@pytest.mark.slow
@pytest.mark.parametrize(("op", "name"), REST)
def test_layers(litert_arm64: Families, op: str, name: str) -> None:
    check(litert_arm64, op, name, 100, [*OTHERS, *POWERS])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_matrix_products(litert_arm64: Families, dtype: str) -> None:
    for cases in groups(100, lambda cases: matmul(cases, dtype), seed=83):
        cases.check(litert_arm64)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["i8", "u8", "i16"])
@pytest.mark.parametrize("op", ["max_pool_2d", "average_pool_2d"])
def test_pools(litert_arm64: Families, op: str, dtype: str) -> None:
    for cases in groups(100, lambda cases: pool(cases, op, dtype), seed=84):
        cases.check(litert_arm64)
