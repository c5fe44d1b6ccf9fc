"""Writing a `litert` graph as a .tflite file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters import tflite
from qgraph.ir import Array, Graph, Node, TensorType, Value, data_inputs, data_outputs, op_def, states_of
from qgraph.ir.types import dim_factors
from qgraph.targets.litert.begun_states import BEGINS
from qgraph.targets.litert.rows import BY_OP, FileRow
from qgraph.targets.litert.variables import Variable, changes, with_variables
from qgraph.version import __version__

METADATA = "qgraph"
"""Name of the metadata entry: JSON with what the format has no place for.

`name` and `metadata` of the graph; `constants`: tensors in the graph's order; by tensor name: `names` in the graph
where they differ ("" for numbered results), `shapes` with symbolic sizes, `axes` of per-channel parameters, `origins`.
Of a graph with states, which are variables in the file: `inputs` and `returned`, the tensors in the graph's order, and
`changed`, those that operators change, and the tensors for what they become.
"""
VERSION = 1


@dataclass
class Writer:
    """The tensors and operators so far, and what the file's metadata must say beside them."""

    tensors: list[tflite.Tensor] = field(default_factory=list)
    index: dict[Value, int] = field(default_factory=dict)
    operators: list[tflite.Operator] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    promised: set[str] = field(default_factory=set)  # names of results to come: `verify` asks the runtime for them
    lowest: int = -1  # the tensor of what makes places of codes, where there are lookups
    words: dict[str, Any] = field(default_factory=lambda: {"names": {}, "shapes": {}, "axes": {}, "origins": {}})

    def value(self, value: Value, name: str) -> int:
        """Append the tensor of an input, a constant or a result, which may have a promised name; returns its index."""
        if not value.is_constant:
            self.promised.discard(name)
        self.index[value] = self.add(name, value.type, value.data if value.is_constant else None)
        written = self.tensors[-1].name
        if written != value.name:
            self.words["names"][written] = value.name
        return self.index[value]

    def add(self, name: str, type: TensorType, data: Array | None, is_variable: bool = False) -> int:
        """Append a tensor, under another name where its own is taken: LiteRT's interfaces find tensors by name."""
        name = self._unused(name)
        shape = tuple(dim_factors(size)[0] for size in type.shape)  # symbols are 1
        signature = None
        if any(isinstance(size, str) for size in type.shape):
            signature = tuple(-1 if isinstance(size, str) else size for size in type.shape)
            self.words["shapes"][name] = type.shape
        quant = None
        if type.quant is not None:
            quant = tflite.Quantization(type.quant.scales, type.quant.zero_points, type.quant.axis or 0)
            if type.quant.axis is not None:
                self.words["axes"][name] = type.quant.axis
        stored = None if data is None else np.ascontiguousarray(data).reshape(shape)
        if stored is not None and type.dtype in tflite.PACKED_BITS:
            stored = tflite.pack(stored, type.dtype)
        self.tensors.append(
            tflite.Tensor(name, type.dtype, shape, stored, quant, shape_signature=signature, is_variable=is_variable)
        )
        return len(self.tensors) - 1

    def _unused(self, name: str) -> str:
        number, unused = 1, name
        while unused in self.taken or unused in self.promised:
            unused, number = f"{name}:{number}", number + 1
        self.taken.add(unused)
        return unused

    def integers(self, name: str, values: Any) -> int:
        """Append an int32 constant."""
        data = np.asarray(values, np.int32)
        return self.add(name, TensorType(data.shape, "i32"), data)


def to_tflite(graph: Graph) -> bytes:
    """The graph as a .tflite file: names, quantization parameters, a signature, and origins in the metadata.

    States become resource variables, and the batch is one of fixed size then (1 where it is open). The same graph gives
    the same bytes. Raises ExportError for a graph that is not of the `litert` dialect.
    """
    writer = Writer()
    inputs = [writer.value(value, value.name) for value in graph.inputs]
    names = _result_names(graph)
    writer.promised.update(name for several in names for name in several)
    constants = [writer.value(value, value.name) for value in graph.constants.values()]
    for node, several in zip(graph.nodes, names, strict=True):
        _write_node(writer, node, several)
    outputs = [writer.index[value] for value in graph.outputs]
    subgraph = tflite.SubGraph(writer.tensors, writer.operators, inputs, outputs, graph.name)
    returned = {graph.output_names[number]: outputs[number] for number in data_outputs(graph)}
    given = {writer.tensors[writer.index[value]].name: writer.index[value] for value in data_inputs(graph)}
    states = [
        Variable(
            state.input.name,
            writer.index[state.input],
            outputs[state.output],
            state.first_value() if state.first else None,
        )
        for state in states_of(graph)
    ]
    if states:
        writer.words |= {"inputs": inputs, "returned": outputs, "changed": changes(subgraph)}
    if any(graph.given_output_names):
        writer.words["outputs"] = list(graph.given_output_names)
    words = {
        "version": VERSION,
        "qgraph": __version__,
        "name": graph.name,
        "metadata": graph.metadata,
        "constants": constants,
        **writer.words,
    }
    subgraphs = with_variables(subgraph, states, [*returned.values()])
    signature = tflite.Signature(given, returned)
    return tflite.write(tflite.Model(subgraphs, "qgraph", {METADATA: json.dumps(words).encode()}, [signature]))


