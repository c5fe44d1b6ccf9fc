"""Quantized ONNX models of any tool as integer graphs of a target that has such files (`Target.optimizations`).

A node that is one op of the target's dialect is read by the form that stands on the op, by which the target writes it
too (`qgraph.exporters.onnx_forms`); any other node, and one that moves codes as the dialect's op cannot, is read by the
row of the float reader. So the graph is the file, node by node; what a runtime makes of it is a matter of passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.arith.windows import pooled_shape, window_pads
from qgraph.errors import InputError
from qgraph.exporters.onnx_forms import ModelFacts, NodeForm, Slot, bias_params, forms_of, ops_of
from qgraph.frontends.onnx_float import Reader, damage_named, proto_of
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops import ROWS, FromOnnx
from qgraph.frontends.onnx_ops.windows import kernel_of, window
from qgraph.interpreter.run_graph import dequantized
from qgraph.ir import (
    IO_LAYOUT,
    Array,
    Builder,
    Element,
    Graph,
    Node,
    QuantParams,
    Value,
    collector_paused,
    op_def,
    verify_graph,
)
from qgraph.ir.types import dtype_name, integer_range

if TYPE_CHECKING:
    import onnx

    from qgraph.targets.target import Target

OPTIMIZATION = "optimization"
"""The word of a graph's metadata that says at which level it was read, and a runtime has to run its file."""
NARROW = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8}
"""Storage below a byte -> how its codes are held; scale and zero point stay what they are."""
MOVING = ("Flatten", "Squeeze", "Unsqueeze", "Gather", "Expand", "Identity", "Split", "Tile", "Concat")
"""ONNX's ops that move codes and are no op of a dialect."""


