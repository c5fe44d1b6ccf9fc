"""`ort` graphs as .onnx files: QOperator form, or with form="qdq" float ops between dequantizing and quantizing nodes.

The same graph gives the same bytes. Names are kept; where one is taken, a number is added and the metadata says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_forms import BIAS, NodeForm, Slot, forms_of
from qgraph.ir import Array, Graph, Node, QuantParams, TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.float_nodes import FloatNodes, is_composite, needed_opset
from qgraph.targets.onnxruntime.onnx_layout import (
    FORMS,
    METADATA,
    OPSET,
    OPSETS,
    REQUANTIZE,
    VERSION,
    domain_of,
    form_of,
)

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs


def to_onnx(graph: Graph, form: str = "qoperator", opset: int | None = None) -> bytes:
    """The graph as an .onnx file, checked by onnx.checker.

    `form`: "qoperator", whose bytes are the same at every optimization level, or "qdq". `opset`: of ONNX's own ops,
    17, or 18 where ops stay in float. Raises ExportError for a graph that is not of the `ort` dialect.
    """
    import onnx
    import onnx_graphsurgeon as gs

    if form not in FORMS:
        raise ExportError(f"form={form!r} is not a choice", help=f"choose from {', '.join(FORMS)}")
    least = needed_opset([*graph.nodes])
    opset = opset or max(least, OPSET)
    if opset < least:
        first = next(node for node in graph.nodes if needed_opset([node]) > opset)
        raise ExportError(f"{first.op} stays in float, which needs opset {least}", where=first.where)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ExportError(f"opset {opset} is not supported", help=f"choose from {OPSETS[0]} to {OPSETS[1]}")
    _check_outputs(graph)
    writer = _Writer(graph, form)
    writer.write()
    outputs = [writer.tensors[value] for value in graph.outputs]
    surgeon = gs.Graph(
        writer.nodes, [writer.tensors[value] for value in graph.inputs], outputs, graph.name, opset=opset
    )
    model = gs.export_onnx(surgeon, do_type_check=False)
    _complete(model, _description(graph, writer), opset)
    _keep_constants(model, writer)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"onnx.checker refuses the model: {error}") from None
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _check_outputs(graph: Graph) -> None:
    outputs = graph.outputs
    for value in outputs:
        if value.producer is None:
            raise ExportError(f"output {value} is an input or a constant", help="an .onnx output must be computed")
    if len(set(outputs)) < len(outputs):
        raise ExportError("a value is returned twice", help="return it once: an .onnx file names each output once")


@dataclass
class _Writer:
    graph: Graph
    form: str
    nodes: list[Any] = field(default_factory=list)
    tensors: dict[Value, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)  # name in the file -> name in the graph
    origins: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    params: dict[tuple[QuantParams, str], tuple[Any, Any]] = field(default_factory=dict)
    tables: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # constant -> arguments of QuantParams.of

    def __post_init__(self) -> None:
        self.floats = FloatNodes(self)

    def write(self) -> None:
        """Fill `nodes` and `tensors`."""
        for value in self.graph.inputs:
            self.tensors[value] = self.variable(self.unique(value.name, value.name), value.type)
        for name, value in self.graph.constants.items():
            self.tensors[value] = self.constant(self.unique(name, name), value.data)
        for value in (each for node in self.graph.nodes for each in node.results):  # first: they keep their names
            if value.name:
                self.tensors[value] = self.variable(self.unique(value.name, value.name), value.type)
        for number, node in enumerate(self.graph.nodes, 1):
            self.write_node(number, node)

    def write_node(self, number: int, node: Node) -> None:
        """Append what a node is in the file."""
        composite = is_composite(node)
        if node.op not in forms_of("ort") and not composite:
            raise ExportError(
                f"an .onnx file cannot hold {node.op}", where=node.where, help="lower to onnxruntime first"
            )
        for value in node.results:
            if value not in self.tensors:
                self.tensors[value] = self.variable(self.unique(str(number), ""), value.type)
        if node.origins:
            self.origins[self.tensors[node.results[0]].name] = ", ".join(map(str, node.origins))
        if composite:
            self.note_parameters(node.inputs)
            self.floats.write(node)
        elif self.form == "qdq" and form_of(node.op).float_op:
            self.write_float(node, form_of(node.op))
        else:
            self.write_integer(node, form_of(node.op))

    # ---- the two forms

    def write_integer(self, node: Node, layout: NodeForm) -> None:
        """The node as one ONNX node on integers."""
        inputs: list[Any] = []
        for slot in layout.slots:
            inputs += self.slot_inputs(node, slot)
        if _requantizes(node):
            inputs[0] = self.clipped(node)
        while inputs and inputs[-1].is_empty():
            inputs.pop()
        results = [self.tensors[value] for value in node.results]
        self.append(layout.name or node.op.partition(".")[2], node, inputs, results, layout.fixed)

    def write_float(self, node: Node, layout: NodeForm) -> None:
        """The node as a float op between DequantizeLinear nodes and a QuantizeLinear node."""
        result = self.tensors[node.result]
        inputs = [self.dequantized(value, f"{result.name}.{index}") for index, value in enumerate(node.inputs)]
        for slot in layout.slots:
            if slot.kind == "integers":
                inputs += self.slot_inputs(node, slot)
            if slot.kind == "code":
                code = np.array(node.attrs[slot.attr], node.result.type.numpy)
                real = kernels.dequantize(code, node.result.type.q)
                inputs.append(self.constant(self.unique(f"{result.name}.{slot.attr}"), real))
        real_result = self.variable(self.unique(f"{result.name}.real"), TensorType(node.result.type.shape))
        self.append(layout.float_op, node, inputs, [real_result], layout.float_fixed)
        scale, zero_point = self.quant_inputs(node.result)
        self.surgeon("QuantizeLinear", f"{result.name}.quantize", {}, [real_result, scale, zero_point], result)

    def clipped(self, node: Node) -> Any:
        """The input of a QuantizeLinear behind a DequantizeLinear, through a Clip at the ends of its range.

        It changes nothing, and keeps the runtime from merging the pairs before and behind into one of other parameters
        (DoubleQDQPairsRemover, at BASIC and above).
        """
        x = node.operand(0)
        assert x.producer is not None
        source = x.producer.operand(0).type
        ends = np.array([-np.inf, np.inf], np.float32)
        if source.q.axis is None:
            ends = kernels.dequantize(np.array(integer_range(source.dtype)), source.q)
        name = self.tensors[node.result].name
        bounds = [
            self.constant(self.unique(f"{name}.{end}"), data) for end, data in zip(("min", "max"), ends, strict=True)
        ]
        real = self.variable(self.unique(f"{name}.real"), x.type)
        self.surgeon("Clip", f"{name}{REQUANTIZE}", {}, [self.tensors[x], *bounds], real)
        return real

    def dequantized(self, value: Value, stem: str) -> Any:
        """A float tensor of an integer value, by a DequantizeLinear of its own."""
        real = self.variable(self.unique(f"{stem}.real"), TensorType(value.type.shape))
        axis = value.type.q.axis
        attrs = {} if axis is None else {"axis": axis}
        self.surgeon(
            "DequantizeLinear", f"{stem}.dequantize", attrs, [self.tensors[value], *self.quant_inputs(value)], real
        )
        return real

    def append(self, op: str, node: Node, inputs: list[Any], results: list[Any], fixed: Any) -> None:
        """Append the ONNX node of a node, with its attributes."""
        form = form_of(node.op)
        said = {name: value for name, value in node.attrs.items() if name not in form.slot_attrs and value is not None}
        attrs = {name: _attribute(value) for name, value in said.items()}
        axes = {value.type.quant.axis for value in (*node.inputs, *node.results) if value.type.quant is not None}
        if form.by_axis and axes != {None}:
            attrs["axis"] = next(axis for axis in axes if axis is not None)
        self.surgeon(op, self.tensors[node.results[0]].name, {**attrs, **(fixed or {})}, inputs, *results)

    def surgeon(self, op: str, name: str, attrs: dict[str, Any], inputs: list[Any], *results: Any) -> None:
        """Append a graphsurgeon node."""
        import onnx_graphsurgeon as gs

        self.nodes.append(gs.Node(op, name, attrs, inputs, list(results), domain=domain_of(op) or None))

    # ---- inputs

    def slot_inputs(self, node: Node, slot: Slot) -> list[Any]:
        """The tensors of one slot."""
        name = self.tensors[node.results[0]].name
        if slot.kind == "result":
            return [] if node.result.type.quant is None else list(self.quant_inputs(node.result))
        if slot.kind == "rest":
            return [tensor for value in node.inputs for tensor in self.quantized(value)]
        if slot.kind == "integers":
            return [self.constant(self.unique(f"{name}.{slot.attr}"), np.array(node.attrs[slot.attr], np.int64))]
        if slot.kind == "code":
            code = np.array(node.attrs[slot.attr], node.result.type.numpy)
            return [self.constant(self.unique(f"{name}.{slot.attr}"), code)]
        value = node.operands[slot.index] if slot.index < len(node.operands) else None
        if value is None:
            return [self.empty()]
        if slot.kind == "plain" and slot != BIAS:
            self.note_parameters([value])
        return self.quantized(value) if slot.kind == "quantized" else [self.tensors[value]]

    def note_parameters(self, values: Sequence[Value]) -> None:
        """Keep the parameters of constants that are read without them: the file has no other place for them."""
        for value in values:
            quant = value.type.quant
            if value.is_constant and quant is not None:
                alone = quant.axis is None
                noted = (quant.scale[0], quant.zero_point[0]) if alone else (quant.scale, quant.zero_point, quant.axis)
                self.tables[self.tensors[value].name] = noted

    def quantized(self, value: Value) -> list[Any]:
        """A value, its scale and its zero point."""
        return [self.tensors[value], *self.quant_inputs(value)]

    def quant_inputs(self, value: Value) -> tuple[Any, Any]:
        """Scale and zero point of a value as constants, shared by all values of equal parameters."""
        key = (value.type.q, value.type.dtype)
        if key not in self.params:
            shape: tuple[int, ...] = () if key[0].axis is None else (-1,)
            scale = key[0].scales.reshape(shape)
            zero_point = key[0].zero_points.astype(value.type.numpy).reshape(shape)
            stem = self.tensors[value].name
            self.params[key] = (
                self.constant(self.unique(f"{stem}_scale"), scale),
                self.constant(self.unique(f"{stem}_zero_point"), zero_point),
            )
        return self.params[key]

    def unique(self, wanted: str, original: str | None = None) -> str:
        """A name that no tensor has yet; `original`: the graph's name for it, noted where it differs."""
        name, number = wanted, 1
        while name in self.taken:
            name, number = f"{wanted}.{number}", number + 1
        self.taken.add(name)
        if original is not None and original != name:
            self.renamed[name] = original
        return name

    def variable(self, name: str, type: TensorType) -> gs.Variable:
        """A tensor that a node makes, or an input."""
        import onnx_graphsurgeon as gs

        return gs.Variable(name, type.numpy, list(type.shape))

    def constant(self, name: str, data: Array) -> gs.Constant:
        """An initializer."""
        import onnx_graphsurgeon as gs

        return gs.Constant(name, np.ascontiguousarray(data).reshape(data.shape))

    def empty(self) -> gs.Variable:
        """The input that stands for an absent one."""
        import onnx_graphsurgeon as gs

        return gs.Variable.empty()


