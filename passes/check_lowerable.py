"""Refuse a float graph with ops that the target cannot lower, all of them at once, before anybody trains it.

    %1 = nn.hard_sigmoid(%x)   ->   LoweringError: litert cannot lower nn.hard_sigmoid

With `fallback=float` only those are refused that the target cannot hold in float either. The graph stays as it is. What
depends on scales is known when they are: `lower` checks it.
"""

from __future__ import annotations

from qgraph import targets
from qgraph.errors import LoweringError
from qgraph.ir import Builder, Graph, Node
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_batchnorm import fold_batchnorm
from qgraph.passes.lower import check_fallback, in_layout
from qgraph.passes.rewriter import Declined, Match
from qgraph.passes.ways import chosen_ways
from qgraph.targets.correspondence import Refusal
from qgraph.targets.lowering import choose, combined, fail, illegal
from qgraph.targets.target import Target

KEEP = "keep it in float: prepare(..., fallback='float')"
KNOWN = "trace it for known sizes: without dynamic_dims"


@graph_pass(exact="bits", needs={"level": "float", "layout": "NCHW"})
def check_lowerable(graph: Graph, target: str, fallback: str | None = None) -> None:
    chosen = targets.get(target)
    check_fallback(fallback, chosen)
    folded = fold_batchnorm(graph)
    refused = _refused(folded, chosen, in_float=False)
    if not refused:
        return
    left = [node for node, _ in _refused(folded, chosen, in_float=True)]
    keeps = not fallback and all(_undone(node, folded, chosen, in_float=True) == "" for node in left)
    errors = [_error(node, why, folded, chosen, keeps) for node, why in refused if not fallback or node in left]
    if errors:
        raise combined(errors, f"{target} cannot lower")


def _error(node: Node, why: Refusal, graph: Graph, target: Target, keeps: bool) -> LoweringError:
    """The error of one node; `keeps`: whether fallback=float would do."""
    undone = _undone(node, graph, target) if why.reason == f"{target.name} cannot lower {node.op}" else None
    help = why.help if undone is None else KNOWN if _is_open(node) else ""
    said = [each for each in (help or (why.help if not keeps else ""), KEEP if keeps else "") if each]
    return fail(node, f"{why.reason}: {undone}" if undone else why.reason, ", or ".join(said))


def _is_open(node: Node) -> bool:
    """Whether a size behind the batch is open."""
    return any(isinstance(size, str) for value in (*node.inputs, *node.results) for size in value.type.shape[1:])


def _undone(node: Node, graph: Graph, target: Target, in_float: bool = False) -> str | None:
    """Why the way that writes a node by ops that the target has, or keeps `in_float`, declines; "" where it does not,
    None where there is none."""
    way = chosen_ways(target.offered | (target.kept_in_float if in_float else set())).get(node.op)
    if way is None:
        return None
    copy = graph.clone()
    twin = dict(zip(graph.nodes, copy.nodes, strict=True))[node]
    made = way.rewrite(Match(twin), Builder(copy, twin, twin.origins))
    return made.reason if isinstance(made, Declined) else ""


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
