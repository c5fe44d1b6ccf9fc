"""What a graph costs on a described chip, by its tables [memory] and [throughput]: at least so many cycles.

A node takes as long as its products, its elements or the bytes of its weights need, whichever is most; what the tables
do not say takes no time. Stages that follow accumulators directly are part of them, as in all accelerators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from qgraph.description.description import Description, Unsaid
from qgraph.interpreter.cost import NodeCost, cost
from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ir.types import element_count


def estimate(description: Description, graph: Graph) -> Mapping[str, str]:
    """Lines for the report: what is needed, and what there is."""
    found = cost(graph)
    lines = {}
    for key, word, needed in (
        ("weight_bytes", "weights in memory", _stored(graph, description)),
        ("activation_bytes", "activations in memory", found.peak_bytes),
    ):
        there = _said(description, f"memory.{key}")
        if there:
            fits = "fit" if needed <= there else "DO NOT FIT"
            lines[word] = f"{needed:,} of {there:,.0f} bytes: {fits}"
    cycles = sum(_cycles(description, each) for each in found.nodes)
    if cycles:
        clock = _said(description, "throughput.clock_mhz")
        time = f", {cycles / clock / 1e3:,.3f} ms at {clock:g} MHz" if clock else ""
        lines["cycles, at least"] = f"{cycles:,}{time}"
    return lines


def _said(description: Description, key: str) -> float:
    """A number of the tables; 0 where it is not said."""
    try:
        return float(description.get(key) or 0)
    except Unsaid:
        return 0.0


def _stored(graph: Graph, description: Description) -> int:
    """Bytes of weights, as many bits each as the chip has."""
    bits = int(str(description.get("weight.storage"))[1:])
    weights = {value for node in graph.nodes for value in weights_of(node)}
    return sum(-(-element_count(value.type.shape) * bits // 8) for value in weights)


def weights_of(node: Node) -> list[Value]:
    """The weights that a node reads."""
    return [node.operand(place) for place in op_def(node.op).operand_indices("weight")]


def _cycles(description: Description, each: NodeCost) -> int:
    node = each.node
    fused = node.op == "npu.stages" and node.operand(0).producer is not None and _adds_up(node.operand(0).producer)
    elements = 0 if fused or each.macs or node.op == "npu.reshape" else element_count(node.results[0].type.shape)
    needs = (
        (each.macs, "throughput.macs_per_cycle"),
        (elements, "throughput.elements_per_cycle"),
        (each.weight_bytes, "memory.bytes_per_cycle"),
    )
    rates = ((needed, _said(description, key)) for needed, key in needs)
    return max(math.ceil(needed / rate) if rate else 0 for needed, rate in rates)


def _adds_up(node: Node | None) -> bool:
    return node is not None and hasattr(op_def(node.op).cls, "accumulate")
