"""QLinearConv and QGemm against ONNX Runtime: random cases, boundary cases, accumulators that wrap."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.ir import QuantParams
from qgraph.runtimes import Worker
from qgraph.targets.onnxruntime.kernels import product_factor
from tests.targets.onnxruntime.op_cases import FUSING, OpCases, around_steps

PAIRS = [("u8", "i8"), ("u8", "u8"), ("i8", "i8")]
"""Types of activations and weights that have kernels."""


def convolution(cases: OpCases, weights: str) -> None:
    """One random convolution: 1-D to 3-D, strides, dilation, asymmetric pads, groups, depthwise with a multiplier."""
    rng = cases.rng
    rank = int(rng.choice([1, 2, 2, 2, 3]))
    group = int(rng.choice([1, 1, 2, 3, 4]))
    inputs, outputs = int(rng.integers(1, 4)) if rng.random() < 0.6 else 1, int(rng.integers(1, 4))
    kernel = rng.integers(1, 4, rank)
    dilations = rng.integers(1, 3, rank)
    pads = rng.integers(0, 3, 2 * rank)
    sizes = dilations * (kernel - 1) + rng.integers(1, 6, rank)
    x = cases.random_input(int(rng.integers(1, 3)), group * inputs, *map(int, sizes))
    w = cases.weight((group * outputs, inputs, *map(int, kernel)), weights)
    made = cases.build.ort.QLinearConv(
        x,
        w,
        cases.bias(x, w) if rng.random() < 0.7 else None,
        strides=tuple(rng.integers(1, 3, rank)),
        pads=tuple(pads),
        dilations=tuple(dilations),
        group=group,
        element=cases.product_result(x, w, inputs * int(np.prod(kernel))),
    )
    cases.returns(made)


def product(cases: OpCases, weights: str) -> None:
    rng = cases.rng
    rows, inputs, outputs = int(rng.integers(1, 9)), int(rng.integers(1, 70)), int(rng.integers(1, 40))
    x, w = cases.random_input(rows, inputs), cases.weight((outputs, inputs), weights)
    bias = cases.bias(x, w) if rng.random() < 0.7 else None
    cases.returns(cases.build.ort.QGemm(x, w, bias, element=cases.product_result(x, w, inputs)))


@pytest.mark.parametrize(("activations", "weights"), PAIRS)
@pytest.mark.parametrize("layer", [convolution, product])
def test_random(ort: Worker, activations: str, weights: str, layer: object) -> None:
    cases = OpCases(activations, 1)
    for _ in range(200):
        layer(cases, weights)  # type: ignore[operator]
    cases.check(ort, least=200)


@pytest.mark.parametrize(("activations", "weights"), PAIRS)
@pytest.mark.parametrize("op", ["QLinearConv", "QGemm"])
def test_both_sides_of_every_output_step(ort: Worker, activations: str, weights: str, op: str) -> None:
    """Weights zero, the accumulator in the bias."""
    cases = OpCases(activations, 2)
    for number in range(40):
        factor = 2.0 ** cases.rng.uniform(-24, -10)  # at large accumulators the factor's last bit decides
        scales = np.exp(cases.rng.uniform(-6, 1, 2))
        if number % 4 == 0:
            factor, scales = 2.0 ** cases.rng.integers(-16, 1), 2.0 ** cases.rng.integers(-9, 3, 2)
        q, result = cases.quant(float(scales[0])), cases.quant(float(scales[0] * scales[1] / factor))
        w_quant = QuantParams.of(scales[1], 128 if weights == "u8" else 0)
        acc = around_steps(product_factor(q, w_quant, result)[0], result.zero_point[0], activations)
        shape = (acc.size, 2, 1) if op == "QLinearConv" else (acc.size, 2)
        data = np.full(shape, w_quant.zero_point[0], np.uint8 if weights == "u8" else np.int8)
        w = cases.build.constant(data, "w", w_quant)
        x = cases.random_input(*((1, 2, 1) if op == "QLinearConv" else (1, 2)), quant=q)
        attrs = {"strides": (1,), "pads": (0, 0), "dilations": (1,)} if op == "QLinearConv" else {}
        bias = cases.bias(x, w, acc)
        cases.returns(getattr(cases.build.ort, op)(x, w, bias, element=(activations, result), **attrs))
    cases.check(ort)


@pytest.mark.parametrize("activations", ["u8", "i8"])
def test_accumulators_wrap_at_int32(ort: Worker, activations: str) -> None:
    cases = OpCases(activations, 3)
    for _ in range(20):
        x = cases.random_input(2, 5, 3, quant=cases.quant(0.01))
        w = cases.weight((64, 5, 1))
        bias = cases.bias(x, w, cases.rng.choice([2**31 - 1, -(2**31), 2**31 - 40000], 64))
        result = cases.quant(float(np.median(w.type.q.scales)) * 0.01 * 2.0**24)
        attrs = {"strides": (1,), "pads": (0, 0), "dilations": (1,)}
        cases.returns(cases.build.ort.QLinearConv(x, w, bias, element=(activations, result), **attrs))
    cases.check(ort)


@pytest.mark.parametrize(("activations", "weights"), PAIRS)
@pytest.mark.parametrize("layer", [convolution, product])
def test_qdq_form(ort: Worker, activations: str, weights: str, layer: object) -> None:
    """Where the runtime fuses, the bytes are those of the integer kernels."""
    cases = OpCases(activations, 4)
    for _ in range(60):
        layer(cases, weights)  # type: ignore[operator]
    cases.check(ort, form="qdq", levels=FUSING)
