"""Rows of layers and pools: CONV2D and its kin make int32, RESCALE brings them to the grid of the result.

Windows fit without a remainder in TOSA: pads behind the last window are left out, or elements cut off.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from qgraph.errors import LoweringError
from qgraph.ir import Builder, Node, QuantParams, TensorType, Value
from qgraph.ops.nn.activation import BOUNDS
from qgraph.targets.correspondence import Attrs, Call, Correspondence, Refusal, Weight
from qgraph.targets.lowering import CALIBRATE
from qgraph.targets.tosa.dialect.convolution import accumulator
from qgraph.targets.tosa.scaling import reach, rescaled, scale, within, zero_point
from qgraph.targets.values import codes_of, element_of, open_shape
from qgraph.targets.windows import dilation_of, extended_pads, is_depthwise, kernel_of, spatial

CARRIED_CLAMPS = ((-1.0, 1.0), (0.0, 1.0))
"""The bounds of a clamp that a layer may carry."""
INT32 = 2**31
LARGEST_WINDOW = 2**16
"""Elements of a window from which the sum of an average may leave int32."""


def two_dimensions(node: Node) -> Refusal | None:
    """TOSA's windows slide over height and width, here."""
    x = node.operand(0).type
    if x.rank == 4:
        return None
    name = node.op.partition(".")[2]
    return Refusal(f"TOSA's {name} works on two spatial dimensions, not {x.rank - 2}", "reshape to two dimensions")


def fitted(call: Call) -> Attrs:
    """Stride and pads of windows that fit without a remainder; the operand is cut where it reaches beyond the last."""
    node, (x,) = call.node, call.xs
    kernel, dilation, stride = kernel_of(node), dilation_of(node), call.attrs["stride"]
    begins, cut, pad = extended_pads(node)[: len(kernel)], [], []
    axes = zip(spatial(x), kernel, dilation, stride, begins, spatial(node.result), strict=True)
    for size, k, d, s, begin, out in axes:
        end = (out - 1) * s + (k - 1) * d + 1 - size - begin
        cut.append(size + min(end, 0))
        pad += [begin, max(end, 0)]
    call.xs[0] = begin_of(call.build, x, tuple(cut))
    return {"stride": stride, "pad": tuple(pad)}


def part_of(build: Builder, x: Value, start: tuple[int, ...], size: tuple[int, ...]) -> Value:
    """SLICE, or x where that is all of it; a size of -1 is open."""
    if size == open_shape(x):
        return x
    return build.node("tosa.slice", [x], {"start": start, "size": size}, element=element_of(x)).result


def begin_of(build: Builder, x: Value, sizes: tuple[int, ...]) -> Value:
    """The first rows and columns of an image, as many as `sizes`."""
    whole = open_shape(x)
    return part_of(build, x, (0, 0, 0, 0), (whole[0], *sizes, whole[3]))


# ---- layers


def activated(call: Call, made: Value) -> Value:
    """The result within the bounds of the activation that the layer carries."""
    word = call.attrs.get("activation", "none")
    if word == "none":
        return made
    low, high = codes_of(call.attrs["clamp"] or BOUNDS[word], made.type)
    return within(call.build, made, low, high)


def accumulated(call: Call) -> tuple[QuantParams, int]:
    """What the accumulators of a layer mean, and their largest magnitude.

    Raises LoweringError where they may leave int32.
    """
    weight, bias, x = call.weight, call.bias, call.xs[0]
    assert weight is not None
    assert bias is not None
    quant = bias.type.q if weight.quant.axis is None else replace(bias.type.q, axis=3)
    sums = np.abs(weight.by_channel.astype(np.int64)).sum(axis=1) * reach(x.type)
    bound = int((sums + np.abs(bias.data.astype(np.int64))).max())
    if x.type.dtype == "i8" and bound >= INT32:
        raise LoweringError(f"accumulators of up to {bound} leave int32", help=CALIBRATE)
    return quant, bound


def rescaled_layer(call: Call, acc: Value, bound: int) -> Value:
    """The accumulators on the grid of the result, and its activation."""
    weight = call.weight
    assert weight is not None
    factors = scale(call.xs[0].type) * weight.quant.scales.astype(np.float64) / scale(TensorType((), *call.element))
    return activated(call, rescaled(call.build, acc, call.element, factors, bound))


