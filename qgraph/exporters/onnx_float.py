"""Float graphs as ONNX models: one row of a table for each op of the dialect `nn`.

Activations that an op carries become nodes behind it. Values keep their names; where one is taken, or a value has
none, a number serves. The origins stand in each node's `metadata_props`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows import ROWS, OnnxNodes
from qgraph.exporters.onnx_rows.elementwise import clip
from qgraph.ir import Array, Graph, Node, TensorType, Value

if TYPE_CHECKING:
    import onnx

OPSET = 18
IR_VERSION = 10
"""The lowest in which a node has `metadata_props`."""
COPY = ".output"
"""What is added to the name of a value that is copied to be returned."""
ORIGINS = "qgraph.origins"
"""The key of a node's origins, written as in `loc(...)`."""
LARGEST = 2**31 - 2**20
"""Bytes of constants that a model, a protobuf message of less than 2 GiB, can hold."""


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The graph as an ONNX model, checked by onnx.checker.

    Raises ExportError for a graph that is not float, and for a node that has no counterpart in ONNX.
    """
    import onnx

    if graph.level != "float":
        raise ExportError(
            f"a graph of level {graph.level} is no float ONNX model", help="qgraph.export writes a lowered graph"
        )
    if sum(value.data.nbytes for value in graph.constants.values()) > LARGEST:
        raise ExportError("the constants take more than the 2 GiB that an ONNX model can hold")
    writer = Writer(graph)
    for node in graph.nodes:
        writer.write(node)
    outputs = writer.outputs()
    inputs = [writer.info(writer.names[value], value.type) for value in graph.inputs]
    body = onnx.helper.make_graph(writer.nodes, graph.name, inputs, outputs, list(writer.tensors.values()))
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model: onnx.ModelProto = onnx.helper.make_model(body, opset_imports=opsets, producer_name="qgraph")
    model.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"onnx.checker refuses the model: {error}") from None
    return model


class Writer:
    """The ONNX nodes and tensors of a graph as they are made, and the names that values have there."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}
        self.names: dict[Value, str] = {}
        self._taken: set[str] = {""}  # "" stands for an absent operand
        self._numbers: dict[str, int] = {}
        self._node: Node | None = None
        named = [value for node in graph.nodes for value in node.results if value.name]
        for value in graph.inputs:
            self.names[value] = self.unique(value.name)
        for value, given in zip(graph.outputs, graph.given_output_names, strict=True):
            if given and value.producer is not None and value not in self.names:
                self.names[value] = self.unique(given)
        for value in named:
            if value not in self.names:
                self.names[value] = self.unique(value.name)

    def write(self, node: Node) -> None:
        """Append the ONNX nodes of a node."""
        if node.op not in ROWS:
            raise ExportError(f"ONNX has no counterpart of {node.op}", where=node.where)
        self._node = node
        for value in node.results:
            if value not in self.names:
                self.names[value] = self.unique(str(len(self.names)))
        write_op(self, node, self.names[node.results[0]])

    def op(self, op: str, inputs: Sequence[str], result: str | Sequence[str], **attrs: Any) -> None:
        """Append one ONNX node, with the origins of the node that is being written."""
        import onnx

        results = [result] if isinstance(result, str) else list(result)
        made = onnx.helper.make_node(op, list(inputs), results, name=f"{op}_{results[0]}", **attrs)
        if self._node is not None and self._node.origins:
            origins = ", ".join(map(str, self._node.origins))
            made.metadata_props.append(onnx.StringStringEntryProto(key=ORIGINS, value=origins))
        self.nodes.append(made)

    def operands(self, node: Node) -> list[str]:
        """The names of a node's operands; constants become initializers where they are first read."""
        return ["" if value is None else self.name(value) for value in node.operands]

    def name(self, value: Value) -> str:
        """The name of a value that is there already, or of a constant."""
        if value not in self.names:
            self.names[value] = self.constant(value.data, value.name)
        return self.names[value]

    def constant(self, data: Array, wanted: str) -> str:
        """A new initializer."""
        import onnx

        name = self.unique(wanted)
        self.tensors[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(data).reshape(data.shape), name)
        return name

    def unique(self, wanted: str) -> str:
        """A name that is not taken: the wanted one, or one with a number."""
        name = wanted
        while name in self._taken:
            self._numbers[wanted] = self._numbers.get(wanted, 0) + 1
            name = f"{wanted}.{self._numbers[wanted]}"
        self._taken.add(name)
        return name

    def info(self, name: str, type: TensorType) -> onnx.ValueInfoProto:
        """Name and type of an input or output."""
        import onnx

        element = onnx.helper.np_dtype_to_tensor_dtype(type.numpy)
        return onnx.helper.make_tensor_value_info(name, element, type.shape)

    def outputs(self) -> list[onnx.ValueInfoProto]:
        """The graph's outputs; a constant, one that is there twice, or that has a name of its own, is made by an
        Identity."""
        self._node = None
        infos, returned = [], set()
        for value, given in zip(self.graph.outputs, self.graph.given_output_names, strict=True):
            name = self.name(value)
            if value.is_constant or name in returned or given not in ("", name):
                source, name = name, self.unique(given or f"{name}{COPY}")
                self.op("Identity", [source], name)
            returned.add(name)
            infos.append(self.info(name, value.type))
        return infos


Activation = Callable[[OnnxNodes, Node, str, str], None]
"""Writes the activation that a node carries: from the inner tensor to the result."""

ACTIVATIONS: dict[str, Activation | None] = {
    "none": None,
    "relu": lambda writer, node, x, result: writer.op("Relu", [x], result),
    "relu6": lambda writer, node, x, result: clip(writer, node, x, (0.0, 6.0), result),
    "clamp": lambda writer, node, x, result: clip(writer, node, x, node.attrs["clamp"], result),
    "hard_swish": lambda writer, node, x, result: writer.op("HardSwish", [x], result),
}
"""Word of the attribute `activation` -> how it is written."""


def write_op(writer: OnnxNodes, node: Node, result: str) -> None:
    """Write a node, and the activation that it carries behind it, to the tensor of the given name."""
    activation = ACTIVATIONS[node.attrs.get("activation", "none")]
    if activation is None:
        ROWS[node.op](writer, node, result)
        return
    inner = writer.unique(f"{result}.inner")
    ROWS[node.op](writer, node, inner)
    activation(writer, node, inner, result)
