"""Rows of pools, means, and transposed convolution."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from qgraph.arith.windows import window_pads
from qgraph.ir import Node, Value
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Refusal, Weight
from qgraph.targets.lowering import CALIBRATE
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.clips import CARRIED, clipped, layer_limits


def one_to_three(node: Node) -> Refusal | None:
    """How many spatial dimensions the runtime's windows have."""
    x = node.operand(0).type
    reason = f"the runtime's {node.op.partition('.')[2]} takes one to three spatial dimensions, not {x}"
    return None if 3 <= x.rank <= 5 else Refusal(reason)


def extended_pads(node: Node) -> tuple[int, ...]:
    """The pads at which plain windows are those of `ceil_mode`."""
    a: Attrs = node.attrs
    sizes, out = ([int(size) for size in value.type.shape[2:]] for value in (node.operand(0), node.result))
    return window_pads(sizes, a["kernel"], a["stride"], a["pads"], a.get("dilation", (1,) * len(a["kernel"])), out)


def pooled_when(node: Node) -> Refusal | None:
    """What the runtime's pooling refuses."""
    kernel = node.attrs["kernel"]
    pads = extended_pads(node)
    if any(pad >= kernel[i % len(kernel)] for i, pad in enumerate(pads)):
        return Refusal(f"pads {list(pads)} reach the kernel's size {list(kernel)}", "pad the input instead")
    return one_to_three(node)


def average_pads(call: Call) -> Attrs:
    """What `ceil_mode` adds beyond the padding never counts: counted padding then has to be a Pad of its own."""
    given, pads = call.attrs["pads"], extended_pads(call.node)
    counted = call.attrs["count_include_pad"] and any(given)
    if counted and pads != given:
        half, (x,) = len(given) // 2, call.xs
        around = (0, 0, *given[:half], 0, 0, *given[half:])
        call.xs[0] = call.build.ort.Pad(x, pads=around, value=int(x.type.q.zero_points[0]))
        pads, counted = tuple(end - begin for end, begin in zip(pads, given, strict=True)), False
    return {"pads": pads, "count_include_pad": int(counted)}


def counted_pads(view: Any) -> Attrs:
    """The pads of a QLinearAveragePool, and whether they count."""
    return {"pads": view.pads, "count_include_pad": bool(view.count_include_pad)}


def mean_when(node: Node) -> Refusal | None:
    """QLinearGlobalAveragePool is the mean over all spatial axes; others are brought there."""
    shape, axes = node.operand(0).type.shape, node.attrs["axes"]
    averaged = [shape[axis] for axis in axes]
    inner = _kept(node)[1:]
    unknown = [size for size in averaged + [shape[axis] for axis in inner] if isinstance(size, str)]
    if len(axes) < len(shape) and not (unknown if not _is_spatial(node) else set(averaged) & set(unknown)):
        return None
    reason = f"the runtime's integer mean cannot run over axes {axes} of {node.operand(0).type}"
    return Refusal(reason, "a dimension has to stay, and all but the first of those have to be of a known size")


def _kept(node: Node) -> list[int]:
    return [axis for axis in range(node.operand(0).type.rank) if axis not in node.attrs["axes"]]


def _is_spatial(node: Node) -> bool:
    rank = node.operand(0).type.rank
    return 3 <= rank <= 5 and sorted(node.attrs["axes"]) == list(range(2, rank))


def mean_limits(call: Call) -> Refusal | None:
    """The range of factors that QLinearGlobalAveragePool takes."""
    x = call.xs[0].type
    count = math.prod(int(x.shape[axis]) for axis in call.attrs["axes"])
    factor = float(kernels.global_average_factor(x.q, call.quant, count))
    low, high = kernels.GLOBAL_AVERAGE_RANGE
    if low <= factor < high:
        return None
    return Refusal(f"QLinearGlobalAveragePool refuses the factor {factor:.3g}: it takes 2**-32 to 256", CALIBRATE)


def mean(row: Correspondence, call: Call) -> Value:
    """The axes at the end, as one spatial dimension; then the shape that the mean has."""
    build, (x,) = call.build, call.xs
    if not _is_spatial(call.node):
        axes, kept = sorted(call.attrs["axes"]), _kept(call.node)
        count, inner = (math.prod(int(x.type.shape[axis]) for axis in each) for each in (axes, kept[1:]))
        perm = (*kept, *axes)
        x = x if perm == tuple(range(x.type.rank)) else build.ort.Transpose(x, perm=perm)
        x = x if x.type.rank == 3 and len(axes) == 1 else build.ort.Reshape(x, shape=(-1, inner, count))
    made = build.ort.QLinearGlobalAveragePool(x, element=call.element)
    shape = call.node.result.type.shape
    if made.type.shape != shape:
        known = [-1 if isinstance(size, str) else size for size in shape]
        made = build.ort.Reshape(made, shape=tuple(known if -1 in known else [-1, *known[1:]]))
    return clipped(call, made)


