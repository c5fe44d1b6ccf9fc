"""Compute the nodes whose operands are all constants.

    %1 = nn.add(@a, @b)     ->   @a.folded = a + b

A fake-quantized constant stays as it is, because its scale is trained; so do dropout and batch normalization, which
act in training, and integer graphs, whose arithmetic is the target's. Computed by the op's definition in NumPy, as the
interpreter does. Exact bit for bit. What parameters make stays tied to them in training (`qgraph.ir.expressions`).
"""

from __future__ import annotations

from qgraph.ir import Graph, Node, op_def
from qgraph.ir.derived import derive
from qgraph.ir.trained import declare, declared, is_trained, source_name
from qgraph.passes.engine.registry import graph_pass


def folded_name(name: str) -> str:
    """The name of a constant that is made from another, `w.folded`; one that was folded already keeps one such ending.

    >>> folded_name("w"), folded_name("w.folded.2")
    ('w.folded', 'w.folded')
    """
    return f"{source_name(name)}.folded"


def _is_known(node: Node) -> bool:
    known = bool(node.inputs) and all(value.is_constant for value in node.inputs)
    return known and not op_def(node.op).traits.acts_in_training


def compute_constants(graph: Graph) -> None:
    """Edit the graph in place."""
    if graph.level == "integer":
        return
    said = declared(graph)
    trained: dict[str, bool] = {}
    for node in graph.nodes:
        if not _is_known(node):
            continue
        learned = [value for value in node.inputs if is_trained(value, said)]
        trained.update({value.name: True for value in learned})  # which no layer may read any more
        arrays = op_def(node.op).evaluate(node, [None if value is None else value.data for value in node.operands])
        for result, data in zip(node.results, arrays, strict=True):
            array = data.astype(result.type.numpy, copy=False)
            name = folded_name([*learned, *node.inputs][0].name)
            folded = graph.add_constant(array, name, result.type.quant)
            trained[folded.name] = bool(learned)
            if learned and len(node.results) == 1 and node.dialect == "nn":
                derive(graph, folded, node)
            graph.replace_uses(result, folded)
        graph.erase(node)
    graph.drop_unused_constants()
    declare(graph, trained)


@graph_pass(exact="bits")
def fold_constants(graph: Graph) -> None:
    compute_constants(graph)
