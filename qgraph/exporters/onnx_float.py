"""Float graphs as ONNX models: one row of a table for each op of the dialect `nn`.

Activations that an op carries become nodes behind it. Values keep their names; where one is taken, or a value has
none, a number serves. The origins stand in each node's `metadata_props`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qgraph.errors import ExportError
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


class OnnxNodes(Protocol):
    """What a row writes to: ONNX nodes and tensors by name."""

    def op(self, op: str, inputs: Sequence[str], result: str, **attrs: Any) -> None:
        """Append one ONNX node."""

    def operands(self, node: Node) -> list[str]:
        """The names of a node's operands."""

    def name(self, value: Value) -> str:
        """The name of a value that is there already, or of a constant."""

    def constant(self, data: Array, wanted: str) -> str:
        """A new initializer."""

    def unique(self, wanted: str) -> str:
        """A name that is not taken."""


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
        if node.result not in self.names:
            self.names[node.result] = self.unique(str(len(self.names)))
        write_op(self, node, self.names[node.result])

    def op(self, op: str, inputs: Sequence[str], result: str, **attrs: Any) -> None:
        """Append one ONNX node, with the origins of the node that is being written."""
        import onnx

        made = onnx.helper.make_node(op, list(inputs), [result], name=f"{op}_{result}", **attrs)
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
        """The graph's outputs; one that no node makes, that is there twice, or has a name of its own, is made by an
        Identity."""
        self._node = None
        infos, returned = [], set()
        for value, given in zip(self.graph.outputs, self.graph.given_output_names, strict=True):
            name = self.name(value)
            if value.producer is None or name in returned or given not in ("", name):
                source, name = name, self.unique(given or f"{name}{COPY}")
                self.op("Identity", [source], name)
            returned.add(name)
            infos.append(self.info(name, value.type))
        return infos


ToOnnx = Callable[[OnnxNodes, Node, str], None]
"""Writes the ONNX nodes of a node; the last of them makes the tensor of the given name."""


def _same(op: str, **attrs: str) -> ToOnnx:
    """The row of an op that ONNX has too; `attrs`: ONNX's name of an attribute = our name of it."""

    def write(writer: OnnxNodes, node: Node, result: str) -> None:
        writer.op(op, writer.operands(node), result, **_attributes(node, attrs))

    return write


def _attributes(node: Node, names: Mapping[str, str]) -> dict[str, Any]:
    values = {theirs: node.attrs[ours] for theirs, ours in names.items()}
    return {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}


def _clip(writer: OnnxNodes, node: Node, x: str, bounds: tuple[float, float], result: str) -> None:
    dtype = node.result.type.numpy
    ends = [
        "" if np.isinf(bound) else writer.constant(np.array(bound, dtype), f"{result}.{end}")
        for end, bound in zip(("min", "max"), bounds, strict=True)
    ]
    writer.op("Clip", [x, *ends], result)


def _clamp(writer: OnnxNodes, node: Node, result: str) -> None:
    bounds = (0.0, 6.0) if node.op == "nn.relu6" else (node.attrs["min"], node.attrs["max"])
    _clip(writer, node, writer.name(node.operand(0)), bounds, result)


def _conv_transpose(writer: OnnxNodes, node: Node, result: str) -> None:
    """ONNX Runtime takes only an output_padding less than the stride; a smaller pad at the end says the same."""
    stride, pads, more = node.attrs["stride"], list(node.attrs["pads"]), list(node.attrs["output_padding"])
    for i, step in enumerate(stride):
        if more[i] >= step:
            less = min(more[i], pads[len(stride) + i])
            pads[len(stride) + i] -= less
            more[i] -= less
        if more[i] >= step:
            raise ExportError("ONNX Runtime takes no output_padding beyond pads and stride", where=node.where)
    attrs = {"strides": stride, "pads": pads, "output_padding": more}
    attrs.update(dilations=node.attrs["dilation"], group=node.attrs["groups"])
    writer.op("ConvTranspose", writer.operands(node), result, **attrs)


