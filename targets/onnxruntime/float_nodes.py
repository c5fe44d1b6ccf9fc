"""Nodes that are several in the .onnx file: ops of `nn` that stay in float, written as the float exporter does, and
tables.

The file's metadata says which node each is; read back, it must give the very same ONNX nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters.onnx_float import write_op
from qgraph.exporters.onnx_rows import ROWS
from qgraph.ir import Array, Graph, Node, Value
from qgraph.ir.types import integer_range
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.onnx_layout import REQUANTIZE

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs

    from qgraph.targets.onnxruntime.onnx_writer import _Writer

FLOAT = ".float"
"""End of the names of the ONNX nodes that such a node becomes."""
LOOKUP = "ort.Lookup"
INT32 = 6
"""ONNX's number of the type."""
OPSET = 18
"""The lowest whose ops the rows of the float exporter are."""
OPSET_OF_16_BITS = 21
"""The lowest in which codes have 16 bits."""


def stays_float(node: Node) -> bool:
    """Whether a node of an `ort` graph is an op of `nn`."""
    return node.op in ROWS


def is_composite(node: Node) -> bool:
    """Whether a node becomes several ONNX nodes, of which the metadata tells."""
    return stays_float(node) or node.op == LOOKUP


def needed_opset(nodes: Sequence[Node]) -> int:
    """The lowest opset that has what is among the nodes: ops on floats, codes of 16 bits, blocks; else 0."""
    values = (value for node in nodes for value in (*node.inputs, *node.results))
    wide = any(value.type.dtype in ("i16", "u16") for value in values) or any(n.attrs.get("block_size") for n in nodes)
    return OPSET_OF_16_BITS if wide else OPSET if any(map(stays_float, nodes)) else 0


@dataclass
class FloatNodes:
    """The ONNX nodes of one graph's ops of `nn`; see `qgraph.exporters.onnx_float.OnnxNodes`."""

    writer: _Writer
    words: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # what the metadata says: op, attributes, operands
    tensors: dict[str, Any] = field(default_factory=dict)
    clipped: dict[Value, Any] = field(default_factory=dict)
    writing: str = ""  # the op of the node that is being written

    def write(self, node: Node) -> None:
        """Append the ONNX nodes of a node."""
        self.writing = node.op
        result, *others = (self._add(self.writer.tensors[value]) for value in node.results)
        operands = ["" if value is None else self.writer.tensors[value].name for value in node.operands]
        more = [[tensor.name for tensor in others]] if others else []
        self.words[result.name] = (node.op, dict(node.attrs), operands, *more)
        if node.op == LOOKUP:
            self._write_lookup(node, result.name)
        elif node.op == "nn.gelu":  # in one op, which nothing fuses into another
            by_tanh = node.attrs["approximate"] == "tanh"
            self.op("FastGelu" if by_tanh else "Gelu", self.operands(node), result.name)
        else:
            write_op(self, node, result.name)

    def _write_lookup(self, node: Node, result: str) -> None:
        """Gather takes negative codes, too, in the order of their bits: it counts from the end of the 256."""
        x, table = (self._add(self.writer.tensors[value]).name for value in node.inputs)
        index = self.unique(f"{result}.index")
        self.op("Cast", [x], index, to=INT32)
        self.op("Gather", [table, index], result, axis=0)

    def op(self, op: str, inputs: Sequence[str], result: str | Sequence[str], **attrs: Any) -> None:
        """Append one ONNX node."""
        names = [result] if isinstance(result, str) else [*result]
        made = [self.tensors.get(name) or self._add(_variable(name)) for name in names]
        given = [self.tensors[name] if name else self.writer.empty() for name in inputs]
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in attrs.items()}
        self.writer.surgeon(op, f"{names[0]}{FLOAT}", lists, given, *made)

    def operands(self, node: Node) -> list[str]:
        """The names of a node's operands."""
        return ["" if value is None else self.name(value) for value in node.operands]

    def name(self, value: Value) -> str:
        """The name of a value; of what a DequantizeLinear makes: behind a Clip at the ends of its range; of a sum that
        is normalized: behind one without ends.

        They change nothing, and keep the runtime from making an op on integers of the float op between
        DequantizeLinear and QuantizeLinear (QDQ transformers), and other bits of a sum with its normalization
        (SkipLayerNormFusion), at EXTENDED and above.
        """
        tensor = self.writer.tensors[value]
        maker = "" if value.producer is None else value.producer.op
        if maker == "ort.DequantizeLinear" or (maker == "nn.add" and self.writing == "nn.layer_norm"):
            if value not in self.clipped:
                self.clipped[value] = self._clip(value, tensor)
            tensor = self.clipped[value]
        return str(self._add(tensor).name)

    def _clip(self, value: Value, tensor: Any) -> Any:
        assert value.producer is not None
        source = value.producer.operand(0).type
        ends = np.array([-np.inf, np.inf], np.float32)
        if source.quant is not None and source.quant.axis is None:
            ends = kernels.dequantize(np.array(integer_range(source.dtype)), source.q)
        bounds = [
            self.tensors[self.constant(data, f"{tensor.name}.{end}")]
            for end, data in zip(("min", "max"), ends, strict=True)
        ]
        made = self.writer.variable(self.writer.unique(f"{tensor.name}.float"), value.type)
        self.writer.surgeon("Clip", f"{made.name}{REQUANTIZE}", {}, [tensor, *bounds], made)
        return made

    def constant(self, data: Array, wanted: str) -> str:
        """A new initializer."""
        return str(self._add(self.writer.constant(self.writer.unique(wanted), data)).name)

    def unique(self, wanted: str) -> str:
        """A name that is not taken."""
        return self.writer.unique(wanted)

    def _add(self, tensor: Any) -> Any:
        return self.tensors.setdefault(tensor.name, tensor)


def _variable(name: str) -> gs.Variable:
    """A tensor of a type that the runtime finds."""
    import onnx_graphsurgeon as gs

    return gs.Variable(name)


def read_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a node as the metadata has them: lists are tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in attrs.items()}


def check_same(model: onnx.ModelProto, graph: Graph, form: str) -> None:
    """Raise FileError unless writing the graph again gives the ONNX nodes on floats that the model has."""
    import onnx

    from qgraph.targets.onnxruntime.onnx_writer import to_onnx

    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    again = onnx.load_from_string(to_onnx(graph, form, opset))
    if _float_parts(model) != _float_parts(again):
        raise FileError("the ops on floats of this .onnx file are not those that its metadata tells of")


def _float_parts(model: onnx.ModelProto) -> list[bytes]:
    """The nodes on floats, and what is constant among their inputs."""
    nodes = [node for node in model.graph.node if node.name.endswith((FLOAT, REQUANTIZE))]
    read = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in read]
    return sorted(part.SerializeToString(deterministic=True) for part in [*nodes, *tensors])
