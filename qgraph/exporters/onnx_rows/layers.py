"""Layers and pooling."""

from __future__ import annotations

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows.rows import OnnxNodes, same, with_integers, writes
from qgraph.ir import Node

WINDOW = {"strides": "stride", "pads": "pads"}

same("nn.conv", "Conv", **WINDOW, dilations="dilation", group="groups")
same(
    *("nn.avg_pool", "AveragePool"),
    **{"kernel_shape": "kernel", **WINDOW, "ceil_mode": "ceil_mode", "count_include_pad": "count_include_pad"},
)
same("nn.max_pool", "MaxPool", kernel_shape="kernel", **WINDOW, dilations="dilation", ceil_mode="ceil_mode")
with_integers("nn.mean", "ReduceMean", "axes", keepdims="keepdims")


@writes("nn.conv_transpose")
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


@writes("nn.linear")
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


@writes("nn.batch_norm")
def _batch_norm(writer: OnnxNodes, node: Node, result: str) -> None:
    momentum = 1 - node.attrs["momentum"]  # ONNX weighs the running statistics, torch the batch's
    writer.op("BatchNormalization", writer.operands(node), result, epsilon=node.attrs["eps"], momentum=momentum)
