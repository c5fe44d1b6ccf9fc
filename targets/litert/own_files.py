"""Reading the .tflite files that qgraph exported: graphs equal to those that were written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qgraph.exporters import tflite
from qgraph.ir import Array, Graph, State, states_of
from qgraph.ir.states import violations
from qgraph.ir.types import dim_size
from qgraph.targets.litert.file_reader import Operands, Reader, add_node, node_parts
from qgraph.targets.litert.known_tensors import learn
from qgraph.targets.litert.looked_up import Found, lookups_in
from qgraph.targets.litert.variables import Variable


def read_graph(subgraph: tflite.SubGraph, variables: Sequence[Variable], words: Mapping[str, Any]) -> Graph:
    """The graph that qgraph exported; `words` are its entry in the file's metadata, `variables` the file's states.

    Raises FileError, and ValueError where the entry says something else of those.
    """
    subgraph = replace(
        subgraph,
        inputs=_in_order(words.get("inputs"), subgraph.inputs),
        outputs=_in_order(words.get("returned"), subgraph.outputs),
    )
    reader = Reader(subgraph, words, Graph(words["name"], "integer", words["metadata"]))
    for index in subgraph.inputs:
        reader.add_input(index)
    for index in words["constants"]:
        reader.add_constant(index)
    for each in lookups_in(subgraph, words):
        if isinstance(each, tflite.Operator) and learn(reader, each):
            continue
        if isinstance(each, Found):
            operator, op, attrs = each.operator, "litert.lookup", each.attrs
            operands: Operands = [reader.value(index) for index in each.tensors]
        else:
            operator, (op, operands, attrs) = each, node_parts(reader, each)
        add_node(reader, operator, op, operands, attrs, [reader.type(index) for index in operator.outputs])
    reader.graph.set_outputs(
        [reader.value(index) for index in subgraph.outputs], [str(name) for name in words.get("outputs", ())]
    )
    _check_states(reader, variables)
    return reader.graph


def _check_states(reader: Reader, variables: Sequence[Variable]) -> None:
    """Raise ValueError unless the graph's states are the variables of the file."""
    problems = list(violations(reader.graph))
    if problems:
        raise ValueError("; ".join(problems))
    states = {state.input: state for state in states_of(reader.graph)}
    stated = {reader.values[each.before]: each for each in variables}
    if states.keys() != stated.keys() or any(
        reader.graph.outputs[states[value].output] is not reader.value(each.after)
        or not (states[value].first == 0.0 if each.first is None else _begins(states[value], each.first))
        for value, each in stated.items()
    ):
        raise ValueError("its states are not the variables of the file")


def _begins(state: State, first: Array) -> bool:
    """Whether a state begins with what a file has."""
    shape = tuple(dim_size(dim, {}) for dim in state.input.type.shape)
    return first.shape == shape and first.tobytes() == state.first_value().tobytes()


def _in_order(wanted: object, given: list[int]) -> list[int]:
    """The tensors in the order of the graph; raises ValueError where they are others."""
    if wanted is None:
        return given
    if not isinstance(wanted, list) or sorted(wanted) != sorted(given):
        raise ValueError("its inputs or outputs are not those of the file")
    return wanted
