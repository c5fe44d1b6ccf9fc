"""From LiteRT's integer ops back to `nn` with fake-quant: someone's deployed model becomes one that can be trained.

Each op has one row in `RAISED`: it builds the `nn` op (`nhwc` where it is spatial; the layout is converted afterwards)
on the raised operands. Weights and biases are the real values that the file's integers stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qgraph import quantizers
from qgraph.errors import LoweringError
from qgraph.ir import Array, Attr, Builder, Graph, Node, QuantParams, TensorType, Value
from qgraph.ops.quant import per_axis
from qgraph.quantizers.weight_scale import weight_scale
from qgraph.targets.litert.padding import same_pads

RANGES = {"i8": (-128, 127), "u8": (-128, 127), "i16": (-32768, 32767)}
"""Storage type in the file -> range of the fake-quant: uint8 becomes int8, all codes 128 lower."""
NARROW = (-127, 127)
"""Range of weights."""
ACTIVATIONS: dict[str, dict[str, Attr]] = {
    "NONE": {"activation": "none"},
    "RELU": {"activation": "relu"},
    "RELU6": {"activation": "relu6"},
    "RELU_N1_TO_1": {"activation": "clamp", "clamp": (-1.0, 1.0)},
}
MOVING = {
    *("reshape", "transpose", "concatenation", "pad", "max_pool_2d"),
    *("squeeze", "expand_dims", "slice", "strided_slice"),
}
"""Ops whose results are integers of their operands: they take no fake-quant of their own, and share parameters."""


@dataclass
class Raising:
    """The new graph, and what each value of the old one became."""

    old: Graph
    new: Graph
    values: dict[Value, Value] = field(default_factory=dict)
    shared: dict[Value, Value] = field(default_factory=dict)  # value -> another with the same parameters
    parameters: dict[Value, tuple[Value, Value]] = field(default_factory=dict)
    build: Builder = field(init=False)

    def __post_init__(self) -> None:
        self.build = Builder(self.new)

    def x(self, node: Node, index: int = 0) -> Value:
        """An operand, raised; a constant becomes what its integers stand for."""
        value = node.operand(index)
        if value not in self.values:
            made = self.build.constant(dequantized(value.data, value.type), value.name)
            self.values[value] = self.quantized(made, value) if value.type.quant is not None else made
        return self.values[value]

    def weight(self, node: Node, order: tuple[int, ...]) -> Value:
        """A weight in `nn`'s order of dimensions, fake-quantized per output channel or as a whole."""
        value = node.operand(1)
        if not value.is_constant:
            raise LoweringError(f"the weight of {node.op} is computed", where=node.where, help="give a constant")
        real = np.ascontiguousarray(dequantized(value.data, value.type).transpose(order))
        constant = self.build.constant(real, value.name)
        quant = value.type.q
        per_channel = len(quant.scale) > 1
        scales = quant.scales
        if value.type.dtype == "u8" or any(quant.zero_point):  # asymmetric weights of 2018: int8 has none
            scales = weight_scale(real, NARROW[1], None, quantizers.get("min_max"))
        name = value.name
        scale = self.build.constant(scales.astype(np.float32), f"{name}_scale")
        zero = self.build.constant(np.zeros(scales.shape, np.int32), f"{name}_zero_point")
        lowest = -128 if value.data.min() == -128 and scales is quant.scales else NARROW[0]
        attrs: dict[str, Attr] = {
            "type": "i8",
            "range": (lowest, NARROW[1]),
            "axis": 0 if per_channel else None,
            "symmetric": True,
            "observer": "min_max",
        }
        return self.build.node("quant.fake_quant", [constant, scale, zero], attrs).result

    def bias(self, node: Node, index: int = 2) -> Value | None:
        """A bias as the real values of its integers."""
        value = node.operands[index] if index < len(node.operands) else None
        if value is None:
            return None
        return self.build.constant(dequantized(value.data, value.type), value.name)

    def quantized(self, made: Value, old: Value, rounding: str = "half_even") -> Value:
        """`made`, fake-quantized with the parameters that `old` has in the file."""
        root = old
        while root in self.shared:
            root = self.shared[root]
        if root not in self.parameters:
            name = old.name or f"v{len(self.parameters)}"
            zero = int(old.type.q.zero_points[0]) - (128 if old.type.dtype == "u8" else 0)
            self.parameters[root] = (
                self.build.constant(old.type.q.scales[:1], f"{name}_scale"),
                self.build.constant(np.array([zero], np.int32), f"{name}_zero_point"),
            )
        attrs: dict[str, Attr] = {
            "type": "i16" if old.type.dtype == "i16" else "i8",
            "range": RANGES[old.type.dtype],
            "rounding": rounding,
        }
        return self.build.node("quant.fake_quant", [made, *self.parameters[root]], attrs).result


