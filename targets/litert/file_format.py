"""`.tflite` files of `litert` graphs, both ways: each dialect op is one operator with its options.

Adding an op means one row in `EXPORT` and one in `IMPORT`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qgraph.errors import ExportError, FileError
from qgraph.exporters import tflite
from qgraph.ir import Array, Graph, Node, Origin, QuantParams, TensorType, Value, verify_graph
from qgraph.ir.op import op_def

METADATA = "qgraph"
"""Name of the metadata entry: JSON with what the format has no place for.

`name` and `metadata` of the graph; `constants`: tensors in the graph's order; by tensor name: `names` in the graph
where they differ ("" for numbered results), `shapes` with symbolic sizes, `axes` of per-channel parameters, `origins`.
"""
VERSION = 1


@dataclass
class _Writer:
    """The tensors and operators so far, and what the file's metadata must say beside them."""

    tensors: list[tflite.Tensor] = field(default_factory=list)
    index: dict[Value, int] = field(default_factory=dict)
    operators: list[tflite.Operator] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    promised: set[str] = field(default_factory=set)  # names of results to come: `verify` asks the runtime for them
    words: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"names": {}, "shapes": {}, "axes": {}, "origins": {}}
    )

    def value(self, value: Value, name: str) -> int:
        """Append the tensor of an input, a constant or a result, which may have a promised name; returns its index."""
        if not value.is_constant:
            self.promised.discard(name)
        self.index[value] = self.add(name, value.type, value.data if value.is_constant else None)
        written = self.tensors[-1].name
        if written != value.name:
            self.words["names"][written] = value.name
        return self.index[value]

    def add(self, name: str, type: TensorType, data: Array | None) -> int:
        """Append a tensor, under another name where its own is taken: LiteRT's interfaces find tensors by name."""
        name = self._unused(name)
        shape = tuple(1 if isinstance(size, str) else size for size in type.shape)
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
        self.tensors.append(tflite.Tensor(name, type.dtype, shape, stored, quant, shape_signature=signature))
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


Row = Callable[[_Writer, Node, str], tuple[str, list[int], dict[str, Any]]]
"""(writer, node, name) -> operator name, extra input tensors, options."""


