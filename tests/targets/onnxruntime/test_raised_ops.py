"""Every op of the dialect, with random attributes, biases and types: raised and lowered again it gives the same
integers, or raising refuses and says what it cannot carry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import qgraph
from qgraph import passes
from qgraph.errors import LoweringError
from qgraph.interpreter import execute
from qgraph.ir import QuantParams, Value
from qgraph.targets.onnxruntime.function_rows import LOOKUPS
from tests.targets.onnxruntime.models import Body, images, lowered, plain, residual
from tests.targets.onnxruntime.op_cases import OpCases
from tests.targets.onnxruntime.test_layers import PAIRS, convolution, product
from tests.targets.onnxruntime.test_pooling import window

Make = Callable[[OpCases, str], Value]


def element(cases: OpCases, x: Value) -> tuple[str, QuantParams]:
    return cases.dtype, cases.quant(float(x.type.q.scale[0] * cases.rng.uniform(0.3, 1.5)))


def add(cases: OpCases, weights: str) -> Value:
    a, b = cases.random_input(2, 3, 4), cases.random_input(3, 1)
    if cases.rng.random() < 0.5:
        b = cases.build.constant(cases.codes((3, 1)), "c", b.type.q, cases.dtype)
    pair = (a, b) if cases.rng.random() < 0.5 else (b, a)
    return cases.build.ort.QLinearAdd(*pair, element=element(cases, a))


def max_pool(cases: OpCases, weights: str) -> Value:
    dilations = [int(d) for d in cases.rng.integers(1, 3, cases.rng.integers(1, 4))]
    attrs, sizes = window(cases, dilations)
    return cases.build.ort.MaxPool(cases.random_input(2, 3, *sizes), dilations=dilations, **attrs)


def average_pool(cases: OpCases, weights: str) -> Value:
    attrs, sizes = window(cases, [1] * int(cases.rng.integers(1, 4)))
    x = cases.random_input(2, 3, *sizes)
    counted = int(cases.rng.integers(0, 2))
    return cases.build.ort.QLinearAveragePool(x, count_include_pad=counted, element=element(cases, x), **attrs)


def global_average(cases: OpCases, weights: str) -> Value:
    x = cases.random_input(2, 3, *(int(size) for size in cases.rng.integers(1, 6, cases.rng.integers(1, 4))))
    return cases.build.ort.QLinearGlobalAveragePool(x, element=element(cases, x))


def concat(cases: OpCases, weights: str) -> Value:
    a, b = cases.random_input(2, 3), cases.random_input(2, 4)
    c = cases.build.constant(cases.codes((2, 5)), "c", cases.quant(), cases.dtype)
    return cases.build.ort.QLinearConcat(a, c, b, axis=1, element=element(cases, a))


def moves(cases: OpCases, weights: str) -> Value:
    x = cases.build.ort.Transpose(cases.random_input(2, 3, 4), perm=tuple(cases.rng.permutation(3)))
    x = cases.build.ort.Pad(x, pads=(0, 1, 2, 0, 3, 1), value=int(cases.codes((1,))[0]))
    return cases.build.ort.Reshape(x, shape=(-1, int(x.type.shape[2])))


def difference(cases: OpCases, weights: str) -> Value:
    """A difference is of floats."""
    x, y = (cases.build.ort.DequantizeLinear(cases.random_input(2, 8, quant=cases.quant(0.05))) for _ in "xy")
    return cases.build.ort.QuantizeLinear(cases.build.nn.sub(x, y), element=(cases.dtype, cases.quant(0.1)))


def product_of_both(cases: OpCases, weights: str) -> Value:
    a, b = cases.random_input(2, 3, 4), cases.random_input(3, 1)
    scale = float(a.type.q.scale[0] * b.type.q.scale[0]) * 100
    return cases.build.ort.QLinearMul(a, b, element=(cases.dtype, cases.quant(scale)))


def slices(cases: OpCases, weights: str) -> Value:
    words = {"starts": (1, 0), "ends": (5, 3), "axes": (2, 1), "steps": (2, 1)}
    return cases.build.ort.Slice(cases.random_input(2, 3, 6), **words)


def sigmoid(cases: OpCases, weights: str) -> Value:
    return cases.build.ort.QLinearSigmoid(cases.random_input(2, 50), element=(cases.dtype, cases.quant(1 / 256)))


def leaky_relu(cases: OpCases, weights: str) -> Value:
    x = cases.random_input(2, 50)
    return cases.build.ort.QLinearLeakyRelu(x, alpha=float(np.float32(0.3)), element=element(cases, x))


def softmax(cases: OpCases, weights: str) -> Value:
    x = cases.random_input(2, 5, 6, quant=cases.quant(0.05))
    return cases.build.ort.QLinearSoftmax(x, axis=1, element=(cases.dtype, cases.quant(1 / 256)))


def lookup(cases: OpCases, weights: str) -> Value:
    """A function's table, or some other."""
    x, to = cases.random_input(2, 50, quant=cases.quant(0.05)), (cases.dtype, cases.quant(1 / 128))
    words = {"attrs": {}, "operands": [None]}
    table = LOOKUPS.table("nn.tanh", words, x.type, to)
    if cases.rng.random() < 0.2:
        table[3] ^= 1
    made = cases.build.constant(table, "tanh", to[1])
    return cases.build.ort.Lookup(x, made, function="nn.tanh", arguments=json.dumps(words))


