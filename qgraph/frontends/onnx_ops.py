"""ONNX ops as ops of the dialect `nn`: one row of a table each."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from qgraph.frontends.onnx_node import OnnxNode, shortest
from qgraph.frontends.target_shapes import expanded
from qgraph.ir import Builder, Dim, Value
from qgraph.ir.types import dim_factors, dim_product, dtype_name
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.ops.nn.shape import target_shape

FromOnnx = Callable[[OnnxNode, Builder], Value]
"""Builds what an ONNX node computes; raises UnsupportedOp, by `node.unsupported`, for what `nn` cannot say."""


def _unary(op: str) -> FromOnnx:
    return lambda node, build: build.node(op, [node.operand(0)], {}).result


def _binary(op: str) -> FromOnnx:
    return lambda node, build: build.node(op, [node.operand(0), node.operand(1)], {}).result


def _chain(op: str) -> FromOnnx:
    """A commutative op of any number of operands, as one of two again and again."""

    def read(node: OnnxNode, build: Builder) -> Value:
        first, *others = node.operands()
        return reduce(lambda made, x: build.node(op, [made, x], {}).result, others, first)

    return read


# ---- windows


def _window(node: OnnxNode, kernel: tuple[int, ...], x: Value) -> dict[str, tuple[int, ...]]:
    rank = len(kernel)
    stride = node.attr("strides", (1,) * rank)
    dilation = node.attr("dilations", (1,) * rank)
    pads = node.attr("pads", (0,) * 2 * rank)
    automatic = node.attr("auto_pad", "NOTSET")
    if automatic == "VALID":
        pads = (0,) * 2 * rank
    elif automatic != "NOTSET":
        pads = _same_pads(node, x.type.shape[2:], kernel, stride, dilation, at_end=automatic == "SAME_UPPER")
    return {"stride": stride, "pads": pads, "dilation": dilation}


def _same_pads(
    node: OnnxNode,
    sizes: tuple[Dim, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    *,
    at_end: bool,
) -> tuple[int, ...]:
    """The pads of auto_pad=SAME_*: ceil(size / stride) windows, the odd element at the end or at the beginning."""
    less, more = [], []
    for size, taps, step, spread in zip(sizes, kernel, stride, dilation, strict=True):
        if isinstance(size, str):
            raise node.unsupported(f"auto_pad needs known sizes, not {size}")
        total = max((math.ceil(size / step) - 1) * step + (taps - 1) * spread + 1 - size, 0)
        less.append(total // 2)
        more.append(total - total // 2)
    return (*less, *more) if at_end else (*more, *less)


def _kernel(node: OnnxNode, w: Value) -> tuple[int, ...]:
    kernel = tuple(size for size in w.type.shape[2:] if isinstance(size, int))
    node.expect("kernel_shape", kernel)
    return kernel


def _conv(node: OnnxNode, build: Builder) -> Value:
    x, w = node.operand(0), node.operand(1)
    window = _window(node, _kernel(node, w), x)
    return build.nn.conv(x, w, node.optional(2), **window, groups=node.attr("group", 1))


def _conv_transpose(node: OnnxNode, build: Builder) -> Value:
    x, w = node.operand(0), node.operand(1)
    node.expect("auto_pad", "NOTSET")
    kernel = _kernel(node, w)
    more = node.attr("output_padding", (0,) * len(kernel))
    window = _window(node, kernel, x)
    return build.nn.conv_transpose(x, w, node.optional(2), **window, groups=node.attr("group", 1), output_padding=more)


def _max_pool(node: OnnxNode, build: Builder) -> Value:
    x, kernel = node.operand(0), node.attr("kernel_shape", ())
    node.expect("storage_order", 0)
    window = _window(node, kernel, x)
    return build.nn.max_pool(x, kernel=kernel, **window, ceil_mode=bool(node.attr("ceil_mode", 0)))


def _avg_pool(node: OnnxNode, build: Builder) -> Value:
    x, kernel = node.operand(0), node.attr("kernel_shape", ())
    window = _window(node, kernel, x)
    if window.pop("dilation") != (1,) * len(kernel):
        raise node.unsupported("a dilated average is not supported")
    counted = bool(node.attr("count_include_pad", 0))
    return build.nn.avg_pool(
        x, kernel=kernel, **window, ceil_mode=bool(node.attr("ceil_mode", 0)), count_include_pad=counted
    )


def _global_average(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.mean(x, axes=tuple(range(2, x.type.rank)), keepdims=True)


# ---- layers


def _batch_norm(node: OnnxNode, build: Builder) -> Value:
    node.expect("training_mode", 0)
    node.expect("spatial", 1)
    momentum = shortest(1 - node.attr("momentum", 0.9))  # ONNX weighs the running statistics, torch the batch's
    operands = [node.operand(index) for index in range(5)]
    return build.nn.batch_norm(*operands, eps=node.attr("epsilon", 1e-5), momentum=momentum)


def _gemm(node: OnnxNode, build: Builder) -> Value:
    node.expect("alpha", 1.0)
    node.expect("beta", 1.0)
    node.expect("transA", 0)
    weight = node.operand(1) if node.attr("transB", 0) else _transposed(node, build, 1)
    bias = node.known(2)
    if bias is not None and bias.ndim == 2 and bias.shape[0] == 1:
        return build.nn.linear(node.operand(0), weight, build.constant(bias[0], node.inputs[2]))
    return build.nn.linear(node.operand(0), weight, node.optional(2))


def _matmul(node: OnnxNode, build: Builder) -> Value:
    x, weight = node.operand(0), node.known(1)
    if weight is None or weight.ndim != 2 or x.type.rank < 2:
        return build.nn.matmul(x, node.operand(1))
    return build.nn.linear(x, _transposed(node, build, 1))


def _transposed(node: OnnxNode, build: Builder, index: int) -> Value:
    data = node.known(index)
    if data is None:
        return build.nn.transpose(node.operand(index), perm=(1, 0))
    return build.constant(np.ascontiguousarray(data.T), node.inputs[index].removesuffix(".T"))


def _add(node: OnnxNode, build: Builder) -> Value:
    """An add of a constant vector to a layer without bias, which nothing else reads, is that layer's bias."""
    for layer, bias in ((0, 1), (1, 0)):
        data = node.known(bias)
        linear = None if data is None else node.operand(layer).producer
        if data is None or linear is None or linear.op != "nn.linear" or node.reader.reads[node.inputs[layer]] > 1:
            continue
        if len(linear.operands) == 2 and data.shape == linear.result.type.shape[-1:]:
            build.origins = tuple(dict.fromkeys((*linear.origins, *build.origins)))
            made = build.nn.linear(*linear.inputs, node.operand(bias))
            node.reader.graph.erase(linear)
            return made
    return build.nn.add(node.operand(0), node.operand(1))