class IntegerReader(Reader):
    """An integer graph as the nodes of a model are read into it."""

    def __init__(self, proto: onnx.ModelProto, dialect: str, sizes: Mapping[str, int] | None = None) -> None:
        super().__init__(proto, "integer", sizes)
        self.forms, self.ops = forms_of(dialect), ops_of(dialect)
        self.constants: dict[tuple[str, QuantParams], Value] = {}
        self.read_as = self._params_as_read()
        self.blocked = {
            name
            for node in proto.graph.node
            if node.op_type == "DequantizeLinear" and any(a.name == "block_size" for a in node.attribute)
            for name in node.input
        }  # what is dequantized by scales of blocks
        for value in self.graph.inputs:
            if value.name in self.read_as and not value.type.is_float:
                value.type = replace(value.type, quant=self.read_as[value.name])

    def rows(self, node: OnnxNode) -> Sequence[FromOnnx]:
        """By the form of the dialect's op, else by the row of the float reader."""
        ops, others = self.ops.get((node.domain.replace("ai.onnx", ""), node.op), ()), super().rows(node)
        if not ops or (others and not self._is_on_codes(node) and not self.forms[ops[0]].floats):
            return others
        return [*(partial(self._by_form, op) for op in ops), *others]

    def _is_on_codes(self, node: OnnxNode) -> bool:
        """Whether a node that floats may have reads codes, and not only copies them."""
        first = self.values.get(node.inputs[0])
        return node.op != "Identity" and first is not None and first.type.quant is not None

    def _is_constant(self, node: OnnxNode) -> bool:
        own = (node.domain, node.op) in self.ops and (bool(node.domain) or node.op not in ROWS)
        return not own and super()._is_constant(node)

    def facts(self) -> ModelFacts:
        """What the model says and the graph does not."""
        sized, derived = (
            frozenset(self.values[n] for n in names if n in self.values) for names in (self.sized, self.derived)
        )
        known = [*((name, value) for (name, _), value in self.constants.items()), *self.values.items()]
        narrow = frozenset(v for name, v in known if name in self.arrays and self.arrays[name].dtype.name in NARROW)
        return ModelFacts(sized, derived, self.made_by, self.written, narrow)

    def _results(self, by: FromOnnx, node: OnnxNode, build: Builder) -> Sequence[Value]:
        """Floats that an op gives back as they are go through an op nevertheless: runtimes keep it between pairs."""
        made = super()._results(by, node, build)
        if node.op == "Identity":
            return made
        given = [self.values.get(name) for name in node.inputs]
        return [build.nn.maximum(x, x) if x.type.dtype == "f32" and x in given else x for x in made]

    # ---- one node by its form

    def _by_form(self, op: str, node: OnnxNode, build: Builder) -> Sequence[Value]:
        form, definition = self.forms[op], op_def(op)
        operands: list[Value | None] = [None] * (0 if definition.operands[-1].variadic else len(definition.operands))
        attrs: dict[str, Any] = {}
        element: Element | None = None
        place, said = 0, self._said_axis(node) if form.by_axis else None
        for slot in form.slots:
            axis = said if said is not None else slot.axis(node.attrs) if callable(slot.axis) else slot.axis
            if slot.kind == "result":
                element, place = self._element(node, place, axis), place + 2
            elif slot.kind == "quantized":
                operands[slot.index], place = self._quantized(node, place, axis, build), place + 3
            elif slot.kind == "rest":
                places = range(place, len(node.inputs), 3)
                operands = [self._quantized(node, each, axis, build) for each in places]
            else:
                self._single(node, place, slot, operands, attrs)
                place += 1
        operands = self._with_bias(operands, [spec.role for spec in definition.operands], node, build)
        self._attributes(node, form, operands, attrs, definition.attrs)

        def make(operands: Sequence[Value | None], attrs: dict[str, Any]) -> Sequence[Value]:
            made = build.node(op, operands, attrs, element=element)
            self._note_number(node.outputs[0], made)
            if hasattr(definition.cls, "check"):
                definition.view(made).check()
            return made.results

        return form.read(node, build, operands, attrs, make) if form.read else make(operands, attrs)

    def _note_number(self, name: str, made: Node) -> None:
        """One constant code, dequantized, may be the parameter of a node: the value of a Pad."""
        x = made.operands[0] if op_def(made.op).traits.kind == "dequantize" else None
        if x is not None and x.is_constant and x.data.size == 1:
            self.numbers[name] = dequantized(x.data, x.type)

    def _single(
        self, node: OnnxNode, place: int, slot: Slot, operands: list[Value | None], attrs: dict[str, Any]
    ) -> None:
        """An operand, or an attribute, that is one input of the node."""
        if slot.kind == "plain":
            operands[slot.index] = node.optional(place)
        elif slot.kind == "integers":
            given = node.integers(slot.attr, place)
            attrs.update({} if given is None else {slot.attr: tuple(node.reader.dims(given))})
        else:
            x = operands[0]
            assert x is not None
            ends = dict(zip(("min", "max"), integer_range(x.type.dtype), strict=True))
            data = node.known(place)
            if data is None and node.has(place):
                raise node.unsupported(f"its input {slot.attr} is computed while the model runs")
            attrs[slot.attr] = ends.get(slot.attr, 0) if data is None else int(data.reshape(-1)[0])

    def _attributes(
        self, node: OnnxNode, form: NodeForm, operands: Sequence[Value | None], attrs: dict[str, Any], known: Any
    ) -> None:
        """The attributes of the dialect's op that no input holds."""
        for name, value in form.fixed.items() if form.read is None else ():
            node.expect(name, value)
        if form.window:
            attrs.update(_window(node, operands, known))
        for name in known:
            if name not in attrs and name in node.attrs:
                raw = node.attrs[name]  # a float is the one that the file holds, not the shortest decimal of it
                attrs[name] = node.attrs.pop(name) if isinstance(raw, float) else node.attr(name, None)
        first = operands[0]
        if isinstance(attrs.get("axis"), int) and attrs["axis"] < 0 and first is not None:
            attrs["axis"] += first.type.rank

    def _with_bias(
        self, operands: list[Value | None], roles: Sequence[str], node: OnnxNode, build: Builder
    ) -> list[Value | None]:
        """Operands, of which an int32 bias has the scale that follows from the others'."""
        place = roles.index("bias") if "bias" in roles else len(operands)
        bias = operands[place] if place < len(operands) else None
        x, w = operands[:2] if bias is not None else (None, None)
        if bias is not None and x is not None and w is not None and bias.type.dtype == "i32" and x.type.quant:
            name = next(name for name in node.inputs if self.values.get(name) is bias)
            data = self.arrays.get(name)
            if data is not None and data.size == w.type.shape[0]:
                self.arrays[name] = data.reshape(-1)
            operands[place] = self.on_grid(name, bias_params(x.type.q, w.type.q), build)
        return operands

    # ---- scales

    def on_grid(self, name: str, quant: QuantParams, build: Builder) -> Value:
        """The value of a tensor of codes as it is read here, with these parameters."""
        if name in self.arrays:
            if (name, quant) not in self.constants:
                data = self.arrays[name]
                self.constants[name, quant] = self.graph.add_constant(_held(data), name, quant)
            return self.constants[name, quant]
        value = self.values[name]
        if value.type.quant == quant:
            return value
        return build.value(self.ops["", "Identity"][0], [value], {}, element=(value.type.dtype, quant))

    def _quantized(self, node: OnnxNode, place: int, axis: int | None, build: Builder) -> Value:
        name = node.inputs[place]
        node.has(place)
        shape = self.arrays[name].shape if name in self.arrays else self.values[name].type.shape
        return self.on_grid(name, self._params(node, place + 1, axis, shape), build)

    def _element(self, node: OnnxNode, place: int, axis: int | None) -> Element:
        """Storage and parameters of the result; floats where the node says no scale."""
        if not node.has(place):
            return "f32", None
        zero, shape = node.known(place + 1), node.operand(0).type.shape if axis is not None else ()
        dtype = "u8" if zero is None else dtype_name(zero.dtype)
        said = node.attr("output_dtype", 0)
        if said:
            import onnx

            dtype = dtype_name(onnx.helper.tensor_dtype_to_np_dtype(said))
        return dtype, self._params(node, place, axis, shape)

    def _params(self, node: OnnxNode, place: int, axis: int | None, shape: Sequence[Any]) -> QuantParams:
        """Scale and zero point of the inputs from `place` on, for codes of that shape."""
        scale, zero = node.known(place), node.known(place + 1)
        if scale is None or (zero is None and node.has(place + 1)):
            raise node.unsupported("its scale or zero point is computed while the model runs")
        if scale.dtype != np.float32:
            raise node.unsupported(f"a scale of {scale.dtype} is not supported")
        zero = np.zeros(scale.shape, np.int64) if zero is None else _held(zero).astype(np.int64)
        axis = None if axis is None or not scale.ndim else axis % len(shape)
        if axis is not None and scale.size == shape[axis]:
            return QuantParams.of(scale.reshape(-1), zero.reshape(-1), axis)
        if scale.size != 1 or zero.size != 1:
            raise node.unsupported(f"{scale.size} scales of shape {list(scale.shape)} are not supported here")
        return QuantParams.of(scale.reshape(-1), zero.reshape(-1))

    def _said_axis(self, node: OnnxNode) -> int:
        if node.attr("block_size", 0):
            raise node.unsupported("scales of blocks are not supported")
        node.expect("saturate", 1)
        return int(node.attr("axis", 1))

    def value(self, name: str) -> Value:
        """The value of a tensor; constant codes that are moved before they are read have the parameters from there."""
        data = None if name in self.values else self.arrays[name]
        if data is not None and name in self.read_as and data.dtype.kind in "iu":
            self.values[name] = self.graph.add_constant(_held(data), name, self.read_as[name])
        elif data is not None and data.dtype.name in NARROW and name in self.blocked:
            self.values[name] = self.graph.add_constant(_held(data), name)
        return super().value(name)

    def _params_as_read(self) -> dict[str, QuantParams]:
        """The parameters of codes that no node makes: as they are first read, maybe moved before."""
        found: dict[str, QuantParams] = {}
        moving = {name for (_, name), ops in self.ops.items() if op_def(ops[0]).traits.moves_data}
        for proto in reversed(self.proto.graph.node):
            node = OnnxNode(proto, self)
            if node.op in moving or node.op in MOVING:
                result = found.get(node.outputs[0])
                found.update({name: result for name in node.inputs[:1] if result is not None})
            ops = self.ops.get((node.domain.replace("ai.onnx", ""), node.op), ())
            for name, scale, zero in _read_as(self.forms[ops[0]], node) if ops else ():
                if scale in self.arrays and self.arrays[scale].size == 1 and (not zero or zero in self.arrays):
                    zeros: Any = _held(self.arrays[zero]).reshape(-1) if zero else 0
                    found[name] = QuantParams.of(self.arrays[scale].reshape(-1), zeros)
        return found


