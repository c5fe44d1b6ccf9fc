"""Resource variables of a .tflite file as inputs and outputs: how streaming models keep a state.

    CALL_ONCE {1}                                       subgraph 1: ASSIGN_VARIABLE(VAR_HANDLE "h", constant)
    %v = VAR_HANDLE {"h"}
    %h = READ_VARIABLE(%v)                  ->          inputs x, h; outputs y, next; h begins with the constant
    ...
    ASSIGN_VARIABLE(%v, %next)

SVDF keeps its state in a tensor of its own, which it changes (and which begins with zeros): here it reads one and makes
another, which are input and output in the same way.

A variable that is read before it is assigned is a state. One that is read behind its assignment is what was assigned.
One that is never read before it is assigned keeps nothing from step to step, and is gone. Runtimes copy codes from and
to variables, whatever scales the tensors have that they are read as and assigned from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qgraph.errors import ExportError, FileError
from qgraph.exporters import tflite
from qgraph.ir import Array
from qgraph.ir.types import NUMPY_DTYPE
from qgraph.targets.litert.begun_states import begun

CHANGING = {"SVDF": 4}
"""Operators that change a tensor -> its place among their operands."""
Name = tuple[str, str]
"""Container and shared name of a variable."""


@dataclass(frozen=True)
class Variable:
    """A state of a subgraph: tensors with its value before and after a step, and its first one as stored (None:
    zeros)."""

    name: str
    before: int
    after: int
    first: Array | None


@dataclass
class _Step:
    """What is known of the variables where an operator of the main subgraph runs; `places` for what operators make of
    tensors that they change."""

    model: tflite.Model
    places: dict[int, int]
    handles: dict[int, Name] = field(default_factory=dict)
    first: dict[Name, tflite.Tensor] = field(default_factory=dict)
    before: dict[Name, int] = field(default_factory=dict)  # the tensor that a variable is read as
    now: dict[Name, int] = field(default_factory=dict)  # the tensor whose value it has
    same: dict[int, int] = field(default_factory=dict)  # a tensor -> the one that it is a copy of
    called: set[int] = field(default_factory=set)
    changed: dict[int, int] = field(default_factory=dict)  # a tensor that an operator changes -> what it becomes

    def __post_init__(self) -> None:
        self.tensors = [*self.model.subgraphs[0].tensors]

    def run(self) -> list[tflite.Operator]:
        """Walk the operators; returns those that have no part in variables, on what they read instead."""
        kept = []
        for operator in self.model.subgraphs[0].operators:
            if operator.name == "CALL_ONCE":
                self._initialize(_checked(operator, 0, 0))
            elif operator.name == "VAR_HANDLE":
                (handle,) = _checked(operator, 0, 1).outputs
                self.handles[handle] = _name(operator)
            elif operator.name == "READ_VARIABLE":
                self._read(_checked(operator, 1, 1))
            elif operator.name == "ASSIGN_VARIABLE":
                self._assign(_checked(operator, 2, 0))
            else:
                operator = self._changing(operator) if operator.name in CHANGING else operator
                kept.append(replace(operator, inputs=tuple(self.same.get(index, index) for index in operator.inputs)))
        return kept

    def _initialize(self, operator: tflite.Operator) -> None:
        number = operator.options.get("init_subgraph_index", 0)
        if not isinstance(number, int) or not 0 < number < len(self.model.subgraphs):
            raise FileError(f"CALL_ONCE calls subgraph {number}", help="it calls another one, which assigns variables")
        if number not in self.called:
            self.called.add(number)
            self.first |= dict(_assigned(self.model.subgraphs[number], number))

    def _variable(self, index: int) -> Name:
        if index not in self.handles:
            name = self.tensors[index].name if index >= 0 else "none"
            raise FileError(f"tensor {name!r} is no handle of a variable", help="VAR_HANDLE makes handles")
        return self.handles[index]

    def _read(self, operator: tflite.Operator) -> None:
        (handle,), (result,) = operator.inputs, operator.outputs
        variable = self._variable(handle)
        if variable in self.now:
            made, read = self.tensors[self.now[variable]], self.tensors[result]
            if made.quantization != read.quantization:
                raise FileError(f"variable {_text(variable)} is read as {read.name!r}, with other scales than it has")
            _check_same(variable, made, read)
            self.same[result] = self.now[variable]
            return
        if variable not in self.first:
            raise FileError(
                f"variable {_text(variable)} is read before it has a value",
                help="CALL_ONCE stands before, and its subgraph assigns the variable",
            )
        if result in self.before.values() or result in self.model.subgraphs[0].inputs:
            raise FileError(f"tensor {self.tensors[result].name!r} is made twice")
        _check_same(variable, self.first[variable], self.tensors[result])
        self.before[variable] = self.now[variable] = result

    def _assign(self, operator: tflite.Operator) -> None:
        handle, value = operator.inputs
        variable, value = self._variable(handle), self.same.get(value, value)
        if value < 0:
            raise FileError(f"variable {_text(variable)} is assigned nothing")
        if variable in self.before:
            _check_same(variable, self.tensors[self.before[variable]], self.tensors[value])
        self.now[variable] = value

    def _changing(self, operator: tflite.Operator) -> tflite.Operator:
        """An operator that changes a tensor as one that makes another."""
        place = CHANGING[operator.name]
        index = operator.inputs[place] if place < len(operator.inputs) else -1
        if index < 0 or not self.tensors[index].is_variable or len(operator.outputs) != 1 or index in self.changed:
            raise FileError(f"{operator.name} has no variable tensor of its own as operand {place}")
        if index not in self.places:
            self.places[index] = len(self.tensors)
            name = self.tensors[index].name
            self.tensors.append(replace(self.tensors[index], name=f"{name}.next" if name else ""))
        self.changed[index] = self.places[index]
        return replace(operator, outputs=(*operator.outputs, self.changed[index]))

    def variables(self) -> Iterator[Variable]:
        """The states, in the order in which they are read; then those that operators change."""
        for index, after in self.changed.items():
            yield Variable(self.tensors[index].name, index, after, None)
        for variable, before in self.before.items():
            name = variable[1] or self.tensors[before].name
            yield Variable(name, before, self.now[variable], self.first[variable].values())


def without_variables(
    model: tflite.Model, places: Mapping[int, int] | None = None
) -> tuple[tflite.SubGraph, list[Variable]]:
    """The main subgraph without operators on variables, and its states, whose tensors become inputs and outputs.

    The inputs are called as the variables are, whose handles leave them their names. `places`: tensor that an operator
    changes -> the one that the file has for what it becomes.
    Raises FileError for what is no state that an assignment of constants begins, as an initial subgraph that computes.
    """
    main, step = model.subgraphs[0], _Step(model, dict(places or {}))
    operators = step.run()
    if len(model.subgraphs) != 1 + len(step.called):
        raise FileError(
            f"the file has {len(model.subgraphs)} subgraphs", help="qgraph reads files without control flow"
        )
    variables = list(step.variables())
    outputs = [*(step.same.get(index, index) for index in main.outputs), *(each.after for each in variables)]
    inputs = [*main.inputs, *(each.before for each in variables)]
    names = {**dict.fromkeys(step.handles, ""), **{each.before: each.name for each in variables}}
    tensors = [replace(tensor, name=names.get(index, tensor.name)) for index, tensor in enumerate(step.tensors)]
    hidden = {index for operator in operators for index in operator.inputs if index >= 0 and tensors[index].is_variable}
    hidden -= begun(operators)
    if variables and hidden - step.changed.keys():
        raise FileError(
            f"tensor {tensors[min(hidden - step.changed.keys())].name!r} keeps a state beside those of variables",
            help="qgraph runs such an LSTM over whole sequences, not over steps",
        )
    return replace(main, tensors=tensors, operators=operators, inputs=inputs, outputs=outputs), variables


def with_variables(subgraph: tflite.SubGraph, states: Sequence[Variable], results: list[int]) -> list[tflite.SubGraph]:
    """The main subgraph with variables for its states, whose tensors are neither inputs nor outputs, and the initial
    one; `results`: the outputs that are left. A state that an operator keeps itself is a tensor that it changes.

    Raises ExportError for an operator that does not get its own state of zeros again.
    """
    changed = _changed(subgraph, states)
    tensors = [
        replace(each, is_variable=each.is_variable or index in changed) for index, each in enumerate(subgraph.tensors)
    ]
    if states:
        tensors = [replace(each, shape_signature=None) for each in tensors]
    read = {state.before for state in states}
    inputs = [index for index in subgraph.inputs if index not in read]
    states = [state for state in states if state.before not in changed]
    operators = [
        replace(each, outputs=each.outputs[:1]) if each.name in CHANGING else each for each in subgraph.operators
    ]
    if not states:
        return [tflite.SubGraph(tensors, operators, inputs, results, subgraph.name)]
    first = tflite.SubGraph([], [], [], [], "initial")
    reads, assigns = [tflite.Operator("CALL_ONCE", (), (), {"init_subgraph_index": 1})], []
    taken = {tensor.name for tensor in tensors}
    for state in states:
        before = tensors[state.before]
        options: dict[str, tflite.Option] = {"container": "", "shared_name": state.name}
        name = f"{state.name}.variable"
        while name in taken:
            name += "_"
        taken.add(name)
        handle = tflite.Tensor(name, "resource", ())
        reads.append(tflite.Operator("VAR_HANDLE", (), (len(tensors),), options))
        reads.append(tflite.Operator("READ_VARIABLE", (len(tensors),), (state.before,)))
        assigns.append(tflite.Operator("ASSIGN_VARIABLE", (len(tensors), state.after), ()))
        tensors.append(handle)
        count = len(first.tensors)
        first.tensors += [handle, replace(before, name=f"{name}.first", data=_stored(before, state.first))]
        first.operators.append(tflite.Operator("VAR_HANDLE", (), (count,), options))
        first.operators.append(tflite.Operator("ASSIGN_VARIABLE", (count, count + 1), ()))
    return [tflite.SubGraph(tensors, [*reads, *operators, *assigns], inputs, results, subgraph.name), first]


def _changed(subgraph: tflite.SubGraph, states: Sequence[Variable]) -> set[int]:
    """The tensors that operators change."""
    pairs = {(state.before, state.after) for state in states if state.first is None}
    uses = Counter([index for each in subgraph.operators for index in each.inputs] + subgraph.outputs)
    found = changes(subgraph)
    for before, after in found:
        if (before, after) not in pairs or uses[before] > 1 or uses[after] > 1:
            raise ExportError(
                f"a .tflite file cannot hold the state {subgraph.tensors[before].name!r} of an operator: it is not its "
                "own, from zeros on",
                help="set_states pairs the operand `state` and the result `after` of the op",
            )
    return {before for before, _ in found}


def changes(subgraph: tflite.SubGraph) -> list[tuple[int, int]]:
    """The tensors that operators change, and those that stand for what they become."""
    return [(each.inputs[CHANGING[each.name]], each.outputs[1]) for each in subgraph.operators if each.name in CHANGING]


def _stored(tensor: tflite.Tensor, data: Array | None) -> Array:
    """A first value as it stands in the file."""
    if data is None:
        zero = 0 if tensor.quantization is None else int(tensor.quantization.zero_point[0])
        data = np.full(tensor.shape, zero, NUMPY_DTYPE[tensor.dtype])
    return tflite.pack(data, tensor.dtype) if tensor.dtype in tflite.PACKED_BITS else data


def _assigned(subgraph: tflite.SubGraph, number: int) -> Iterator[tuple[Name, tflite.Tensor]]:
    """What each variable is assigned in an initial subgraph."""
    handles: dict[int, Name] = {}
    for operator in subgraph.operators:
        if operator.name == "VAR_HANDLE":
            (made,) = _checked(operator, 0, 1).outputs
            handles[made] = _name(operator)
            continue
        if operator.name != "ASSIGN_VARIABLE":
            raise FileError(
                f"subgraph {number}, which CALL_ONCE runs, has {operator.name}",
                help="qgraph reads those that assign constants to variables, and do no more",
            )
        handle, value = _checked(operator, 2, 0).inputs
        if handle not in handles or value < 0 or subgraph.tensors[value].data is None:
            raise FileError(f"subgraph {number} assigns what is no constant, or to what is no variable")
        yield handles[handle], subgraph.tensors[value]


def _checked(operator: tflite.Operator, inputs: int, outputs: int) -> tflite.Operator:
    """An operator of so many operands and results."""
    if (len(operator.inputs), len(operator.outputs)) != (inputs, outputs):
        raise FileError(f"{operator.name} has {len(operator.inputs)} operands and {len(operator.outputs)} results")
    return operator


def _check_same(variable: Name, one: tflite.Tensor, other: tflite.Tensor) -> None:
    """Raise FileError where two tensors that a variable holds have other storage or shapes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        texts = " and as ".join(f"{each.dtype}{list(each.shape)} ({each.name!r})" for each in (one, other))
        raise FileError(f"variable {_text(variable)} is kept as {texts}", help="a variable has one shape and type")


def _name(operator: tflite.Operator) -> Name:
    return str(operator.options.get("container", "")), str(operator.options.get("shared_name", ""))


def _text(variable: Name) -> str:
    return repr("/".join(part for part in variable if part))