def _linear(writer: OnnxNodes, node: Node, result: str) -> None:
    x, weight = node.operand(0), node.operand(1)
    if x.type.rank == 2:
        writer.op("Gemm", writer.operands(node), result, transB=1)
        return
    if weight.is_constant:
        turned = writer.constant(weight.data.T, f"{weight.name}.T")
    else:
        turned = writer.unique(f"{result}.weight.T")
        writer.op("Transpose", [writer.name(weight)], turned, perm=[1, 0])
    has_bias = len(node.operands) > 2
    product = writer.unique(f"{result}.product") if has_bias else result
    writer.op("MatMul", [writer.name(x), turned], product)
    if has_bias:
        writer.op("Add", [product, writer.name(node.operand(2))], result)


def _batch_norm(writer: OnnxNodes, node: Node, result: str) -> None:
    momentum = 1 - node.attrs["momentum"]  # ONNX weighs the running statistics, torch the batch's
    writer.op("BatchNormalization", writer.operands(node), result, epsilon=node.attrs["eps"], momentum=momentum)


def _dropout(writer: OnnxNodes, node: Node, result: str) -> None:
    ratio = writer.constant(np.array(node.attrs["p"], np.float32), f"{result}.ratio")
    writer.op("Dropout", [*writer.operands(node), ratio], result)


def _with_integers(op: str, *names: str, **attrs: str) -> ToOnnx:
    """The row of an op whose attributes `names` are inputs in ONNX: lists of int64."""

    def write(writer: OnnxNodes, node: Node, result: str) -> None:
        lists = [writer.constant(np.atleast_1d(np.array(node.attrs[n], np.int64)), f"{result}.{n}") for n in names]
        writer.op(op, [*writer.operands(node), *lists], result, **_attributes(node, attrs))

    return write


def _pad(writer: OnnxNodes, node: Node, result: str) -> None:
    pads = writer.constant(np.array(node.attrs["pads"], np.int64), f"{result}.pads")
    value = writer.constant(np.array(node.attrs["value"], node.result.type.numpy), f"{result}.value")
    writer.op("Pad", [*writer.operands(node), pads, value], result)


def _hard_sigmoid(writer: OnnxNodes, node: Node, result: str) -> None:
    writer.op("HardSigmoid", writer.operands(node), result, alpha=1 / 6, beta=0.5)


WINDOW = {"strides": "stride", "pads": "pads"}

ROWS: dict[str, ToOnnx] = {
    "nn.add": _same("Add"),
    "nn.avg_pool": _same(
        "AveragePool", kernel_shape="kernel", **WINDOW, ceil_mode="ceil_mode", count_include_pad="count_include_pad"
    ),
    "nn.batch_norm": _batch_norm,
    "nn.clamp": _clamp,
    "nn.concat": _same("Concat", axis="axis"),
    "nn.conv": _same("Conv", **WINDOW, dilations="dilation", group="groups"),
    "nn.conv_transpose": _conv_transpose,
    "nn.dropout": _dropout,
    "nn.hard_sigmoid": _hard_sigmoid,
    "nn.hard_swish": _same("HardSwish"),
    "nn.leaky_relu": _same("LeakyRelu", alpha="negative_slope"),
    "nn.linear": _linear,
    "nn.max_pool": _same("MaxPool", kernel_shape="kernel", **WINDOW, dilations="dilation", ceil_mode="ceil_mode"),
    "nn.mean": _with_integers("ReduceMean", "axes", keepdims="keepdims"),
    "nn.mul": _same("Mul"),
    "nn.pad": _pad,
    "nn.relu": _same("Relu"),
    "nn.relu6": _clamp,
    "nn.reshape": _with_integers("Reshape", "shape"),
    "nn.sigmoid": _same("Sigmoid"),
    "nn.slice": _with_integers("Slice", "start", "end", "axis", "step"),
    "nn.softmax": _same("Softmax", axis="axis"),
    "nn.sub": _same("Sub"),
    "nn.tanh": _same("Tanh"),
    "nn.transpose": _same("Transpose", perm="perm"),
}
"""Op of the dialect `nn` -> how it is written."""

Activation = Callable[[OnnxNodes, Node, str, str], None]
"""Writes the activation that a node carries: from the inner tensor to the result."""

ACTIVATIONS: dict[str, Activation | None] = {
    "none": None,
    "relu": lambda writer, node, x, result: writer.op("Relu", [x], result),
    "relu6": lambda writer, node, x, result: _clip(writer, node, x, (0.0, 6.0), result),
    "clamp": lambda writer, node, x, result: _clip(writer, node, x, node.attrs["clamp"], result),
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
