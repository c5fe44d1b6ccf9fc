"""Reading the operators of a .tflite file as nodes of a `litert` graph, by the rows of the ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters import tflite
from qgraph.ir import Array, Dim, Graph, Node, Origin, QuantParams, TensorType, Value
from qgraph.ir.op import op_def
from qgraph.ir.types import NUMPY_DTYPE, dim_factors, dim_product, integer_range
from qgraph.targets.litert.rows import BY_OPERATOR, FLOAT_BY_OPERATOR, FileRow

MOST_ELEMENTS = 2**31 - 1
"""Of a tensor: runtimes count them in 32 bits."""
MOST_INTEGERS = 1024
"""Longest list of integers (a shape, axes, pads) that stands in a constant."""

REASONS = {
    **dict.fromkeys(("IF", "WHILE", "CALL"), "qgraph reads files without control flow"),
}
"""Why some operators are not there."""


@dataclass
class Reader:
    """A subgraph, what is known about its tensors beside it (see `file_writer.METADATA`), and the graph so far."""

    subgraph: tflite.SubGraph
    words: Mapping[str, Any]
    graph: Graph
    values: dict[int, Value] = field(default_factory=dict)
    known: dict[int, Array] = field(default_factory=dict)  # results that are known already; -1: an open batch

    def type(self, index: int) -> TensorType:
        """The type of a tensor, with its symbolic sizes; raises FileError for what no type of the IR is."""
        tensor = self.subgraph.tensors[index]
        shape = tuple(self.words["shapes"].get(tensor.name, tensor.shape))
        check_size(tensor.name, shape)
        dtype = self._dtype(tensor)
        quant = tensor.quantization
        if quant is None or quant.scale.size == 0:
            return TensorType(shape, dtype)
        axis = self.words["axes"].get(tensor.name)
        if quant.scale.size != (1 if axis is None else shape[axis]):
            raise FileError(f"tensor {tensor.name!r} has {quant.scale.size} scales for a shape of {list(shape)}")
        check_parameters(tensor, quant)
        return TensorType(shape, dtype, QuantParams.of(quant.scale, quant.zero_point, axis))

    def _dtype(self, tensor: tflite.Tensor) -> str:
        if tensor.dtype in NUMPY_DTYPE:
            return tensor.dtype
        raise FileError(
            f"tensor {tensor.name!r} is of type {tensor.dtype}", help=f"qgraph reads {', '.join(NUMPY_DTYPE)}"
        )

    def name(self, index: int) -> str:
        """The name of a tensor's value in the graph, "" for one that the text numbers."""
        name = self.subgraph.tensors[index].name
        return str(self.words["names"].get(name, name))

    def add_constant(self, index: int) -> None:
        """Add the constant that a tensor holds; raises FileError for a known one with the size of an open batch."""
        if index in self.known and self.known[index].dtype.kind == "i" and (self.known[index] < 0).any():
            raise FileError(f"tensor {self.subgraph.tensors[index].name!r} depends on the batch, which is open")
        data, type = self.data(index), self.type(index)  # a view of the file's bytes, never written to
        self.values[index] = self.graph.add_constant(data, self.name(index), type.quant, type.dtype)

    def data(self, index: int) -> Array:
        """What a constant tensor holds; raises FileError for one that is not constant."""
        data = self.known.get(index)
        if data is None:
            data = self.subgraph.tensors[index].values()
        if data is None:
            raise FileError(f"tensor {self.subgraph.tensors[index].name!r} is not a constant")
        return data

    def is_known(self, index: int) -> bool:
        """Whether a tensor is a constant, or as good as one."""
        return index in self.known or self.subgraph.tensors[index].data is not None

    def value(self, index: int) -> Value:
        """The value of a tensor that was read before, or of a constant."""
        if index not in self.values and self.is_known(index):
            self.add_constant(index)
        if index not in self.values:
            raise FileError(
                f"tensor {self.subgraph.tensors[index].name!r} is read before it is made",
                help="the operators of a file stand in the order in which they run, without cycles",
            )
        return self.values[index]

    def integers(self, index: int) -> tuple[int, ...]:
        """A constant of integers as a tuple."""
        data = self.data(index)
        if data.dtype.kind not in "iu" or data.size > MOST_INTEGERS:
            name = self.subgraph.tensors[index].name
            raise FileError(f"tensor {name!r} is {data.dtype}{list(data.shape)}, not a short list of integers")
        return tuple(int(i) for i in data.reshape(-1))

    def number(self, index: int) -> float:
        """A constant of one float32."""
        data = self.data(index)
        if data.dtype != np.float32 or data.size != 1:
            name = self.subgraph.tensors[index].name
            raise FileError(f"tensor {name!r} is {data.dtype}{list(data.shape)}, not one float32")
        return float(data.reshape(()))

    def add_input(self, index: int) -> None:
        """Add an input of the graph."""
        self.values[index] = self.graph.add_input(self.name(index), self.type(index))

    def add_result(self, index: int, value: Value) -> None:
        """Say which value a tensor became; raises FileError for one that was made before."""
        if index in self.values or self.is_known(index):
            raise FileError(f"tensor {self.subgraph.tensors[index].name!r} is made twice")
        self.values[index] = value


