"""QLinearMul and QLinearMatMul against ONNX Runtime: all pairs, ties, broadcasting, both sides of every step."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.runtimes import Worker
from tests.targets.onnxruntime.op_cases import FUSING, OpCases

TYPES = pytest.mark.parametrize("dtype", ["u8", "i8"])
FORMS = pytest.mark.parametrize("form", ["qoperator", "qdq"])


@TYPES
def test_mul_of_all_pairs(ort: Worker, dtype: str) -> None:
    cases = OpCases(dtype, 1)
    every = np.arange(cases.low, cases.high + 1).astype(cases.numpy)
    for number in range(48):
        spread = 12 if number % 4 == 0 else 1.5
        scales = np.exp(cases.rng.uniform(-spread, spread, 3)) * 0.05
        scales[2] = scales[0] * scales[1] * 100 * np.exp(cases.rng.uniform(-2, 2))
        if number % 3 == 0:
            scales = 2.0 ** np.round(np.log2(scales))
        a, b, result = (cases.quant(float(scale)) for scale in scales)
        x, y = cases.input(every.reshape(256, 1), a), cases.input(every.reshape(1, 256), b)
        cases.returns(cases.build.ort.QLinearMul(x, y, element=(dtype, result)))
    cases.check(ort)


@TYPES
@FORMS
def test_mul_of_random_shapes(ort: Worker, dtype: str, form: str) -> None:
    cases = OpCases(dtype, 2)
    for _ in range(200):
        shape = [int(size) for size in cases.rng.integers(1, 12, cases.rng.integers(1, 5))]
        other = [1 if cases.rng.random() < 0.3 else size for size in shape][int(cases.rng.integers(0, 2)) :] or [1]
        a, b = cases.random_input(*shape), cases.random_input(*other)
        a, b = (a, b) if cases.rng.random() < 0.5 else (b, a)
        scale = float(a.type.q.scale[0] * b.type.q.scale[0] * 100 * cases.rng.uniform(0.3, 2))
        cases.returns(cases.build.ort.QLinearMul(a, b, element=(dtype, cases.quant(scale))))
    cases.check(ort, form=form, levels=FUSING if form == "qdq" else ("disable", "all"), least=200)


@TYPES
@FORMS
def test_matmul(ort: Worker, dtype: str, form: str) -> None:
    """Broadcast batches, one to four dimensions, inner sizes that float32 sums exactly and not."""
    cases = OpCases(dtype, 3)
    for number in range(200):
        rows, inner, columns = (int(size) for size in cases.rng.integers(1, 40, 3))
        inner = 700 if number % 20 == 0 else inner
        batch = [int(size) for size in cases.rng.integers(1, 4, cases.rng.integers(0, 3))]
        other = [1 if cases.rng.random() < 0.3 else size for size in batch][int(cases.rng.integers(0, 2)) :]
        a, b = cases.random_input(*batch, rows, inner), cases.random_input(*other, inner, columns)
        typical = float(a.type.q.scale[0] * b.type.q.scale[0]) * 75 * 75 * np.sqrt(inner)
        element = (dtype, cases.quant(typical / cases.rng.choice([10, 40, 127])))
        cases.returns(cases.build.ort.QLinearMatMul(a, b, element=element))
    cases.check(ort, form=form, levels=FUSING if form == "qdq" else ("disable", "all"), least=200)


@TYPES
def test_matmul_of_all_pairs_and_on_ties(ort: Worker, dtype: str) -> None:
    cases = OpCases(dtype, 4)
    every = np.arange(cases.low, cases.high + 1).astype(cases.numpy)
    for number in range(40):
        a, b = cases.quant(), cases.quant()
        steps = int(cases.rng.integers(0, 60)) + 0.5
        product = float(a.scale[0] * b.scale[0])
        tie = product * int(cases.rng.integers(1, 6000)) / steps
        result = cases.quant(product * 2.0 ** cases.rng.integers(5, 9) if number % 3 == 0 else float(np.float32(tie)))
        x, y = cases.input(every.reshape(256, 1), a), cases.input(every.reshape(1, 256), b)
        cases.returns(cases.build.ort.QLinearMatMul(x, y, element=(dtype, result)))
    cases.check(ort, levels=("disable", "all"))
