"""Every scale that ONNX Runtime accepts: factors that saturate, vanish, or leave the range of int32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qgraph.ir import QuantParams, Value
from qgraph.runtimes import Worker
from qgraph.targets.onnxruntime.kernels import GLOBAL_AVERAGE_RANGE
from tests.targets.onnxruntime.op_cases import OpCases

SPREAD = 40.0  # e**-40 to e**40: 4e-18 to 2e17


def scale(cases: OpCases, spread: float = SPREAD) -> float:
    return float(np.exp(cases.rng.uniform(-spread, spread)))


def some_input(cases: OpCases, *shape: int) -> Value:
    return cases.random_input(*shape, quant=cases.quant(scale(cases)))


def some_weight(cases: OpCases, *shape: int) -> Value:
    data = cases.rng.integers(-127, 128, shape).astype(np.int8)
    return cases.build.constant(data, "w", QuantParams.of(scale(cases, SPREAD / 2), 0))


def conv(cases: OpCases, result: tuple[str, QuantParams]) -> Value:
    attrs = {"strides": (1,), "pads": (1, 1), "dilations": (1,)}
    return cases.build.ort.QLinearConv(some_input(cases, 1, 3, 4), some_weight(cases, 4, 3, 2), element=result, **attrs)


def gemm(cases: OpCases, result: tuple[str, QuantParams]) -> Value:
    return cases.build.ort.QGemm(some_input(cases, 3, 8), some_weight(cases, 4, 8), element=result)


def add(cases: OpCases, result: tuple[str, QuantParams]) -> Value:
    return cases.build.ort.QLinearAdd(some_input(cases, 3, 80), some_input(cases, 3, 80), element=result)


def average_pool(cases: OpCases, result: tuple[str, QuantParams]) -> Value:
    window = {"kernel_shape": (3,), "strides": (1,), "pads": (1, 1)}
    return cases.build.ort.QLinearAveragePool(some_input(cases, 1, 3, 8), element=result, **window)


def global_average_pool(cases: OpCases, result: tuple[str, QuantParams]) -> Value:
    """Factors over all of the range outside which the runtime refuses the model."""
    x = some_input(cases, 1, 3, 8)
    low, high = np.log2(GLOBAL_AVERAGE_RANGE)
    factor = 2.0 ** cases.rng.uniform(low + 0.01, high - 0.01)
    element = (cases.dtype, cases.quant(float(x.type.q.scale[0] / (8 * factor))))
    return cases.build.ort.QLinearGlobalAveragePool(x, element=element)


def concat(cases: OpCases, result: tuple[str, QuantParams]) -> Value:
    return cases.build.ort.QLinearConcat(some_input(cases, 80), some_input(cases, 80), axis=0, element=result)


def requantize(cases: OpCases, result: tuple[str, QuantParams]) -> Value:
    return cases.build.ort.QuantizeLinear(cases.build.ort.DequantizeLinear(some_input(cases, 80)), element=result)


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("op", [conv, gemm, add, average_pool, global_average_pool, concat, requantize])
def test_extreme_scales(ort: Worker, dtype: str, op: Callable[[OpCases, tuple[str, QuantParams]], Value]) -> None:
    cases = OpCases(dtype, 9)
    for _ in range(200):
        cases.returns(op(cases, (dtype, cases.quant(scale(cases)))))
    cases.check(ort, levels=("disable", "all"), least=200)
