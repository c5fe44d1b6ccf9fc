"""What of a fake-quantized graph is looked at as one: an op, its parameters' grids, and the grid of its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ops.quant import FAKE_QUANTS


@dataclass(frozen=True)
class Unit:
    """`node`: the op, None for an input of the graph and for a value that is brought to another grid; `mark`: the
    fake-quantization of its result, None where it stays in float; `parameters`: those of its constants."""

    node: Node | None
    mark: Node | None
    parameters: tuple[Node, ...]

    @property
    def value(self) -> Value:
        """The value before it is put on its grid."""
        if self.node is not None:
            return self.node.results[0] if self.mark is None else self.mark.operand(0)
        assert self.mark is not None
        return self.mark.operand(0)

    @property
    def weights(self) -> tuple[Node, ...]:
        """The fake-quantizations among its parameters that have a grid of their own."""
        return tuple(each for each in self.parameters if each.op == "quant.fake_quant")

    @property
    def op(self) -> str:
        """The op, "input" or "requantize"."""
        if self.node is not None:
            return self.node.op
        return "input" if self.value.producer is None else "requantize"

    @property
    def path(self) -> str:
        """The first module path among the origins that the node came from; "" where there is none."""
        node = self.node or self.mark
        paths = [origin.path for origin in node.origins if origin.path] if node is not None else []
        return paths[0] if paths and self.op != "input" else ""

    @property
    def channel_axis(self) -> int:
        """The dimension of the value that holds its channels."""
        rank = self.value.type.rank
        axis = op_def(self.node.op).channel_axis if self.node is not None else None
        return (axis if axis is not None else 1 if rank > 2 else -1) % max(rank, 1)


def units_of(graph: Graph) -> Iterator[Unit]:
    """The units of a folded graph, in its order; what only moves elements, and what stays in float, is none."""
    for value in graph.inputs:
        yield from (Unit(None, mark, ()) for mark in value.users if mark.op == "quant.fake_quant")
    for node in graph.nodes:
        if node.op == "quant.fake_quant":
            if not node.operand(0).is_constant:
                yield from (Unit(None, mark, ()) for mark in node.result.users if mark.op == "quant.fake_quant")
        elif node.op not in FAKE_QUANTS:
            yield from _of_node(node)


def _of_node(node: Node) -> Iterator[Unit]:
    makers = [value.producer for value in node.inputs if value.producer is not None]
    parameters = tuple(dict.fromkeys(each for each in makers if each.op in FAKE_QUANTS and each.operand(0).is_constant))
    marks = [mark for value in node.results for mark in value.users if mark.op == "quant.fake_quant"]
    if parameters or marks:
        yield Unit(node, marks[0] if marks else None, parameters)
    yield from (Unit(node, mark, ()) for mark in marks[1:])


def name_of(unit: Unit, texts: dict[Value, str]) -> str:
    """What the user calls it: its path, an input's name, or the source line and the value that the text has."""
    if unit.path:
        return unit.path
    if unit.op == "input":
        return unit.value.name
    node = unit.node or unit.mark
    lines = [origin.readable for origin in node.origins] if node is not None else []
    value = texts[unit.value]
    return f"{value} ({lines[-1]})" if lines else value
