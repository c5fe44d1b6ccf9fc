"""Where a fused RELU6 clamps: quotients 6 / scale on and beside a half, which the families round differently."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.ir import QuantParams, Value
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases

SIX_AND_A_HALF_STEPS = [np.float32(12 / (2 * k + 1)) for k in range(100)]
ZERO_POINTS = (-128, -127, -11, 0, 5)
HIGHEST = 127


def layer(cases: Cases, op: str, result: QuantParams) -> Value:
    shape = {"conv_2d": (2, 1, 1, 1), "depthwise_conv_2d": (1, 1, 1, 1), "fully_connected": (2, 1)}[op]
    bias = np.full(1 if op == "depthwise_conv_2d" else 2, 10**6)
    quant, axis = QuantParams.of(1.0, 0), 3 if op == "depthwise_conv_2d" else 0
    w, b = cases.layer(quant, np.zeros(shape, np.int8), np.ones(1, np.float32), bias, axis)
    x = cases.input(np.zeros((1, 1) if op == "fully_connected" else (1, 1, 1, 1), np.int8), quant)
    attrs = {} if op == "fully_connected" else {"stride": (1, 1), "padding": "VALID"}
    return getattr(cases.build.litert, op)(x, w, b, **attrs, activation="RELU6", element=("i8", result))


def add(cases: Cases, op: str, result: QuantParams) -> Value:
    x = cases.input(np.full((1, 4), HIGHEST, np.int8), QuantParams.of(result.scale[0] * 20, -128))
    return cases.build.litert.add(x, x, activation="RELU6", element=("i8", result))


def pool(cases: Cases, op: str, result: QuantParams) -> Value:
    x = cases.input(np.full((1, 5, 5, 1), HIGHEST, np.int8), result)
    attrs = {"stride": (int(cases.rng.integers(1, 4)),) * 2, "kernel": (2, 2), "padding": "VALID"}
    return getattr(cases.build.litert, op)(x, **attrs, activation="RELU6", element=("i8", result))


def own(cases: Cases, op: str, result: QuantParams) -> Value:
    x = cases.input(np.full((1, 4), HIGHEST, np.int8), QuantParams.of(result.scale[0] * 20, -128))
    return cases.build.litert.relu6(x, element=("i8", result))


MAKE = {
    "conv_2d": layer,
    "depthwise_conv_2d": layer,
    "fully_connected": layer,
    "add": add,
    "max_pool_2d": pool,
    "average_pool_2d": pool,
    "relu6": own,
}


@pytest.mark.parametrize("op", MAKE)
def test_relu6_clamps_where_the_family_does(litert: Families, op: str) -> None:
    cases = Cases(np.random.default_rng(41))
    for index, scale in enumerate(SIX_AND_A_HALF_STEPS):
        for offset, near in enumerate((scale, np.nextafter(scale, np.float32(0)), np.nextafter(scale, np.float32(99)))):
            zero_point = ZERO_POINTS[(index + offset) % len(ZERO_POINTS)]
            cases.output(MAKE[op](cases, op, QuantParams.of(near, zero_point)))
    cases.check(litert)