def transposed_when(node: Node) -> Refusal | None:
    """A transposed convolution becomes a convolution over zeros between the elements: one group, known sizes."""
    x = node.operand(0).type
    if node.attrs["groups"] != 1:
        return Refusal(f"the runtime has no integer form of a transposed convolution of {node.attrs['groups']} groups")
    if any(isinstance(size, str) for size in x.shape[1:]):
        return Refusal(f"a transposed convolution of {x} needs known sizes behind the first")
    return one_to_three(node)


def transposed(row: Correspondence, call: Call) -> Value:
    """QLinearConv of x with stride - 1 zeros behind each element, the weight turned around."""
    a, build, weight = call.attrs, call.build, call.weight
    assert weight is not None
    rank = len(a["stride"])
    ends = [
        (step * (size - 1) - a["pads"][i], step * (size - 1) - a["pads"][rank + i] + a["output_padding"][i])
        for i, (step, size) in enumerate(zip(a["dilation"], weight.data.shape[2:], strict=True))
    ]
    ends = [(first, last - step + 1) for (first, last), step in zip(ends, a["stride"], strict=True)]
    x = _cropped(call, _spread(call), ends)
    turned = np.flip(weight.data, tuple(range(2, rank + 2))).swapaxes(0, 1)
    quant = weight.quant if weight.quant.axis is None else replace(weight.quant, axis=0)
    w = build.constant(np.ascontiguousarray(turned), weight.name, quant)
    pads = [max(0, first) for first, _ in ends] + [max(0, last) for _, last in ends]
    attrs = {"strides": (1,) * rank, "pads": tuple(pads), "dilations": a["dilation"]}
    return clipped(call, build.ort.QLinearConv(x, w, call.bias, element=call.element, **attrs))


def _spread(call: Call) -> Value:
    """x with stride - 1 zeros behind each element, which are its zero point."""
    (x,), steps = call.xs, call.attrs["stride"]
    if all(step == 1 for step in steps):
        return x
    channels, *sizes = (int(size) for size in x.type.shape[1:])
    apart = (-1, channels, *(each for size in sizes for each in (size, 1)))
    around = (0,) * (2 + len(apart)) + tuple(each for step in steps for each in (0, step - 1))
    build, zero = call.build, int(x.type.q.zero_points[0])
    padded = build.ort.Pad(build.ort.Reshape(x, shape=apart), pads=around, value=zero)
    whole = (-1, channels, *(size * step for size, step in zip(sizes, steps, strict=True)))
    made: Value = build.ort.Reshape(padded, shape=whole)
    return made


def _cropped(call: Call, x: Value, ends: list[tuple[int, int]]) -> Value:
    """x without what pads below zero take off."""
    cut = [(axis, max(0, -first), max(0, -last)) for axis, (first, last) in enumerate(ends, 2)]
    cut = [each for each in cut if each[1] or each[2]]
    if not cut:
        return x
    axes, starts, _ = zip(*cut, strict=True)
    stops = tuple(int(x.type.shape[axis]) - last for axis, _, last in cut)
    made: Value = call.build.ort.Slice(x, starts=starts, ends=stops, axes=axes, steps=(1,) * len(axes))
    return made


WINDOW = {"kernel": "kernel_shape", "stride": "strides"}
WINDOWS = (
    Correspondence(
        source="max_pool",
        target="ort.MaxPool",
        attrs=WINDOW | {"dilation": "dilations"},
        codecs=(Codec(("pads",), lambda call: {"pads": extended_pads(call.node)}, lambda view: {"pads": view.pads}),),
        when=pooled_when,
        result="operand",
    ),
    Correspondence(
        source="avg_pool",
        target="ort.QLinearAveragePool",
        attrs=WINDOW,
        codecs=(Codec(("pads", "count_include_pad"), average_pads, counted_pads),),
        when=pooled_when,
        after=clipped,
    ),
    Correspondence(
        source="mean",
        target="ort.QLinearGlobalAveragePool",
        codecs=(Codec(up=lambda view: {"axes": tuple(range(2, view.x.type.rank)), "keepdims": True}),),
        when=mean_when,
        limits=mean_limits,
        lower=mean,
    ),
    Correspondence(
        source="conv_transpose",
        target="ort.QLinearConv",
        weight=Weight(axis=1, channels=1),
        activations=CARRIED,
        raises=False,
        when=transposed_when,
        limits=layer_limits,
        lower=transposed,
    ),
)