def clip(cases: OpCases, weights: str) -> Value:
    low, high = (int(code) for code in cases.codes((2,)))
    return cases.build.ort.Clip(cases.random_input(2, 50), min=low, max=high)


def requantize(cases: OpCases, weights: str) -> Value:
    x = cases.input(np.arange(cases.low, cases.high + 1).astype(cases.numpy), cases.quant())
    other = element(cases, x) if cases.rng.random() < 0.8 else (cases.dtype, x.type.q)
    return cases.build.ort.QuantizeLinear(cases.build.ort.DequantizeLinear(x), element=other)


def extreme(cases: OpCases, weights: str) -> Value:
    """Scales whose codes are beyond float32, or almost, or the least that it has."""
    scale = 10.0 ** cases.rng.choice([cases.rng.uniform(35, 37), cases.rng.uniform(-44.7, -40)])
    q = QuantParams.of(scale, int(cases.codes((1,))[0]))
    return cases.build.ort.Clip(cases.random_input(2, 50, quant=q), min=cases.low + 1, max=cases.high)


def island(cases: OpCases, weights: str) -> Value:
    """An op that stays in float."""
    x = cases.build.ort.DequantizeLinear(cases.random_input(2, 4, 3, quant=cases.quant(0.05)))
    w = cases.build.constant(cases.rng.normal(size=(4, 1, 2)).astype(np.float32), "w")
    bias = cases.build.constant(cases.rng.normal(size=2).astype(np.float32), "b")
    made = cases.build.nn.conv_transpose(x, w, bias, stride=2, groups=2)
    return cases.build.ort.QuantizeLinear(made, element=(cases.dtype, cases.quant(0.1)))


def sum_in_float(cases: OpCases, weights: str) -> Value:
    """One that would not: lowering makes integers of it."""
    x = cases.build.ort.DequantizeLinear(cases.random_input(2, 8, quant=cases.quant(0.05)))
    made = cases.build.nn.add(x, x)
    return cases.build.ort.QuantizeLinear(made, element=(cases.dtype, cases.quant(0.1)))


def returned(make: Callable[[OpCases, str], None]) -> Make:
    def made(cases: OpCases, weights: str) -> Value:
        make(cases, weights)
        return cases.outputs.pop()

    return made


def big_bias(cases: OpCases, weights: str) -> Value:
    x, w = cases.random_input(2, 4), cases.weight((3, 4), weights)
    bias = cases.bias(x, w, np.array([2**24 + 1, 5, -(2**31) + 1]))
    return cases.build.ort.QGemm(x, w, bias, element=cases.product_result(x, w, 4))


