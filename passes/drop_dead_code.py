"""Erase nodes whose results nobody reads, and constants that nothing uses.

    %dead = nn.relu(%x)
    %1 = nn.relu6(%x)       ->   %1 = nn.relu6(%x)
    return %1

Inputs of the graph stay, used or not. Exact bit for bit.
"""

from __future__ import annotations

from qgraph.ir import Graph
from qgraph.passes.engine.registry import graph_pass


def erase_dead_code(graph: Graph) -> None:
    """Edit the graph in place."""
    for node in reversed(list(graph.nodes)):
        if not node.has_uses:
            graph.erase(node)
    graph.drop_unused_constants()


@graph_pass(exact="bits")
def drop_dead_code(graph: Graph) -> None:
    erase_dead_code(graph)
