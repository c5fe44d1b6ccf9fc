"""Reading the operators of a .tosa file as nodes of a `tosa` graph, by the rows of the ops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qgraph.errors import FileError, QGraphError
from qgraph.exporters import tosa
from qgraph.exporters.tosa.storage import decode
from qgraph.ir import Graph, Node, Origin, QuantParams, TensorType, Value, op_def
from qgraph.targets.tosa.rows import BY_OPERATOR, FileRow

MOST_ELEMENTS = 2**31 - 1
"""Of a tensor of level 8K (MAX_LOG2_SIZE)."""
SINKS = ("CONST", "CONST_SHAPE")
"""Operators whose result is a constant of the file."""


@dataclass
class Reader:
    """A file, the graph so far, and the value that each tensor became."""

    model: tosa.Model
    graph: Graph
    words: Mapping[str, Any] = field(default_factory=dict)  # qgraph's entry, see `file_writer`
    values: dict[str, Value] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)  # tensors and shapes that a CONST has made

    def type(self, name: str) -> TensorType:
        """The type of a tensor; raises FileError for a shape."""
        tensor = self.model.tensors.get(name)
        if tensor is None:
            raise FileError(f"{name!r} is a shape where a tensor is wanted")
        if math.prod(tensor.shape) > MOST_ELEMENTS:
            raise FileError(f"tensor {name!r} of shape {list(tensor.shape)} has more than {MOST_ELEMENTS} elements")
        shape = tuple(self.said("shapes", name, tensor.shape))
        quant = self.said("quant", name, None)
        made = None if quant is None else QuantParams(tuple(quant[0]), tuple(quant[1]), quant[2])
        return TensorType(shape, tensor.dtype, made)

    def said(self, word: str, name: str, otherwise: Any) -> Any:
        """What qgraph's entry says of a tensor."""
        return self.words.get(word, {}).get(name, otherwise)

    def name(self, name: str) -> str:
        """The name of a tensor's value in the graph, "" for one that the text numbers."""
        return str(self.said("names", name, name))

    def value(self, name: str) -> Value:
        """The value of a tensor that was made before, or of a constant."""
        if name not in self.values and name in self.constants:
            tensor = self.model.tensors.get(name)
            if tensor is None or tensor.data is None:
                raise FileError(f"{name!r} is a shape where a tensor is wanted")
            quant = self.type(name).quant
            self.values[name] = self.graph.add_constant(tensor.data, self.name(name), quant, tensor.dtype)
        if name not in self.values:
            raise FileError(
                f"tensor {name!r} is read before it is made",
                help="the operators of a file stand in the order in which they run, without cycles",
            )
        return self.values[name]

    def returned(self, name: str) -> Value:
        """The value that the graph returns; a shape is a constant of i64."""
        if name not in self.model.shapes:
            return self.value(name)
        return self.graph.add_constant(np.array(self.shape(name), np.int64), name)

    def number(self, name: str, dtype: str) -> int:
        """The only element of a constant of that storage; raises FileError for another tensor."""
        tensor = self.model.tensors.get(name)
        if tensor is None or tensor.data is None or name not in self.constants:
            raise FileError(
                f"{name!r} is not a constant", help="qgraph reads zero points, shifts and pads as constants"
            )
        if (tensor.dtype, tensor.shape) != (dtype, (1,)):
            raise FileError(f"{name!r} is {tensor.dtype}{list(tensor.shape)}, not {dtype}[1]")
        return int(tensor.data.reshape(()))

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of a constant shape."""
        if name not in self.model.shapes or name not in self.constants:
            raise FileError(f"{name!r} is not a constant shape")
        return self.model.shapes[name]

    def add_constant(self, operator: tosa.Operator) -> None:
        """Note what a CONST or CONST_SHAPE makes."""
        if operator.inputs or len(operator.outputs) != 1:
            raise FileError(f"{operator.name} has {len(operator.inputs)} inputs and {len(operator.outputs)} results")
        (name,) = operator.outputs
        tensor = self.model.tensors.get(name)
        if name in self.constants or (name in self.values and not self.values[name].is_constant):
            raise FileError(f"tensor {name!r} is made twice")
        if operator.name == "CONST" and (tensor is None or tensor.data is None):
            raise FileError(f"the CONST {name!r} has no data")
        if operator.name == "CONST_SHAPE" and name not in self.model.shapes:
            raise FileError(f"the CONST_SHAPE {name!r} makes no shape")
        self.constants.add(name)

    def add_own_constants(self) -> None:
        """Add the constants of a graph that qgraph wrote, in its order."""
        for name in self.words.get("constants", ()):
            self.constants.add(name)
            self.value(name)
        self.constants -= set(self.words.get("constants", ()))


def read_operators(reader: Reader) -> None:
    """Add the nodes of all operators; raises FileError for what is not in the dialect, or breaks its rules."""
    for operator in reader.model.operators:
        if operator.name in SINKS:
            reader.add_constant(operator)
            continue
        source = reader.said("copies", operator.outputs[0], None) if operator.outputs else None
        if source is not None:
            reader.values[operator.outputs[0]] = reader.value(source)
            continue
        try:
            node_of(reader, operator)
        except QGraphError as error:
            where = (f"part    {operator.name} -> {', '.join(operator.outputs)}", *error.where)
            raise FileError(error.what, where=where, help=error.help) from None


def node_of(reader: Reader, operator: tosa.Operator) -> Node:
    """Add the node that an operator becomes."""
    row = BY_OPERATOR.get(operator.name)
    if row is None:
        raise FileError(f"operator {operator.name} is not one that qgraph runs", help="see `qgraph targets tosa`")
    if len(operator.outputs) != 1:
        raise FileError(f"{operator.name} makes {len(operator.outputs)} results, not 1")
    operands, rest = _operands(reader, row, operator)
    made = [reader.type(name) for name in operator.outputs]
    attrs = _attributes(reader, row, operator, operands, rest, made)
    said = reader.said("attrs", operator.outputs[0], {})
    attrs |= {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
    definition = op_def(row.op)
    complete, inferred = definition.checked(operands, attrs)
    for given, wanted in zip(made, inferred, strict=True):
        if given.shape != wanted.shape:
            raise FileError(f"{operator.name} makes {wanted}, the file says {given}")
    origins = tuple(Origin(*parts) for parts in reader.said("origins", operator.outputs[0], ()))
    names = [reader.name(name) for name in operator.outputs]
    node = reader.graph.insert(row.op, operands, complete, made, origins=origins, names=names)
    for name, value in zip(operator.outputs, node.results, strict=True):
        if name in reader.values or name in reader.constants:
            raise FileError(f"tensor {name!r} is made twice")
        reader.values[name] = value
    _check(definition, node, inferred)
    return node


def _check(definition: Any, node: Node, inferred: tuple[TensorType, ...]) -> None:
    """Raise TypeMismatch or FileError for storage types that the op does not make."""
    for spec, value, type in zip(definition.result_specs(len(node.results)), node.results, inferred, strict=True):
        wanted = spec.pattern.admits(value.type) if spec.free else value.type == replace(type, quant=None)
        if not wanted:
            raise FileError(f"{node.op} makes no {value.type}")
    if hasattr(definition.cls, "check"):
        definition.view(node).check()


def _operands(reader: Reader, row: FileRow, operator: tosa.Operator) -> tuple[list[Value | None], list[str]]:
    """The op's operands, and the names of the inputs that are attributes."""
    extra = len(row.shapes) + len(row.constants)
    declared = op_def(row.op).operands
    count = len(operator.inputs) - extra
    wanted = "at least one" if declared[-1].variadic else str(len(declared) + extra)
    if count < len(declared) or (count > len(declared) and not declared[-1].variadic):
        raise FileError(f"{operator.name} has {len(operator.inputs)} inputs, not {wanted}")
    return [reader.value(name) for name in operator.inputs[:count]], list(operator.inputs[count:])


