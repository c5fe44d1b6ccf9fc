"""QLinearAdd, QuantizeLinear, DequantizeLinear, Clip against ONNX Runtime: all pairs, all codes, ties."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.runtimes import Worker
from tests.targets.onnxruntime.op_cases import FUSING, OpCases

TYPES = pytest.mark.parametrize("dtype", ["u8", "i8"])


@TYPES
def test_add_of_all_pairs(ort: Worker, dtype: str) -> None:
    cases = OpCases(dtype, 1)
    every = np.arange(cases.low, cases.high + 1).astype(cases.numpy)
    for number in range(48):
        spread = 23 if number % 4 == 0 else 1.5  # ratios of 1e-10 to 1e10 too
        scales = np.exp(cases.rng.uniform(-spread, spread, 3)) * 0.05
        if number % 3 == 0:
            scales = 2.0 ** np.round(np.log2(scales))
        a, b, result = (cases.quant(float(scale)) for scale in scales)
        x, y = cases.input(every.reshape(256, 1), a), cases.input(every.reshape(1, 256), b)
        cases.returns(cases.build.ort.QLinearAdd(x, y, element=(dtype, result)))
    cases.check(ort)


@TYPES
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
def test_add_of_random_shapes(ort: Worker, dtype: str, form: str) -> None:
    """Broadcasting, different ranks, vector tails."""
    cases = OpCases(dtype, 2)
    for _ in range(200):
        shape = [int(size) for size in cases.rng.integers(1, 12, cases.rng.integers(1, 5))]
        other = [1 if cases.rng.random() < 0.3 else size for size in shape][int(cases.rng.integers(0, 2)) :] or [1]
        a, b = cases.random_input(*shape), cases.random_input(*other)
        a, b = (a, b) if cases.rng.random() < 0.5 else (b, a)
        scale = float(max(a.type.q.scale[0], b.type.q.scale[0]) * cases.rng.uniform(0.3, 2))
        cases.returns(cases.build.ort.QLinearAdd(a, b, element=(dtype, cases.quant(scale))))
    cases.check(ort, form=form, levels=FUSING if form == "qdq" else ("disable", "all"), least=200)


@TYPES
def test_add_exchanges_its_operands_where_the_first_is_broadcast(ort: Worker, dtype: str) -> None:
    """Large ratios of scales show the order of the two fused multiply-adds."""
    cases = OpCases(dtype, 6)
    shapes = [((1,), (1,)), ((), (40, 7)), ((40, 7), (1,)), ((1, 1), (1, 1, 1)), ((3, 1, 50, 1), (1, 4, 50, 1))]
    shapes += [
        ((2, 1, 90), (2, 90, 1)),
        ((90, 2, 1, 1), (1, 2, 9, 1)),
        ((64, 1), (1, 64)),
        ((1, 8, 1, 1), (2, 8, 5, 5)),
    ]
    for number in range(220):
        shape, other = shapes[number % len(shapes)]
        scales = np.exp(cases.rng.uniform(-20, 20, 2)) * 1e-3
        a, b = (
            cases.random_input(*s, quant=cases.quant(float(q))) for s, q in zip((shape, other), scales, strict=True)
        )
        element = (dtype, cases.quant(float(min(scales))))
        cases.returns(cases.build.ort.QLinearAdd(a, b, element=element))
    cases.check(ort, levels=("disable", "all"), least=200)


@TYPES
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
def test_requantize_all_codes(ort: Worker, dtype: str, form: str) -> None:
    """DequantizeLinear, QuantizeLinear and a Clip, as a relu becomes; the runtime may not merge them."""
    cases = OpCases(dtype, 3)
    for number in range(200):
        x = cases.input(np.arange(cases.low, cases.high + 1).astype(cases.numpy), cases.quant())
        power_of_two = cases.quant(float(x.type.q.scale[0] * 2.0 ** cases.rng.integers(-3, 4)))
        element = (dtype, cases.tie_quant(x.type.q, 1) if number % 2 else power_of_two)
        made = cases.build.ort.QuantizeLinear(cases.build.ort.DequantizeLinear(x), element=element)
        low, high = sorted(int(code) for code in cases.rng.integers(cases.low, cases.high + 1, 2))
        cases.returns(cases.build.ort.Clip(made, min=low, max=high) if number % 3 else made)
    cases.check(ort, form=form, least=200)


@TYPES
@pytest.mark.parametrize("opset", [13, 19, 22])
def test_quantize_ties_extremes_and_dequantize(ort: Worker, dtype: str, opset: int) -> None:
    cases = OpCases(dtype, 4)
    for _ in range(200):
        quant = cases.quant()
        ties = (np.arange(cases.low - 2, cases.high + 3) + 0.5 - quant.zero_point[0]).astype(np.float32) * quant.scales[
            0
        ]
        extremes = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 0.0, -0.0, 1e-40], np.float32)
        around = [ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf)), extremes]
        made = cases.build.ort.QuantizeLinear(cases.input(np.concatenate(around), None), element=(dtype, quant))
        cases.returns(cases.build.ort.DequantizeLinear(made))
        cases.returns(made)
    cases.check(ort, opset=opset, levels=("disable", "all"), least=200)