def _read_as(form: NodeForm, node: OnnxNode) -> list[tuple[str, str, str]]:
    """The tensors that a node reads as codes, with the names of their scales and zero points."""
    names, place, found = [*node.inputs, "", "", ""], 0, []
    for slot in form.slots:
        places = [place] if slot.kind == "quantized" else []
        places = [*range(place, len(node.inputs), 3)] if slot.kind == "rest" else places
        found += [(names[each], names[each + 1], names[each + 2]) for each in places if names[each + 1 : each + 2]]
        place += {"quantized": 3, "result": 2}.get(slot.kind, 1)
    return found


def _held(data: Array) -> Array:
    """Codes of less than a byte in a byte."""
    return data.astype(NARROW[data.dtype.name]) if data.dtype.name in NARROW else data


def _window(node: OnnxNode, operands: Sequence[Value | None], known: Any) -> dict[str, Any]:
    """The attributes of a window as the dialect has them, pads written out."""
    x, w = operands[0], operands[1] if len(operands) > 1 else None
    assert x is not None
    kernel = kernel_of(node, w) if w is not None else node.attr("kernel_shape", ())
    made = window(node, kernel, x)
    stride, pads, dilation = made["stride"], made["pads"], made["dilation"]
    if w is None and node.attr("ceil_mode", 0):
        pads = _ceiled(node, x, kernel, stride, pads, dilation)
    if w is None:
        node.expect("storage_order", 0)
    found = {"kernel_shape": kernel, "strides": stride, "pads": pads, "dilations": dilation}
    if "dilations" not in known and dilation != (1,) * len(kernel):
        raise node.unsupported("a dilated window is not supported")
    return {name: value for name, value in found.items() if name in known}