def _requantizes(node: Node) -> bool:
    maker = node.operand(0).producer
    return node.op == "ort.QuantizeLinear" and maker is not None and maker.op == "ort.DequantizeLinear"


def _attribute(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _description(graph: Graph, writer: _Writer) -> str:
    from qgraph.version import __version__

    integer_inputs: Sequence[Value] = [value for value in graph.inputs if value.type.quant is not None]
    words = {
        "version": VERSION,
        "qgraph": __version__,
        "form": writer.form,
        "name": graph.name,
        "metadata": graph.metadata,
        "inputs": {writer.tensors[v].name: [v.type.q.scale[0], v.type.q.zero_point[0]] for v in integer_inputs},
        "constants": [writer.tensors[value].name for value in graph.constants.values()],
        "renamed": writer.renamed,
        "origins": writer.origins,
    }
    if writer.floats.words:
        words["floats"] = writer.floats.words
    if writer.tables:
        words["tables"] = writer.tables
    return json.dumps(words)


def _keep_constants(model: onnx.ModelProto, writer: _Writer) -> None:
    """Constants that only what is made of them stands for, such as gates in another order: to be read back."""
    import onnx

    there = {tensor.name for tensor in model.graph.initializer}
    tensors = {writer.tensors[value].name: value.data for value in writer.graph.constants.values()}
    left = {name: data for name, data in tensors.items() if name not in there}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.ascontiguousarray(d), n) for n, d in left.items())


def _complete(model: onnx.ModelProto, description: str, opset: int) -> None:
    """What graphsurgeon has no place for: opsets, IR version, producer, metadata."""
    import onnx

    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.microsoft", 1)]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    model.ir_version = max(8, onnx.helper.find_min_ir_version_for(opsets[:1]))
    model.producer_name = "qgraph"
    model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA, value=description))
