"""Drop choices by what no quantized value is: NaN, or infinite.

    %1 = nn.not_equal(%x, %x)                          (isnan)
    %2 = nn.where(%1, @number, %x)              ->     %x
    %3 = nn.equal(%x, @inf)
    %4 = nn.where(%3, @largest, %2)             ->     %x

So numbers that only stand in for these, 3.4e38 in torch's nan_to_num, widen no range in calibration. A value counts as
quantized if the target computes it on integers: what stays in float, and what moves that, keeps its choices. Declines
where the condition is of anything else, and where what is chosen is broadcast.

Not exact where the float graph meets NaN or infinity, which is the purpose.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from qgraph import targets
from qgraph.ir import Array, Builder, Graph, Node, Value, op_def
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.lower import check_fallback, float_nodes
from qgraph.passes.rewriter import Declined, Match, Replacement, Rewrite, pattern, rewrite, rule
from qgraph.passes.rules.islands import of_floats

COMPARISONS = ("nn.equal", "nn.not_equal", "nn.less", "nn.less_equal")
LOGIC = ("nn.logical_and", "nn.logical_or", "nn.logical_xor", "nn.logical_not")


@graph_pass(exact="no", needs={"level": "float", "layout": "NCHW"})
def drop_unreachable(graph: Graph, target: str, fallback: str | None = None) -> None:
    check_fallback(fallback, targets.get(target))
    if not graph.find("nn.where"):
        return
    chosen = targets.get(target)
    legal = chosen.kept_in_float.difference(chosen.legalize)  # others `legalize` writes by such
    refused = {node for node in float_nodes(graph, chosen) if node.op in legal} if fallback else set()
    floats = refused | of_floats(graph, chosen, refused, lambda node: False)
    rewrite(graph, [rule(pattern("nn.where", "condition", "a", "b", bind="node"))(_choosing(floats))])
    erase_dead_code(graph)


def _choosing(floats: Collection[Node]) -> Rewrite:
    def choose(match: Match, build: Builder) -> Replacement:
        holds = _known(match.values["condition"], floats)
        if holds is None:
            return Declined("the condition may hold or not")
        taken = match.values["a" if holds.all() else "b"]
        return taken if taken.type == match.root.result.type else Declined(f"{taken.type} is broadcast")

    return choose


def _known(condition: Value, floats: Collection[Node]) -> Array | None:
    """What a condition is for all finite numbers; None where that depends on them, or they may be infinite or NaN."""
    maker = condition.producer
    if maker is None or maker.op not in (*COMPARISONS, *LOGIC):
        return None
    if maker.op in LOGIC:
        parts = [_known(value, floats) for value in maker.inputs]
    else:
        parts = [_stand_in(value, floats) for value in maker.inputs]
        if all(part is not None and np.isfinite(part) for part in parts) and len({*maker.inputs}) > 1:
            return None
    if any(part is None for part in parts):
        return None
    (made,) = op_def(maker.op).evaluate(maker, parts)
    return np.asarray(made)


def _stand_in(value: Value, floats: Collection[Node]) -> Array | None:
    """A number for all that a value may be, beside infinity: infinity itself, or 0 for what is quantized."""
    if value.is_constant:
        ends = np.unique(value.data)
        return ends if len(ends) == 1 and np.isinf(ends).all() else None
    return np.zeros(1, np.float32) if value.type.is_float and _is_quantized(value, floats) else None


def _is_quantized(value: Value, floats: Collection[Node]) -> bool:
    """Whether a computed value is on integers, and so is what it may only have been moved from."""
    todo = [value]
    while todo:
        maker = todo.pop().producer
        if maker is None:
            continue
        if maker in floats:
            return False
        if op_def(maker.op).traits.moves_data:
            todo += [each for each in maker.inputs if not each.is_constant]
    return True
