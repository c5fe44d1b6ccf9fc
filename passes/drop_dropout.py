"""Remove dropout: outside of training it is the identity.

    %1 = nn.dropout(%x) {p=0.5}   ->   %x

Exact bit for bit (at inference).
"""

from __future__ import annotations

from qgraph.ir import Builder, Graph
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rewriter import Match, Replacement, pattern, rewrite, rule


@rule(pattern("nn.dropout", "x"))
def drop(match: Match, build: Builder) -> Replacement:
    """Replace dropout by its operand."""
    return match.values["x"]


@rule(pattern("nn.detach", "x"))
def drop_detach(match: Match, build: Builder) -> Replacement:
    """Replace by its operand what stops gradients: where nothing is trained any more."""
    return match.values["x"]


@graph_pass(exact="bits")
def drop_dropout(graph: Graph) -> None:
    rewrite(graph, [drop])
