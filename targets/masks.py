"""Masks: floats that leave out what they are added to, constants or made of conditions."""

from __future__ import annotations

from collections.abc import Collection

from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ops.quant import unquantized

OUT = -1e4
"""Numbers down from here stand for -inf where they are added to scores."""


def masks_of(graph: Graph) -> Collection[Value]:
    """The masks of a graph: constants with numbers next to -inf, and what is made of nothing but conditions, indices
    and constants, one of which has such."""
    reaches: dict[Value, bool | None] = {}  # whether such a number is among what makes a value; None: it is activations
    reaches.update((value, None if value.type.is_float else False) for value in graph.inputs)
    for node in graph.nodes:
        for value in node.inputs:
            if value.is_constant and value not in reaches:
                reaches[value] = value.type.is_float and bool(value.data.min(initial=0) <= OUT)
        made = _made(node, reaches)
        reaches.update((value, made if value.type.is_float else False) for value in node.results)
    return {value for value, out in reaches.items() if out}


def _made(node: Node, reaches: dict[Value, bool | None]) -> bool | None:
    traits = op_def(node.op).traits
    parts = [reaches[unquantized(value)] for value in node.inputs]
    if None in parts or not (traits.elementwise or traits.moves_data):
        return None
    return any(parts)
