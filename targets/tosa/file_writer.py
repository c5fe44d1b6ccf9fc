"""Writing a `tosa` graph as a .tosa file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters import tosa
from qgraph.exporters.tosa.schema import SCHEMA
from qgraph.ir import Array, Graph, Node, TensorType, Value, op_def
from qgraph.ir.types import dim_factors
from qgraph.targets.tosa.rows import BY_OP, FileRow
from qgraph.version import __version__

ENTRY = "qgraph"
"""The key by which the location of the first operator is known as qgraph's entry: JSON with what the format has no
place for.

`name` and `metadata` of the graph; `constants`: tensors in the graph's order; by tensor name: `names` in the graph
where they differ, `copies` that the file returns and what of, `shapes` with symbolic sizes, `quant` (scales, zero
points, axis), `origins`, and `attrs` that the file has otherwise, such as a shape with the size of an open batch.
"""
VERSION = 1


@dataclass
class Writer:
    """The tensors, shapes and operators so far, and what is said beside them."""

    tensors: dict[str, tosa.Tensor] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    operators: list[tosa.Operator] = field(default_factory=list)
    index: dict[Value, str] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)  # names of results to come: `verify` asks the runtime for them
    words: dict[str, Any] = field(
        default_factory=lambda: {"names": {}, "copies": {}, "shapes": {}, "quant": {}, "origins": {}, "attrs": {}}
    )

    def value(self, value: Value, name: str) -> str:
        """Append the tensor of an input, a constant or a result; returns its name."""
        if not value.is_constant:
            self.promised.discard(name)
        name = self.index[value] = self.unused(name)
        if name != value.name:
            self.words["names"][name] = value.name
        if any(isinstance(size, str) for size in value.type.shape):
            self.words["shapes"][name] = value.type.shape
        if value.type.quant is not None:
            quant = value.type.quant
            self.words["quant"][name] = [quant.scale, quant.zero_point, quant.axis]
        self.add(name, value.type, value.data if value.is_constant else None)
        return name

    def add(self, name: str, type: TensorType, data: Array | None) -> None:
        """Append a tensor; one with data is a constant."""
        shape = tuple(dim_factors(size)[0] for size in type.shape)  # symbols are 1
        self.tensors[name] = tosa.Tensor(name, type.dtype, shape, data)
        if data is not None:
            self.operators.append(tosa.Operator("CONST", (), (name,)))

    def number(self, number: int, dtype: str) -> str:
        """A constant of one element, shared."""
        name = f"{dtype}:{number}"
        if name not in self.tensors:
            stored = np.array([number]).astype(TensorType((), dtype).numpy)  # unsigned ones by their bits
            self.add(name, TensorType((1,), dtype), stored)
        return name

    def shape(self, sizes: tuple[int, ...]) -> str:
        """A constant shape, shared."""
        name = f"shape:{','.join(map(str, sizes))}"
        if name not in self.shapes:
            self.shapes[name] = sizes
            self.operators.append(tosa.Operator("CONST_SHAPE", (), (name,)))
        return name

    def unused(self, name: str) -> str:
        """The name, or one like it that is not taken."""
        number, unused = 1, name
        while unused in self.tensors or unused in self.promised or unused in self.shapes:
            unused, number = f"{name}:{number}", number + 1
        return unused


def to_tosa(graph: Graph) -> bytes:
    """The graph as a .tosa file of version 1.0; an open batch is one of 1. The same graph gives the same bytes.

    Raises ExportError for a graph that is not of the `tosa` dialect, or has ops of the host.
    """
    writer = Writer()
    inputs = [writer.value(value, value.name) for value in graph.inputs]
    names = [value.name or str(number) for number, node in enumerate(graph.nodes, 1) for value in node.results]
    writer.promised.update(names)
    constants = [writer.value(value, value.name) for value in graph.constants.values()]
    for node, name in zip(graph.nodes, names, strict=True):
        _write_node(writer, node, name)
    outputs = _outputs(writer, graph)
    words = {
        ENTRY: VERSION,
        "version": __version__,
        "name": graph.name,
        "metadata": graph.metadata,
        "constants": constants,
        "outputs": list(graph.given_output_names) if any(graph.given_output_names) else [],
        **writer.words,
    }
    operators = [tosa.Operator("CONST_SHAPE", (), (writer.shape(()),))] if not writer.operators else writer.operators
    first = operators[0]
    operators[0] = tosa.Operator(first.name, first.inputs, first.outputs, first.attributes, json.dumps(words))
    return tosa.write(tosa.Model(writer.tensors, operators, inputs, outputs, writer.shapes))


def _outputs(writer: Writer, graph: Graph) -> list[str]:
    """The tensors that are returned, each once: what is returned again, or is no result, goes through an IDENTITY."""
    outputs: list[str] = []
    for value in graph.outputs:
        source = writer.index[value]
        if source not in outputs and value.producer is not None:
            outputs.append(source)
            continue
        copy = writer.unused(f"{source}.copy")
        writer.add(copy, value.type, None)
        writer.operators.append(tosa.Operator("IDENTITY", (source,), (copy,)))
        writer.words["copies"][copy] = source
        outputs.append(copy)
    return outputs


def _write_node(writer: Writer, node: Node, name: str) -> None:
    row = BY_OP.get(node.op)
    if row is None:
        raise ExportError(
            f"a .tosa file of the integer profile cannot hold {node.op}",
            where=node.where,
            help='lower to tosa with io="integer"',
        )
    inputs = [writer.index[value] for value in node.inputs]
    said: dict[str, Any] = {}
    inputs += [writer.shape(_sizes(node, attr, said)) for attr in row.shapes]
    numbers: dict[str, Any] = {attr: node.attrs[attr] for attr in row.constants}
    inputs += [writer.number(numbers[attr], _storage(node, source)) for attr, source in row.constants.items()]
    attributes = _attributes(node, row, said)
    made = writer.value(node.result, name)
    if said:
        writer.words["attrs"][made] = said
    if node.origins:
        writer.words["origins"][made] = [[origin.path, origin.file, origin.line] for origin in node.origins]
    writer.operators.append(tosa.Operator(row.operator, tuple(inputs), (made,), attributes))


def _sizes(node: Node, attr: str, said: dict[str, Any]) -> tuple[int, ...]:
    """An attribute as a shape: where it has -1, for an open batch or all of an axis, the size that the file has."""
    sizes: Any = node.attrs[attr]
    shape = node.result.type.shape
    opened = {i for i in range(len(shape)) if sizes[i : i + 1] == (-1,)}
    if not opened or len(sizes) != len(shape):
        return tuple(sizes)
    said[attr] = sizes
    return tuple(dim_factors(shape[i])[0] if i in opened else size for i, size in enumerate(sizes))


def _storage(node: Node, source: str) -> str:
    """The storage of a constant of one element: given, of the result, or of an operand."""
    if source == "result":
        return node.result.type.dtype
    names = [spec.name for spec in op_def(node.op).operands]
    return node.operand(names.index(source)).type.dtype if source in names else source


def _attributes(node: Node, row: FileRow, said: dict[str, Any]) -> dict[str, Any]:
    fields = SCHEMA.tables[f"{row.operator}:attribute"]
    found: dict[str, Any] = {}
    for name, value in node.attrs.items():
        if name in ("min_val", "max_val"):
            bound = np.array([value]).astype(node.operand(0).type.numpy)
            found[name] = tosa.encode(bound, node.operand(0).type.dtype)
        elif name in fields:
            found[name] = list(value) if isinstance(value, tuple) else value
        elif name not in row.shapes and name not in row.constants and value != op_def(node.op).attrs[name].default:
            said[name] = value
    if row.acc_type is not None:
        found["acc_type"] = row.acc_type(node.operand(0).type.dtype)
    return found