def _result_names(graph: Graph) -> list[list[str]]:
    """The names of each node's results: their own, else the node's number."""
    return [
        [
            value.name or (f"{number}" if len(node.results) == 1 else f"{number}.{place}")
            for place, value in enumerate(node.results)
        ]
        for number, node in enumerate(graph.nodes, 1)
    ]


def _write_node(writer: Writer, node: Node, names: list[str]) -> None:
    row = BY_OP.get(node.op)
    if row is None:
        raise ExportError(f"a .tflite file cannot hold {node.op}", where=node.where, help="lower to litert first")
    if row.parts is not None:
        row.parts(writer, node, names[0])
    else:
        _write_operator(writer, node, row, names)
    if node.origins:
        origins = [[origin.path, origin.file, origin.line] for origin in node.origins]
        writer.words["origins"][writer.tensors[writer.index[node.results[0]]].name] = origins


def _write_operator(writer: Writer, node: Node, row: FileRow, names: list[str]) -> None:
    operands = _operands(writer, node, row, names[0])
    intermediates = [
        writer.add(f"{names[0]}.intermediate{place}", type, None)
        for place, type in enumerate(row.intermediates(node) if row.intermediates else ())
    ]
    results = tuple(writer.value(value, name) for value, name in zip(node.results, names, strict=True))
    operator = row.operator if row.choose is None else row.choose(node)
    writer.operators.append(
        tflite.Operator(operator, operands, results, _options(row, node), intermediates=tuple(intermediates))
    )


def _operands(writer: Writer, node: Node, row: FileRow, name: str) -> tuple[int, ...]:
    """The tensors that an operator reads: operands, attributes that stand in constants, states; -1 for none."""
    operands = [-1 if value is None else writer.index[value] for value in node.operands]
    if row.places:
        return _placed(writer, node, row, name, operands)
    for attr, place in sorted(row.constants.items(), key=lambda item: item[1]):
        if node.attrs[attr] is not None:
            operands += [-1] * (place - len(operands))
            operands.insert(place, _constant_operand(writer, node, name, attr))
    return tuple(operands)


def _placed(writer: Writer, node: Node, row: FileRow, name: str, operands: list[int]) -> tuple[int, ...]:
    """The tensors of an operator whose row says where the operands stand."""
    placed = {place: index for place, index in zip(row.places, operands, strict=False) if index >= 0}
    for attr, place in row.constants.items():
        if place not in placed:
            placed[place] = _constant_operand(writer, node, name, attr)
    for place, type in (row.states(node) if row.states else {}).items():
        placed[place] = writer.add(f"{name}.state{place}", type, None, is_variable=True)
        if row.begins.get(place) in placed:
            writer.operators.append(tflite.Operator(BEGINS, (placed[row.begins[place]],), (placed[place],)))
    return tuple(placed.get(place, -1) for place in range(row.length or max(placed) + 1))


def _constant_operand(writer: Writer, node: Node, name: str, attr: str) -> int:
    """The constant that holds an attribute: int32, pads as pairs."""
    values: Any = node.attrs[attr]
    if attr == "pads":
        rank = len(values) // 2
        values = [[values[i], values[rank + i]] for i in range(rank)]
    if attr == "value":  # of the type that is padded
        x = node.operand(0).type
        return writer.add(f"{name}.{attr}", TensorType((), x.dtype, x.quant), np.array(values, x.numpy))
    if attr == "output_shape" and -1 in values:
        return _computed_shape(writer, node, f"{name}.{attr}", values)
    return writer.integers(f"{name}.{attr}", values)


def _computed_shape(writer: Writer, node: Node, name: str, shape: tuple[int, ...]) -> int:
    """The tensor of a shape whose sizes of -1 are those of the node's x, which the file asks x for when it runs."""
    x = node.operand(op_def(node.op).place("x"))
    sizes = writer.add(f"{name}.of", TensorType((x.type.rank,), "i32"), None)
    writer.operators.append(tflite.Operator("SHAPE", (writer.index[x],), (sizes,), {"out_type": "i32"}))
    parts = []
    for axis, size in enumerate(shape):
        place = f"{name}.{axis}"
        parts.append(writer.integers(place, size) if size != -1 else writer.add(place, TensorType((), "i32"), None))
        if size == -1:
            bounds = [writer.integers(f"{place}.{word}", [at]) for word, at in (("begin", axis), ("end", axis + 1))]
            inputs = (sizes, *bounds, writer.integers(f"{place}.step", [1]))
            writer.operators.append(tflite.Operator("STRIDED_SLICE", inputs, (parts[-1],), {"shrink_axis_mask": 1}))
    made = writer.add(name, TensorType((len(shape),), "i32"), None)
    writer.operators.append(tflite.Operator("PACK", tuple(parts), (made,), {"values_count": len(parts), "axis": 0}))
    return made


def _options(row: FileRow, node: Node) -> dict[str, Any]:
    """The options of an operator: those that are attributes, those that are always so, those that follow."""
    options = dict(row.fixed)
    for attr, fields in row.options.items():
        value: Any = node.attrs[attr]
        if isinstance(fields, tuple):
            options |= dict(zip(fields, value, strict=True))
        else:
            options[fields] = list(value) if isinstance(value, tuple) else value
    return {**options, **(row.write(node) if row.write else {})}
