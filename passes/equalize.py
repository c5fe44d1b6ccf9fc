"""Scale the channels between two layers so that the weights on both sides have ranges of one size.

    %1 = nn.conv(%x, @w1, @b1)                 w1.folded = w1 / s,  b1.folded = b1 / s     for each channel of %1
    %2 = nn.relu(%1)                     ->
    %3 = nn.conv(%2, @w2, @b2)                 w2.folded = w2 * s                          s = sqrt(r1 * r2) / r2

r1 and r2 are the largest magnitudes that a channel's weights have in w1, which makes it, and in w2, which reads it.
One scale for all of a weight, or for all channels of an activation, then serves each channel as well as the others.
Between the layers may stand what a positive factor passes through: relu, leaky_relu, prelu, pools, means, resizing,
dropout. It is repeated along chains of layers until nothing moves, since a layer in the middle has both sides. A
channel whose weights are all zero on one side stays as it is.

Batch normalizations must be folded before, and relu6, which stops a factor, may be made relu (the cookbook has a pass
for that). Declines where what is between is read elsewhere, and where a weight is shared or computed. Exact in real
arithmetic.
Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qgraph.ir import Array, Builder, Graph, Node, Value, op_def
from qgraph.ir.trained import keeping_trained
from qgraph.passes.engine.log import current_log
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rules.layer_scaling import (
    LAYERS,
    bias_constant,
    channel_axis,
    folded_weight,
    largest_inputs,
    largest_outputs,
    scaled_inputs,
    scaled_outputs,
)

ROUNDS = 50
"""At most so often all pairs are equalized."""
SETTLED = 1e-3
"""Nothing moves where all factors are as near to 1."""
CARRIED = ("none", "relu")
"""Activations of a layer that a positive factor passes through."""


@dataclass(frozen=True)
class Pair:
    """A layer and the one that reads its channels."""

    first: Node
    second: Node


@graph_pass(exact="real", needs={"level": "float", "layout": "NCHW"})
def equalize(graph: Graph) -> None:
    found = [pair for node in graph.nodes if (pair := _pair(node)) is not None]
    data = {node: [value.data for value in node.inputs[1:]] for pair in found for node in (pair.first, pair.second)}
    moved: dict[Node, None] = {}
    for _ in range(ROUNDS):
        moving = [pair for pair in found if _equalize(pair, data)]
        if not moving:
            break
        moved.update(dict.fromkeys(layer for pair in moving for layer in (pair.first, pair.second)))
    with keeping_trained(graph):
        for layer in moved:
            weight, *bias = data[layer]
            build = Builder(graph, layer, layer.origins)
            w, b = layer.operand(1), layer.operands[2] if bias else None
            made = [folded_weight(build, weight, w), *(bias_constant(build, each, w, b) for each in bias)]
            graph.set_operands(layer, [layer.operand(0), *made, *layer.operands[2 + len(bias) :]])


def _pair(first: Node) -> Pair | None:
    """The pair that a layer begins; None, which the log explains, where it begins none."""
    if first.op not in LAYERS:
        return None
    x, axis = first.result, channel_axis(first)
    while True:
        obstacle = _obstacle(x)
        user = x.users[0] if not obstacle else first
        if not obstacle and user.op in LAYERS:
            obstacle = _unfit(first, user, axis)
            if not obstacle:
                return Pair(first, user)
        elif not obstacle and not op_def(user.op).traits.homogeneous:
            obstacle = f"a factor does not pass through {user.op}"
        if obstacle:
            current_log().decline("equalize", first, obstacle)
            return None
        axis -= _dropped_before(user, axis)
        x = user.result


def _obstacle(x: Value) -> str:
    if not x.has_one_use or x.is_output:
        return f"{x} is returned, or read elsewhere too"
    carried = x.producer.attrs.get("activation", "none") if x.producer is not None else "none"
    return "" if carried in CARRIED else f"a factor does not pass through the activation {carried}"


def _unfit(first: Node, second: Node, axis: int) -> str:
    """Why two layers are no pair; "" where they are."""
    parameters = [value for node in (first, second) for value in node.inputs[1:]]
    if channel_axis(second) != axis:
        return f"its channels are dimension {axis}, {second.op} takes dimension {channel_axis(second)}"
    if not all(value.is_constant and value.use_count == 1 for value in parameters):
        return "a weight or bias is computed, or shared"
    return ""


def _dropped_before(node: Node, axis: int) -> int:
    """How many dimensions before the channels a node takes away."""
    return sum(each < axis for each in node.attrs["axes"]) if node.attrs.get("keepdims") is False else 0


def _equalize(pair: Pair, data: dict[Node, list[Array]]) -> bool:
    """Bring the two sides of one pair to ranges of one size; whether they were not."""
    first, second = data[pair.first], data[pair.second]
    given, taken = largest_outputs(pair.first, first[0]), largest_inputs(pair.second, second[0])
    usable = (given > 0) & (taken > 0)
    factor = np.ones_like(given)
    factor[usable] = np.sqrt(given[usable] / taken[usable])
    if np.abs(np.log(factor)).max() < SETTLED:
        return False
    first[0] = scaled_outputs(pair.first, first[0], 1 / factor)
    first[1:] = [bias / factor for bias in first[1:]]
    second[0] = scaled_inputs(pair.second, second[0], factor)
    return True
