"""Refuse a float graph with ops that the target cannot lower, all of them at once, before anybody trains it.

    %1 = nn.hard_sigmoid(%x)   ->   LoweringError: litert cannot lower nn.hard_sigmoid

The graph stays as it is. What depends on scales is known when they are: `lower` checks it.
"""

from __future__ import annotations

from qgraph import targets
from qgraph.ir import Graph
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_batchnorm import fold_batchnorm
from qgraph.passes.lower import in_layout
from qgraph.targets.lowering import combined, fail, illegal


@graph_pass(exact="bits", needs={"level": "float", "layout": "NCHW"})
def check_lowerable(graph: Graph, target: str) -> None:
    chosen = targets.get(target)
    laid_out, named = in_layout(fold_batchnorm(graph), chosen)
    errors = [fail(named.get(node, node), *refusal) for node, refusal in illegal(laid_out, chosen)]
    if errors:
        raise combined(errors, f"{target} cannot lower")
