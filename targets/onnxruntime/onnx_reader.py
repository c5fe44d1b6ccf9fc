"""Graphs back from the .onnx files, of either form, that qgraph exported: equal to the exported graph."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import FileError, QGraphError
from qgraph.exporters.content import Content
from qgraph.exporters.onnx_forms import Slot, bias_params, ops_of
from qgraph.ir import Array, Builder, Element, Graph, QuantParams, TensorType, Value, op_def, verify_graph
from qgraph.ir.origin import parse_origins
from qgraph.ir.types import dtype_name
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.float_nodes import FLOAT, check_same, read_attrs
from qgraph.targets.onnxruntime.onnx_layout import METADATA, REQUANTIZE, VERSION, float_ops, form_of

if TYPE_CHECKING:
    import onnx

AGAIN = "export it again"
FOREIGN = "qgraph.load reads files of other tools"
DAMAGE = (KeyError, IndexError, ValueError, TypeError, AttributeError, StopIteration)
"""What reading a damaged file can raise."""


def from_onnx(data: bytes) -> Graph:
    """The graph in an .onnx file that qgraph exported; raises FileError for any other file."""
    return read_onnx(Content("model.onnx", data))


def read_onnx(content: Content) -> Graph:
    """The same, of a file that was read."""
    model = _parse(content)
    words = next((entry.value for entry in model.metadata_props if entry.key == METADATA), None)
    if words is None:
        raise FileError("this .onnx file was not exported by qgraph", help=FOREIGN)
    try:
        return _read(model, json.loads(words))
    except FileError:
        raise
    except QGraphError as error:
        raise FileError(f"this .onnx file is damaged: {error.what}", where=error.where, help=AGAIN) from None
    except DAMAGE as error:
        raise FileError(f"this .onnx file is damaged: {error}", help=AGAIN) from None


def _parse(content: Content) -> onnx.ModelProto:
    import onnx

    model: onnx.ModelProto | None = content.onnx
    if model is None:
        raise FileError("this is not an .onnx file", help="it may be truncated, or of another format")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise FileError("this .onnx file keeps its weights in another file", help=FOREIGN)
    return model


def _checked(model: onnx.ModelProto) -> Any:
    """The model as a graphsurgeon graph, if it follows ONNX's rules."""
    import onnx
    import onnx_graphsurgeon as gs
    from onnx_graphsurgeon.util.exception import OnnxGraphSurgeonException

    try:
        onnx.checker.check_model(model)
        return gs.import_onnx(model)
    except (onnx.checker.ValidationError, OnnxGraphSurgeonException) as error:
        raise FileError(f"this .onnx file is damaged: {error}", help=AGAIN) from None


def _read(model: onnx.ModelProto, words: dict[str, Any]) -> Graph:
    import onnx

    if words["version"] != VERSION:
        raise FileError(f"this .onnx file has version {words['version']} of qgraph's metadata, known is {VERSION}")
    surgeon = _checked(model)
    reader = _Reader(words, Graph(words["name"], "integer", words["metadata"]))
    reader.read_inputs(surgeon)
    tensors = surgeon.tensors()
    apart = {
        tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in tensors
    }  # no node reads them
    for name in words["constants"]:
        quant = words.get("tables", {}).get(name)
        data = onnx.numpy_helper.to_array(apart[name]) if name in apart else np.array(tensors[name].values)
        params = None if quant is None else QuantParams.of(*quant)
        reader.values[name] = reader.graph.add_constant(data, reader.ir_name(name), params)
    for node in surgeon.nodes:
        reader.read_node(node)
    reader.graph.set_outputs(reader.values[tensor.name] for tensor in surgeon.outputs)
    verify_graph(reader.graph)
    if words.get("floats"):
        check_same(model, reader.graph, words["form"])
    return reader.graph


@dataclass
class _Floats:
    """A node of the QDQ form whose QuantizeLinear has not come yet."""

    op: str
    operands: list[Value]
    node: Any


