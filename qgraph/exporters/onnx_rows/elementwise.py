"""Functions of one element, or of two."""

from __future__ import annotations

import numpy as np

from qgraph.exporters.onnx_rows.rows import OnnxNodes, same, writes
from qgraph.ir import Node

same("nn.add", "Add")
same("nn.sub", "Sub")
same("nn.mul", "Mul")
same("nn.relu", "Relu")
same("nn.leaky_relu", "LeakyRelu", alpha="negative_slope")
same("nn.hard_swish", "HardSwish")
same("nn.sigmoid", "Sigmoid")
same("nn.tanh", "Tanh")
same("nn.softmax", "Softmax", axis="axis")
same("nn.log_softmax", "LogSoftmax", axis="axis")
same("nn.exp", "Exp")
same("nn.log", "Log")
same("nn.sqrt", "Sqrt")
same("nn.abs", "Abs")
same("nn.sign", "Sign")
same("nn.sin", "Sin")
same("nn.cos", "Cos")
same("nn.atan", "Atan")
same("nn.erf", "Erf")
same("nn.floor", "Floor")
same("nn.ceil", "Ceil")
same("nn.round", "Round")
same("nn.mish", "Mish")
same("nn.softsign", "Softsign")
same("nn.div", "Div")
same("nn.pow", "Pow")
same("nn.maximum", "Max")
same("nn.minimum", "Min")
same("nn.equal", "Equal")
same("nn.logical_and", "And")
same("nn.logical_or", "Or")
same("nn.logical_xor", "Xor")
same("nn.logical_not", "Not")


def clip(writer: OnnxNodes, node: Node, x: str, bounds: tuple[float, float], result: str) -> None:
    """Write a clamp of the tensor x; an infinite bound is left out."""
    dtype = node.result.type.numpy
    ends = [
        "" if np.isinf(bound) else writer.constant(np.array(bound, dtype), f"{result}.{end}")
        for end, bound in zip(("min", "max"), bounds, strict=True)
    ]
    writer.op("Clip", [x, *ends], result)


@writes("nn.clamp", "nn.relu6")
def _clamp(writer: OnnxNodes, node: Node, result: str) -> None:
    bounds = (0.0, 6.0) if node.op == "nn.relu6" else (node.attrs["min"], node.attrs["max"])
    clip(writer, node, writer.name(node.operand(0)), bounds, result)


@writes("nn.detach")
def _detach(writer: OnnxNodes, node: Node, result: str) -> None:
    writer.op("Identity", writer.operands(node), result)


@writes("nn.dropout")
def _dropout(writer: OnnxNodes, node: Node, result: str) -> None:
    ratio = writer.constant(np.array(node.attrs["p"], np.float32), f"{result}.ratio")
    writer.op("Dropout", [*writer.operands(node), ratio], result)


@writes("nn.hard_sigmoid")
def _hard_sigmoid(writer: OnnxNodes, node: Node, result: str) -> None:
    writer.op("HardSigmoid", writer.operands(node), result, alpha=1 / 6, beta=0.5)
