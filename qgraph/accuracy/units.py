"""What of a fake-quantized graph is looked at as one: an op, its parameters' grids, and the grid of its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
        """The fake-quantizations of weights among its parameters: not of biases, nor of constants among activations."""
        if self.node is None:
            return ()
        spec_of = op_def(self.node.op).spec_of
        read = {
            value for i, value in enumerate(self.node.operands) if value is not None and spec_of(i).role == "weight"
        }
        return tuple(each for each in self.parameters if each.op == "quant.fake_quant" and each.result in read)

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


def names_of(units: Sequence[Unit], texts: Mapping[Value, str]) -> dict[Unit, str]:
    """What the user calls each: its path, an input's name, or the source line; and the value, as the text has it, where
    that is no name of one alone."""
    called = {unit: _called(unit) for unit in units}
    often = Counter(called.values())
    return {
        unit: word if word and often[word] == 1 else f"{word} {texts[unit.value]}".strip()
        for unit, word in called.items()
    }


def _called(unit: Unit) -> str:
    if unit.path or unit.op == "input":
        return unit.path or unit.value.name
    node = unit.node or unit.mark
    lines = [origin.readable for origin in node.origins] if node is not None else []
    return lines[-1] if lines else ""
