"""Many steps of a graph with states: what its outputs give, its inputs take at the next step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from qgraph.errors import InputError
from qgraph.interpreter.execute import execute
from qgraph.interpreter.inputs import Inputs, Layout, by_name, prepare_inputs, split_batches
from qgraph.interpreter.run_graph import named_outputs
from qgraph.ir import Array, Graph, data_inputs, data_outputs, states_of
from qgraph.ir.types import Dim


class Stream:
    """Runs a graph with states, such as a wake-word model, one step after the other.

    >>> from qgraph.ir import parse
    >>> graph = parse('''graph @sum level=float states="{\\\\"sum\\\\": \\\\"next\\\\"}" (%x: f32[1], %sum: f32[1]) {
    ...   %1: f32[1] = nn.add(%x, %sum)
    ...   %2: f32[1] = nn.relu(%1)
    ...   return positive=%2, next=%1
    ... }''')
    >>> stream = Stream(graph)
    >>> [float(stream.step(np.float32([x]))[0]) for x in (1, -3, 4)]
    [1.0, 0.0, 2.0]
    >>> stream.reset()
    >>> stream.steps(np.float32([1, -3, 4]))
    array([1., 0., 2.], dtype=float32)
    """

    def __init__(self, graph: Graph, *, dequantize: bool = False, layout: Layout | None = None) -> None:
        """A stream before its first step; `dequantize` and `layout` are those of `qgraph.run`."""
        self.graph, self.dequantize, self.layout = graph, dequantize, layout
        self._states, self._results = states_of(graph), data_outputs(graph)
        self.states: dict[str, Array] = {}
        """What the next step takes, by input name, as the graph stores it; without a name: its first value."""

    def step(self, *inputs: Inputs) -> Array | dict[str, Array]:
        """The results of the next step for these inputs, as `qgraph.run` takes and gives them; states are left out."""
        arrays = self.advance(self.take(self._by_name(inputs)))
        made = {number: arrays[number] for number in self._results}
        return named_outputs(self.graph, made, dequantize=self.dequantize, layout=self.layout)

    def steps(self, *inputs: Inputs) -> Array | dict[str, Array]:
        """The results of the next steps, joined along the first axis, along which the inputs have the steps.

        Where the graph takes several examples at once, as many are a step; one where that is open.
        """
        made = [self.step(part) for part in split_steps(self.graph, self._by_name(inputs))]
        if isinstance(made[0], dict):
            return {name: np.concatenate([each[name] for each in made]) for name in made[0]}
        return np.concatenate(made)  # type: ignore[arg-type]  # no dictionaries

    def _by_name(self, inputs: tuple[Inputs, ...]) -> dict[str, Array]:
        """The inputs by name, of one argument or of several arrays in order; raises InputError where there are none."""
        if not inputs:
            names = ", ".join(value.name for value in data_inputs(self.graph))
            raise InputError("no inputs are given", help=f"a step takes {names}")
        first, *others = inputs
        return by_name(self.graph, list(inputs) if others else first)  # type: ignore[arg-type]  # several are arrays

    def reset(self) -> None:
        """Begin anew, with the first values."""
        self.states = {}

    def take(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """All inputs of the next step as the graph stores them; raises InputError."""
        return prepare_inputs(self.graph, given, self.layout, self.states)

    def advance(self, taken: Mapping[str, Array]) -> list[Array]:
        """Run a step on what `take` gave; returns all outputs in the graph's order."""
        made = execute(self.graph, taken)
        self.states = {state.input.name: made[state.output] for state in self._states}
        return made


def feeds(graph: Graph, inputs: Inputs, layout: Layout | None = None) -> list[dict[str, Array]]:
    """All inputs of each run over the examples, prepared: whole batches, or steps where there are states.

    States that are given are those of each example. Else they go on from one step to the next.
    """
    arrays = by_name(graph, inputs)
    if all(value.name in arrays for value in graph.inputs):
        return [prepare_inputs(graph, batch, layout) for batch in split_batches(graph, arrays)]
    stream, runs = Stream(graph, layout=layout), []
    for part in split_steps(graph, arrays):
        taken = stream.take(part)
        stream.advance(taken)
        runs.append(taken)
    return runs


def split_steps(graph: Graph, arrays: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The inputs of each step, of arrays that have the steps one after the other along their first axis.

    Raises InputError where they are no whole number of steps, or not the same number for every input.
    """
    sizes = {value.name: _step_size(value.type.shape) for value in graph.inputs if value.name in arrays}
    counts = {name: len(arrays[name]) / size if arrays[name].ndim and size else 0 for name, size in sizes.items()}
    if len({*counts.values()}) != 1 or any(count % 1 or not count for count in counts.values()):
        lengths = ", ".join(f"{len(array) if array.ndim else 0} of %{name}" for name, array in arrays.items())
        each = ", ".join(f"{size} of %{name}" for name, size in sizes.items())
        raise InputError(f"{lengths} are no whole number of steps", help=f"a step takes {each}")
    for step in range(int(next(iter(counts.values())))):
        yield {name: arrays[name][step * size : (step + 1) * size] for name, size in sizes.items()}


def _step_size(shape: tuple[Dim, ...]) -> int:
    """How many examples a step takes of an input."""
    return shape[0] if shape and isinstance(shape[0], int) else 1
