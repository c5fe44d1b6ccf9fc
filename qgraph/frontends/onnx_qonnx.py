"""QONNX models (Brevitas, FINN, hls4ml) as graphs of fake-quant: `Quant` and `BipolarQuant` where they are unambiguous.

Source: qonnx, docs/qonnx-custom-ops. A Quant rounds behind its zero point, so only those of zero point 0 are a
`quant.fake_quant`; `Trunc`, whose rounding depends on what made its input, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qgraph.frontends.composed import number
from qgraph.frontends.onnx_float import Reader, damage_named, proto_of
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops import FromOnnx
from qgraph.ir import Array, Builder, Graph, Value, verify_graph
from qgraph.ir.trained import declare_summands

if TYPE_CHECKING:
    import onnx

DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")
MOST_BITS = 16


def is_qonnx(proto: onnx.ModelProto) -> bool:
    """Whether a model has ops of QONNX."""
    return any(node.domain in DOMAINS for node in proto.graph.node)


def from_qonnx(proto: onnx.ModelProto) -> Graph:
    """The fake-quant graph of a model; raises UnsupportedOp that names every node which cannot be read."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(proto)
    known = {entry.domain for entry in model.opset_import}
    missing = {node.domain for node in model.graph.node} - known  # exporters leave it out
    model.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in missing if domain in DOMAINS)
    with damage_named():
        graph = QonnxReader(proto_of(model), "fake_quant").whole()
        declare_summands(graph)
        verify_graph(graph)
        return graph


class QonnxReader(Reader):
    """A fake-quant graph as the nodes of a model are read into it."""

    def rows(self, node: OnnxNode) -> Sequence[FromOnnx]:
        """Those of floats, and of QONNX's own ops."""
        if node.domain not in DOMAINS:
            return super().rows(node)
        return [ROWS[node.op]] if node.op in ROWS else []


def constant(node: OnnxNode, index: int, what: str) -> Array:
    """An input that is constant."""
    data = node.known(index)
    if data is None:
        raise node.unsupported(f"its {what} is computed while the model runs")
    return data


def quant(node: OnnxNode, build: Builder) -> Value:
    """clamp(round(x / scale), range) * scale."""
    x, scale = node.operand(0), constant(node, 1, "scale").astype(np.float32)
    if constant(node, 2, "zero point").any():
        raise node.unsupported("it rounds behind a zero point that is not 0: no fake-quant does that")
    bits = constant(node, 3, "bit width").reshape(-1)
    if bits.size != 1 or bits[0] != int(bits[0]) or not 1 <= bits[0] <= MOST_BITS:
        raise node.unsupported(f"a bit width of {bits.tolist()} is not supported")
    signed, narrow = bool(node.attr("signed", 1)), int(node.attr("narrow", 0))
    node.expect("rounding_mode", "ROUND")
    width = int(bits[0])
    low, high = (narrow - 2 ** (width - 1), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1 - narrow)
    axis = axis_of(node, scale, x)
    name = node.outputs[0]
    scales = build.constant(scale.reshape(-1), f"{name}_scale")
    zeros = build.constant(np.zeros(scale.size, np.int32), f"{name}_zero_point")
    type = f"{'i' if signed else 'u'}{8 if width <= 8 else 16}"
    made: Value = build.quant.fake_quant(x, scales, zeros, type=type, range=(low, high), axis=axis, symmetric=signed)
    return made


def axis_of(node: OnnxNode, scale: Array, x: Value) -> int | None:
    """The dimension of x along which the scales differ."""
    if scale.size == 1:
        return None
    axes = [i for i, size in enumerate(scale.shape) if size != 1]
    if len(axes) != 1 or scale.ndim > x.type.rank:
        raise node.unsupported(f"scales of shape {list(scale.shape)} are not along one axis of {x.type}")
    return axes[0] + x.type.rank - scale.ndim


def bipolar(node: OnnxNode, build: Builder) -> Value:
    """scale where x is at least 0, else -scale."""
    x, scale = node.operand(0), constant(node, 1, "scale").astype(np.float32)
    below = build.nn.less(x, number(build, 0, x.type.dtype))
    name = node.outputs[0]
    made: Value = build.nn.where(below, build.constant(-scale, f"{name}_low"), build.constant(scale, f"{name}_high"))
    return made


ROWS: dict[str, Callable[[OnnxNode, Builder], Value]] = {"Quant": quant, "BipolarQuant": bipolar}