def make(call: Call, op: str, x: Value, w: Value, bias: Value | None, quant: QuantParams, **attrs: Any) -> Value:
    """A layer's accumulators."""
    zero = zero_point(element_of(x))
    element = accumulator(x.type.dtype), quant
    return call.build.node(op, [x, w, bias], {"input_zp": zero, **attrs}, element=element).result


def layer(row: Correspondence, call: Call) -> Value:
    """CONV2D, of groups by parts that are joined."""
    attrs = fitted(call) | {"dilation": call.attrs["dilation"]}
    quant, bound = accumulated(call)
    groups, (x,) = call.attrs["groups"], call.xs
    assert call.w is not None
    assert call.bias is not None
    if groups == 1:
        acc = make(call, row.target, x, call.w, call.bias, quant, **attrs)
    else:
        acc = grouped(call, row.target, quant, attrs)
    return rescaled_layer(call, acc, bound)


def grouped(call: Call, op: str, quant: QuantParams, attrs: Attrs) -> Value:
    """The accumulators of a convolution of groups: of each group by itself, joined along the channels."""
    (x,), w, bias, groups = call.xs, call.w, call.bias, call.attrs["groups"]
    assert w is not None
    assert bias is not None
    parts = []
    inputs, outputs = int(w.type.shape[3]), int(w.type.shape[0]) // groups
    for group in range(groups):
        own = part_of(call.build, x, (0, 0, 0, group * inputs), (*open_shape(x)[:3], inputs))
        places = slice(group * outputs, (group + 1) * outputs)
        part = call.build.constant(np.ascontiguousarray(w.data[places]), w.name, _part(w.type.quant, places))
        own_bias = call.build.constant(bias.data[places], bias.name, _part(bias.type.quant, places), bias.type.dtype)
        own_quant = _part(quant, places)
        assert own_quant is not None
        parts.append(make(call, op, own, part, own_bias, own_quant, **attrs))
    return call.build.node("tosa.concat", parts, {"axis": 3}, element=(parts[0].type.dtype, quant)).result


def _part(quant: QuantParams | None, places: slice) -> QuantParams | None:
    if quant is None or quant.axis is None:
        return quant
    return QuantParams(quant.scale[places], quant.zero_point[places], quant.axis)


