"""What lowers loads and is exact, and what the runtime refuses is not lowered: over scales from 1e-36 to 1e36."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

import qgraph
from qgraph.errors import LoweringError
from qgraph.ir import Builder, Graph, TensorType, Value
from qgraph.runtimes import Worker
from qgraph.targets.onnxruntime.onnx_writer import to_onnx
from tests.targets.onnxruntime.op_cases import computed

SHAPE = (2, 4, 5, 5)
Make = Callable[["Case", Value], Value]


class Case:
    """A graph of one op whose values have extreme scales."""

    def __init__(self, seed: int, dtype: str, spread: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.spread, self.dtype = spread, dtype
        self.graph = Graph("case", "fake_quant", {"target": "onnxruntime", "activations": dtype})
        self.build = Builder(self.graph)

    def parameters(self, count: int, zero: int) -> list[Value]:
        exponents = self.rng.uniform(-self.spread, self.spread, count)
        scale = self.build.constant(np.exp2(exponents).astype(np.float32), "scale")
        return [scale, self.build.constant(np.full(count, zero, np.int32), "zero_point")]

    def quantized(self, x: Value) -> Value:
        """x with a scale and a zero point of its own."""
        low, high = (0, 255) if self.dtype == "u8" else (-128, 127)
        zero = int(self.rng.choice([low, high, (low + high + 1) // 2, int(self.rng.integers(low, high + 1))]))
        attrs = {"type": self.dtype, "range": (low, high)}
        return self.build.quant.fake_quant(x, *self.parameters(1, zero), **attrs)

    def other(self, *shape: int) -> Value:
        return self.quantized(self.graph.add_input(f"x{len(self.graph.inputs)}", TensorType(shape)))

    def weight(self, *shape: int, channels: int = 0) -> Value:
        """Of a layer; a scale for each index of its dimension of channels, or one."""
        axis = channels if self.rng.integers(2) else None
        scale, zero = self.parameters(1 if axis is None else shape[axis], 0)
        factor = scale.data.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        data = self.rng.integers(-127, 128, shape) * factor
        w = self.build.constant(data.astype(np.float32), "w")
        return self.build.quant.fake_quant(w, scale, zero, axis=axis, type="i8", range=(-127, 127))

    def activation(self) -> str:
        return str(self.rng.choice(["none", "relu", "relu6"]))

    def bias(self, count: int) -> Value:
        scale = 2.0 ** self.rng.uniform(-self.spread, self.spread)
        return self.build.constant((self.rng.normal(size=count) * scale).astype(np.float32), "b")


def convolution(groups: int) -> Make:
    def make(case: Case, x: Value) -> Value:
        w = case.weight(4, 4 // groups, 3, 3)
        return case.build.nn.conv(x, w, case.bias(4), pads=1, groups=groups, activation=case.activation())

    return make


def transposed(case: Case, x: Value) -> Value:
    return case.build.nn.conv_transpose(x, case.weight(4, 3, 2, 2, channels=1), case.bias(3), stride=2)


def unary(op: str, **attrs: object) -> Make:
    return lambda case, x: getattr(case.build.nn, op)(x, **attrs)


WINDOW = {"kernel": (2, 2), "stride": (1, 1), "pads": 1}
OPS: dict[str, Make] = {
    "conv": convolution(1),
    "depthwise": convolution(4),
    "linear": lambda case, x: case.build.nn.linear(x, case.weight(3, 5), case.bias(3), activation=case.activation()),
    "add": lambda case, x: case.build.nn.add(x, case.other(*SHAPE), activation=case.activation()),
    "add, broadcast": lambda case, x: case.build.nn.add(case.other(4, 1, 1), x),
    "mul": lambda case, x: case.build.nn.mul(x, case.other(*SHAPE), activation=case.activation()),
    "sub": lambda case, x: case.build.nn.sub(x, case.other(4, 1, 5), activation=case.activation()),
    "transposed": lambda case, x: case.build.nn.conv_transpose(
        x, case.weight(4, 3, 2, 2, channels=1), case.bias(3), stride=2
    ),
    **{op: unary(op) for op in ("relu", "relu6", "sigmoid", "tanh", "leaky_relu", "hard_swish", "hard_sigmoid")},
    "softmax": unary("softmax", axis=3),
    "slice": unary("slice", axis=2, start=1, end=5, step=2),
    "mean": unary("mean", axes=(1, 3)),
    "clamp": unary("clamp", min=-1.0, max=0.5),
    "global mean": unary("mean", axes=(2, 3)),
    "avg_pool": unary("avg_pool", **WINDOW),
    "avg_pool, ceil": unary("avg_pool", **WINDOW | {"stride": (2, 2)}, ceil_mode=True, count_include_pad=False),
    "max_pool": unary("max_pool", **WINDOW),
    "concat": lambda case, x: case.build.nn.concat(x, case.other(*SHAPE), axis=1),
    "requantize": lambda case, x: case.quantized(x),
    "pad": unary("pad", pads=(0, 0, 1, 1, 0, 0, 1, 1), value=0.5),
    "moves": lambda case, x: case.build.nn.reshape(case.build.nn.transpose(x, perm=(1, 0, 3, 2)), shape=(4, 50)),
}


def attempt(op: str, seed: int, dtype: str, spread: float, ort: Worker) -> str:
    """Whether a case is lowered; what is lowered runs, and is exact."""
    case = Case(seed, dtype, spread)
    x = case.other(*SHAPE)
    case.graph.set_outputs([case.quantized(OPS[op](case, x))])
    try:
        lowered = qgraph.lower(case.graph, "onnxruntime", io="integer")
    except LoweringError:
        return "refused"
    low, high = (0, 256) if dtype == "u8" else (-128, 128)
    feed = {v.name: case.rng.integers(low, high, v.type.shape).astype(v.type.numpy) for v in lowered.inputs}
    for level in ("disable", "all"):
        result = ort.run(to_onnx(lowered), [feed], options={"level": level})
        for ours, theirs in zip(computed(lowered, feed, result), result.runs[0].outputs, strict=True):
            assert np.array_equal(ours, theirs.data), str(lowered)
    return "exact"


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("op", OPS)
def test_what_lowers_loads_and_is_exact(ort: Worker, op: str, dtype: str) -> None:
    done = Counter(attempt(op, seed, dtype, spread, ort) for spread in (4.0, 30.0, 120.0) for seed in range(12))
    assert done["exact"] >= 3, done
