"""What the states of an operator begin with, in a file: operators before it that write into its variable tensors.

    %h = QUANTIZE(%first)                                      %h: a variable tensor
    %y = UNIDIRECTIONAL_SEQUENCE_LSTM(..., %h, ...)     ->     %y = UNIDIRECTIONAL_SEQUENCE_LSTM(..., %h, ..., %first)

Without them a state goes on from one call of the interpreter to the next, until somebody resets its variables. With
them a file computes the same in every call, and each of its sequences begins anew. QUANTIZE between equal parameters
copies, on every family. Here the first value becomes an operand behind the operator's own (`FileRow.begins`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qgraph.errors import FileError
from qgraph.exporters import tflite
from qgraph.targets.litert.rows import BY_OPERATOR

BEGINS = "QUANTIZE"
"""The operator that writes a first value."""


def with_begins(model: tflite.Model) -> tflite.Model:
    """The model with first values as operands of the operators whose states they are.

    Raises FileError for what else is written into a variable tensor.
    """
    main, *others = model.subgraphs
    first: dict[int, int] = {}  # variable tensor -> what was written into it, for the operator that is to come
    taken: set[int] = set()
    operators: list[tflite.Operator] = []
    for operator in main.operators:
        if shared := taken & {*operator.inputs}:
            raise FileError(f"{operator.name} reads {_name(main, shared)}, a state of another operator")
        written = [index for index in operator.outputs if index >= 0 and main.tensors[index].is_variable]
        if not written:
            operators.append(_begun(operator, first))
            taken |= {*operator.inputs} & begun(operators[-1:])
        elif operator.name != BEGINS or written[0] in first or not _is_copy(main, operator):
            raise FileError(f"{operator.name} writes into {_name(main, written)}, a state of another operator")
        else:
            first[written[0]] = operator.inputs[0]
    if first:
        raise FileError(f"{_name(main, first)} is written into, and is no state of an operator that follows")
    return replace(model, subgraphs=[replace(main, operators=operators), *others])


def begun(operators: Iterable[tflite.Operator]) -> set[int]:
    """The states that begin with operands of their operators."""
    found: set[int] = set()
    for operator in operators:
        row = BY_OPERATOR.get(operator.name)
        pairs = row.begins.items() if row is not None else ()
        found |= {operator.inputs[state] for state, place in pairs if place < len(operator.inputs)}
    return found


def _name(subgraph: tflite.SubGraph, tensors: Iterable[int]) -> str:
    """The name of the first of some tensors."""
    return repr(subgraph.tensors[min(tensors)].name)


def _begun(operator: tflite.Operator, first: dict[int, int]) -> tflite.Operator:
    """The operator with the first values of its states, which are taken."""
    row = BY_OPERATOR.get(operator.name)
    if row is None or not any(operator.inputs[place] in first for place in row.begins if place < len(operator.inputs)):
        return operator
    inputs = [*operator.inputs, *[-1] * (max(row.begins.values()) + 1 - len(operator.inputs))]
    for state, place in row.begins.items():
        inputs[place] = first.pop(inputs[state], -1)
    return replace(operator, inputs=tuple(inputs))


def _is_copy(subgraph: tflite.SubGraph, operator: tflite.Operator) -> bool:
    """Whether an operator gives the codes that it reads."""
    if (len(operator.inputs), len(operator.outputs)) != (1, 1) or operator.inputs[0] < 0:
        return False
    x, made = (subgraph.tensors[index] for index in (operator.inputs[0], operator.outputs[0]))
    return (x.dtype, x.quantization) == (made.dtype, made.quantization)
