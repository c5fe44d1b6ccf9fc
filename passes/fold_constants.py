"""Compute the nodes whose operands are all constants.

    %1 = nn.add(@a, @b)     ->   @a.folded = a + b

A fake-quantized constant stays as it is, because its scale is trained; so do dropout and batch normalization, which
act in training, and integer graphs, whose arithmetic is the target's. Computed by the op's definition in NumPy, as the
interpreter does. Exact bit for bit.
"""

from __future__ import annotations

import re

from qgraph.ir import Graph, Node, op_def
from qgraph.passes.engine.registry import graph_pass

_FOLDED = re.compile(r"\.folded(\.\d+)?$")


def folded_name(name: str) -> str:
    """The name of a constant that is made from another, `w.folded`; one that was folded already keeps one such ending.

    >>> folded_name("w"), folded_name("w.folded.2")
    ('w.folded', 'w.folded')
    """
    return f"{_FOLDED.sub('', name)}.folded"


def _is_known(node: Node) -> bool:
    known = bool(node.inputs) and all(value.is_constant for value in node.inputs)
    return known and not op_def(node.op).traits.acts_in_training


def compute_constants(graph: Graph) -> None:
    """Edit the graph in place."""
    if graph.level == "integer":
        return
    for node in graph.nodes:
        if not _is_known(node):
            continue
        arrays = op_def(node.op).evaluate(node, [None if value is None else value.data for value in node.operands])
        for result, data in zip(node.results, arrays, strict=True):
            array = data.astype(result.type.numpy, copy=False)
            folded = graph.add_constant(array, folded_name(node.inputs[0].name), result.type.quant)
            graph.replace_uses(result, folded)
        graph.erase(node)
    graph.drop_unused_constants()


@graph_pass(exact="bits")
def fold_constants(graph: Graph) -> None:
    compute_constants(graph)
