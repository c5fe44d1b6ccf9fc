"""QLinearConcat, Reshape, Transpose and Pad against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.runtimes import Worker
from tests.targets.onnxruntime.op_cases import FUSING, OpCases

TYPES = pytest.mark.parametrize("dtype", ["u8", "i8"])


@TYPES
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
def test_concat(ort: Worker, dtype: str, form: str) -> None:
    """All codes of each operand, with the result's parameters or others."""
    cases = OpCases(dtype, 1)
    every = np.arange(cases.low, cases.high + 1).astype(cases.numpy).reshape(1, 16, 16)
    for _ in range(200):
        result = cases.quant()
        scales = result.scale[0] * np.exp2(cases.rng.choice([-1.0, 0.0, 1.0, 0.3, 1.7], int(cases.rng.integers(1, 4))))
        params = [result if cases.rng.random() < 0.3 else cases.quant(float(scale)) for scale in scales]
        if cases.rng.random() < 0.5:
            result = cases.tie_quant(params[0], 1)
        xs = [cases.input(every, q) for q in params]
        cases.returns(cases.build.ort.QLinearConcat(*xs, axis=int(cases.rng.integers(0, 3)), element=(dtype, result)))
    cases.check(ort, form=form, levels=FUSING if form == "qdq" else ("disable", "all"), least=200)


@TYPES
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
def test_moving_elements(ort: Worker, dtype: str, form: str) -> None:
    cases = OpCases(dtype, 2)
    for _ in range(200):
        shape = [int(size) for size in cases.rng.integers(1, 6, cases.rng.integers(2, 5))]
        x = cases.random_input(*shape)
        pads = tuple(cases.rng.integers(0, 3, 2 * len(shape)))
        cases.returns(cases.build.ort.Pad(x, pads=pads, value=int(cases.rng.integers(cases.low, cases.high + 1))))
        cases.returns(cases.build.ort.Transpose(x, perm=tuple(cases.rng.permutation(len(shape)))))
        cases.returns(cases.build.ort.Reshape(x, shape=(-1, int(np.prod(shape[1:])))))
    cases.check(ort, form=form, levels=("disable", "all"), least=600)


@TYPES
def test_choosing(ort: Worker, dtype: str) -> None:
    """Elements by conditions: all codes of both operands, of the result's parameters or others."""
    cases = OpCases(dtype, 3)
    every = np.arange(cases.low, cases.high + 1).astype(cases.numpy)
    for number in range(100):
        params = [cases.quant() for _ in range(3)]
        a, b = cases.input(every, params[0]), cases.input(every[::-1].copy(), params[1])
        element = (dtype, params[number % 3])
        chosen = cases.rng.random((2, 256) if number % 2 else (1,)) < 0.5
        condition = cases.index_input(chosen)
        cases.returns(cases.build.ort.QLinearWhere(condition, a, b, element=element))
    cases.check(ort, levels=("disable", "all"), least=100)


@TYPES
def test_moving_by_indices(ort: Worker, dtype: str) -> None:
    """Ops of nn on integers."""
    cases = OpCases(dtype, 4)
    for number in range(60):
        x, axis = cases.random_input(3, 4, 5), number % 3
        size = int(x.type.shape[axis])
        places = cases.index_input(cases.rng.integers(0, size, (2, 3)))
        elements = cases.index_input(cases.rng.integers(0, size, (3, 4, 5)))
        build = cases.build.nn
        cases.returns(build.gather(x, places, axis=axis))
        cases.returns(build.gather_elements(x, elements, axis=axis))
        cases.returns(build.index(x, places, axes=(axis,)))
        cases.returns(build.expand(build.slice(x, axis=axis, start=1, end=2), shape=(2, 3, 4, 5)[-3 - number % 2 :]))
    cases.check(ort, levels=("disable", "all"), opset=18)