def _attributes(
    reader: Reader,
    row: FileRow,
    operator: tosa.Operator,
    operands: list[Value | None],
    rest: list[str],
    made: list[TensorType],
) -> dict[str, Any]:
    given: Mapping[str, Any] = operator.attributes
    definition = op_def(row.op)
    attrs: dict[str, Any] = {name: value for name, value in given.items() if name in definition.attrs}
    for name in ("min_val", "max_val"):
        if name in given:
            attrs[name] = _element(given[name], operands[0])
    if row.acc_type is not None and given.get("acc_type") != row.acc_type(_storage(operands[0])):
        raise FileError(f"{operator.name} of {_storage(operands[0])} does not add up in {given['acc_type']}")
    names = iter(rest)
    for attr in row.shapes:
        attrs[attr] = reader.shape(next(names))
    by_name = {spec.name: value for spec, value in zip(definition.operands, operands, strict=False)}
    for attr, source in row.constants.items():
        dtype = made[0].dtype if source == "result" else _storage(by_name[source]) if source in by_name else source
        attrs[attr] = _unsigned_or_not(attr, reader.number(next(names), dtype), dtype, given)
    return attrs


def _unsigned_or_not(attr: str, number: int, dtype: str, given: Mapping[str, Any]) -> int:
    """A zero point as it is read where its side of a RESCALE is unsigned."""
    side = attr.partition("_")[0]
    if attr.endswith("_zp") and given.get(f"{side}_unsigned"):
        return number % (1 << int(dtype[1:]))
    return number


def _storage(value: Value | None) -> str:
    return value.type.dtype if value is not None else ""


def _element(data: list[int], like: Value | None) -> int:
    """The integer that stands in bytes, in the storage of a value."""
    dtype = _storage(like)
    raw = np.array(data, np.uint8)
    if dtype not in ("i8", "i16") or raw.size < int(dtype[1:]) // 8:
        raise FileError(f"{len(data)} bytes are no bound of {dtype}")
    return int(decode(raw, dtype, (1,))[0])
