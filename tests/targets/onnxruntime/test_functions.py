"""Sigmoid, leaky relu, softmax and tables on integers; the float ops that stay in float: against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qgraph
from qgraph.ir import Builder, Graph, QuantParams, TensorType, Value, op_def
from qgraph.runtimes import Processor, Worker
from qgraph.targets.onnxruntime.float_kernels import resized
from qgraph.targets.onnxruntime.kernels import dequantize
from qgraph.targets.onnxruntime.processors import notes
from tests.targets.onnxruntime.foreign import PROVEN
from tests.targets.onnxruntime.op_cases import FUSING, OpCases

TYPES = pytest.mark.parametrize("dtype", ["u8", "i8"])
FORMS = pytest.mark.parametrize("form", ["qoperator", "qdq"])


def every_code(cases: OpCases, quant: QuantParams | None = None) -> Value:
    return cases.input(np.arange(cases.low, cases.high + 1).astype(cases.numpy), quant or cases.quant())


def result_for(cases: OpCases, real: np.ndarray) -> tuple[str, QuantParams]:
    """Parameters under which some result lies on a tie, or almost, and few results are beyond the ends."""
    value = float(cases.rng.choice(np.abs(real[real != 0]))) if real.any() else 1.0
    step = int(cases.rng.integers(1, 200)) + 0.5
    return cases.dtype, cases.quant(max(float(np.float32(value / step)), 1e-30))


@TYPES
@FORMS
def test_sigmoid(ort: Worker, dtype: str, form: str) -> None:
    cases = OpCases(dtype, 1)
    for _ in range(200):
        x = every_code(cases)
        real = 1 / (1 + np.exp(-dequantize(np.arange(cases.low, cases.high + 1), x.type.q).astype(np.float64)))
        cases.returns(cases.build.ort.QLinearSigmoid(x, element=result_for(cases, real)))
    cases.check(ort, form=form, levels=FUSING if form == "qdq" else ("disable", "all"), least=200)


@TYPES
@FORMS
def test_leaky_relu(ort: Worker, dtype: str, form: str) -> None:
    cases = OpCases(dtype, 2)
    for _ in range(200):
        x, alpha = every_code(cases), float(np.float32(cases.rng.choice([0.01, 0.2, 3.0, -0.5, 0.0])))
        real = dequantize(np.arange(cases.low, cases.high + 1), x.type.q)
        real = np.where(real < 0, real * alpha, real)
        cases.returns(cases.build.ort.QLinearLeakyRelu(x, alpha=alpha, element=result_for(cases, real)))
    cases.check(ort, form=form, levels=FUSING if form == "qdq" else ("disable", "all"), least=200)


@TYPES
@FORMS
def test_softmax(ort: Worker, dtype: str, form: str) -> None:
    cases = OpCases(dtype, 3)
    for number in range(200):
        shape = [int(size) for size in cases.rng.integers(1, 7, cases.rng.integers(1, 4))]
        axis = int(cases.rng.integers(0, len(shape)))
        shape[axis] = int(cases.rng.integers(1, 70)) if number % 8 else 300
        x = cases.random_input(*shape, quant=cases.quant(float(np.exp(cases.rng.uniform(-7, 0)))))
        scale = cases.rng.choice([1 / 256, 1 / 255, 1 / 255.5, float(np.exp(cases.rng.uniform(-8, -4)))])
        element = (dtype, QuantParams.of(scale, cases.low if number % 2 else int(cases.codes((1,))[0])))
        cases.returns(cases.build.ort.QLinearSoftmax(x, axis=axis, element=element))
    cases.check(ort, form=form, levels=FUSING if form == "qdq" else ("disable", "all"), least=200)


@TYPES
def test_softmax_on_ties(ort: Worker, dtype: str) -> None:
    """Rows of which some elements are all alike, and divide an odd number of steps by an even one."""
    cases = OpCases(dtype, 8)
    for _ in range(60):
        size, steps = int(cases.rng.choice([2, 4, 6, 10, 14])), int(cases.rng.integers(1, 300))
        rows = np.full((256, size), cases.low)
        for code in range(256):
            alike = cases.rng.permutation(size)[: int(cases.rng.integers(1, size + 1))]
            rows[code, alike] = cases.low + code
        x = cases.input(rows.astype(cases.numpy), cases.quant(float(np.exp(cases.rng.uniform(-1, 3)))))
        element = (dtype, cases.quant(float(np.float32(1) / np.float32(steps + 0.3))))
        cases.returns(cases.build.ort.QLinearSoftmax(x, axis=1, element=element))
    cases.check(ort, levels=("disable", "all"))


@TYPES
@FORMS
def test_lookup(ort: Worker, dtype: str, form: str) -> None:
    cases = OpCases(dtype, 4)
    for _ in range(40):
        x = every_code(cases)
        table = cases.build.constant(cases.codes((256,)), "table", cases.quant(), dtype)
        cases.returns(cases.build.ort.Lookup(x, table, function="nn.tanh"))
        cases.returns(cases.build.ort.Lookup(cases.random_input(2, 3, 5), table))
    cases.check(ort, form=form, levels=("disable", "all"))


def spread(cases: OpCases, *shape: int) -> np.ndarray:
    """Random floats of every size, with ties, zeros and ends of ranges among them."""
    x = cases.rng.normal(size=shape) * np.exp(cases.rng.uniform(-12, 5, shape))
    x.ravel()[:6] = [0.0, -0.0, 20.0, -20.0, 9.0, -9.0][: x.size]
    return x.astype(np.float32)


IN_FLOAT: dict[str, dict[str, object]] = {
    **{op: {} for op in ("sigmoid", "tanh", "erf", "exp", "rsqrt", "sqrt", "abs", "sign", "floor", "ceil", "round")},
    "gelu": {},
    "gelu by tanh": {"approximate": "tanh"},
}


@pytest.mark.parametrize("name", IN_FLOAT)
def test_functions_in_float(ort: Worker, name: str) -> None:
    cases = OpCases("u8", 5)
    for size in (1, 7, 70, 5000):
        x = np.abs(spread(cases, size)) if "sqrt" in name else np.clip(spread(cases, size), -80, 80)
        cases.returns(getattr(cases.build.nn, name.partition(" ")[0])(cases.input(x, None), **IN_FLOAT[name]))
    cases.check(ort, opset=18)


@pytest.mark.parametrize("counts", [pytest.param((1,), marks=PROVEN), (2, 5, 7, 8, 12, 13, 16, 31, 64, 100, 384, 768)])
def test_layer_norm_in_float(ort: Worker, counts: tuple[int, ...]) -> None:
    cases = OpCases("u8", 9)
    for number in range(12 * len(counts)):
        count = int(cases.rng.choice(counts))
        x = cases.rng.normal(size=(int(cases.rng.integers(1, 4)), 3, count)).astype(np.float32)
        x = x * np.float32(np.exp(cases.rng.uniform(-3, 3))) + np.float32(cases.rng.normal())
        given = [(), (True,), (True, True), (False, True)][number % 4]
        numbers = [cases.rng.normal(size=count).astype(np.float32) if each else None for each in given]
        operands = [None if each is None else cases.build.constant(each, "p") for each in numbers]
        cases.returns(cases.build.nn.layer_norm(cases.input(x, None), *operands, eps=10.0 ** -(number % 4 + 4)))
    cases.check(ort, opset=18)


def test_sums_and_means_in_float(ort: Worker) -> None:
    """Rows of every length, which begin at every place of a packet."""
    cases = OpCases("u8", 12)
    for number in range(120):
        count = int(cases.rng.choice([1, 2, 3, 5, 7, 8, 9, 11, 12, 15, 16, 31, 33, 64, 100, 197]))
        shape = (2, 3, 3, count) if number % 2 else (9, count)
        x = cases.input(cases.rng.normal(size=shape).astype(np.float32), None)
        axes = (2, 3) if number % 4 == 1 else (len(shape) - 1,)
        cases.returns(cases.build.nn.mean(x, axes=axes, keepdims=number % 3 == 0))
        cases.returns(cases.build.nn.sum(x, axes=axes, keepdims=number % 3 == 0))
        gamma = [cases.build.constant(cases.rng.normal(size=count).astype(np.float32), "g")] if number % 3 else []
        cases.returns(cases.build.nn.rms_norm(x, *gamma, eps=1e-6))
    cases.check(ort, opset=18)


def test_layer_norm_over_several_axes(ort: Worker) -> None:
    cases = OpCases("u8", 10)
    for shape in ((3, 4, 5), (2, 7), (6, 2, 2)):
        x, gamma = (cases.rng.normal(size=size).astype(np.float32) for size in ((2, *shape), shape))
        made = cases.build.nn.layer_norm(cases.input(x, None), cases.build.constant(gamma, "g"), axes=len(shape))
        cases.returns(made)
    cases.check(ort, opset=18)


@pytest.mark.parametrize("rank", [2, 3])
def test_layer_norm_of_sums_in_float(ort: Worker, rank: int) -> None:
    """Which the runtime may not fuse into SkipLayerNormalization."""
    cases = OpCases("u8", 11)
    shape = (2, 5, 16)[-rank:]
    for _ in range(20):
        a, b = (cases.input(cases.rng.normal(size=shape).astype(np.float32), None) for _ in "ab")
        gamma, beta = (cases.build.constant(cases.rng.normal(size=16).astype(np.float32), "p") for _ in range(2))
        cases.returns(cases.build.nn.layer_norm(cases.build.nn.add(a, b), gamma, beta))
        cases.returns(cases.build.nn.gelu(cases.build.nn.add(a, beta)))
    cases.check(ort, opset=18)


def test_softmax_in_float(ort: Worker) -> None:
    cases = OpCases("u8", 6)
    for number in range(80):
        shape = [int(size) for size in cases.rng.integers(1, 7, cases.rng.integers(2, 5))]
        axis = int(cases.rng.integers(0, len(shape)))
        shape[axis] = int(cases.rng.integers(1, 70)) if number % 8 else 300
        x = cases.rng.normal(size=shape).astype(np.float32) * np.float32(np.exp(cases.rng.uniform(-4, 3)))
        cases.returns(cases.build.nn.softmax(cases.input(x, None), axis=axis))
        cases.returns(cases.build.nn.log_softmax(cases.input(x, None), axis=axis))
    cases.check(ort, opset=18)


def test_resizing_in_float(ort: Worker) -> None:
    cases = OpCases("u8", 13)
    for number in range(120):
        sizes = [int(size) for size in cases.rng.integers(1, 15, 2)]
        wanted = [2 * size for size in sizes] if number % 3 == 0 else [int(n) for n in cases.rng.integers(1, 40, 2)]
        x = cases.input(cases.rng.normal(size=(2, 3, *sizes)).astype(np.float32), None)
        cases.returns(cases.build.nn.resize(x, size=tuple(wanted), mode="linear", align_corners=number % 2 == 0))
        cases.returns(cases.build.nn.resize(x, size=tuple(wanted)))
        line = cases.input(cases.rng.normal(size=(2, 3, sizes[0])).astype(np.float32), None)
        cases.returns(cases.build.nn.resize(line, size=tuple(wanted[:1])))
    cases.check(ort, opset=18)


@pytest.mark.parametrize("mode", ["nearest", "linear", "aligned"])
def test_every_enlargement_has_the_size_that_it_says(ort: Worker, mode: str) -> None:
    """Joined with a value of that size, which the runtime refuses where it infers another; 3 to 10, say."""
    cases = OpCases("u8", 14)
    words = {"mode": "nearest" if mode == "nearest" else "linear", "align_corners": mode == "aligned"}
    for size in range(1, 14):
        data = cases.rng.normal(size=(1, 1, size, size)).astype(np.float32)
        x = cases.input(data, None)
        for out in range(1, 30):
            made = cases.build.nn.resize(x, size=(out, out), **words)
            like = cases.build.constant(np.zeros((1, 1, out, out), np.float32), "like")
            cases.returns(cases.build.nn.concat(made, like, axis=1))
            if mode == "nearest":
                wanted = F.interpolate(torch.from_numpy(data), size=(out, out)).numpy()
                assert made.producer is not None
                got = resized(op_def("nn.resize").view(made.producer), data)
                np.testing.assert_array_equal(got, wanted)
    cases.check(ort, opset=18, least=13 * 29)


def test_what_was_pooled_and_enlarged_is_joined() -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layer(x)
            pooled = F.relu(F.adaptive_avg_pool2d(x, 3))
            made = [F.interpolate(pooled, size=(10, 10), mode="bilinear", align_corners=a) for a in (True, False)]
            return torch.cat([x, *made, F.interpolate(pooled, size=(10, 10))], 1)

    x = torch.randn(8, 3, 10, 10, generator=torch.manual_seed(0))
    made = qgraph.quantize(qgraph.trace(Pyramid(), x), "onnxruntime", calibration=[x.numpy()])
    assert qgraph.verify(made, inputs=x.numpy()).bit_exact


def test_what_one_operation_rounds_in_float(ort: Worker) -> None:
    cases = OpCases("u8", 7)
    for size in (1, 9, 300):
        a, b = cases.input(spread(cases, size), None), cases.input(spread(cases, size), None)
        for op in ("add", "sub", "mul"):
            cases.returns(getattr(cases.build.nn, op)(a, b, activation="relu"))
        for op in ("maximum", "minimum"):
            cases.returns(getattr(cases.build.nn, op)(a, b))
        cases.returns(cases.build.nn.div(a, cases.input(spread(cases, size) + np.float32(1e-3), None)))
        cases.returns(cases.build.nn.leaky_relu(a, negative_slope=0.1))
    cases.check(ort, opset=18)


def test_what_is_not_exact_is_named_and_what_depends_on_the_processor() -> None:
    graph = Graph("g", "integer", {"target": "onnxruntime"})
    x, ids = graph.add_input("x", TensorType((2, 8))), graph.add_input("i", TensorType((2, 8), "i64"))
    build = Builder(graph)
    values = [build.nn.tanh(x), build.nn.cumsum(ids, axis=1), build.nn.mean(x, axes=(1,)), build.nn.sin(x)]
    graph.set_outputs(values)
    here, elsewhere = (Processor("x86_64", "a processor", saturates_u8s8=each) for each in (False, True))
    assert notes(graph, here) == ["floats of nn.sin: their last digits may differ from the runtime's"]
    assert notes(graph, elsewhere)[1].startswith("nn.mean, nn.tanh: as an x86 with AVX512 and VNNI computes them")
