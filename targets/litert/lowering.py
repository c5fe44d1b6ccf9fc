"""From `nn` and `quant` to the `litert` dialect: NCHW becomes NHWC, explicit pads become SAME, VALID or a PAD."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qgraph.arith.windows import window_pads
from qgraph.ir import Builder, Element, Node, QuantParams, Value
from qgraph.targets.litert.padding import padding_for
from qgraph.targets.litert.rules import RESULTS
from qgraph.targets.lowering import NHWC, Lowering, QuantizedWeight, fail

ACTIVATION = {"none": "NONE", "relu": "RELU", "relu6": "RELU6"}
AXIS = (0, 3, 1, 2)
"""NHWC's position of each NCHW dimension."""
LOWEST, HIGHEST = -128, 127
LARGEST_WINDOW = 2**16
"""Elements up to which the sum of an average is exact in int32 on every kernel."""
LARGEST_MUL_FACTOR = 2.0**8
Attrs = dict[str, Any]


def requantize(lowering: Lowering, x: Value, element: Element) -> Value:
    """x with other quantization parameters."""
    return lowering.build.litert.quantize(x, element=element)


def _require_2d(node: Node) -> None:
    if node.operand(0).type.rank != 4:
        raise fail(
            node, f"LiteRT's {node.op.partition('.')[2]} works on two spatial dimensions, not {node.operand(0).type}"
        )


def _spatial(x: Value) -> tuple[int, ...]:
    return tuple(int(size) for size in x.type.shape[1:3])


def _pad(build: Builder, x: Value, pads: tuple[int, ...], value: int | None) -> Value:
    """x, NHWC, with explicit spatial pads (begins, ends)."""
    return build.litert.pad(x, pads=(0, *pads[:2], 0, 0, *pads[2:], 0), value=value)


def _windowed(
    lowering: Lowering, x: Value, kernel: tuple[int, ...], attrs: Attrs, pads: tuple[int, ...], value: int | None = None
) -> tuple[Value, str]:
    """x, padded where LiteRT's paddings do not mean these pads, and the padding to use."""
    padding = padding_for(_spatial(x), kernel, attrs["stride"], pads, attrs.get("dilation", (1, 1)))
    return (x, padding) if padding else (_pad(lowering.build, x, pads, value), "VALID")


def conv(lowering: Lowering, node: Node) -> None:
    """nn.conv to CONV_2D, or to DEPTHWISE_CONV_2D where every group has one input channel."""
    _require_2d(node)
    attrs: Attrs = dict(node.attrs)
    x, weight = lowering.operand(node), lowering.weight(node)
    kernel = weight.data.shape[2:]
    x_padded, padding = _windowed(lowering, x, kernel, attrs, attrs["pads"])
    shared = {
        "stride": attrs["stride"],
        "padding": padding,
        "dilation": attrs["dilation"],
        "activation": ACTIVATION[attrs["activation"]],
    }
    bias = lowering.bias(node, weight, x) or _zero_bias(lowering, node, weight, x)
    check_layer(node, lowering, x, weight, bias)
    depthwise = attrs["groups"] > 1 and attrs["groups"] == x.type.shape[3]
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    w = _constant(lowering, weight, weight.data.transpose(order), 3 if depthwise else 0)
    build = lowering.build.litert.depthwise_conv_2d if depthwise else lowering.build.litert.conv_2d
    lowering.become(node, build(x_padded, w, bias, element=lowering.element(node), **shared))


def _zero_bias(lowering: Lowering, node: Node, weight: QuantizedWeight, x: Value) -> Value:
    """A bias of zeros: some of LiteRT's kernels want one."""
    return lowering.bias_constant(node, np.zeros(weight.data.shape[0]), weight, x, f"{weight.name}.bias")


def _constant(lowering: Lowering, weight: QuantizedWeight, data: np.ndarray, axis: int) -> Value:
    quant = weight.quant if weight.quant.axis is None else replace(weight.quant, axis=axis)
    return lowering.build.constant(np.ascontiguousarray(data), weight.name, quant)


