"""State that a graph hands on from one step to the next: what an output gives, an input takes at the next step.

    graph @g states="{\"h\": \"h_next\"}" (%x: f32[1,4], %h: f32[1,8]) {
      ...
      return y=%5, h_next=%4
    }

So a graph stays a function; two words of the metadata say what belongs together. `states`: input -> output, by name.
`first_values`: input -> what it is at the first step, real numbers, one for all elements or all of them in C order;
what is not named begins with 0 (its zero point).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qgraph.errors import InputError
from qgraph.ir.graph import Graph
from qgraph.ir.node import Value
from qgraph.ir.types import Array, TensorType, dim_size, integer_range

STATES = "states"
"""The word of the metadata that says which output gives the next value of which input: JSON, input -> output."""
FIRST_VALUES = "first_values"
"""The word of the metadata with what states are at the first step: JSON, input -> a number or a list of numbers."""
STATE_WORDS = (STATES, FIRST_VALUES)

First = float | list[float]


@dataclass(frozen=True)
class State:
    """One state: the input that takes it, the number of the output that gives its next value, and its first value."""

    input: Value
    output: int
    first: First = 0.0

    def moved(self, order: Sequence[int]) -> First:
        """The first value with its dimensions in another order, () for their own."""
        if not (order and isinstance(self.first, list)):
            return self.first
        shape = [dim_size(dim, {}) for dim in self.input.type.shape]
        moved: list[float] = np.reshape(self.first, shape).transpose(order).reshape(-1).tolist()
        return moved

    def first_value(self, sizes: Mapping[str, int] | None = None) -> Array:
        """What the input is at the first step, with these sizes for symbols (1 for others)."""
        type, real = self.input.type, np.asarray(self.first, np.float64)
        shape = [dim_size(dim, sizes or {}) for dim in type.shape]
        one = real.reshape([dim_size(dim, {}) for dim in type.shape]) if real.ndim else real
        return as_stored(np.broadcast_to(one, shape), type)


def as_stored(real: Array, type: TensorType) -> Array:
    """Real numbers as a type stores them: rounded and saturated codes where it has a scale."""
    if type.quant is None:
        return np.asarray(real.astype(type.numpy))
    low, high = integer_range(type.dtype)
    codes = np.clip(np.rint(real / type.quant.scales[0]) + type.quant.zero_points[0], low, high)
    return np.asarray(codes.astype(type.numpy))


def as_first(stored: Array, type: TensorType) -> First:
    """What a stored array stands for, as a first value: one number where all elements are the same."""
    real = stored.astype(np.float64)
    if type.quant is not None:
        real = (real - type.quant.zero_points[0]) * np.float64(type.quant.scales[0])
    elements: list[float] = real.reshape(-1).tolist()
    return elements[0] if elements and len({*elements}) == 1 else elements


def states_of(graph: Graph) -> list[State]:
    """The graph's states, in the order of its inputs; raises InputError for words that do not fit the graph."""
    if STATES not in graph.metadata:
        return []
    problems = list(violations(graph))
    if problems:
        raise InputError(problems[0], help="qgraph.ir.set_states says what a graph's states are")
    outputs, first = _words(graph)
    names = graph.output_names
    return [
        State(value, names.index(outputs[value.name]), first.get(value.name, 0.0))
        for value in graph.inputs
        if value.name in outputs
    ]


def set_states(graph: Graph, outputs: Mapping[str, str | int], first: Mapping[str, First] | None = None) -> None:
    """Say which output (its name or number) gives the next value of which input, and with what it begins.

    All outputs keep the names that they have now, but that an input is called so which is an output: its name gets
    ".next" behind it. Raises InputError where there is no such input or output, two inputs
    take one output, or shapes and storage do not agree.
    """
    inputs, names = {value.name for value in graph.inputs}, graph.output_names
    places = {name: _place(names, name, output) for name, output in outputs.items()}
    if places:
        names = [f"{name}.next" if name in inputs else name for name in names]
        graph.set_outputs(graph.outputs, names)
    named = {name: names[place] for name, place in places.items()}
    started = {name: value for name, value in (first or {}).items() if value != 0.0}
    for word, content in zip(STATE_WORDS, (named, started), strict=True):
        graph.metadata.pop(word, None)
        if content:
            graph.metadata[word] = json.dumps(content)
    problems = list(violations(graph))
    if problems:
        raise InputError(
            "; ".join(problems),
            help=f"inputs: {', '.join(value.name for value in graph.inputs)}; outputs: {', '.join(names)}",
        )


def _place(names: Sequence[str], state: str, output: str | int) -> int:
    """The number of an output."""
    place = output if isinstance(output, int) else names.index(output) if output in names else -1
    if not 0 <= place < len(names):
        raise InputError(f"state %{state} -> {output}: there is no such output", help=f"outputs: {', '.join(names)}")
    return place


def keep_states(graph: Graph) -> None:
    """Forget the states of which the graph, a part of the one that had them, lacks the input or the output."""
    if STATES in graph.metadata:
        outputs, first = _words(graph)
        inputs, names = {value.name for value in graph.inputs}, graph.output_names
        kept = {name: output for name, output in outputs.items() if name in inputs and output in names}
        set_states(graph, kept, {name: value for name, value in first.items() if name in kept})


def data_inputs(graph: Graph) -> list[Value]:
    """The inputs that are given at every step: those that take no state."""
    states = {state.input for state in states_of(graph)}
    return [value for value in graph.inputs if value not in states]


def data_outputs(graph: Graph) -> list[int]:
    """The numbers of the outputs that are results of a step: those that are no state's next value."""
    states = {state.output for state in states_of(graph)}
    return [number for number in range(len(graph.outputs)) if number not in states]


def violations(graph: Graph) -> Iterator[str]:
    """What is wrong with the words that say which the states are."""
    if STATES not in graph.metadata:
        return
    try:
        outputs, first = _words(graph)
    except ValueError as error:
        yield f"the words about states cannot be read: {error}"
        return
    inputs = {value.name: value for value in graph.inputs}
    made = dict(zip(graph.output_names, graph.outputs, strict=True))
    for name, output in outputs.items():
        if name not in inputs or output not in made:
            yield f"state %{name} -> {output}: there is no such {'output' if name in inputs else 'input'}"
            continue
        before, after = inputs[name].type, made[output].type
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            yield f"state %{name} is {before}, but its next value, {output}, is {after}"
        count = np.size(first.get(name, 0.0))
        if isinstance(first.get(name), list) and count != math.prod(dim_size(dim, {}) for dim in before.shape):
            yield f"state %{name} is {before}, but its first value has {count} elements"
    if len({*outputs.values()}) < len(outputs):
        yield f"two states have one next value: {', '.join(outputs.values())}"


def _words(graph: Graph) -> tuple[dict[str, str], dict[str, First]]:
    """Both words as they are meant; raises ValueError for others."""
    outputs = json.loads(graph.metadata[STATES])
    first = json.loads(graph.metadata.get(FIRST_VALUES, "{}"))
    if not (isinstance(outputs, dict) and all(isinstance(output, str) for output in outputs.values())):
        raise ValueError(f"{STATES} is no object of names")
    if not (isinstance(first, dict) and all(map(_is_numbers, first.values()))):
        raise ValueError(f"{FIRST_VALUES} is no object of numbers")
    return outputs, first


def _is_numbers(value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers)