# ---- functions of one element


def _clip(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    bounds = (node.number("min", 1, -math.inf), node.number("max", 2, math.inf))
    if bounds == (0.0, 6.0):
        return build.nn.relu6(x)
    return build.nn.clamp(x, min=bounds[0], max=bounds[1])


def _hard_sigmoid(node: OnnxNode, build: Builder) -> Value:
    alpha, beta = node.attr("alpha", 0.2), node.attr("beta", 0.5)
    if np.float32(alpha) != np.float32(1 / 6) or beta != 0.5:
        raise node.unsupported(f"alpha={alpha} and beta={beta} are not supported, only 1/6 and 0.5")
    return build.nn.hard_sigmoid(node.operand(0))


def _softmax(node: OnnxNode, build: Builder) -> Value:
    x, old = node.operand(0), node.reader.opset < 13
    axis = node.attr("axis", 1 if old else -1) % x.type.rank
    if old and axis != x.type.rank - 1:
        raise node.unsupported("before opset 13 it flattens all axes behind the first: only the last axis is supported")
    return build.nn.softmax(x, axis=axis)


def _dropout(node: OnnxNode, build: Builder) -> Value:
    training = node.known(2)
    if node.has(2) and (training is None or bool(training)):
        raise node.unsupported("training_mode is not supported")
    node.attr("seed", 0)
    return build.nn.dropout(node.operand(0), p=node.number("ratio", 1, 0.5))


# ---- shapes


def _reshape(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    dims = node.reader.dims(node.integers("shape", 1) or ())
    if not node.attr("allowzero", 0):
        dims = [x.type.shape[i] if size == 0 else size for i, size in enumerate(dims)]
    return _reshaped(node, build, dims)


def _reshaped(node: OnnxNode, build: Builder, dims: list[Dim]) -> Value:
    """x in a shape of which one size may be -1, and one symbolic."""
    x = node.operand(0)
    if -1 in dims:
        dims[dims.index(-1)] = _missing(node, x.type.shape, [dim for dim in dims if dim != -1])
    made = build.nn.reshape(x, shape=target_shape(x.type.shape, tuple(dims)))
    if list(made.type.shape) != dims:
        raise node.unsupported(f"{list(x.type.shape)} cannot become {dims}")
    return made


def _expand(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return expanded(build, x, broadcast_shape(x.type.shape, tuple(node.reader.dims(node.integers("shape", 1) or ()))))


def _missing(node: OnnxNode, shape: tuple[Dim, ...], rest: list[Dim]) -> Dim:
    """The size that -1 stands for."""
    count, symbols = dim_factors(dim_product(shape))
    known, taken = dim_factors(dim_product(rest))
    left = list(symbols)
    for symbol in taken:
        if symbol not in left:
            raise node.unsupported(f"{list(shape)} has no factor {symbol}")
        left.remove(symbol)
    if known == 0 or count % known:
        raise node.unsupported(f"{list(shape)} cannot become {rest} and -1")
    return dim_product([*left, count // known])


def _flatten(node: OnnxNode, build: Builder) -> Value:
    shape, axis = node.operand(0).type.shape, node.attr("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return _reshaped(node, build, [dim_product(shape[:axis]), dim_product(shape[axis:])])


def _squeeze(node: OnnxNode, build: Builder) -> Value:
    shape = node.operand(0).type.shape
    axes = node.integers("axes", 1, [i for i, size in enumerate(shape) if size == 1]) or ()
    gone = {axis % len(shape) for axis in axes}
    return _reshaped(node, build, [size for i, size in enumerate(shape) if i not in gone])


def _unsqueeze(node: OnnxNode, build: Builder) -> Value:
    dims = list(node.operand(0).type.shape)
    axes = node.integers("axes", 1) or ()
    rank = len(dims) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        dims.insert(axis, 1)
    return _reshaped(node, build, dims)


def _transpose(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.transpose(x, perm=node.attr("perm", tuple(reversed(range(x.type.rank)))))


def _depth_to_space(node: OnnxNode, build: Builder) -> Value:
    """Channels become pixels: [N, C, H, W] -> [N, C / b**2, H * b, W * b], the block's axes before or behind C."""
    x, size = node.operand(0), node.attr("blocksize", 1)
    batch, channels, height, width = x.type.shape
    if isinstance(channels, str) or isinstance(height, str) or isinstance(width, str):
        raise node.unsupported(f"the sizes of {x.type} must be known")
    behind = node.attr("mode", "DCR") == "CRD"
    rest = channels // size**2
    first = -1 if isinstance(batch, str) else batch
    split = (rest, size, size) if behind else (size, size, rest)
    blocks = build.nn.reshape(x, shape=(first, *split, height, width))
    turned = build.nn.transpose(blocks, perm=(0, 1, 4, 2, 5, 3) if behind else (0, 3, 4, 1, 5, 2))
    return build.nn.reshape(turned, shape=(first, rest, height * size, width * size))


def _concat(node: OnnxNode, build: Builder) -> Value:
    xs = node.operands()
    return build.nn.concat(*xs, axis=node.attr("axis", 1) % xs[0].type.rank)


def _pad(node: OnnxNode, build: Builder) -> Value:
    node.expect("mode", "constant")
    return build.nn.pad(node.operand(0), pads=node.integers("pads", 1), value=node.number("value", 2, 0.0))


def _slice(node: OnnxNode, build: Builder) -> Value:
    made = node.operand(0)
    starts, ends = node.integers("starts", 1) or (), node.integers("ends", 2) or ()
    axes = node.integers("axes", 3, range(len(starts))) or ()
    steps = node.integers("steps", 4, [1] * len(starts)) or ()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= made.type.rank
        size = made.type.shape[axis]
        if isinstance(size, str) or step < 1:
            raise node.unsupported(f"axis {axis} of size {size} cannot be cut in steps of {step}")
        first, last, _ = slice(start, end, step).indices(size)
        made = build.nn.slice(made, axis=axis, start=first, end=last, step=step)
    return made


def _reduction(op: str) -> FromOnnx:
    """A reduction over axes that may be left out."""

    def read(node: OnnxNode, build: Builder) -> Value:
        x = node.operand(0)
        node.expect("noop_with_empty_axes", 0)
        axes = tuple(sorted(axis % x.type.rank for axis in node.integers("axes", 1) or range(x.type.rank)))
        return build.node(op, [x], {"axes": axes, "keepdims": bool(node.attr("keepdims", 1))}).result

    return read


def _place(op: str) -> FromOnnx:
    def read(node: OnnxNode, build: Builder) -> Value:
        x = node.operand(0)
        node.expect("select_last_index", 0)
        axis = node.attr("axis", 0) % x.type.rank
        return build.node(op, [x], {"axis": axis, "keepdims": bool(node.attr("keepdims", 1))}).result

    return read


def _along(op: str) -> FromOnnx:
    def read(node: OnnxNode, build: Builder) -> Value:
        x = node.operand(0)
        return build.node(op, [x, node.operand(1)], {"axis": node.attr("axis", 0) % x.type.rank}).result

    return read


def _cast(node: OnnxNode, build: Builder) -> Value:
    import onnx

    dtype = dtype_name(onnx.helper.tensor_dtype_to_np_dtype(node.attr("to", 1)))
    return build.nn.cast(node.operand(0), dtype="f32" if dtype == "f64" else dtype)


def _cumsum(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    node.expect("exclusive", 0)
    node.expect("reverse", 0)
    return build.nn.cumsum(x, axis=int(node.number("axis", 1, 0)) % x.type.rank)


def _log_softmax(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.log_softmax(x, axis=node.attr("axis", -1) % x.type.rank)


def _layer_norm(node: OnnxNode, build: Builder) -> Value:
    x, axis = node.operand(0), node.attr("axis", -1)
    node.attr("stash_type", 1)
    axes = -axis if axis < 0 else x.type.rank - axis
    return build.nn.layer_norm(x, node.optional(1), node.optional(2), axes=axes, eps=node.attr("epsilon", 1e-5))


UNARY = ("Abs", "Atan", "Ceil", "Cos", "Erf", "Exp", "Floor", "Log", "Mish", "Round", "Sign", "Sin", "Softsign", "Sqrt")
"""ONNX ops that `nn` has under the same name."""

ROWS: dict[str, FromOnnx] = {
    **{name: _unary(f"nn.{name.lower()}") for name in UNARY},
    "And": _binary("nn.logical_and"),
    "ArgMax": _place("nn.argmax"),
    "ArgMin": _place("nn.argmin"),
    "Cast": _cast,
    "CumSum": _cumsum,
    "Div": _binary("nn.div"),
    "Elu": lambda node, build: build.nn.elu(node.operand(0), alpha=node.attr("alpha", 1.0)),
    "Equal": _binary("nn.equal"),
    "Gather": _along("nn.gather"),
    "GatherElements": _along("nn.gather_elements"),
    "LayerNormalization": _layer_norm,
    "Less": _binary("nn.less"),
    "LessOrEqual": _binary("nn.less_equal"),
    "LogSoftmax": _log_softmax,
    "Max": _chain("nn.maximum"),
    "Min": _chain("nn.minimum"),
    "Not": _unary("nn.logical_not"),
    "Or": _binary("nn.logical_or"),
    "Pow": _binary("nn.pow"),
    "ReduceMax": _reduction("nn.max"),
    "ReduceMin": _reduction("nn.min"),
    "ReduceProd": _reduction("nn.prod"),
    "ReduceSum": _reduction("nn.sum"),
    "Where": lambda node, build: build.nn.where(*node.operands()),
    "Xor": _binary("nn.logical_xor"),
    "Add": _add,
    "AveragePool": _avg_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("nn.hard_swish"),
    "Identity": lambda node, build: node.operand(0),
    "LeakyRelu": lambda node, build: build.nn.leaky_relu(node.operand(0), negative_slope=node.attr("alpha", 0.01)),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _binary("nn.mul"),
    "Pad": _pad,
    "ReduceMean": _reduction("nn.mean"),
    "Relu": _unary("nn.relu"),
    "Reshape": _reshape,
    "Sigmoid": _unary("nn.sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _binary("nn.sub"),
    "Sum": _chain("nn.add"),
    "Tanh": _unary("nn.tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""ONNX op -> the row that reads it. Constants, Shape and what is computed from them need none."""