def check_layer(node: Node, lowering: Lowering, x: Value, weight: QuantizedWeight, bias: Value) -> None:
    """Refuse factors that XNNPACK refuses, and accumulators whose product with the factor may leave int32.

    The factor x_scale * w_scale / result_scale must be below 2**8. Beyond int32, the reference kernel of
    FULLY_CONNECTED and XNNPACK's AVX512 kernels wrap (measured: a large negative accumulator gives 127), others
    saturate.
    """
    quant = lowering.element(node)[1]
    assert quant is not None
    factor = x.type.q.scales[0].astype(np.float64) * weight.quant.scales / quant.scales[0]
    if np.any(factor * (1 + 2.0**-22) >= 2.0**8):  # XNNPACK compares the float32 product
        raise fail(
            node,
            f"x_scale * w_scale / result_scale is {factor.max():.3g}, XNNPACK takes factors below 256",
            "calibrate with data that are like those in use",
        )
    zero_point = lowering.zero_code(x)
    weights = np.abs(weight.data.astype(np.int64)).reshape(len(weight.data), -1).sum(axis=1)
    acc = np.abs(bias.data.astype(np.int64)) + max(zero_point - LOWEST, HIGHEST - zero_point) * weights
    if np.any(np.maximum(factor, 1) * acc >= 2.0**31 - 2**8):
        channel = int(np.argmax(np.maximum(factor, 1) * acc))
        raise fail(
            node,
            f"the accumulator of channel {channel} may reach {acc[channel]}, which with its scales leaves int32",
            "the channel's weights are tiny beside its bias: remove the channel, or use per-tensor weights",
        )


def linear(lowering: Lowering, node: Node) -> None:
    """nn.linear to FULLY_CONNECTED; the weight's columns follow a flatten of NHWC."""
    x, weight = lowering.operand(node), lowering.weight(node)
    if node.operand(0).type.rank == 4:
        raise fail(node, "a linear layer over the last dimension of NCHW is not supported", "flatten first")
    order = lowering.order(x)
    w = _constant(lowering, weight, weight.data if order is None else weight.data[:, order], 0)
    bias = lowering.bias(node, weight, x) or _zero_bias(lowering, node, weight, x)
    check_layer(node, lowering, x, weight, bias)
    activation = ACTIVATION[str(node.attrs["activation"])]
    keep = True if x.type.rank > 2 else None
    build = lowering.build.litert.fully_connected
    made = build(x, w, bias, element=lowering.element(node), activation=activation, keep_num_dims=keep)
    lowering.become(node, made)


def check_add(node: Node, a: QuantParams, b: QuantParams, result: QuantParams) -> None:
    """Refuse scales at which LiteRT's ADD aborts or wraps.

    The reference kernel aborts where 2 * max(scale) >= 2**20 * result_scale. XNNPACK takes scale / result_scale in
    [2^-10, 2^8); for the rest runs the optimized kernel, which narrows to 16 bits without saturation.
    """
    ratios = [float(q.scales[0] / result.scales[0]) for q in (a, b)]
    if max(ratios) >= 2.0**8 or (max(ratios) >= 2.0**7 and min(ratios) < 2.0**-10):
        raise fail(
            node,
            f"LiteRT's ADD wraps or aborts at scales {a.scale[0]:.3g} and {b.scale[0]:.3g} "
            f"with a result of scale {result.scale[0]:.3g}",
            "calibrate with data that are like those in use",
        )


def add(lowering: Lowering, node: Node) -> None:
    """nn.add to ADD; refuses scales at which LiteRT aborts or wraps."""
    a, b = lowering.operand(node, 0), lowering.operand(node, 1)
    if a.type.rank != b.type.rank:
        raise fail(node, f"adding values of ranks {a.type.rank} and {b.type.rank} is not supported")
    element = lowering.element(node)
    quant = element[1]
    assert quant is not None
    check_add(node, a.type.q, b.type.q, quant)
    activation = ACTIVATION[str(node.attrs["activation"])]
    lowering.become(node, lowering.build.litert.add(a, b, element=element, activation=activation))


def relu(lowering: Lowering, node: Node) -> None:
    """nn.relu and nn.relu6 where they could not be fused."""
    x = lowering.operand(node)
    op = lowering.build.litert.relu if node.op == "nn.relu" else lowering.build.litert.relu6
    made = op(x, element=lowering.element(node))
    order = lowering.order(x)
    if order is not None:
        lowering.reorder(made, order)
    lowering.become(node, made)