def _conv(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    a: Any = node.attrs
    options = {
        "padding": a["padding"],
        "stride_h": a["stride"][0],
        "stride_w": a["stride"][1],
        "dilation_h_factor": a["dilation"][0],
        "dilation_w_factor": a["dilation"][1],
        "fused_activation_function": a["activation"],
    }
    if node.op == "litert.conv_2d":
        return "CONV_2D", [], options
    out, channels = node.operand(1).type.shape[3], node.operand(0).type.shape[3]
    return "DEPTHWISE_CONV_2D", [], {**options, "depth_multiplier": int(out) // int(channels)}


def _pool(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    a: Any = node.attrs
    options = {
        "padding": a["padding"],
        "stride_h": a["stride"][0],
        "stride_w": a["stride"][1],
        "filter_height": a["kernel"][0],
        "filter_width": a["kernel"][1],
        "fused_activation_function": a["activation"],
    }
    return ("MAX_POOL_2D" if node.op == "litert.max_pool_2d" else "AVERAGE_POOL_2D"), [], options


def _fully_connected(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    keep = node.operand(0).type.rank > 2
    return "FULLY_CONNECTED", [], {"fused_activation_function": node.attrs["activation"], "keep_num_dims": keep}


def _add(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    return "ADD", [], {"fused_activation_function": node.attrs["activation"]}


def _reshape(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    shape: Any = node.attrs["shape"]
    return "RESHAPE", [writer.integers(f"{name}.shape", shape)], {"new_shape": list(shape)}


def _transpose(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    return "TRANSPOSE", [writer.integers(f"{name}.perm", node.attrs["perm"])], {}


def _concatenation(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    return "CONCATENATION", [], {"axis": node.attrs["axis"], "fused_activation_function": "NONE"}


def _pad(writer: _Writer, node: Node, name: str) -> tuple[str, list[int], dict[str, Any]]:
    pads: Any = node.attrs["pads"]
    rank = len(pads) // 2
    widths = writer.integers(f"{name}.pads", [[pads[i], pads[rank + i]] for i in range(rank)])
    if node.attrs["value"] is None:
        return "PAD", [widths], {}
    x = node.operand(0).type
    value = np.array(node.attrs["value"], x.numpy)
    return "PADV2", [widths, writer.add(f"{name}.value", TensorType((), x.dtype, x.quant), value)], {}


def _plain(operator: str) -> Row:
    return lambda writer, node, name: (operator, [], {})


EXPORT: dict[str, Row] = {
    "litert.conv_2d": _conv,
    "litert.depthwise_conv_2d": _conv,
    "litert.fully_connected": _fully_connected,
    "litert.add": _add,
    "litert.max_pool_2d": _pool,
    "litert.average_pool_2d": _pool,
    "litert.reshape": _reshape,
    "litert.transpose": _transpose,
    "litert.concatenation": _concatenation,
    "litert.pad": _pad,
    "litert.relu": _plain("RELU"),
    "litert.relu6": _plain("RELU6"),
    "litert.quantize": _plain("QUANTIZE"),
    "litert.dequantize": _plain("DEQUANTIZE"),
}


def to_tflite(graph: Graph) -> bytes:
    """The graph as a .tflite file: names, quantization parameters, a signature, and origins in the metadata.

    The same graph gives the same bytes. Raises ExportError for a graph that is not of the `litert` dialect.
    """
    writer = _Writer()
    inputs = [writer.value(value, value.name) for value in graph.inputs]
    names = [node.result.name or f"{number}" for number, node in enumerate(graph.nodes, 1)]
    writer.promised.update(names)
    constants = [writer.value(value, value.name) for value in graph.constants.values()]
    for node, name in zip(graph.nodes, names, strict=True):
        _write_node(writer, node, name)
    outputs = [writer.index[value] for value in graph.outputs]
    subgraph = tflite.SubGraph(writer.tensors, writer.operators, inputs, outputs, graph.name)
    signature = tflite.Signature(_by_name(writer, inputs), _by_name(writer, outputs))
    words = {
        "version": VERSION,
        "name": graph.name,
        "metadata": graph.metadata,
        "constants": constants,
        **writer.words,
    }
    return tflite.write(tflite.Model([subgraph], "qgraph", {METADATA: json.dumps(words).encode()}, [signature]))


def _by_name(writer: _Writer, indices: list[int]) -> dict[str, int]:
    return {writer.tensors[index].name: index for index in indices}


def _write_node(writer: _Writer, node: Node, name: str) -> None:
    if node.op not in EXPORT:
        raise ExportError(f"a .tflite file cannot hold {node.op}", where=node.where, help="lower to litert first")
    operator, extra, options = EXPORT[node.op](writer, node, name)
    operands = [-1 if value is None else writer.index[value] for value in node.operands]
    result = writer.value(node.result, name)
    writer.operators.append(tflite.Operator(operator, (*operands, *extra), (result,), options))
    if node.origins:
        origins = [[origin.path, origin.file, origin.line] for origin in node.origins]
        writer.words["origins"][writer.tensors[result].name] = origins


# ---- reading back


@dataclass
class _Reader:
    subgraph: tflite.SubGraph
    words: dict[str, Any]
    graph: Graph
    values: dict[int, Value] = field(default_factory=dict)

    def type(self, index: int) -> TensorType:
        """The type of a tensor, with its symbolic sizes."""
        tensor = self.subgraph.tensors[index]
        shape = tuple(self.words["shapes"].get(tensor.name, tensor.shape))
        quant = tensor.quantization
        if quant is None or quant.scale.size == 0:
            return TensorType(shape, tensor.dtype)
        axis = self.words["axes"].get(tensor.name)
        if quant.scale.size != (1 if axis is None else shape[axis]):
            raise FileError(f"tensor {tensor.name!r} has {quant.scale.size} scales for a shape of {list(shape)}")
        return TensorType(shape, tensor.dtype, QuantParams.of(quant.scale, quant.zero_point, axis))

    def name(self, index: int) -> str:
        """The name of a tensor's value in the graph, "" for one that the text numbers."""
        name = self.subgraph.tensors[index].name
        return str(self.words["names"].get(name, name))

    def add_constant(self, index: int) -> None:
        """Add the constant that a tensor holds."""
        data = np.array(self.data(index))
        self.values[index] = self.graph.add_constant(data, self.name(index), self.type(index).quant)

    def data(self, index: int) -> Array:
        """What a constant tensor holds; raises FileError for one that is not constant."""
        data = self.subgraph.tensors[index].data
        if data is None:
            raise FileError(f"tensor {self.subgraph.tensors[index].name!r} is not a constant")
        return data

    def value(self, index: int) -> Value:
        """The value of a tensor that was read before."""
        if index not in self.values:
            raise FileError(f"tensor {self.subgraph.tensors[index].name!r} is read before it is made")
        return self.values[index]

    def integers(self, index: int) -> tuple[int, ...]:
        """A constant of integers as a tuple."""
        return tuple(int(i) for i in np.asarray(self.data(index)).reshape(-1))


ReadRow = Callable[[_Reader, tflite.Operator], tuple[str, list[int], dict[str, Any]]]
"""(reader, operator) -> dialect op, operand tensors, attributes."""


def _window(o: dict[str, Any]) -> dict[str, Any]:
    return {
        "stride": (o["stride_h"], o["stride_w"]),
        "padding": o["padding"],
        "activation": o["fused_activation_function"],
    }


def _read_conv(op: str) -> ReadRow:
    def row(reader: _Reader, operator: tflite.Operator) -> tuple[str, list[int], dict[str, Any]]:
        o: Any = operator.options
        dilation = (o["dilation_h_factor"], o["dilation_w_factor"])
        return op, list(operator.inputs), {**_window(o), "dilation": dilation}

    return row


def _read_pool(op: str) -> ReadRow:
    def row(reader: _Reader, operator: tflite.Operator) -> tuple[str, list[int], dict[str, Any]]:
        o: Any = operator.options
        return op, list(operator.inputs), {**_window(o), "kernel": (o["filter_height"], o["filter_width"])}

    return row


def _read_activated(op: str) -> ReadRow:
    return lambda reader, operator: (
        op,
        list(operator.inputs),
        {"activation": operator.options["fused_activation_function"]},
    )


def _read_integers(op: str, attr: str) -> ReadRow:
    return lambda reader, operator: (op, [operator.inputs[0]], {attr: reader.integers(operator.inputs[1])})


def _read_pad(reader: _Reader, operator: tflite.Operator) -> tuple[str, list[int], dict[str, Any]]:
    widths = reader.integers(operator.inputs[1])
    value = reader.integers(operator.inputs[2])[0] if operator.name == "PADV2" else None
    return "litert.pad", [operator.inputs[0]], {"pads": (*widths[0::2], *widths[1::2]), "value": value}


def _read_plain(op: str) -> ReadRow:
    return lambda reader, operator: (op, list(operator.inputs), {})


IMPORT: dict[str, ReadRow] = {
    "CONV_2D": _read_conv("litert.conv_2d"),
    "DEPTHWISE_CONV_2D": _read_conv("litert.depthwise_conv_2d"),
    "FULLY_CONNECTED": _read_activated("litert.fully_connected"),
    "ADD": _read_activated("litert.add"),
    "MAX_POOL_2D": _read_pool("litert.max_pool_2d"),
    "AVERAGE_POOL_2D": _read_pool("litert.average_pool_2d"),
    "RESHAPE": _read_integers("litert.reshape", "shape"),
    "TRANSPOSE": _read_integers("litert.transpose", "perm"),
    "CONCATENATION": lambda reader, o: ("litert.concatenation", list(o.inputs), {"axis": o.options["axis"]}),
    "PAD": _read_pad,
    "PADV2": _read_pad,
    "RELU": _read_plain("litert.relu"),
    "RELU6": _read_plain("litert.relu6"),
    "QUANTIZE": _read_plain("litert.quantize"),
    "DEQUANTIZE": _read_plain("litert.dequantize"),
}


def from_tflite(data: bytes) -> Graph:
    """The graph in a .tflite file that qgraph exported, equal to it; raises FileError for any other file."""
    model = tflite.read(data)
    if METADATA not in model.metadata:
        raise FileError(
            "this .tflite file was not exported by qgraph",
            help="files of other tools are not read yet: export with qgraph",
        )
    try:
        graph = _read(model.subgraphs[0], json.loads(bytes(model.metadata[METADATA])))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"the file's entry {METADATA!r} does not fit its operators: {error!r}", help="export again"
        ) from None
    verify_graph(graph)
    return graph


def _read(subgraph: tflite.SubGraph, words: dict[str, Any]) -> Graph:
    if words["version"] != VERSION:
        raise FileError(f"the file has version {words['version']} of qgraph's entry, this qgraph reads {VERSION}")
    reader = _Reader(subgraph, words, Graph(words["name"], "integer", words["metadata"]))
    for index in subgraph.inputs:
        reader.values[index] = reader.graph.add_input(reader.name(index), reader.type(index))
    for index in words["constants"]:
        reader.add_constant(index)
    for operator in subgraph.operators:
        _read_operator(reader, operator)
    reader.graph.set_outputs(reader.value(index) for index in subgraph.outputs)
    return reader.graph


def _read_operator(reader: _Reader, operator: tflite.Operator) -> None:
    if operator.name not in IMPORT:
        raise FileError(
            f"operator {operator.name} is not one that qgraph exports", help="files of other tools are not read yet"
        )
    op, operands, attrs = IMPORT[operator.name](reader, operator)
    result = operator.outputs[0]
    node = reader.graph.insert(
        op,
        [None if index < 0 else reader.value(index) for index in operands],
        op_def(op).complete(attrs),
        [reader.type(result)],
        origins=tuple(
            Origin(*parts) for parts in reader.words["origins"].get(reader.subgraph.tensors[result].name, ())
        ),
        names=[reader.name(result)],
    )
    reader.values[result] = node.result
