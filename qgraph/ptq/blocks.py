"""Blocks of a network: what lies between two values through which everything goes.

    %1 = quant.fake_quant(...)         # everything goes through here
    %2 = nn.conv(%1, ...)        \
    %3 = quant.fake_quant(%2)     |    a residual block: two values are alive within
    %4 = nn.conv(%3, ...)         |
    %5 = nn.add(%1, %4)          /
    %6 = quant.fake_quant(%5)          # and here

So a residual block is one, and so is an attention with its shortcut; of a plain chain each layer is a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qgraph.ir import Graph, Node, Value
from qgraph.ops.quant import unquantized
from qgraph.passes.rules.layer_scaling import LAYERS


@dataclass(frozen=True)
class Block:
    """Nodes in their order, parameters' included, and the value that they are there for, before it is rounded."""

    nodes: tuple[Node, ...]
    result: Value

    @property
    def first(self) -> Node:
        """The first node that reads what goes into the block."""
        return next(node for node in self.nodes if not _is_parameter(node))

    @property
    def sources(self) -> list[Value]:
        """What the block is computed from: what everything goes through, then inputs of the graph."""
        read = {value for node in self.nodes for value in node.inputs if not value.is_constant}
        graph = self.first.graph
        through = [value for value in read if value.producer is not None and value.producer not in self.nodes]
        return through + [value for value in graph.inputs if value in read]

    @property
    def layers(self) -> list[Node]:
        """The layers with fake-quantized weights."""
        return [node for node in self.nodes if _is_rounded_layer(node)]


def blocks(graph: Graph) -> Iterator[Block]:
    """The blocks of a fake-quantized graph that have layers, in their order.

    The graph's inputs may be read anywhere; what is made of parameters alone belongs to the blocks that read it.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    alive: set[Value] = set()
    left = {value: value.use_count for node in graph.nodes for value in node.results}
    part: list[Node] = []
    for node in graph.nodes:
        if _is_parameter(node):
            continue
        for value in node.inputs:
            if value in alive:
                left[value] -= 1
        part.append(node)
        alive = {value for value in (*alive, *node.results) if left[value] > 0 or value.is_output}
        if node.op == "quant.fake_quant" and alive == {node.result}:
            yield from _block(part[:-1], node.operand(0), order)
            part = []
    if part:
        yield from _block(part, part[-1].result, order)


def _block(part: list[Node], result: Value, order: Mapping[Node, int]) -> Iterator[Block]:
    if result.producer not in part or not any(map(_is_rounded_layer, part)):
        return
    found = {*part, *(parameter for node in part for parameter in _parameters_of(node))}
    yield Block(tuple(sorted(found, key=order.__getitem__)), result)


def _parameters_of(node: Node) -> Iterator[Node]:
    """The nodes that make its parameters."""
    for value in node.inputs:
        if value.producer is not None and _is_parameter(value.producer):
            yield from _parameters_of(value.producer)
            yield value.producer


def _is_parameter(node: Node) -> bool:
    """Whether a node reads parameters alone."""
    return all(
        value.is_constant or (value.producer is not None and _is_parameter(value.producer)) for value in node.inputs
    )


def _is_rounded_layer(node: Node) -> bool:
    return node.op in LAYERS and unquantized(node.operand(1)) is not node.operand(1)