def max_pool(lowering: Lowering, node: Node) -> None:
    """nn.max_pool to MAX_POOL_2D; explicit pads are the lowest integer."""
    _require_2d(node)
    attrs: Attrs = dict(node.attrs)
    if attrs["dilation"] != (1, 1):
        raise fail(node, "LiteRT's MAX_POOL_2D has no dilation")
    x = lowering.operand(node)
    pads = _extended_pads(node, attrs["kernel"], attrs["stride"], attrs["pads"])
    x_padded, padding = _windowed(lowering, x, attrs["kernel"], attrs, pads, LOWEST)
    made = lowering.build.litert.max_pool_2d(
        x_padded, kernel=attrs["kernel"], stride=attrs["stride"], padding=padding, element=(x.type.dtype, x.type.quant)
    )
    lowering.become(node, made)


def _extended_pads(node: Node, kernel: Any, stride: Any, pads: Any) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in node.operand(0).type.shape[2:])
    out = tuple(int(size) for size in node.result.type.shape[2:])
    return window_pads(sizes, kernel, stride, pads, (1, 1), out)


def avg_pool(lowering: Lowering, node: Node) -> None:
    """nn.avg_pool to AVERAGE_POOL_2D; padding that counts is an explicit PAD."""
    _require_2d(node)
    attrs: Attrs = dict(node.attrs)
    x, pads = lowering.operand(node), attrs["pads"]
    if _extended_pads(node, attrs["kernel"], attrs["stride"], pads) != pads:
        raise fail(node, "LiteRT's AVERAGE_POOL_2D has no ceil_mode", "pad the input instead")
    padding = padding_for(_spatial(x), attrs["kernel"], attrs["stride"], pads, (1, 1))
    if any(pads) and attrs["count_include_pad"]:
        x, padding = _pad(lowering.build, x, pads, None), "VALID"
    if padding is None:
        raise fail(node, f"pads {list(pads)} that do not count are not LiteRT's SAME", "use count_include_pad=True")
    _average(lowering, node, x, attrs["kernel"], attrs["stride"], padding)


def _average(lowering: Lowering, node: Node, x: Value, kernel: Any, stride: Any, padding: str) -> None:
    if kernel[0] * kernel[1] >= LARGEST_WINDOW:
        raise fail(node, f"a window of {list(kernel)} has {LARGEST_WINDOW} elements or more", "pool in two steps")
    made = lowering.build.litert.average_pool_2d(
        x, kernel=kernel, stride=stride, padding=padding, element=(x.type.dtype, x.type.quant)
    )
    lowering.become(node, made)


def mean(lowering: Lowering, node: Node) -> None:
    """A mean over both spatial axes to AVERAGE_POOL_2D, on which all kernel families agree; others to MEAN."""
    x = lowering.operand(node)
    axes: Any = node.attrs["axes"]
    if x.type.rank != 4 or sorted(axes) != [2, 3]:
        _other_mean(lowering, node, x, axes)
        return
    size = _spatial(x)
    _average(lowering, node, x, size, size, "VALID")
    if not node.attrs["keepdims"]:
        pooled = lowering.result(node)
        lowering.become(node, lowering.build.litert.reshape(pooled, shape=(-1, int(x.type.shape[3]))))


def _other_mean(lowering: Lowering, node: Node, x: Value, axes: tuple[int, ...]) -> None:
    """MEAN; where the dimensions that stay would be in NHWC's order, x is transposed to NCHW before."""
    _require_plain(lowering, node, x)
    keep = bool(node.attrs["keepdims"])
    if x.type.rank == 4:
        kept = [AXIS[axis] for axis in range(4) if axis not in axes]
        if keep or kept == sorted(kept):
            axes = tuple(sorted(AXIS[axis] for axis in axes))
        else:
            x = lowering.build.litert.transpose(x, perm=AXIS, element=(x.type.dtype, x.type.quant))
    made = lowering.build.litert.mean(x, axes=axes, keep_dims=keep, element=lowering.element(node))
    lowering.become(node, made)