def dequantized(data: Array, type: TensorType) -> Array:
    """The real values of integers, float32; computed in float64."""
    if type.quant is None:
        return data
    q: QuantParams = type.quant
    axis = q.axis if len(q.scale) > 1 else None
    scale, zero = (per_axis(values, data.ndim, axis) for values in (q.scales.astype(np.float64), q.zero_points))
    return np.asarray((data.astype(np.float64) - zero) * scale, np.float32)


def raise_graph(graph: Graph) -> Graph:
    """A fake-quant graph of `nn` ops, NCHW, that computes what an integer graph of the family stands for.

    Raises LoweringError naming every op that has no counterpart.
    """
    from qgraph.passes.convert_layout import convert_layout

    unknown = [node for node in graph.nodes if node.op.removeprefix("litert.") not in RAISED]
    if unknown:
        ops = ", ".join(sorted({node.op for node in unknown}))
        raise LoweringError(
            f"no counterpart in nn for {ops}", where=unknown[0].where, help="extract the part that can be raised"
        )
    raising = Raising(graph, Graph(graph.name, "fake_quant", {"target": "litert"}), shared=_shared(graph))
    for value in graph.inputs:
        floating = raising.new.add_input(value.name, TensorType(value.type.shape))
        raising.values[value] = floating
        if value.type.quant is not None:
            raising.values[value] = raising.quantized(floating, value, "half_away")
    for node in graph.nodes:
        raising.build.origins = node.origins
        name = node.op.removeprefix("litert.")
        made = RAISED[name](raising, node)
        if node.result.type.quant is not None and name not in MOVING:
            made = raising.quantized(made, node.result, "half_away" if name == "quantize" else "half_even")
        raising.values[node.result] = made
    raising.new.set_outputs([raising.values[value] for value in graph.outputs], graph.given_output_names)
    raising.new.drop_unused_constants()
    return convert_layout(raising.new, to="NCHW", io="convert") if _has_layout(raising.new) else raising.new


def _has_layout(graph: Graph) -> bool:
    return any(node.dialect == "nhwc" for node in graph.nodes)


def _shared(graph: Graph) -> dict[Value, Value]:
    """value -> a value whose parameters are the same because an op only moves integers between the two."""
    parents: dict[Value, Value] = {}

    def root(value: Value) -> Value:
        while value in parents:
            value = parents[value]
        return value

    for node in graph.nodes:
        if node.op.removeprefix("litert.") in MOVING:
            first = root(node.result)
            for value in node.inputs:
                other = root(value)
                if value.type.quant == node.result.type.quant and other is not first:
                    parents[first], first = other, other
    return parents


# ---- ops


def _window(node: Node, kernel: tuple[int, ...]) -> dict[str, Attr]:
    a: dict[str, Any] = node.attrs
    stride, dilation = a["stride"], a.get("dilation", (1, 1))
    sizes = [int(size) for size in node.operand(0).type.shape[1:3]]
    pads = same_pads(sizes, kernel, stride, dilation) if a["padding"] == "SAME" else (0, 0, 0, 0)
    return {"stride": stride, "pads": pads, "dilation": dilation}


def _conv(r: Raising, node: Node) -> Value:
    shape = tuple(int(size) for size in node.operand(1).type.shape)
    groups = int(node.operand(0).type.shape[3]) // shape[3]
    attrs = {**_window(node, shape[1:3]), **ACTIVATIONS[node.attrs["activation"]], "groups": groups}
    return r.build.nhwc.conv(r.x(node), r.weight(node, (0, 3, 1, 2)), r.bias(node), **attrs)


def _depthwise(r: Raising, node: Node) -> Value:
    height, width = (int(size) for size in node.operand(1).type.shape[1:3])
    channels = int(node.operand(0).type.shape[3])
    attrs = {**_window(node, (height, width)), **ACTIVATIONS[node.attrs["activation"]], "groups": channels}
    weight = r.weight(node, (3, 0, 1, 2))
    return r.build.nhwc.conv(r.x(node), weight, r.bias(node), **attrs)


def _fully_connected(r: Raising, node: Node) -> Value:
    x, features = r.x(node), node.operand(1).type.shape[1]
    if x.type.shape[-1] != features:
        x = r.build.nn.reshape(x, shape=(-1, int(features)))
    y = r.build.nn.linear(x, r.weight(node, (0, 1)), r.bias(node), **ACTIVATIONS[node.attrs["activation"]])
    return _reshaped(r, y, node)


def _reshaped(r: Raising, value: Value, node: Node) -> Value:
    """The value in the shape of the node's result."""
    shape = node.result.type.shape
    if value.type.shape == shape:
        return value
    return r.build.nn.reshape(value, shape=tuple(-1 if isinstance(size, str) else size for size in shape))


def _binary(op: str) -> Callable[[Raising, Node], Value]:
    return lambda r, node: getattr(r.build.nn, op)(r.x(node), r.x(node, 1), **ACTIVATIONS[node.attrs["activation"]])


