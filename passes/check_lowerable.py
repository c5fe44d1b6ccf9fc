"""Refuse a float graph with ops that the target cannot lower, all of them at once, before anybody trains it.

    %1 = nn.hard_sigmoid(%x)   ->   LoweringError: litert cannot lower nn.hard_sigmoid

With `fallback=float` only those are refused that the target cannot hold in float either. The graph stays as it is. What
depends on scales is known when they are: `lower` checks it.
"""

from __future__ import annotations

from qgraph import targets
from qgraph.ir import Graph, Node
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_batchnorm import fold_batchnorm
from qgraph.passes.lower import check_fallback, in_layout
from qgraph.targets.correspondence import Refusal
from qgraph.targets.lowering import choose, combined, fail, illegal
from qgraph.targets.target import Target

KEEP = "or keep it in float: prepare(..., fallback='float')"


@graph_pass(exact="bits", needs={"level": "float", "layout": "NCHW"})
def check_lowerable(graph: Graph, target: str, fallback: str | None = None) -> None:
    chosen = targets.get(target)
    check_fallback(fallback, chosen)
    folded = fold_batchnorm(graph)
    refused = _refused(folded, chosen, in_float=False)
    if not refused:
        return
    left = _refused(folded, chosen, in_float=True)
    help = "" if left else KEEP
    errors = [
        fail(node, why.reason, ", ".join(filter(None, (why.help, help))))
        for node, why in (left if fallback else refused)
    ]
    if errors:
        raise combined(errors, f"{target} cannot lower")


def _refused(graph: Graph, target: Target, in_float: bool) -> list[tuple[Node, Refusal]]:
    """The nodes that the target cannot lower, nor keep `in_float`, and why; the graph stays as it is."""
    copy = graph.clone()
    own = dict(zip(copy.nodes, graph.nodes, strict=True))
    laid_out, named = in_layout(copy, target)
    origins = ((named.get(node, node), node, why) for node, why in illegal(laid_out, target))
    found = [(own.get(name, name), node, why) for name, node, why in origins]
    if not in_float:
        return [(name, why) for name, _, why in found]
    judged = [(name, why, choose(node, target, in_float=True)) for name, node, why in found]
    return [(name, why) for name, why, row in judged if isinstance(row, Refusal)]