@dataclass
class _Reader:
    words: dict[str, Any]
    graph: Graph
    values: dict[str, Value] = field(default_factory=dict)
    real: dict[str, Value] = field(default_factory=dict)  # float tensor of the QDQ form -> the integers
    pending: dict[str, _Floats] = field(default_factory=dict)  # float result of the QDQ form -> its op

    def ir_name(self, name: str) -> str:
        """The graph's name of a tensor."""
        return str(self.words["renamed"].get(name, name))

    def read_inputs(self, surgeon: Any) -> None:
        """Add the graph's inputs."""
        for tensor in surgeon.inputs:
            quant = self.words["inputs"].get(tensor.name)
            params = None if quant is None else QuantParams.of(*quant)
            type = TensorType(tuple(tensor.shape), dtype_name(np.dtype(tensor.dtype)), params)
            self.values[tensor.name] = self.graph.add_input(self.ir_name(tensor.name), type)

    def read_node(self, node: Any) -> None:
        """Add what an ONNX node stands for, if it is not only half of a float op's frame."""
        name = node.outputs[0].name
        if node.name.endswith(FLOAT):
            self.read_float(name)
        elif self.words["form"] == "qdq" and node.op == "DequantizeLinear" and self._in_frame(node):
            self.real[name] = self.operand(node.inputs[0], _params(*node.inputs[1:3]))
        elif node.name.endswith(REQUANTIZE):
            self.values[name] = self.values[node.inputs[0].name]
        elif self.words["form"] == "qdq" and node.op in float_ops():
            op = float_ops()[node.op]
            operands = [self.real[tensor.name] for tensor in node.inputs if tensor.name in self.real]
            self.pending[name] = _Floats(op, operands, node)
        elif node.op == "QuantizeLinear" and node.inputs[0].name in self.pending:
            frame = self.pending.pop(node.inputs[0].name)
            element = _element(*node.inputs[1:3])
            self.add(frame.op, frame.operands, self.attrs(frame.op, frame.node, element), element, name)
        else:
            self.read_integer(node, name)

    def read_float(self, name: str) -> None:
        """Add the op on floats whose last ONNX node makes a tensor."""
        if name in self.words["floats"]:
            op, attrs, operands, *others = self.words["floats"][name]
            values = [self.values[operand] if operand else None for operand in operands]
            self.add(op, values, read_attrs(attrs), None, name, *(others[0] if others else ()))

    def _in_frame(self, node: Any) -> bool:
        return any(user.op in float_ops() and not user.name.endswith(REQUANTIZE) for user in node.outputs[0].outputs)

    def read_integer(self, node: Any, name: str) -> None:
        """Add a node that is one ONNX node."""
        op, axis = _op_of(node), node.attrs.get("axis", None)
        form = form_of(op)
        element: Element | None = None
        operands: list[Value | None] = [None] * len(op_def(op).operands)
        inputs = list(node.inputs)
        for slot in form.slots:
            along = axis if form.by_axis else slot.axis(node.attrs) if callable(slot.axis) else slot.axis
            if slot.kind == "result":
                element = _element(inputs[0], inputs[1], along) if inputs else ("f32", None)
                inputs = inputs[2:]
            elif slot.kind == "rest":
                operands = [self.operand(inputs[i], _params(*inputs[i + 1 : i + 3])) for i in range(0, len(inputs), 3)]
            elif slot.kind == "quantized":
                operands[slot.index], inputs = self.operand(inputs[0], _params(*inputs[1:3]), along), inputs[3:]
            elif slot.kind == "plain" and inputs:
                tensor, inputs = inputs[0], inputs[1:]
                operands[slot.index] = None if tensor.is_empty() else self.values[tensor.name]
        while operands and operands[-1] is None:
            operands.pop()
        self.type_bias(operands)
        self.add(op, operands, self.attrs(op, node, element), element, *(output.name for output in node.outputs))

    def operand(self, tensor: Any, quant: QuantParams, along: int | None = 0) -> Value:
        """The value of a tensor; a constant learns its parameters where it is read."""
        value = self.values[tensor.name]
        if value.is_constant:
            axis = (along or 0) % max(value.type.rank, 1) if quant.axis is not None else None
            value.type = replace(value.type, quant=replace(quant, axis=axis))
        return value

    def type_bias(self, operands: list[Value | None]) -> None:
        """Give a bias its parameters, which follow from those of the other operands."""
        x, w, bias = operands if len(operands) == 3 else (None, None, None)
        quantized = x is not None and x.type.quant is not None and w is not None and w.type.quant is not None
        if quantized and x and w and bias is not None and bias.is_constant and bias.type.dtype == "i32":
            bias.type = replace(bias.type, quant=bias_params(x.type.q, w.type.q))

    def attrs(self, op: str, node: Any, element: Element | None) -> dict[str, Any]:
        """The attributes of the dialect's op."""
        layout = form_of(op)
        fixed = {**layout.fixed, **layout.float_fixed, **({"axis": 0} if layout.by_axis else {})}
        attrs = {name: value for name, value in node.attrs.items() if name not in fixed}
        inputs = list(node.inputs)[-len(layout.slot_attrs) :] if layout.slot_attrs else []
        slots = [slot for slot in layout.slots if slot.attr]
        for slot, tensor in zip(slots, inputs, strict=True):
            attrs[slot.attr] = _slot_attr(slot, np.array(tensor.values), element)
        return attrs

    def add(self, op: str, operands: Any, attrs: dict[str, Any], element: Element | None, *names: str) -> None:
        """Add a node of the dialect, whose results are tensors of these names."""
        origins = self.words["origins"].get(names[0], "")
        build = Builder(self.graph, origins=parse_origins(origins) if origins else ())
        own = [*map(self.ir_name, names)]
        made = build.node(op, operands, attrs, element=element, names=own if all(own) else [])
        for name, value, wanted in zip(names, made.results, own, strict=True):
            self.values[name], value.name = value, wanted


def _slot_attr(slot: Slot, data: Array, element: Element | None) -> Any:
    """An attribute from the tensor that holds it: integers, or (in the QDQ form) the real value of a code."""
    if slot.kind == "integers":
        return tuple(int(i) for i in data)
    if data.dtype.kind != "f":
        return int(data)
    assert element is not None
    assert element[1] is not None
    return int(kernels.quantize(data, element[1], element[0]))


def _op_of(node: Any) -> str:
    """The op of the dialect that an ONNX node is; of the two that quantize, or dequantize, the one by such scales."""
    ops = ops_of("ort").get((node.domain or "", node.op), ())
    if not ops:
        raise FileError(f"operator {node.op} is not one that qgraph exports", help=FOREIGN)
    scale = node.inputs[1] if len(ops) > 1 else None
    computed = scale is not None and not hasattr(scale, "values")
    return ops[-1] if computed or "block_size" in node.attrs else ops[0]


def _params(scale: Any, zero_point: Any, axis: int | None = 0) -> QuantParams:
    """Parameters from the tensors of scale and zero point; a list of them goes along an axis."""
    return QuantParams.of(scale.values, zero_point.values, axis if scale.values.ndim else None)


def _element(scale: Any, zero_point: Any, axis: int | None = 0) -> Element:
    return dtype_name(zero_point.values.dtype), _params(scale, zero_point, axis)
