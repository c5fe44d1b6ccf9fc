"""What a graph costs for one example: multiply-accumulates, bytes of weights, bytes of activations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qgraph.ir import Dim, Graph, Node, TensorType, Value

CHANNELS_LAST = ("litert", "nhwc")
"""Dialects whose spatial values have their channels at the end."""


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
    def weight_bytes(self) -> int:
        """Bytes of all constants, shared ones once."""
        constants = {value for each in self.nodes for value in each.node.inputs if value.is_constant}
        return sum(byte_size(value.type) for value in constants)


def cost(graph: Graph) -> Cost:
    """The cost of a graph; a symbolic size counts as 1."""
    nodes = tuple(
        NodeCost(
            node,
            _macs(node),
            sum(byte_size(value.type) for value in node.inputs if value.is_constant),
            sum(byte_size(value.type) for value in node.results),
        )
        for node in graph.nodes
    )
    return Cost(nodes, _peak(graph))


def byte_size(type: TensorType) -> int:
    """Bytes of one value; two 4-bit integers in a byte."""
    count = _count(type.shape)
    return -(-count // 2) if type.dtype == "i4" else count * type.numpy.itemsize


def _count(shape: Iterable[Dim]) -> int:
    return math.prod(1 if isinstance(size, str) else size for size in shape)


def _macs(node: Node) -> int:
    """Products of a layer with a weight: result elements times the weight's elements for one of them."""
    name = node.op.partition(".")[2].lower()
    out = node.results[0].type.shape
    if "matmul" in name:
        return _count(out) * _count(node.inputs[0].type.shape[-1:])
    if not (any(word in name for word in ("conv", "fully_connected", "gemm")) or name.startswith("linear")):
        return 0
    w = next((value for value in node.inputs[1:] if value.type.rank >= 2), None)
    if w is None:
        return 0
    elements = _count(w.type.shape)
    if "transpose" in name:  # each element of the input meets all of its channel's weights
        x = next(value for value in node.inputs if value is not w and value.type.rank >= 3)
        return _count(x.type.shape) * elements // _channels(x.type, node)
    return _count(out) * elements // _channels(node.results[0].type, node)


def _channels(type: TensorType, node: Node) -> int:
    last = node.dialect in CHANNELS_LAST or type.rank < 3
    return max(_count(type.shape[-1:] if last else type.shape[1:2]), 1)


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