SAME: dict[str, Make] = {
    "QLinearConv": returned(convolution),
    "QGemm": returned(product),
    **{make.__name__: make for make in (add, max_pool, average_pool, global_average, concat, moves)},
    **{make.__name__: make for make in (clip, requantize, extreme, island, difference, product_of_both, slices)},
    **{make.__name__: make for make in (sigmoid, leaky_relu, softmax, lookup)},
}
REFUSED: dict[str, tuple[Make, str]] = {
    "clip": (clip, "nn.clamp cannot carry min above max"),
    "extreme": (extreme, "floats cannot carry the scale"),
    "sum_in_float": (sum_in_float, "cannot carry that these stay in float: nn.add"),
    "lookup": (lookup, "nn.tanh cannot carry a table of other elements"),
    "big_bias": (big_bias, "cannot carry the bias 16777217: float32 has 24 bits"),
}


def comes_back(make: Make, pair: tuple[str, str], seed: int) -> str:
    """Raise, lower and compare; what raising said where it refused."""
    cases = OpCases(pair[0], seed)
    cases.returns(make(cases, pair[1]))
    graph = cases.finished()
    try:
        raised = passes.raise_to_fake_quant(graph)
    except LoweringError as error:
        return error.what
    again = qgraph.lower(raised, "onnxruntime", io="integer")
    assert [value.type for value in again.inputs] == [value.type for value in graph.inputs]
    for ours, theirs in zip(execute(again, cases.arrays), execute(graph, cases.arrays), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs), f"{graph}\n{raised}\n{again}"
    return "the same"


@pytest.mark.parametrize(
    ("name", "pair"), [(name, pair) for name in SAME for pair in PAIRS if name.startswith("Q") or pair[1] == "i8"]
)
def test_raised_and_lowered_again_an_op_gives_the_same_integers(name: str, pair: tuple[str, str]) -> None:
    said = Counter(comes_back(SAME[name], pair, seed) for seed in range(24))
    assert said["the same"] >= 6, said


@pytest.mark.parametrize("name", REFUSED)
def test_what_raising_cannot_carry_is_named(name: str) -> None:
    make, message = REFUSED[name]
    said = {comes_back(make, ("u8", "i8"), seed) for seed in range(12)}
    assert any(message in each for each in said), said


@pytest.mark.parametrize("form", ["qoperator", "qdq"])
@pytest.mark.parametrize("options", [{}, {"activations": "i8"}, {"weights": "u8"}, {"weights": "full-range"}], ids=str)
@pytest.mark.parametrize("body", [plain, residual])
def test_a_file_comes_back_with_its_options(body: Body, options: dict[str, str], form: str, tmp_path: Path) -> None:
    graph = lowered(body, **options)
    qgraph.export(graph, tmp_path / "model.onnx", form=form)
    raised = passes.raise_to_fake_quant(qgraph.load(tmp_path / "model.onnx"))
    assert options.items() <= raised.metadata.items()
    again = qgraph.lower(raised, "onnxruntime")
    (ours,), (theirs,) = (execute(each, {"x": images(graph)}) for each in (again, graph))
    assert np.array_equal(ours, theirs)
    assert [node.op for node in again.nodes] == [node.op for node in graph.nodes]


MOVED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flip": lambda y: y.flip(1),
    "index": lambda y: y[:, [0, 1, 2, 2, 1, 0]],
    "expand": lambda y: y[:, None].expand(-1, 3, -1),
    "gather": lambda y: y.gather(1, torch.arange(6).expand(y.shape[0], -1)),
    "roll": lambda y: y.roll(1, 1),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_layer_behind_what_is_moved_by_indices_is_raised(name: str) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(MOVED[name](self.layer(x)))

    x = torch.randn(8, 6)
    lowered = qgraph.quantize(qgraph.trace(Twice().eval(), x), "onnxruntime", calibration=[x.numpy()])
    again = qgraph.lower(qgraph.passes.raise_to_fake_quant(lowered), "onnxruntime")
    np.testing.assert_array_equal(*(np.asarray(qgraph.run(each, x.numpy())) for each in (again, lowered)))
