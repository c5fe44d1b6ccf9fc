"""Float operators of a .tflite file as `nn` ops: how a float file becomes a graph of level "float".

Each row of `CONVERSIONS` builds an op's counterpart on values as the file has them: channels last, so that spatial ops
are those of `nhwc`, with weights in the order O I Kh Kw of `nn`. `float_graph` converts a whole graph and then moves
the channels to the front (`convert-layout{to=NCHW}`); inputs and outputs keep the file's order. `evaluate` computes one
op of a graph that is integer elsewhere, by the same rows: `nn` and the runtimes add in other orders, so such results
are equal up to rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qgraph.errors import QGraphError, UnsupportedOp
from qgraph.ir import Array, Attr, Builder, Graph, Node, TensorType, Value
from qgraph.ir.op import op_def
from qgraph.ir.types import dim_factors
from qgraph.runtimes import Processor
from qgraph.targets.litert.padding import same_pads
from qgraph.targets.litert.rows import BY_OP

Operands = Sequence[Any]
Conversion = Callable[[Builder, Any, Operands], Value]
"""(builder, the op's instance, its operands) -> the result."""

ACTIVATIONS: dict[str, dict[str, Attr]] = {
    "NONE": {},
    "RELU": {"activation": "relu"},
    "RELU6": {"activation": "relu6"},
    "RELU_N1_TO_1": {"activation": "clamp", "clamp": (-1.0, 1.0)},
}


def float_graph(graph: Graph) -> Graph | None:
    """The graph in the `nn` dialect; None where it holds integers other than indices, or an op without counterpart."""
    if any(value.type.dtype != "f32" for value in [*graph.inputs, *graph.outputs]):
        return None
    new = Graph(graph.name, "float", {key: word for key, word in graph.metadata.items() if key == "repaired"})
    values: dict[Value, Value] = {value: new.add_input(value.name, value.type) for value in graph.inputs}
    for name, value in graph.constants.items():
        values[value] = new.add_constant(*_float_constant(value, name))
    try:
        for node in graph.nodes:
            _convert(new, node, values)
    except QGraphError:
        return None
    new.set_outputs([values[value] for value in graph.outputs], graph.given_output_names)
    new.drop_unused_constants()
    if "hybrid" in graph.metadata:
        new.metadata["hybrid"] = graph.metadata["hybrid"]
    from qgraph.passes.convert_layout import convert_layout

    converted: Graph = convert_layout(new, to="NCHW")
    return converted


def float_notes(graph: Graph, processor: Processor) -> Sequence[str]:
    """What `verify` says of a graph of integers with ops on floats in it."""
    ops = sorted({node.op for node in graph.nodes if not _is_exact(node.op, graph.target)})
    notes = [f"floats of {', '.join(ops)}: their last digits may differ from the runtime's"] if ops else []
    return (*notes, *([graph.metadata["hybrid"]] if "hybrid" in graph.metadata else []))


def _is_exact(op: str, target: str) -> bool:
    row = BY_OP.get(op)
    return row is None or row.exact_on is None or target in row.exact_on


def _float_constant(value: Value, name: str) -> tuple[Array, str]:
    """Data and name of a constant; integers with a scale (hybrid files) as the floats that they stand for."""
    quant = value.type.quant
    if quant is None:
        return value.data, name
    shape = [1] * value.type.rank
    if quant.axis is not None:
        shape[quant.axis] = -1
    centred = value.data.astype(np.int64) - quant.zero_points.reshape(shape)
    return (centred.astype(np.float32) * quant.scales.reshape(shape)).astype(np.float32), name


def mark_hybrid(graph: Graph) -> None:
    """Let the metadata word `hybrid` say how many ops on floats have an integer weight."""
    ops_on_floats = [node for node in graph.nodes if node.op in BY_OP and BY_OP[node.op].integers]
    count = sum(any(value.type.quant is not None for value in node.inputs) for node in ops_on_floats)
    if count:
        graph.metadata["hybrid"] = f"{count} layers have integer weights: runtimes quantize their activations too"


def _convert(graph: Graph, node: Node, values: dict[Value, Value]) -> None:
    operands = [None if value is None else values[value] for value in node.operands]
    if node.op == "litert.dequantize" and node.operand(0).is_constant:
        values[node.result] = values[node.operand(0)]
        return
    definition = op_def(node.op)
    view = definition.bind(node.operands, node.attrs, node.results)
    build = Builder(graph, origins=node.origins)
    made = _converted(build, node.op, view, definition.grouped(operands))
    if made.producer is not None and not made.name:
        made.name = node.result.name
    values[node.result] = made


def _converted(build: Builder, op: str, view: Any, operands: Operands) -> Value:
    row = BY_OP.get(op)
    conversion = CONVERSIONS.get(row.integers if row is not None and row.integers else op)
    if conversion is None:
        raise UnsupportedOp(f"nn has no counterpart of {op}")
    return conversion(build, view, operands)


def evaluate(op: str, view: Any, operands: Sequence[Value | None], arrays: Sequence[Array | None]) -> Array:
    """The result of an op on floats: its counterpart in `nn`, in NumPy's float32; integer weights as their floats."""
    graph = Graph("op")
    values: list[Value | None] = []
    for place, (operand, array) in enumerate(zip(operands, arrays, strict=True)):
        if operand is None or array is None:
            values.append(None)
            continue
        constant = Value(TensorType(array.shape, operand.type.dtype, operand.type.quant), data=array)
        data, name = _float_constant(constant, f"x{place}")
        values.append(graph.add_constant(data, name))
    result = _converted(Builder(graph), op, view, values)
    known: dict[Value, Array] = {}
    for node in graph.nodes:
        given = [None if v is None else v.data if v.is_constant else known[v] for v in node.operands]
        known.update(zip(node.results, op_def(node.op).evaluate(node, given), strict=True))
    return known[result] if not result.is_constant else result.data


def _permuted(build: Builder, value: Value, perm: tuple[int, ...]) -> Value:
    """A weight with its dimensions in another order; a constant is permuted itself."""
    if value.is_constant:
        return build.constant(np.ascontiguousarray(value.data.transpose(perm)), value.name)
    return build.nn.transpose(value, perm=perm)


def _window(view: Any, x: Value, kernel: Sequence[int], dilation: tuple[int, int] = (1, 1)) -> dict[str, Attr]:
    """Stride and pads of an op with windows."""
    sizes = [int(size) for size in x.type.shape[1:3]]
    pads = same_pads(sizes, kernel, view.stride, dilation) if view.padding == "SAME" else (0, 0, 0, 0)
    return {"stride": view.stride, "pads": pads}


def _activated(build: Builder, x: Value, activation: str) -> Value:
    if activation == "NONE":
        return x
    if activation == "RELU_N1_TO_1":
        return build.nn.clamp(x, min=-1.0, max=1.0)
    return build.nn.relu(x) if activation == "RELU" else build.nn.relu6(x)


def conv_2d(build: Builder, view: Any, operands: Operands) -> Value:
    """CONV_2D: weight [O, Kh, Kw, I] to [O, I, Kh, Kw]."""
    x, w, bias = operands
    _, height, width, per_group = w.type.shape
    return build.nhwc.conv(
        *(x, _permuted(build, w, (0, 3, 1, 2)), bias),
        **_window(view, x, (height, width), view.dilation),
        dilation=view.dilation,
        groups=x.type.shape[3] // per_group,
        **ACTIVATIONS[view.activation],
    )


def depthwise_conv_2d(build: Builder, view: Any, operands: Operands) -> Value:
    """DEPTHWISE_CONV_2D: weight [1, Kh, Kw, C * M] to [C * M, 1, Kh, Kw]."""
    x, w, bias = operands
    return build.nhwc.conv(
        *(x, _permuted(build, w, (3, 0, 1, 2)), bias),
        **_window(view, x, w.type.shape[1:3], view.dilation),
        dilation=view.dilation,
        groups=x.type.shape[3],
        **ACTIVATIONS[view.activation],
    )


def transpose_conv(build: Builder, view: Any, operands: Operands) -> Value:
    """TRANSPOSE_CONV: weight [O, Kh, Kw, I] to [I, O, Kh, Kw]; what the result lacks at its end is output padding."""
    w, x, bias, _ = operands
    begins = view.pads()
    full = [(n - 1) * s + k for n, s, k in zip(x.type.shape[1:3], view.stride, w.type.shape[1:3], strict=True)]
    ends = [size - begin - out for size, begin, out in zip(full, begins, view.output_shape[1:3], strict=True)]
    return build.nhwc.conv_transpose(
        *(x, _permuted(build, w, (3, 0, 1, 2)), bias),
        stride=view.stride,
        pads=(*begins, *(max(end, 0) for end in ends)),
        output_padding=tuple(max(-end, 0) for end in ends),
        **ACTIVATIONS[view.activation],
    )


def fully_connected(build: Builder, view: Any, operands: Operands) -> Value:
    """FULLY_CONNECTED: x as rows of the weight's length."""
    x, w, bias = operands
    if not view.keep_num_dims and x.type.rank != 2:
        x = build.nn.reshape(x, shape=(-1, w.type.shape[1]))
    return build.nn.linear(x, w, bias, **ACTIVATIONS[view.activation])


def _pool(op: str, **attrs: Attr) -> Conversion:
    def convert(build: Builder, view: Any, operands: Operands) -> Value:
        (x,) = operands
        pooled = getattr(build.nhwc, op)(x, kernel=view.kernel, **_window(view, x, view.kernel), **attrs)
        return _activated(build, pooled, view.activation)

    return convert


def _arithmetic(op: str) -> Conversion:
    def convert(build: Builder, view: Any, operands: Operands) -> Value:
        made: Value = getattr(build.nn, op)(*operands, **ACTIVATIONS[view.activation])
        return made

    return convert


def _unary(op: str, **attrs: str) -> Conversion:
    """An op of `nn` of one operand; `attrs`: its attributes by the names of the view's."""

    def convert(build: Builder, view: Any, operands: Operands) -> Value:
        given = {name: getattr(view, source) for name, source in attrs.items()}
        made: Value = getattr(build.nn, op)(operands[0], **given)
        return made

    return convert


def softmax(build: Builder, view: Any, operands: Operands) -> Value:
    """SOFTMAX over the last dimension, of beta * x."""
    (x,) = operands
    if view.beta != 1:
        x = build.nn.mul(x, build.constant(np.asarray(view.beta, np.float32), "beta"))
    return build.nn.softmax(x, axis=x.type.rank - 1)


def mean(build: Builder, view: Any, operands: Operands) -> Value:
    """MEAN."""
    return build.nn.mean(operands[0], axes=view.places(), keepdims=view.keep_dims)


def pad(build: Builder, view: Any, operands: Operands) -> Value:
    """PAD with zeros."""
    return build.nn.pad(operands[0], pads=view.pads)


def reshape(build: Builder, view: Any, operands: Operands) -> Value:
    """RESHAPE."""
    return build.nn.reshape(operands[0], shape=view.shape)


def view_of(build: Builder, view: Any, operands: Operands) -> Value:
    """SQUEEZE and EXPAND_DIMS: a reshape to the shape that they infer."""
    (x,) = operands
    shape = op_view_shape(view)
    return build.nn.reshape(x, shape=shape)


def op_view_shape(view: Any) -> tuple[int, ...]:
    """The inferred shape of an op, with -1 for the one symbolic size that it may have."""
    return tuple(-1 if dim_factors(size)[1] else int(size) for size in view.infer().shape)


def concatenation(build: Builder, view: Any, operands: Operands) -> Value:
    """CONCATENATION."""
    (xs,) = operands
    return build.nn.concat(*xs, axis=view.axis % xs[0].type.rank)


def slices(build: Builder, view: Any, operands: Operands) -> Value:
    """SLICE: one slice for each dimension that is not taken whole."""
    x: Value = operands[0]
    for axis, (start, size) in enumerate(zip(view.begin, view.size, strict=True)):
        whole = x.type.shape[axis]
        if start or size not in (-1, whole):
            x = build.nn.slice(x, axis=axis, start=start, end=whole if size == -1 else start + size)
    return x


CONVERSIONS: dict[str, Conversion] = {
    "litert.conv_2d": conv_2d,
    "litert.depthwise_conv_2d": depthwise_conv_2d,
    "litert.transpose_conv": transpose_conv,
    "litert.fully_connected": fully_connected,
    "litert.add": _arithmetic("add"),
    "litert.sub": _arithmetic("sub"),
    "litert.mul": _arithmetic("mul"),
    "litert.max_pool_2d": _pool("max_pool"),
    "litert.average_pool_2d": _pool("avg_pool", count_include_pad=False),
    "litert.mean": mean,
    "litert.relu": _unary("relu"),
    "litert.relu6": _unary("relu6"),
    "litert.leaky_relu": _unary("leaky_relu", negative_slope="alpha"),
    "litert.hard_swish": _unary("hard_swish"),
    "litert.logistic": _unary("sigmoid"),
    "litert.tanh": _unary("tanh"),
    "litert.softmax": softmax,
    "litert.pad": pad,
    "litert.reshape": reshape,
    "litert.squeeze": view_of,
    "litert.expand_dims": view_of,
    "litert.transpose": _unary("transpose", perm="perm"),
    "litert.concatenation": concatenation,
    "litert.slice": slices,
}
"""How ops on floats are built in `nn`, by the op on integers of the same name."""
