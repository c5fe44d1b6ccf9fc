"""The floats that calibration sees: a fake-quantized graph without rounding of activations, run on examples.

What runs it is the runtime of the graph's target, where it has one for floats (`Target.float_program`), the NumPy
interpreter else. The two differ in the last bit, by the order in which they add up: the ranges are those of the values
that were seen, and from there on nothing is a float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qgraph import targets
from qgraph.calibration.batches import is_open
from qgraph.interpreter.execute import execute
from qgraph.ir import Array, Graph, Node, Value, op_def
from qgraph.ops.quant import unquantized
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.strip_fake_quant import strip_fake_quant
from qgraph.targets.target import FloatProgram, Target

PART = 2**22
"""Bytes of values that are held at once, about: examples run in parts."""


class FloatValues:
    """The first operands of some nodes of a graph, whose live batch normalizations are folded."""

    def __init__(self, graph: Graph, readers: Sequence[Node]) -> None:
        places = {node: place for place, node in enumerate(graph.nodes)}
        program = graph.clone()
        nodes = list(program.nodes)
        self._seen = [_unrounded(nodes[places[reader]].operand(0)) for reader in readers]
        self._inputs = [value.name for value in program.inputs]
        self._is_open = is_open(program.inputs)
        self._made = list(dict.fromkeys(value for value in self._seen if value.producer is not None))
        program.set_outputs(self._made)
        self._run = (
            program_of(_without_rounding(program), targets.of(graph) if graph.target else None)
            if self._made
            else lambda feeds: []
        )

    def parts(self, chunk: Sequence[Array]) -> Iterator[list[Array | None]]:
        """What the nodes read in a chunk of examples, part after part where any number of them runs;
        a constant in the first part alone."""
        count = len(chunk[0]) if self._is_open else 1
        start, size = 0, 1 if self._is_open else count
        while start < count:
            feeds = dict(zip(self._inputs, chunk, strict=True))
            if self._is_open:
                feeds = {name: array[start : start + size] for name, array in feeds.items()}
            made = dict(zip(self._made, self._run(feeds), strict=True))
            yield [self._value(value, made, feeds, first=not start) for value in self._seen]
            start += size
            if start == 1:
                size = max(1, PART // max(1, sum(array.nbytes for array in made.values())))

    @staticmethod
    def _value(value: Value, made: Mapping[Value, Array], feeds: Mapping[str, Array], first: bool) -> Array | None:
        if value.is_constant:
            return value.data if first else None
        return made[value] if value in made else feeds[value.name]


def _unrounded(value: Value) -> Value:
    """What was fake-quantized, once or to one grid after the other."""
    while unquantized(value) is not value:
        value = unquantized(value)
    return value


def _without_rounding(graph: Graph) -> Graph:
    """The float graph of a fake-quantized one: weights are rounded, all else is not."""
    for node in list(graph.find("quant.fake_quant")):
        if is_weight(node):
            arrays = [None if value is None else value.data for value in node.operands]
            rounded = op_def(node.op).evaluate(node, arrays)[0]
            graph.replace_uses(node.result, graph.add_constant(rounded, f"{node.operand(0).name}.rounded"))
    erase_dead_code(graph)
    return strip_fake_quant(graph)


def is_weight(mark: Node) -> bool:
    """Whether a fake-quantization's scale follows from a constant, and not from what is observed: of nothing else that
    has it, as where a constant joins the grid of activations."""
    scale = mark.operand(1)
    marks = [user for user in scale.users if user.op == "quant.fake_quant" and user.operand(1) is scale]
    return bool(mark.attrs["symmetric"]) and all(user.operand(0).is_constant for user in marks)


def program_of(graph: Graph, target: Target | None) -> FloatProgram:
    """What gives the outputs of a float graph: the runtime of the target, where it is installed and has all ops, or
    the interpreter."""
    compiled = target.float_program if target else None
    made = None if compiled is None else compiled(graph)
    return made or (lambda feeds: execute(graph, feeds))
