"""Compute what is constant, drop what is not used, and remove ops that do nothing.

    %1 = nn.reshape(%x) {shape=[-1,4]}     where %x is f32[N,4] already        ->  %x
    %1 = nn.transpose(%x) {perm=[0,1]}                                         ->  %x
    %1 = nn.pad(%x) {pads=[0,0,0,0]}                                           ->  %x
    %1 = nn.add(@a, @b)                                                        ->  @folded
    %2 = nn.relu(nn.relu(%x))                                                  ->  nn.relu(%x)

Dropout and batch normalization stay: they act in training. Inputs of the graph stay, used or not. Exact bit for bit.
"""

from __future__ import annotations

from qgraph.ir import Builder, Graph, Node, op_def
from qgraph.passes.registry import graph_pass
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rewrite, rule

KEPT = ("quant.fake_quant",)
"""Ops of constants that are not computed: a fake-quantized weight is trained."""


@rule(pattern("nn.reshape|nn.transpose|nn.pad|nn.concat", "x", bind="node"))
def drop_identity(match: Match, build: Builder) -> Replacement:
    """Replace an op that leaves its operand as it is."""
    node, x = match.nodes["node"], match.values["x"]
    if node.op == "nn.transpose":
        perm = node.attrs["perm"]
        return x if perm == tuple(range(x.type.rank)) else Declined("the order of dimensions changes")
    if node.op == "nn.concat" and len(node.operands) > 1:
        return Declined("several values are joined")
    return x if x.type == node.result.type else Declined("the shape changes")


@rule(pattern("nn.relu|nn.relu6", pattern("nn.relu|nn.relu6", bind="inner"), bind="outer"))
def drop_repeated_relu(match: Match, build: Builder) -> Replacement:
    """Replace relu of relu, or of relu6."""
    inner, outer = match.nodes["inner"], match.nodes["outer"]
    if inner.op != outer.op and inner.op == "nn.relu":
        return Declined("relu6 of relu clamps further")
    return inner.result


def _is_constant(node: Node) -> bool:
    return node.op not in KEPT and len(node.results) == 1 and all(value.is_constant for value in node.inputs)


@graph_pass
def canonicalize(graph: Graph) -> None:
    for node in graph.nodes:
        if _is_constant(node):
            (data,) = op_def(node.op).evaluate(node, [None if v is None else v.data for v in node.operands])
            folded = graph.add_constant(data.astype(node.result.type.numpy), f"{node.inputs[0].name}.folded")
            graph.replace_uses(node.result, folded)
    drop_dead_code(graph)
    rewrite(graph, [drop_identity, drop_repeated_relu])
    drop_dead_code(graph)


def drop_dead_code(graph: Graph) -> None:
    """Erase nodes whose results nobody reads, and unused constants."""
    for node in reversed(list(graph.nodes)):
        if not any(value.use_count for value in node.results):
            graph.erase(node)
    graph.drop_unused_constants()