def _unary(op: str, **attrs: Attr) -> Callable[[Raising, Node], Value]:
    return lambda r, node: getattr(r.build.nn, op)(r.x(node), **attrs)


def _activated(r: Raising, y: Value, node: Node) -> Value:
    words = {"NONE": None, "RELU": "relu", "RELU6": "relu6"}
    name = words[node.attrs["activation"]]
    return y if name is None else getattr(r.build.nn, name)(y)


def _max_pool(r: Raising, node: Node) -> Value:
    kernel = node.attrs["kernel"]
    return _activated(r, r.build.nhwc.max_pool(r.x(node), kernel=kernel, **_window(node, kernel)), node)


def _average_pool(r: Raising, node: Node) -> Value:
    kernel = node.attrs["kernel"]
    window = _window(node, kernel)
    attrs = {"stride": window["stride"], "pads": window["pads"], "count_include_pad": False}
    return _activated(r, r.build.nhwc.avg_pool(r.x(node), kernel=kernel, **attrs), node)


def _mean(r: Raising, node: Node) -> Value:
    rank = node.operand(0).type.rank
    axes = tuple(sorted({axis % rank for axis in node.attrs["axes"]}))
    return r.build.nn.mean(r.x(node), axes=axes, keepdims=node.attrs["keep_dims"])


def _concatenation(r: Raising, node: Node) -> Value:
    axis = node.attrs["axis"] % node.result.type.rank
    return r.build.nn.concat(*(r.x(node, index) for index in range(len(node.operands))), axis=axis)


def _pad(r: Raising, node: Node) -> Value:
    value, q = node.attrs["value"], node.operand(0).type.q
    real = 0.0 if value is None else float((value - q.zero_points[0]) * q.scales[0])
    return r.build.nn.pad(r.x(node), pads=node.attrs["pads"], value=real)


def _slice(r: Raising, node: Node) -> Value:
    y = r.x(node)
    for axis, (begin, size) in enumerate(zip(node.attrs["begin"], node.attrs["size"], strict=True)):
        whole = y.type.shape[axis]
        if isinstance(whole, int) and (begin, size) not in ((0, -1), (0, whole)):
            y = r.build.nn.slice(y, axis=axis, start=begin, end=whole if size == -1 else begin + size)
    return y


def _strided_slice(r: Raising, node: Node) -> Value:
    a: dict[str, Any] = node.attrs
    y = r.x(node)
    for axis, (begin, end, step) in enumerate(zip(a["begin"], a["end"], a["strides"], strict=True)):
        whole = y.type.shape[axis]
        if isinstance(whole, str):  # taken whole: the op admits nothing else
            continue
        first = None if a["begin_mask"] >> axis & 1 else begin
        last = None if a["end_mask"] >> axis & 1 else end
        if a["shrink_axis_mask"] >> axis & 1:
            first, last = begin % whole, begin % whole + 1
        if step < 1:
            raise LoweringError("nn has no slice that runs backwards", where=node.where)
        start, stop, _ = slice(first, last, step).indices(whole)
        if (start, stop, step) != (0, whole, 1):
            y = r.build.nn.slice(y, axis=axis, start=start, end=stop, step=step)
    return _reshaped(r, y, node)  # what was shrunk goes away


RAISED: dict[str, Callable[[Raising, Node], Value]] = {
    "conv_2d": _conv,
    "depthwise_conv_2d": _depthwise,
    "fully_connected": _fully_connected,
    "add": _binary("add"),
    "sub": _binary("sub"),
    "mul": _binary("mul"),
    "max_pool_2d": _max_pool,
    "average_pool_2d": _average_pool,
    "mean": _mean,
    "concatenation": _concatenation,
    "pad": _pad,
    "slice": _slice,
    "strided_slice": _strided_slice,
    "reshape": lambda r, node: _reshaped(r, r.x(node), node),
    "squeeze": lambda r, node: _reshaped(r, r.x(node), node),
    "expand_dims": lambda r, node: _reshaped(r, r.x(node), node),
    "transpose": lambda r, node: r.build.nn.transpose(r.x(node), perm=node.attrs["perm"]),
    "relu": _unary("relu"),
    "relu6": _unary("relu6"),
    "relu_n1_to_1": _unary("clamp", min=-1.0, max=1.0),
    "relu_0_to_1": _unary("clamp", min=0.0, max=1.0),
    "leaky_relu": lambda r, node: r.build.nn.leaky_relu(r.x(node), negative_slope=node.attrs["alpha"]),
    "hard_swish": _unary("hard_swish"),
    "logistic": _unary("sigmoid"),
    "tanh": _unary("tanh"),
    "softmax": lambda r, node: r.build.nn.softmax(r.x(node), axis=node.operand(0).type.rank - 1),
    "quantize": lambda r, node: r.x(node),
    "dequantize": lambda r, node: r.x(node),
}