def reshape(lowering: Lowering, node: Node) -> None:
    """nn.reshape to RESHAPE. A flatten that feeds linear layers keeps NHWC's order, which their columns follow."""
    x, source = lowering.operand(node), node.operand(0).type
    shape: Any = node.attrs["shape"]
    if lowering.order(x) is not None:
        raise fail(node, "a reshape of flattened features is not supported", "reshape in one step")
    if source.rank == 4:
        channels, *spatial = (int(size) for size in source.shape[1:])
        if _is_flatten(node) and (spatial == [1, 1] or _feeds_linear_only(node.result)):
            made = lowering.build.litert.reshape(x, shape=(-1, channels * spatial[0] * spatial[1]))
            if spatial != [1, 1]:
                order = np.arange(channels * spatial[0] * spatial[1]).reshape(channels, *spatial)
                lowering.reorder(made, order.transpose(1, 2, 0).reshape(-1))
            lowering.become(node, made)
            return
        x = lowering.build.litert.transpose(x, perm=AXIS)
    x = lowering.build.litert.reshape(x, shape=shape)
    if len(shape) == 4:
        x = lowering.build.litert.transpose(x, perm=NHWC)
    lowering.become(node, x)


def _is_flatten(node: Node) -> bool:
    before, after = node.operand(0).type.shape, node.result.type.shape
    return len(after) == 2 and before[0] == after[0]


def _feeds_linear_only(value: Value) -> bool:
    """Whether every reader is a linear layer, or an op that keeps the order and is read by such layers only."""
    passing = ("quant.fake_quant", "nn.relu", "nn.relu6")
    return not value.is_output and all(
        (user.op == "nn.linear" and user.operands[0] is value)
        or (user.op in passing and _feeds_linear_only(user.result))
        for user in value.users
    )


def transpose(lowering: Lowering, node: Node) -> None:
    """nn.transpose to TRANSPOSE, in NHWC's terms."""
    x, perm = lowering.operand(node), node.attrs["perm"]
    assert isinstance(perm, tuple)
    if x.type.rank == 4:
        perm = tuple(AXIS[int(perm[NHWC[i]])] for i in range(4))
    lowering.become(node, lowering.build.litert.transpose(x, perm=perm))


def concat(lowering: Lowering, node: Node) -> None:
    """nn.concat to CONCATENATION."""
    xs = [lowering.operand(node, i) for i in range(len(node.operands))]
    if any(lowering.order(x) is not None for x in xs):
        raise fail(node, "a concat of flattened features is not supported", "concatenate before flattening")
    axis = int(str(node.attrs["axis"]))
    axis = AXIS[axis] if xs[0].type.rank == 4 else axis
    element = (xs[0].type.dtype, xs[0].type.quant)
    xs = [x if x.type.quant == element[1] else requantize(lowering, x, element) for x in xs]
    lowering.become(node, lowering.build.litert.concatenation(*xs, axis=axis, element=element))


def pad(lowering: Lowering, node: Node) -> None:
    """nn.pad to PAD with the zero point, or to PADV2 with the integer of another value."""
    x = lowering.operand(node)
    pads: Any = node.attrs["pads"]
    if min(pads) < 0:
        raise fail(node, f"LiteRT's PAD cannot cut off elements, as pads {list(pads)} do", "crop the input beforehand")
    if x.type.rank == 4:
        pads = (*(pads[i] for i in NHWC), *(pads[4 + i] for i in NHWC))
    value = float(node.attrs["value"] or 0)
    q = x.type.q
    code = None if value == 0 else int(np.clip(np.rint(value / q.scales[0]) + q.zero_points[0], -128, 127))
    lowering.become(node, lowering.build.litert.pad(x, pads=pads, value=code))


BINARY = {"nn.sub": "sub", "nn.mul": "mul"}
UNARY = {"nn.hard_swish": "hard_swish", "nn.leaky_relu": "leaky_relu"}
FIXED = {"nn.sigmoid": "logistic", "nn.tanh": "tanh", "nn.softmax": "softmax"}
CLAMPS = {(-1.0, 1.0): "relu_n1_to_1", (0.0, 1.0): "relu_0_to_1"}