def _ceiled(
    node: OnnxNode, x: Value, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """The pads at which plain windows are those of `ceil_mode`: the last one begins inside, or in the pads before."""
    if any(isinstance(size, str) for size in x.type.shape[2:]):
        raise node.unsupported(f"ceil_mode needs known sizes, not {x.type}")
    sizes = [int(size) for size in x.type.shape[2:]]
    out = pooled_shape(sizes, kernel, stride, pads, dilation, ceil_mode=True)
    return window_pads(sizes, kernel, stride, pads, dilation, out)


@collector_paused()
def from_quantized(
    proto: onnx.ModelProto, target: Target, optimization: str, sizes: Mapping[str, int] | None = None
) -> Graph:
    """The integer graph of a quantized model, as the target's runtime makes it at a level of optimization.

    Raises UnsupportedOp that names every node which cannot be read, and FileError for what is no valid model.
    """
    if optimization not in target.optimizations:
        raise InputError(
            f"optimization={optimization!r} is not a choice", help=f"choose from {', '.join(target.optimizations)}"
        )
    with damage_named():
        reader = IntegerReader(proto_of(proto), target.dialect, sizes)
        graph = reader.whole()
        graph.metadata.update({"target": target.name, IO_LAYOUT: target.layout, OPTIMIZATION: optimization})
        target.optimizations[optimization](graph, reader.facts())
        verify_graph(graph)
        return graph
