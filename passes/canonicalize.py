"""Compute what is constant, drop what is not used, and remove ops that do nothing.

    %1 = nn.add(@a, @b)                                                        ->  @a.folded
    %1 = nn.reshape(%x) {shape=[-1,4]}     where %x is f32[N,4] already        ->  %x
    %2 = nn.relu(nn.relu(%x))                                                  ->  nn.relu(%x)

This is `fold-constants`, `drop-dead-code` and `simplify` in one, before training: dropout and batch normalization stay,
and so do sums with zeros and products with ones that have dimensions, which are parameters. Inputs of the graph stay,
used or not. Exact bit for bit, but for the sign of a zero (see `simplify`).
"""

from __future__ import annotations

from qgraph.ir import Graph
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_constants import compute_constants
from qgraph.passes.rewriter import rewrite
from qgraph.passes.simplify import KEEPING_PARAMETERS


@graph_pass(exact="bits")
def canonicalize(graph: Graph) -> None:
    compute_constants(graph)
    erase_dead_code(graph)
    if rewrite(graph, KEEPING_PARAMETERS):
        compute_constants(graph)  # of what is a constant only now
    erase_dead_code(graph)
