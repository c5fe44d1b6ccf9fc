"""Rows of windows over three dimensions, by LiteRT's over two: it has none on integers. Channels are last.

    x [N, D, H, W, C]                        images [N * D', H, W, Kd * C]: for each place of the window the Kd slices
    nn.conv, w [O, C, Kd, Kh, Kw]     ->     CONV_2D with w [O, Kh, Kw, Kd * C], rounded once
    nn.max_pool                       ->     MAX_POOL_2D over height and width, then over depth
    nn.resize                         ->     RESIZE_BILINEAR or _NEAREST_NEIGHBOR of height and width, then of depth

Reshapes move nothing: depth lies beside the batch. An average over all three is two, of which each is rounded
(`passes/ways`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from qgraph.ir import Node, Value
from qgraph.ir.types import integer_range
from qgraph.targets.correspondence import Attrs, Call, Correspondence, Refusal, Weight
from qgraph.targets.litert.layer_rows import (
    ACTIVATION,
    CARRIED_CLAMPS,
    LOWEST_FLOAT,
    average,
)
from qgraph.targets.litert.limits import count_limits, layer_limits
from qgraph.targets.litert.padding import padding_for
from qgraph.targets.litert.tensor_rows import by_quotient, centres
from qgraph.targets.windows import extended_pads, spatial

Sizes = Sequence[int]


def has_depth(node: Node) -> bool:
    """Whether windows slide over three dimensions."""
    return node.operand(0).type.rank == 5


def images(call: Call, x: Value, *sizes: int) -> Value:
    """x as images of these sizes, with the rest beside the batch; of two reshapes in a row the last is enough."""
    maker = x.producer
    x = maker.operand(0) if maker is not None and maker.op == "litert.reshape" else x
    made: Value = call.build.litert.reshape(x, shape=(-1, *sizes))
    return made


def edges(pads: Sizes, *axes: int) -> tuple[int, ...]:
    """Of the pads of three dimensions, before each and then behind each, those of some."""
    return (*(pads[axis] for axis in axes), *(pads[3 + axis] for axis in axes))


# ---- convolutions


def conv(row: Correspondence, call: Call) -> Value:
    """CONV_2D of the slices of each window, channel by channel of each group."""
    (x,), a, w = call.xs, call.attrs, call.w
    assert w is not None
    channels = int(x.type.shape[-1])
    out, height, width, reach, inner = (int(size) for size in w.type.shape)
    taken = slices(call, x, reach, a["groups"])
    image = images(call, taken, *spatial(x)[1:], reach * channels)
    image, word = padded(call, image, (height, width), a["stride"][1:], edges(a["pads"], 1, 2), a["dilation"][1:])
    weight = call.build.constant(w.data.reshape(out, height, width, reach * inner), w.name, w.type.quant)
    attrs = row.target_attrs(call) | {"stride": a["stride"][1:], "dilation": a["dilation"][1:], "padding": word}
    made = call.build.node(row.target, [image, weight, call.bias], attrs, element=call.element).result
    return images(call, made, *spatial(call.node.result), out)


def slices(call: Call, x: Value, reach: int, groups: int) -> Value:
    """[N, D', H * W * groups, reach * C / groups]: beside each other what a window over depth sees."""
    a, (depth, *plane), channels = call.attrs, spatial(x), int(x.type.shape[-1])
    rows = images(call, x, depth, math.prod(plane) * groups, channels // groups)
    before, behind = edges(a["pads"], 0)
    if before or behind:
        rows = call.build.litert.pad(rows, pads=(0, before, 0, 0, 0, behind, 0, 0), value=None)
    step, apart, count = a["stride"][0], a["dilation"][0], spatial(call.node.result)[0]
    parts = [part(call, rows, k * apart, k * apart + step * (count - 1) + 1, step) for k in range(reach)]
    if reach == 1:
        return parts[0]
    made: Value = call.build.litert.concatenation(*parts, axis=3)
    return made


def part(call: Call, x: Value, start: int, end: int, step: int) -> Value:
    """The rows from `start` to before `end`."""
    if (start, end, step) == (0, x.type.shape[1], 1):
        return x
    words: Attrs = {"begin": (0, start, 0, 0), "end": (0, end, 0, 0), "strides": (1, step, 1, 1)}
    made: Value = call.build.litert.strided_slice(x, **words, begin_mask=13, end_mask=13)
    return made


def padded(
    call: Call, x: Value, kernel: Sizes, stride: Sizes, pads: Sizes, dilation: Sizes, value: float | None = None
) -> tuple[Value, str]:
    """Images, and LiteRT's word for the padding of windows over them; an explicit PAD where it has none."""
    word = padding_for(spatial(x), kernel, stride, pads, dilation)
    if word is not None:
        return x, word
    return call.build.litert.pad(x, pads=(0, *pads[:2], 0, 0, *pads[2:], 0), value=value), "VALID"


# ---- pools


def pool(row: Correspondence, call: Call, value: float | None = None, counted: bool = False) -> Value:
    """Two pools, or one where a window is of one element in the other dimensions. Pads have the code `value`, and are
    `counted` among the elements of an average, or not."""
    (x,), a, (depth, *plane) = call.xs, call.attrs, spatial(call.xs[0])
    channels, pads = int(x.type.shape[-1]), extended_pads(call.node)

    def pooled(x: Value, kernel: Sizes, stride: Sizes, around: Sizes) -> Value:
        if not counted or not any(around):
            x, word = padded(call, x, kernel, stride, around, (1, 1), value)
        else:
            x, word = call.build.litert.pad(x, pads=(0, *around[:2], 0, 0, *around[2:], 0), value=value), "VALID"
        attrs: Attrs = {"kernel": tuple(kernel), "stride": tuple(stride), "padding": word}
        return call.build.node(row.target, [x], attrs).result

    result = spatial(call.node.result)
    if not is_still(a, 1, 2):
        x = pooled(images(call, x, *plane, channels), a["kernel"][1:], a["stride"][1:], edges(pads, 1, 2))
    if not is_still(a, 0):
        flat = images(call, x, depth, math.prod(result[1:]), channels)
        before, behind = edges(pads, 0)
        x = pooled(flat, (a["kernel"][0], 1), (a["stride"][0], 1), (before, 0, behind, 0))
    return images(call, x, *result, channels)


def is_still(attrs: Attrs, *axes: int) -> bool:
    """Whether a window has one element along some dimensions, and passes them one by one."""
    return all((attrs["kernel"][axis], attrs["stride"][axis]) == (1, 1) for axis in axes)


def largest(row: Correspondence, call: Call) -> Value:
    """MAX_POOL_2D twice: the largest of the largest."""
    return pool(row, call, LOWEST_FLOAT if call.in_float else integer_range(call.element[0])[0])


def mean(row: Correspondence, call: Call) -> Value:
    """AVERAGE_POOL_2D over depth, or over the plane."""
    return pool(row, call, counted=call.attrs["count_include_pad"])


def average_when(node: Node) -> Refusal | None:
    """An average over one element of depth, or of the plane, whose pads LiteRT can count as they are counted."""
    a, pads = node.attrs, extended_pads(node)
    axes = (0,) if is_still(a, 1, 2) else (1, 2)
    if not is_still(a, *({0, 1, 2} - {*axes})):
        return Refusal("LiteRT averages over two dimensions, not over three", "pool over depth apart")
    if pads != tuple(a["pads"]):
        return Refusal("LiteRT's AVERAGE_POOL_2D has no ceil_mode", "pad the input instead")
    uncounted = any(pads) and not a["count_include_pad"]
    sizes, kernel, stride = ([each[i] for i in axes] for each in (spatial(node.operand(0)), a["kernel"], a["stride"]))
    if uncounted and padding_for(sizes, kernel, stride, edges(pads, *axes), [1] * len(axes)) is None:
        reason = f"pads {list(pads)} that do not count are not LiteRT's SAME"
        return Refusal(reason, "use count_include_pad=True")
    return average((math.prod(a["kernel"]), 1))


def undilated(node: Node) -> Refusal | None:
    """MAX_POOL_2D has no dilation."""
    dilation: Any = node.attrs["dilation"]
    return None if set(dilation) == {1} else Refusal(f"MAX_POOL_2D has no dilation={list(dilation)}, only 1")


# ---- resizes


def is_deep(node: Node, mode: str) -> bool:
    """Whether three dimensions are resized so."""
    return has_depth(node) and bool(node.attrs["mode"] == mode)


def resize(row: Correspondence, call: Call) -> Value:
    """Height and width, then depth, beside which all else keeps its size."""
    (x,), a = call.xs, call.attrs
    (depth, *plane), (deep, *wide) = spatial(x), a["size"]
    channels, points = int(x.type.shape[-1]), math.prod(a["size"][1:])
    words: Attrs = {}
    if a["mode"] == "linear":
        words = {"align_corners": a["align_corners"], **centres(call)}
    if plane != wide:
        flat = images(call, x, *plane, channels)
        x = call.build.node(row.target, [flat], {"size": tuple(wide), **words}).result
    if depth != deep:
        flat = images(call, x, depth, points, channels)
        x = call.build.node(row.target, [flat], {"size": (deep, points), **words}).result
    return images(call, x, *a["size"], channels)


DEPTHS = [
    Correspondence(
        source="conv",
        target="litert.conv_2d",
        applies=has_depth,
        attrs={"dilation": "dilation"},
        clamps=CARRIED_CLAMPS,
        codecs=(ACTIVATION,),
        weight=Weight((0, 3, 4, 2, 1), zero_bias=True, bias_first=True),
        limits=layer_limits,
        lower=conv,
        raises=False,
    ),
    Correspondence(
        source="max_pool",
        target="litert.max_pool_2d",
        applies=has_depth,
        when=undilated,
        result="operand",
        lower=largest,
        raises=False,
    ),
    Correspondence(
        source="avg_pool",
        target="litert.average_pool_2d",
        applies=has_depth,
        when=average_when,
        limits=lambda call: count_limits(call, math.prod(call.attrs["kernel"])),
        result="operand",
        lower=mean,
        raises=False,
    ),
    *(
        Correspondence(
            source="resize",
            target=f"litert.{target}",
            applies=partial(is_deep, mode=mode),
            when=by_quotient,
            result="operand",
            lower=resize,
            raises=False,
        )
        for mode, target in (("nearest", "resize_nearest_neighbor"), ("linear", "resize_bilinear"))
    ),
]