def check_parameters(tensor: tflite.Tensor, quant: tflite.Quantization) -> None:
    """Raise FileError for scales and zero points that no runtime computes with; it keeps zero points in 32 bits."""
    if not (np.isfinite(quant.scale).all() and (quant.scale > 0).all()):
        raise FileError(f"tensor {tensor.name!r} has a scale that is not positive and finite: {quant.scale[:4]}")
    low, high = integer_range(tensor.dtype if tensor.dtype in ("i8", "u8", "i16") else "i32")
    if quant.zero_point.min() < low or quant.zero_point.max() > high:
        raise FileError(f"tensor {tensor.name!r} of type {tensor.dtype} has zero points outside {low} to {high}")


def check_size(name: str, shape: Sequence[Dim]) -> None:
    """Raise FileError for more elements than a runtime can count; symbols count as 1."""
    elements = dim_factors(dim_product(shape))[0]
    if elements > MOST_ELEMENTS:
        raise FileError(
            f"tensor {name!r} of shape {list(shape)} has {elements} elements; runtimes count to {MOST_ELEMENTS}"
        )


Operands = list[Value | None]


def node_parts(reader: Reader, operator: tflite.Operator) -> tuple[str, Operands, dict[str, Any]]:
    """Op, operands and completed attributes of the node that an operator becomes.

    Raises FileError for an operator, or storage types of its operands, that no op stands for.
    """
    rows = [rows[operator.name] for rows in (BY_OPERATOR, FLOAT_BY_OPERATOR) if operator.name in rows]
    if not rows:
        reason = REASONS.get(operator.name, "see `qgraph targets litert`")
        raise FileError(f"operator {operator.name} is not one that qgraph runs", help=reason)
    for row in rows:
        operands = [None if i < 0 else reader.value(i) for i in _operand_tensors(reader, row, operator)]
        if _admits(row.op, operands):
            return row.op, operands, op_def(row.op).complete(_attributes(reader, row, operator))
    types = ", ".join(str(value.type) for value in operands if value is not None)
    taken = "; ".join(_taken(row.op) for row in rows)
    raise FileError(f"operator {operator.name} of {types} is not one that qgraph runs", help=f"it runs {taken}")


def add_node(
    reader: Reader,
    operator: tflite.Operator,
    op: str,
    operands: Operands,
    attrs: Mapping[str, Any],
    types: Sequence[TensorType],
) -> Node:
    """Add the node that makes an operator's results."""
    first = reader.subgraph.tensors[operator.outputs[0]].name
    node = reader.graph.insert(
        op,
        operands,
        attrs,
        types,
        origins=tuple(Origin(*parts) for parts in reader.words["origins"].get(first, ())),
        names=[reader.name(index) for index in operator.outputs],
    )
    for index, value in zip(operator.outputs, node.results, strict=True):
        reader.add_result(index, value)
    return node


def _operand_tensors(reader: Reader, row: FileRow, operator: tflite.Operator) -> list[int]:
    """The tensors that are the op's operands; constants that are attributes and states are not."""
    if not row.places:
        places = set(row.constants.values())
        return [index for place, index in enumerate(operator.inputs) if place not in places]
    tensors = reader.subgraph.tensors
    given = {place: index for place, index in enumerate(operator.inputs) if index >= 0}
    attributes = {place for place in row.constants.values() if place in given and reader.is_known(given[place])}
    for place in given.keys() - set(row.places):
        if not tensors[given[place]].is_variable:
            raise FileError(f"operand {place} of {operator.name}, {tensors[given[place]].name!r}, is not supported")
    return [-1 if place in attributes else given.get(place, -1) for place in row.places]


def _admits(op: str, operands: Operands) -> bool:
    """Whether the storage types are those of the op; how many there are is for type inference to say."""
    specs = op_def(op).operands
    if not specs:
        return True
    declared = [*specs, *[specs[-1]] * (len(operands) - len(specs))] if specs[-1].variadic else specs
    return all(
        value is None or spec.pattern.admits(value.type) for spec, value in zip(declared, operands, strict=False)
    )


def _taken(op: str) -> str:
    operands = [f"{spec.name}: {'|'.join(spec.pattern.elements)}" for spec in op_def(op).operands]
    return f"{op}({', '.join(operands)})"


def _attributes(reader: Reader, row: FileRow, operator: tflite.Operator) -> dict[str, Any]:
    attrs: dict[str, Any] = row.read_types(operator, reader.type) if row.read_types else {}
    for attr, fields in row.options.items():
        known = operator.options
        attrs[attr] = tuple(known[field] for field in fields) if isinstance(fields, tuple) else known[fields]
    for attr, place in row.constants.items():
        index = operator.inputs[place] if place < len(operator.inputs) else -1
        if index >= 0 and (place not in row.places or reader.is_known(index)):
            floats = attr == "value" and reader.data(index).dtype.kind == "f"
            attrs[attr] = reader.number(index) if floats else _from_constant(attr, reader.integers(index))
            if row.computed:
                attrs[row.computed] = index in reader.known
    return {**attrs, **(row.read(operator) if row.read else {})}


def _from_constant(attr: str, values: tuple[int, ...]) -> object:
    if attr == "pads":
        return (*values[0::2], *values[1::2])
    return values[0] if attr in ("value", "axis", "k") else values
