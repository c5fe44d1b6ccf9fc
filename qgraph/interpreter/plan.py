"""What does not change from one call of a graph to the next: bound ops, kernels, where arrays stand, when they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qgraph.errors import QGraphError
from qgraph.ir import Array, Graph, Node, Value, op_def
from qgraph.ir.op import row_major

Watch = Callable[[Value, Array], None]
"""Called with every result of a node, in order."""
Kernels = Mapping[str, Callable[..., Any]]
"""Ops that a target computes otherwise than their definitions do."""


def kernels_of(graph: Graph) -> Kernels:
    """The kernels of an integer graph's target, as the release has them that the metadata names."""
    if not graph.target or graph.level != "integer":
        return {}
    from qgraph import targets

    return targets.of(graph).kernels_at(graph.metadata.get("release", ""))


class Step:
    """A node, bound to what computes it."""

    __slots__ = ("_compute", "_floats", "_grouped", "facts", "node")

    def __init__(self, node: Node, kernels: Kernels) -> None:
        definition = op_def(node.op)
        view, kernel = definition.view(node), kernels.get(node.op)
        self.node = node
        self.facts = facts_of(node)
        self._compute = view.evaluate if kernel is None else lambda *operands: kernel(view, *operands)
        plain = len(node.operands) == len(definition.operands) and not definition.is_variadic
        self._grouped = None if plain else definition.grouped
        self._floats = kernel is None and any(value.type.is_float for value in node.inputs)

    def __call__(self, arrays: Sequence[Array | None]) -> tuple[Array, ...]:
        """The results for these arrays of the operands; errors carry node and origin."""
        if self._floats:
            arrays = [row_major(array) for array in arrays]
        try:
            made = self._compute(*(arrays if self._grouped is None else self._grouped(arrays)))
        except QGraphError as error:
            raise type(error)(error.what, where=(*error.where, *self.node.where), help=error.help) from None
        return made if isinstance(made, tuple) else (made,)


def facts_of(node: Node) -> tuple[object, ...]:
    """All on which a bound node depends, but for types that its operands' own producers have."""
    return node.op, node.operands, dict(node.attrs), *[value.type for value in node.results]


class Plan:
    """A graph as a list of steps over numbered places: place 0 has what is absent, the next the constants."""

    def __init__(self, graph: Graph) -> None:
        kernels = kernels_of(graph)
        self._given = _given(graph)
        read = dict.fromkeys(value for node in graph.nodes for value in node.inputs) | dict.fromkeys(graph.outputs)
        self._constants = [(value, value.type, value.data) for value in read if value.is_constant]
        self._steps = [Step(node, kernels) for node in graph.nodes]
        self._arrays: list[Array | None] = [None, *[data for _, _, data in self._constants]]
        places: dict[Value | None, int] = {None: 0}
        for value in (*[value for value, _, _ in self._constants], *graph.inputs):
            places[value] = len(places)
        for node in graph.nodes:
            for value in node.results:
                places[value] = len(places)
        self._inputs = [(value.name, places[value]) for value in graph.inputs]
        self._outputs = [places[value] for value in graph.outputs]
        self._takes = [[places[value] for value in node.operands] for node in graph.nodes]
        self._gives = [[places[value] for value in node.results] for node in graph.nodes]
        self._frees = list(self._last_uses(len(self._constants)))[::-1]
        self._room = [None] * (len(places) - len(self._arrays))

    def _last_uses(self, constants: int) -> Iterator[list[int]]:
        """For each step, from the last one back, the places that nobody reads after it."""
        needed = {*self._outputs, *range(constants + 1)}
        for takes, gives in zip(self._takes[::-1], self._gives[::-1], strict=True):
            free = {*takes, *gives} - needed
            yield sorted(free)
            needed |= free

    def is_of(self, graph: Graph) -> bool:
        """Whether the graph is still the one that was planned."""
        return (
            self._given == _given(graph)
            and all(value.type is type and value._data is data for value, type, data in self._constants)
            and len(self._steps) == len(graph)
            and all(
                step.node is node and step.facts == facts_of(node)
                for step, node in zip(self._steps, graph.nodes, strict=True)
            )
        )

    def run(self, inputs: Mapping[str, Array], watch: Watch | None = None) -> list[Array]:
        """The outputs for prepared inputs, by name."""
        arrays: list[Any] = [*self._arrays, *self._room]
        for name, place in self._inputs:
            arrays[place] = inputs[name]
        for step, takes, gives, frees in zip(self._steps, self._takes, self._gives, self._frees, strict=True):
            made = step([arrays[place] for place in takes])
            for place, array in zip(gives, made, strict=True):
                arrays[place] = array
            if watch is not None:
                for value, array in zip(step.node.results, made, strict=True):
                    watch(value, array)
            for place in frees:
                arrays[place] = None
        return [arrays[place] for place in self._outputs]


def _given(graph: Graph) -> tuple[object, ...]:
    """What a plan depends on beside nodes and constants."""
    words = graph.level, graph.target, graph.metadata.get("release", "")
    inputs = [(value, value.name, value.type) for value in graph.inputs]
    return *words, inputs, [*graph.outputs]
