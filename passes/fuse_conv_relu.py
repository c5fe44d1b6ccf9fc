"""Fuse relu and relu6 into the op that feeds them: convolution, linear, add or batch normalization.

    %1 = nn.conv(%x, @w) {activation="none"}      ->   %1 = nn.conv(%x, @w) {activation="relu"}
    %2 = nn.relu(%1)

Declines when the result before the activation has another use. Exact bit for bit.
"""

from __future__ import annotations

from qgraph.ir import Builder, Graph
from qgraph.passes.registry import graph_pass
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rewrite, rule

FUSED = {
    ("none", "relu"): "relu",
    ("none", "relu6"): "relu6",
    ("relu", "relu"): "relu",
    ("relu", "relu6"): "relu6",
    ("relu6", "relu"): "relu6",
    ("relu6", "relu6"): "relu6",
}
"""(activation of the op, activation that follows) -> both in one."""


@rule(pattern("nn.relu|nn.relu6", pattern("nn.conv|nn.linear|nn.add|nn.batch_norm", bind="op"), bind="relu"))
def fuse(match: Match, build: Builder) -> Replacement:
    """Set the attribute `activation`."""
    op, relu = match.nodes["op"], match.nodes["relu"]
    if not op.result.has_one_use:
        return Declined("the result before the activation is used elsewhere too")
    fused = FUSED.get((str(op.attrs["activation"]), relu.op.removeprefix("nn.")))
    if fused is None:
        return Declined(f"{op.op} carries the activation {op.attrs['activation']} already")
    return build.node(op.op, op.operands, {**op.attrs, "activation": fused}).result


@graph_pass
def fuse_conv_relu(graph: Graph) -> None:
    rewrite(graph, [fuse])
