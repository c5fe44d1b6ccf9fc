"""Let the layer behind a relu take what its channels are always above.

    %1 = nn.batch_norm(%0, @g, @beta, @m, @v)           beta.folded = beta - c
    %2 = nn.relu(%1)                              ->
    %3 = nn.conv(%2, @w, @b)                            b.folded = b + sum of w * c            c = max(0, beta - 3 |g|)

Of a channel whose values lie at beta with a deviation of g, as a batch normalization leaves them, next to none lies
below c: there `relu(y) = relu(y - c) + c`. Its range, and so the scale for all channels, then needs no room for c.
Values between 0 and c, one in 740 of a normal distribution, become c.

Run before batch normalizations are folded, and before `equalize`: its factors leave what is absorbed the same.
Declines where what is between is read elsewhere, where the layer behind pads with zeros, which are not shifted, and
where a parameter is shared or computed.
Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1.3.
"""

from __future__ import annotations

import numpy as np

from qgraph.ir import Builder, Graph, Node, Value
from qgraph.ir.trained import keeping_trained
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_constants import folded_name
from qgraph.passes.rewriter import Declined, Match, pattern, rewrite, rule
from qgraph.passes.rules.layer_scaling import (
    LAYERS,
    bias_constant,
    channel_axis,
    obstacle_to_shift,
    shift_of_outputs,
)

DEVIATIONS = 3.0
"""So many deviations below the mean next to nothing lies."""
LEAST = 1e-4
"""Of a shift, which is not worth less than this part of it."""
BATCH_NORM = pattern("nn.batch_norm", "x", "@g", "@beta", "@m", "@v", uses=1, bind="bn")


@rule(pattern(LAYERS, pattern("nn.relu", BATCH_NORM, uses=1, bind="relu"), "@w", "@b?", bind="layer"))
def absorb(match: Match, build: Builder) -> Value | Declined:
    """The rule."""
    bn, layer, relu = match.nodes["bn"], match.nodes["layer"], match.nodes["relu"]
    obstacle = obstacle_to_shift(layer) or _obstacle(bn, layer)
    shift = np.maximum(bn.operand(2).data - DEVIATIONS * np.abs(bn.operand(1).data), 0)
    shift[shift < LEAST * np.abs(bn.operand(2).data)] = 0
    if obstacle or not shift.any():
        return Declined(obstacle or "no channel lies above 0 throughout")
    beta = build.constant((bn.operand(2).data - shift).astype(shift.dtype), folded_name(bn.operand(2).name))
    made = build.node("nn.batch_norm", [*bn.operands[:2], beta, *bn.operands[3:]], bn.attrs).result
    w, b = layer.operand(1), layer.operands[2] if len(layer.operands) > 2 else None
    more = shift_of_outputs(layer, w.data, shift)
    bias = bias_constant(build, more if b is None else b.data + more, w, b)
    return build.node(layer.op, [build.node("nn.relu", [made], relu.attrs).result, w, bias], layer.attrs).result


def _obstacle(bn: Node, layer: Node) -> str:
    """Why the channels of the two are not the same; "" where they are."""
    if channel_axis(layer) != 1:
        return f"its channels are dimension 1, {layer.op} takes dimension {channel_axis(layer)}"
    return "" if bn.operand(2).use_count == 1 else "a parameter is shared"


@graph_pass(exact="no", needs={"level": "float", "layout": "NCHW"})
def absorb_biases(graph: Graph) -> None:
    with keeping_trained(graph):
        rewrite(graph, [absorb])
        graph.drop_unused_constants()