def depthwise(row: Correspondence, call: Call) -> Value:
    """DEPTHWISE_CONV2D: weight [Kh, Kw, C, M]."""
    attrs = fitted(call) | {"dilation": call.attrs["dilation"]}
    quant, bound = accumulated(call)
    (x,), w = call.xs, call.w  # [Kh, Kw, 1, O]
    assert w is not None
    channels = int(x.type.shape[3])
    shape = (*w.data.shape[:2], channels, w.data.shape[3] // channels)
    own = w.type.quant if w.type.quant is None or w.type.quant.axis is None else None
    if own is None and shape[3] == 1:
        own = replace(w.type.q, axis=2)
    weight = call.build.constant(w.data.reshape(shape), w.name, own)
    acc = make(call, row.target, x, weight, call.bias, quant, **attrs)
    return rescaled_layer(call, acc, bound)


def transposed(row: Correspondence, call: Call) -> Value:
    """TRANSPOSE_CONV2D: pads are cut off the whole result, output padding is added to it."""
    a, (x,), w = call.attrs, call.xs, call.w
    assert w is not None
    quant, bound = accumulated(call)
    (top, left, bottom, right), (below, beside) = a["pads"], a["output_padding"]
    pads = (-top, below - bottom, -left, beside - right)
    acc = make(call, row.target, x, w, call.bias, quant, stride=a["stride"], out_pad=pads)
    return rescaled_layer(call, acc, bound)


def cut_by_less(node: Node) -> Refusal | None:
    """TRANSPOSE_CONV2D cuts off less than its kernel."""
    pads, kernel = node.attrs["pads"], kernel_of(node)
    if two_dimensions(node) is not None or all(pad < k for pad, k in zip(pads, (*kernel, *kernel), strict=True)):
        return two_dimensions(node)
    return Refusal(f"TOSA's TRANSPOSE_CONV2D cuts off less than its kernel {list(kernel)}, not {list(pads)}")


def linear(row: Correspondence, call: Call) -> Value:
    """CONV2D of one element a window: x as [rows, 1, 1, I]."""
    (x,), w = call.xs, call.w
    assert w is not None
    quant, bound = accumulated(call)
    outputs, inputs = w.data.shape
    weight = call.build.constant(w.data.reshape(outputs, 1, 1, inputs), w.name, w.type.quant)
    rows = reshaped(call, x, (-1, 1, 1, inputs))
    acc = make(call, row.target, rows, weight, call.bias, quant)
    return reshaped(call, rescaled_layer(call, acc, bound), open_shape(call.node.result))


def reshaped(call: Call, x: Value, shape: tuple[int, ...]) -> Value:
    """RESHAPE, or x where it has the shape."""
    if shape == open_shape(x):
        return x
    return call.build.node("tosa.reshape", [x], {"shape": shape}, element=element_of(x)).result


LAYERS = [
    Correspondence(
        source="conv",
        target="tosa.depthwise_conv2d",
        applies=is_depthwise,
        clamps=CARRIED_CLAMPS,
        when=two_dimensions,
        weight=Weight((2, 3, 1, 0), axis=3, zero_bias=True),
        lower=depthwise,
    ),
    Correspondence(
        source="conv",
        target="tosa.conv2d",
        applies=lambda node: not is_depthwise(node),
        clamps=CARRIED_CLAMPS,
        when=two_dimensions,
        weight=Weight((0, 2, 3, 1), zero_bias=True),
        lower=layer,
    ),
    Correspondence(
        source="conv_transpose",
        target="tosa.transpose_conv2d",
        only={"dilation": (1, 1), "groups": 1},
        clamps=CARRIED_CLAMPS,
        when=cut_by_less,
        weight=Weight((1, 2, 3, 0), channels=1, zero_bias=True),
        lower=transposed,
    ),
    Correspondence(
        source="linear", target="tosa.conv2d", clamps=CARRIED_CLAMPS, weight=Weight(zero_bias=True), lower=linear
    ),
]


# ---- pools


def pool(row: Correspondence, call: Call) -> Value:
    """A pool on the grid of what it reads."""
    attrs = fitted(call) | {"kernel": call.attrs["kernel"]}
    (x,) = call.xs
    zeros = {}
    if row.target == "tosa.avg_pool2d":
        zero = zero_point(element_of(x))
        zeros = {"input_zp": zero, "output_zp": zero}
    return call.build.node(row.target, [x], {**attrs, **zeros}, element=element_of(x)).result


def average(row: Correspondence, call: Call) -> Value:
    """AVG_POOL2D; padding that counts is an explicit PAD."""
    pads, (x,) = call.attrs["pads"], call.xs
    if any(pads) and call.attrs["count_include_pad"]:
        (top, left, bottom, right), zero = pads, zero_point(element_of(x))
        padding = (0, 0, top, bottom, left, right, 0, 0)
        element = element_of(x)
        x = call.build.node("tosa.pad", [x], {"padding": padding, "pad_const": zero}, element=element).result
        kernel, stride = call.attrs["kernel"], call.attrs["stride"]
        sizes = zip(kernel, stride, spatial(call.node.result), strict=True)
        x = begin_of(call.build, x, tuple((out - 1) * s + k for k, s, out in sizes))
        zeros = {"input_zp": zero, "output_zp": zero}
        return call.build.node(row.target, [x], {"kernel": kernel, "stride": stride, **zeros}, element=element).result
    return pool(row, call)


def padded_by_less(node: Node) -> Refusal | None:
    """Pads that do not count are smaller than the kernel; averages are of few enough elements."""
    if two_dimensions(node) is not None:
        return two_dimensions(node)
    kernel = kernel_of(node)
    if node.op.endswith("avg_pool"):
        if extended_pads(node) != tuple(node.attrs["pads"]):
            return Refusal("TOSA's AVG_POOL2D has no ceil_mode", "pad the input instead")
        if math.prod(kernel) >= LARGEST_WINDOW:
            return Refusal(f"a window of {list(kernel)} has {LARGEST_WINDOW} elements or more", "pool in two steps")
    if any(pad >= k for pad, k in zip(extended_pads(node), (*kernel, *kernel), strict=True)):
        return Refusal(f"TOSA's pools have pads below the kernel {list(kernel)}", "pad the input instead")
    return None


POOLS = [
    Correspondence(
        source="max_pool",
        target="tosa.max_pool2d",
        only={"dilation": (1, 1)},
        when=padded_by_less,
        result="operand",
        lower=pool,
    ),
    Correspondence(source="avg_pool", target="tosa.avg_pool2d", when=padded_by_less, result="operand", lower=average),
]
