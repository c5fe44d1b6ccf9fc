"""Which layers may saturate on an x86 without VNNI, where the runtime adds pairs of u8 x s8 products in int16."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, Graph, Node, op_def
from qgraph.targets.onnxruntime.pair_safe import saturating_pairs


def saturating_nodes(graph: Graph) -> list[Node]:
    """The nodes of an `ort` graph whose weights let some input saturate; none: the file's bytes hold on every x86."""
    return [node for node in graph.nodes if _saturates(node)]


def _saturates(node: Node) -> bool:
    place = op_def(node.op).operand_index("weight")
    if place is None:
        return False
    x, w = node.operand(0), node.operand(place)
    if (x.type.dtype, w.type.dtype) != ("u8", "i8") or _is_depthwise(node):
        return False
    return not w.is_constant or bool(saturating_pairs(rows_of_pairs(w.data)).any())


def rows_of_pairs(weight: Array) -> Array:
    """Weight [O, I, *K] as rows [O, prod(K) * I] in the order in which pairs are multiplied: channels innermost."""
    return np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)


def _is_depthwise(node: Node) -> bool:
    """Whether the depthwise kernel runs, which multiplies no pairs: one input and one output channel a group."""
    if node.op != "ort.QLinearConv":
        return False
    out, per_group = node.operand(1).type.shape[:2]
    return int(str(node.attrs["group"])) == out and per_group == 1
