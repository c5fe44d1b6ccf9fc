"""What a graph costs for one example: multiply-accumulates, bytes of weights, bytes of activations."""

from __future__ import annotations

from dataclasses import dataclass

from qgraph.ir import Graph, Node, TensorType, Value, op_def
from qgraph.ir.types import NARROWER, element_count


@dataclass(frozen=True)
class NodeCost:
    """One node: multiply-accumulates of its products, bytes of its constants and of its results."""

    node: Node
    macs: int
    weight_bytes: int
    result_bytes: int


@dataclass(frozen=True)
class Cost:
    """All nodes, and the most bytes of activations that are alive at one time, in the graph's order."""

    nodes: tuple[NodeCost, ...]
    peak_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all products."""
        return sum(each.macs for each in self.nodes)

    @property
    def in_float(self) -> tuple[NodeCost, ...]:
        """The nodes of an integer graph that compute on floats: they stay in float between dequantize and quantize."""
        return tuple(each for each in self.nodes if _is_in_float(each.node))

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants, shared ones once."""
        constants = {value for each in self.nodes for value in each.node.inputs if value.is_constant}
        return sum(byte_size(value.type) for value in constants)


def cost(graph: Graph) -> Cost:
    """The cost of a graph; a symbolic size counts as 1."""
    nodes = tuple(
        NodeCost(
            node,
            macs(node),
            sum(byte_size(value.type) for value in node.inputs if value.is_constant),
            sum(byte_size(value.type) for value in node.results),
        )
        for node in graph.nodes
    )
    return Cost(nodes, _peak(graph))


def macs(node: Node) -> int:
    """Multiply-accumulates for one example: what the op's definition says by `macs`, else none."""
    view = op_def(node.op).view(node)
    return int(view.macs()) if hasattr(view, "macs") else 0


def _is_in_float(node: Node) -> bool:
    """Whether a node of an integer graph reads floats and makes floats."""
    if node.graph.level != "integer":
        return False
    values = [value for value in (*node.inputs, *node.results) if not value.is_constant]
    return all(value.type.is_float for value in values)


def byte_size(type: TensorType) -> int:
    """Bytes of one value; two 4-bit integers in a byte, one of 48 bits in six."""
    bits = int(type.dtype[1:]) if type.dtype in NARROWER else 8 * type.numpy.itemsize
    return -(-element_count(type.shape) * bits // 8)


def _peak(graph: Graph) -> int:
    """The most bytes of inputs and results that are needed at one time."""
    left: dict[Value, int] = {value: value.use_count for value in graph.inputs}
    alive = sum(byte_size(value.type) for value in graph.inputs)
    peak = alive
    for node in graph.nodes:
        left.update((value, value.use_count) for value in node.results)
        alive += sum(byte_size(value.type) for value in node.results)
        peak = max(peak, alive)
        for value in node.inputs:
            if value in left:
                left[value] -= 1
                alive -= byte_size(value.type) if not left[value] else 0
    return peak
