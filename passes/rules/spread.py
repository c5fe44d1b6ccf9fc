"""A transposed convolution as a convolution of what has zeros between its elements, in float or fake-quantized.

    %1 = nn.conv_transpose(%x, %w, @b) {stride=[2], pads=[1,1]}   ->   %1 = nn.reshape(%x), nn.pad, nn.reshape
                                                                       %2 = nn.conv(%1, %w', @b) {pads=[1,0]}

The weight is turned around, its input channels and output channels change places group by group. For targets whose
transposed convolution has one group, no dilation and two dimensions, which is left to them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.ir import Array, Builder, Node, Value
from qgraph.ops.nn.activation import activation_attrs
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rule


@rule(pattern("nn.conv_transpose", bind="node"))
def transposed_by_zeros(match: Match, build: Builder) -> Replacement:
    """Zeros between the elements, and a convolution."""
    node = match.root
    x, a = node.operand(0), node.attrs
    if x.type.rank <= 4 and a["groups"] == 1 and {*a["dilation"]} == {1}:
        return Declined("it has one group, no dilation and two dimensions at most")
    if not all(isinstance(size, int) for size in x.type.shape[1:]):
        return Declined(f"{x.type} is open")
    weight = _turned_weight(build, node.operand(1), a["groups"])
    if weight is None:
        return Declined("the weight is not a constant")
    first, last = _ends(node)
    spread = _cropped(build, _spread(build, x, a["stride"]), first, last)
    words = {
        "stride": (1,) * len(first),
        "pads": tuple(max(0, each) for each in (*first, *last)),
        "dilation": a["dilation"],
        "groups": a["groups"],
    }
    made = build.node("nn.conv", [spread, weight, *node.operands[2:]], {**words, **activation_attrs(a)})
    return made.result


def _ends(node: Node) -> tuple[list[int], list[int]]:
    """How many zeros stand before and behind what is spread, in each dimension; below 0: what is cut off."""
    a: dict[str, Any] = node.attrs
    rank = len(a["stride"])
    reach = [step * (int(size) - 1) for step, size in zip(a["dilation"], node.operand(1).type.shape[2:], strict=True)]
    first = [reach[i] - a["pads"][i] for i in range(rank)]
    last = [reach[i] - a["pads"][rank + i] + a["output_padding"][i] - a["stride"][i] + 1 for i in range(rank)]
    return first, last


def _spread(build: Builder, x: Value, steps: tuple[int, ...]) -> Value:
    """x with steps - 1 zeros behind each element of its spatial dimensions."""
    for axis, step in enumerate(steps, 2):
        if step == 1:
            continue
        shape = [int(size) for size in x.type.shape[1:]]
        behind = math.prod(shape[axis:])
        rows = build.nn.reshape(x, shape=(-1, behind))
        rows = build.nn.pad(rows, pads=(0, 0, 0, (step - 1) * behind))
        shape[axis - 1] *= step
        x = build.nn.reshape(rows, shape=(-1, *shape))
    return x


def _cropped(build: Builder, x: Value, first: list[int], last: list[int]) -> Value:
    """x without what numbers below 0 cut off."""
    for axis, (before, behind) in enumerate(zip(first, last, strict=True), 2):
        size = int(x.type.shape[axis])
        start, end = max(0, -before), size - max(0, -behind)
        if (start, end) != (0, size):
            x = build.nn.slice(x, axis=axis, start=start, end=end)
    return x


def _turned_weight(build: Builder, w: Value, groups: int) -> Value | None:
    """The weight of the convolution, of a constant or a fake-quantized one; None for one that is computed."""
    maker = w.producer
    if w.is_constant:
        return build.constant(_turned(w.data, groups), w.name)
    if maker is None or maker.op != "quant.fake_quant" or not maker.operand(0).is_constant:
        return None
    turned = _turned_weight(build, maker.operand(0), groups)
    rest, attrs = list(maker.operands[1:]), dict(maker.attrs)
    if attrs["axis"] is not None:
        attrs["axis"] = 0
        rest = [None if each is None else _for_groups(build, each, groups) for each in rest]
    return build.node(maker.op, [turned, *rest], attrs).result


def _for_groups(build: Builder, each: Value, groups: int) -> Value:
    """The scales, or zero points, of the channels of one group as those of all."""
    return each if groups == 1 else build.constant(np.tile(each.data, groups), each.name)


def _turned(w: Array, groups: int) -> Array:
    """w [C, P, *K] as [groups * P, C / groups, *K], each kernel from its end to its beginning."""
    channels, wide, *kernel = w.shape
    apart = w.reshape(groups, channels // groups, wide, *kernel).swapaxes(1, 2)
    turned = np.flip(apart, tuple(range(3, apart.ndim)))
    return np.ascontiguousarray(turned.reshape(groups * wide, channels // groups, *kernel))
