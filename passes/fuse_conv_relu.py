"""Fuse an activation into the op that feeds it: a layer, add, sub, mul or batch normalization.

    %1 = nn.conv(%x, @w) {activation="none"}      ->   %1 = nn.conv(%x, @w) {activation="relu"}
    %2 = nn.relu(%1)

`activations` says which an op may carry after it: relu and relu6, unless more are asked for
("relu,relu6,clamp,hard_swish" are all). A clamp is carried as `activation="clamp", clamp=[low,high]`. Two clamps become
one.

Declines when the result before the activation has another use, or the op carries an activation that does not go
together with it. Exact bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from qgraph.ir import Attr, Builder, Graph, Node
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rewriter import Declined, Match, Replacement, Rule, pattern, rewrite, rule
from qgraph.passes.rules.clamps import (
    CARRIERS,
    CLAMPS,
    carried_bounds,
    check_words,
    clamp_attrs,
    clamped_bounds,
    node_bounds,
)


def _fused(op: Node, activation: Node) -> dict[str, Attr] | None:
    """The attributes for the activation that the op carries and the node behind it; None where no one says both."""
    carried = carried_bounds(op.attrs)
    if activation.op != "nn.hard_swish":
        return None if carried is None else clamp_attrs(clamped_bounds(carried, node_bounds(activation)))
    return {**NO_ACTIVATION, "activation": "hard_swish"} if op.attrs["activation"] == "none" else None


def fuse(allowed: Sequence[str]) -> Rule:
    """The rule that lets ops carry these activations."""

    @rule(pattern(f"{CLAMPS}|nn.hard_swish", pattern(CARRIERS, bind="op"), bind="activation"))
    def fuse(match: Match, build: Builder) -> Replacement:
        op, activation = match.nodes["op"], match.nodes["activation"]
        if not op.result.has_one_use:
            return Declined("the result before the activation is used elsewhere too")
        attrs = _fused(op, activation)
        if attrs is None:
            return Declined(f"{op.op} carries the activation {op.attrs['activation']} already")
        if attrs["activation"] not in ("none", *allowed):
            return Declined(f"the activation {attrs['activation']} is not among activations={','.join(allowed)}")
        return build.node(op.op, op.operands, {**op.attrs, **attrs}).result

    return fuse


@graph_pass(exact="bits", needs={"layout": "NCHW"})
def fuse_conv_relu(graph: Graph, activations: tuple[str, ...] = ("relu", "relu6")) -> None:
    check_words(activations)
    rewrite(graph, [fuse(activations)])
