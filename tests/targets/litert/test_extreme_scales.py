"""What lowers loads and is exact, and what the runtime refuses is not lowered: over scales from 1e-38 to 1e38."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

import qgraph
from qgraph.errors import LoweringError
from qgraph.interpreter import execute
from qgraph.ir import Builder, Graph, TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.targets.litert.file_format import to_tflite
from tests.targets.litert.families import Families


class Function(torch.nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


SHAPE = (1, 4, 5, 5)
Rng = np.random.Generator
Make = Callable[["Case", Value], Value]


class Case:
    """A graph of one op whose values have extreme scales."""

    def __init__(self, seed: int, target: str, spread: float, wide: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.wide = wide
        self.spread = spread
        self.graph = Graph("case", "fake_quant", {"target": target})
        self.build = Builder(self.graph)

    def quantized(self, x: Value, data: np.ndarray | None = None, axis: int | None = None) -> Value:
        """x with a scale of its own; `data`: of a weight."""
        count = 1 if axis is None else x.type.shape[axis]
        exponents = self.rng.uniform(-self.spread, self.spread, int(count))
        scale = self.build.constant(np.exp2(exponents).astype(np.float32), "scale")
        zero = (
            0 if data is not None or self.wide else self.rng.choice([-128, 127, 0, int(self.rng.integers(-128, 128))])
        )
        zero_point = self.build.constant(np.full(int(count), zero, np.int32), "zero_point")
        if data is not None:
            shape = [-1 if i == axis else 1 for i in range(data.ndim)]
            x = self.build.constant((data * scale.data.reshape(shape)).astype(np.float32), "w")
        attrs = {"axis": axis, "range": (-127, 127) if data is not None else (-128, 127)}
        if self.wide and data is None:
            attrs |= {"type": "i16", "range": (-(2**15), 2**15 - 1)}
        return self.build.quant.fake_quant(x, scale, zero_point, **attrs)

    def weight(self, *shape: int) -> Value:
        data = self.rng.integers(-127, 128, shape)
        axis = 0 if self.rng.integers(2) else None
        return self.quantized(Value(TensorType(shape)), data, axis)

    def activation(self) -> str:
        return str(self.rng.choice(["none", "relu", "relu6"]))

    def bias(self, count: int) -> Value | None:
        scale = 2.0 ** self.rng.uniform(-self.spread, self.spread)
        return self.build.constant((self.rng.normal(size=count) * scale).astype(np.float32), "b")


def convolution(groups: int) -> Make:
    def make(case: Case, x: Value) -> Value:
        w = case.weight(4, 4 // groups, 3, 3)
        return case.build.nn.conv(x, w, case.bias(4), pads=1, groups=groups, activation=case.activation())

    return make


def binary(op: str) -> Make:
    def make(case: Case, x: Value) -> Value:
        other = case.quantized(case.graph.add_input("y", TensorType(SHAPE)))
        return getattr(case.build.nn, op)(x, other, activation=case.activation())

    return make


def unary(op: str, **attrs: object) -> Make:
    return lambda case, x: getattr(case.build.nn, op)(x, **attrs)


OPS: dict[str, Make] = {
    "conv": convolution(1),
    "depthwise": convolution(4),
    "linear": lambda case, x: case.build.nn.linear(x, case.weight(3, 5), case.bias(3), activation=case.activation()),
    **{op: binary(op) for op in ("add", "sub", "mul")},
    **{op: unary(op) for op in ("relu", "relu6", "hard_swish", "sigmoid", "tanh")},
    "clamp to 1": unary("clamp", min=0.0, max=1.0),
    "clamp to -1": unary("clamp", min=-1.0, max=1.0),
    "leaky_relu": unary("leaky_relu", negative_slope=0.1),
    "leaky_relu, negative": unary("leaky_relu", negative_slope=-3.0),
    "softmax": unary("softmax", axis=1),
    "global mean": unary("mean", axes=(2, 3)),
    "mean": unary("mean", axes=(1,)),
    "requantize": lambda case, x: x,
    "max_pool": unary("max_pool", kernel=(2, 2), stride=(1, 1), pads=1),
    "pad": unary("pad", pads=(0, 0, 1, 1, 0, 0, 1, 1), value=0.5),
}


def attempt(op: str, seed: int, target: str, spread: float, litert: Families, wide: bool = False) -> str:
    """Whether a case is lowered; what is lowered runs, and is exact."""
    case = Case(seed, target, spread, wide)
    x = case.quantized(case.graph.add_input("x", TensorType(SHAPE)))
    case.graph.set_outputs([case.quantized(OPS[op](case, x))])
    try:
        lowered = qgraph.lower(case.graph, target)
    except LoweringError:
        return "refused"
    feed = {v.name: codes(case.rng, v.type) for v in lowered.inputs}
    expected = execute(lowered, feed)
    actual = litert.outputs(target, to_tflite(lowered), [*feed.values()])
    for ours, theirs in zip(expected, actual, strict=True):
        assert np.array_equal(ours, theirs), str(lowered)
    return "exact"


def codes(rng: Rng, type: TensorType) -> np.ndarray:
    """Random codes, or the extremes."""
    low, high = integer_range(type.dtype)
    if rng.integers(4) == 0:
        return rng.choice(np.array([low, high], type.numpy), type.shape)
    return rng.integers(low, high + 1, type.shape).astype(type.numpy)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
@pytest.mark.parametrize("op", [op for op in OPS if op != "hard_swish"])
def test_what_lowers_with_16_bits_loads_and_is_exact(litert: Families, op: str, target: str) -> None:
    if op.startswith("clamp to") and target == "tflm":
        pytest.skip("TFLite Micro has no such op")
    spreads = (4.0, 30.0, 120.0)
    done = Counter(attempt(op, seed, target, spread, litert, wide=True) for spread in spreads for seed in range(12))
    assert done["exact"] >= 3, done


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
@pytest.mark.parametrize("op", OPS)
def test_what_lowers_loads_and_is_exact(litert: Families, op: str, target: str) -> None:
    if target == "tflm" and op.startswith("clamp"):
        pytest.skip("TFLite Micro has no such op")
    done = Counter(attempt(op, seed, target, spread, litert) for spread in (4.0, 30.0, 120.0) for seed in range(12))
    assert done["exact"] >= 3, done


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
@pytest.mark.parametrize("op", ["sigmoid", "tanh", "softmax"])
def test_functions_of_next_to_nothing_lower_and_are_exact(litert: Families, op: str, target: str) -> None:
    model = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "softmax": lambda x: torch.softmax(x, 1)}[op]
    x = np.random.default_rng(0).normal(size=(8, 4, 5, 5)).astype(np.float32) * np.float32(1e-12)
    lowered = qgraph.quantize(qgraph.trace(Function(model), x), target, calibration=[x])
    feed = [np.random.default_rng(1).integers(-128, 128, (8, 5, 5, 4)).astype(np.int8)]
    expected = execute(lowered, {"x": feed[0]})
    assert np.array_equal(expected[0], litert.outputs(target, to_tflite(lowered), feed)[0])
    error = np.abs(qgraph.run(lowered, x, dequantize=True, layout="NCHW") - model(torch.from_numpy(x)).numpy())
    assert error.max() <= (1 / 128 if op == "tanh" else 1 / 256)


def test_relu6_whose_bound_leaves_int32_becomes_relu(litert: Families) -> None:
    for scale, activation in ((2.0**-28, "RELU6"), (2.0**-33, "RELU")):
        case = Case(0, "litert", 0.0)
        x = case.quantized(case.graph.add_input("x", TensorType(SHAPE)))
        made = case.build.nn.add(x, x, activation="relu6")
        zero_point = case.build.constant(np.array([-128], np.int32))
        scales = [case.build.constant(np.array([value], np.float32)) for value in (scale, scale)]
        case.graph.set_outputs([case.build.quant.fake_quant(made, scales[1], zero_point)])
        case.graph.replace_uses(x.producer.operand(1), scales[0])
        lowered = qgraph.lower(case.graph, "litert")
        assert lowered.nodes[0].attrs["activation"] == activation
        feed = [case.rng.integers(-128, 128, lowered.inputs[0].type.shape).astype(np.int8)]
        expected = execute(lowered, {"x": feed[0]})
        assert np.array_equal(expected[0], litert.outputs("litert", to_tflite(lowered), feed)[0])