def binary(lowering: Lowering, node: Node) -> None:
    """nn.sub and nn.mul to SUB and MUL."""
    a, b = lowering.operand(node, 0), lowering.operand(node, 1)
    _require_plain(lowering, node, a, b)
    if a.type.rank != b.type.rank:
        raise fail(node, f"operands of ranks {a.type.rank} and {b.type.rank} are not supported")
    element = lowering.element(node)
    quant = element[1]
    assert quant is not None
    if node.op == "nn.sub":
        check_add(node, a.type.q, b.type.q, quant)
    elif a.type.q.scales[0] * b.type.q.scales[0] / quant.scales[0] >= LARGEST_MUL_FACTOR:
        raise fail(node, "the product of the operands' scales is 256 times that of the result, or more")
    activation = ACTIVATION[str(node.attrs["activation"])]
    op = getattr(lowering.build.litert, BINARY[node.op])
    lowering.become(node, op(a, b, element=element, activation=activation))


def unary(lowering: Lowering, node: Node) -> None:
    """nn.hard_swish, nn.leaky_relu, and nn.clamp to [-1, 1] or [0, 1]."""
    x, element = lowering.operand(node), lowering.element(node)
    _require_plain(lowering, node, x)
    if node.op == "nn.clamp":
        bounds = (float(node.attrs["min"]), float(node.attrs["max"]))
        if bounds not in CLAMPS:
            raise fail(node, f"LiteRT has no op that clamps to {bounds}", "clamp to (-1, 1), (0, 1), or use relu6")
        lowering.become(node, getattr(lowering.build.litert, CLAMPS[bounds])(x, element=element))
        return
    attrs = {"alpha": float(np.float32(node.attrs["negative_slope"]))} if node.op == "nn.leaky_relu" else {}
    quant = element[1]
    assert quant is not None
    if node.op == "nn.hard_swish" and x.type.q.scales[0] / (128 * quant.scales[0]) >= 1:
        raise fail(node, "LiteRT's HARD_SWISH refuses an operand whose scale is 128 times the result's, or more")
    lowering.become(node, getattr(lowering.build.litert, UNARY[node.op])(x, element=element, **attrs))


def fixed(lowering: Lowering, node: Node) -> None:
    """nn.sigmoid, nn.tanh and nn.softmax over the last axis: their results have parameters of their own."""
    x = lowering.operand(node)
    _require_plain(lowering, node, x)
    if node.op == "nn.softmax":
        rank = x.type.rank
        last = 1 if rank == 4 else rank - 1  # of NCHW the channels, last in NHWC
        if node.attrs["axis"] != last:
            raise fail(node, f"LiteRT's SOFTMAX works on the last axis, not on {node.attrs['axis']}", "transpose first")
    rule = RESULTS[node.op]
    element: Element = ("i8", QuantParams.of(rule.scale, rule.zero_point))
    made = getattr(lowering.build.litert, FIXED[node.op])(x, element=element)
    wanted = lowering.element(node)
    lowering.become(node, made if wanted[1] == element[1] else requantize(lowering, made, wanted))


def slice_(lowering: Lowering, node: Node) -> None:
    """nn.slice to STRIDED_SLICE."""
    x = lowering.operand(node)
    _require_plain(lowering, node, x)
    a: Attrs = dict(node.attrs)
    rank = x.type.rank
    axis = AXIS[a["axis"]] if rank == 4 else a["axis"]
    begin, end, strides = [0] * rank, [0] * rank, [1] * rank
    begin[axis], end[axis], strides[axis] = a["start"], a["end"], a["step"]
    others = sum(1 << i for i in range(rank) if i != axis)
    made = lowering.build.litert.strided_slice(
        x,
        begin=tuple(begin),
        end=tuple(end),
        strides=tuple(strides),
        begin_mask=others,
        end_mask=others,
        element=(x.type.dtype, x.type.quant),
    )
    lowering.become(node, made)


def _require_plain(lowering: Lowering, node: Node, *values: Value) -> None:
    """Refuse features whose order follows a flatten of NHWC."""
    if any(lowering.order(value) is not None for value in values):
        raise fail(node, f"{node.op} of flattened features is not supported", "put it before the flatten")


LOWERINGS = {
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys((*UNARY, "nn.clamp"), unary),
    **dict.fromkeys(FIXED, fixed),
    "nn.slice": slice_,
    "nn.conv": conv,
    "nn.linear": linear,
    "nn.add": add,
    "nn.relu": relu,
    "nn.relu6": relu,
    "nn.max_pool": max_pool,
    "nn.avg_pool": avg_pool,
    "nn.mean": mean,
    "nn.reshape": reshape,
    "nn.transpose": transpose,
    "nn.concat": concat,
    "nn.pad": pad,
}
