"""Copies of graphs that are the same, or differ in a few places, for tests of the diff."""

from __future__ import annotations

import dataclasses
import random

import numpy as np

from qgraph.ir import Graph, Node, QuantParams, Value


def strip(graph: Graph) -> Graph:
    """A copy without origins, names of results, and names of constants that mean anything."""
    copy = graph.clone()
    for node in copy.nodes:
        node.origins = ()
        for value in node.results:
            value.name = ""
    constants = list(copy.constants.values())
    copy.constants.clear()
    for number, value in enumerate(reversed(constants)):
        value.name = f"c{number}"
        copy.constants[value.name] = value
    return copy


def reordered(graph: Graph, seed: int) -> Graph:
    """A copy with its nodes in a random order in which every value is made before it is used."""
    chance = random.Random(seed)
    copy = Graph(graph.name, graph.level, graph.metadata)
    values: dict[Value | None, Value | None] = {None: None}
    values.update((value, copy.add_input(value.name, value.type)) for value in graph.inputs)
    for name, value in graph.constants.items():
        values[value] = copy.constants[name] = Value(value.type, name, data=value.data)
    waiting = list(graph.nodes)
    while waiting:
        node = chance.choice([node for node in waiting if all(value in values for value in node.operands)])
        waiting.remove(node)
        types, names = [v.type for v in node.results], [v.name for v in node.results]
        operands = [values[value] for value in node.operands]
        made = copy.insert(node.op, operands, node.attrs, types, origins=node.origins, names=names)
        values.update(zip(node.results, made.results, strict=True))
    copy.set_outputs([value for old in graph.outputs if (value := values[old]) is not None])
    return copy


def rescaled(node: Node, factor: float = 1.01) -> None:
    """Change the scale of a node's result."""
    quant = node.result.type.q
    scaled = QuantParams.of(np.float32(quant.scale[0] * factor), quant.zero_point[0])
    node.result.type = dataclasses.replace(node.result.type, quant=scaled)


def permuted(node: Node, axis: int) -> None:
    """Shift the slices of a node's weight along an axis by one."""
    weight = node.operand(1)
    data = np.ascontiguousarray(np.roll(weight.data, 1, axis))
    assert not np.array_equal(data, weight.data)
    other = node.graph.add_constant(data, weight.name, weight.type.quant)
    node.graph.set_operands(node, [other if value is weight else value for value in node.operands])


def dropped(node: Node) -> None:
    """Take a node of one operand out."""
    node.graph.replace_uses(node.result, node.operand(0))
    node.graph.erase(node)
