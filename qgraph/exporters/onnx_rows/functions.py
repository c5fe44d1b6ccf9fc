"""Functions of one element, or of two, that ONNX writes by several ops, or with conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows.rows import OnnxNodes, writes
from qgraph.ir import Node, Value


def number(writer: OnnxNodes, node: Node, value: float, result: str) -> str:
    """A number in the dtype of the node's result."""
    return writer.constant(np.array(value, node.result.type.numpy), f"{result}.number")


def chain(writer: OnnxNodes, op: str, inputs: Sequence[str], result: str, **attrs: Any) -> str:
    """The name of an inner tensor that an op makes."""
    name = writer.unique(f"{result}.{op.lower()}")
    writer.op(op, inputs, name, **attrs)
    return name


def numbers(writer: OnnxNodes, values: Sequence[Value], result: str) -> list[str]:
    """The names of values; conditions as int32: ONNX Runtime's kernels of order and choice take no bool."""
    import onnx

    names = [writer.name(value) for value in values]
    return [
        chain(writer, "Cast", [name], result, to=onnx.TensorProto.INT32) if value.type.dtype == "bool" else name
        for name, value in zip(names, values, strict=True)
    ]


def of_numbers(writer: OnnxNodes, node: Node, op: str, inputs: Sequence[str], result: str, **attrs: Any) -> None:
    """Write an op whose result is of the dtype of its operands, which are `numbers`."""
    import onnx

    if node.result.type.dtype != "bool":
        writer.op(op, inputs, result, **attrs)
        return
    writer.op("Cast", [chain(writer, op, inputs, result, **attrs)], result, to=onnx.TensorProto.BOOL)


@writes("nn.less", "nn.less_equal")
def _less(writer: OnnxNodes, node: Node, result: str) -> None:
    op = {"nn.less": "Less", "nn.less_equal": "LessOrEqual"}[node.op]
    writer.op(op, numbers(writer, node.inputs, result), result)


@writes("nn.where")
def _where(writer: OnnxNodes, node: Node, result: str) -> None:
    condition, *choices = node.inputs
    of_numbers(writer, node, "Where", [writer.name(condition), *numbers(writer, choices, result)], result)


@writes("nn.rsqrt")
def _rsqrt(writer: OnnxNodes, node: Node, result: str) -> None:
    writer.op("Reciprocal", [chain(writer, "Sqrt", writer.operands(node), result)], result)


@writes("nn.gelu")
def _gelu(writer: OnnxNodes, node: Node, result: str) -> None:
    """As torch's exporter writes it; Gelu itself comes with opset 20."""
    (x,) = writer.operands(node)
    if node.attrs["approximate"] == "none":
        inner = chain(writer, "Mul", [x, number(writer, node, math.sqrt(0.5), result)], result)
        bent = chain(writer, "Erf", [inner], result)
    else:
        square = chain(writer, "Mul", [x, x], result)
        cube = chain(writer, "Mul", [square, x], result)
        more = chain(writer, "Mul", [cube, number(writer, node, 0.044715, result)], result)
        both = chain(writer, "Add", [x, more], result)
        inner = chain(writer, "Mul", [both, number(writer, node, math.sqrt(2 / math.pi), result)], result)
        bent = chain(writer, "Tanh", [inner], result)
    share = chain(writer, "Add", [bent, number(writer, node, 1, result)], result)
    half = chain(writer, "Mul", [x, number(writer, node, 0.5, result)], result)
    writer.op("Mul", [half, share], result)


@writes("nn.elu")
def _elu(writer: OnnxNodes, node: Node, result: str) -> None:
    alpha, scale, inner = (node.attrs[name] for name in ("alpha", "scale", "input_scale"))
    if inner == 1 and scale == 1:
        writer.op("Elu", writer.operands(node), result, alpha=alpha)
    elif inner == 1:
        writer.op("Selu", writer.operands(node), result, alpha=alpha, gamma=scale)
    elif scale == 1 and abs(alpha * inner - 1) < 1e-6:
        writer.op("Celu", writer.operands(node), result, alpha=alpha)
    else:
        raise ExportError(f"ONNX has no elu with scale={scale} and input_scale={inner}", where=node.where)


@writes("nn.softplus")
def _softplus(writer: OnnxNodes, node: Node, result: str) -> None:
    """Beyond the threshold log(1 + exp(x)) is x, to float32: of 20 it is 20.000000002."""
    beta = node.attrs["beta"]
    if node.attrs["threshold"] < 20:
        raise ExportError(f"ONNX has no softplus with threshold={node.attrs['threshold']}", where=node.where)
    if beta == 1:
        writer.op("Softplus", writer.operands(node), result)
        return
    inner = chain(writer, "Mul", [*writer.operands(node), number(writer, node, beta, result)], result)
    soft = chain(writer, "Softplus", [inner], result)
    writer.op("Mul", [soft, number(writer, node, 1 / beta, result)], result)


@writes("nn.hard_shrink")
def _hard_shrink(writer: OnnxNodes, node: Node, result: str) -> None:
    writer.op("Shrink", writer.operands(node), result, lambd=node.attrs["bound"], bias=0.0)


@writes("nn.soft_shrink")
def _soft_shrink(writer: OnnxNodes, node: Node, result: str) -> None:
    writer.op("Shrink", writer.operands(node), result, lambd=node.attrs["bound"], bias=node.attrs["bound"])


@writes("nn.log_sigmoid")
def _log_sigmoid(writer: OnnxNodes, node: Node, result: str) -> None:
    soft = chain(writer, "Softplus", [chain(writer, "Neg", writer.operands(node), result)], result)
    writer.op("Neg", [soft], result)


@writes("nn.prelu")
def _prelu(writer: OnnxNodes, node: Node, result: str) -> None:
    x, slope = writer.operands(node)
    rank = node.operand(0).type.rank
    shape = writer.constant(np.array([-1, *(1,) * max(rank - 2, 0)], np.int64), f"{result}.shape")
    writer.op("PRelu", [x, chain(writer, "Reshape", [slope, shape], result)], result)


@writes("nn.not_equal")
def _not_equal(writer: OnnxNodes, node: Node, result: str) -> None:
    writer.op("Not", [chain(writer, "Equal", writer.operands(node), result)], result)


@writes("nn.cast")
def _cast(writer: OnnxNodes, node: Node, result: str) -> None:
    import onnx

    writer.op("Cast", writer.operands(node), result, to=onnx.helper.np_dtype_to_tensor_dtype(node.result.type.numpy))


@writes("nn.floor_div")
def _floor_div(writer: OnnxNodes, node: Node, result: str) -> None:
    """Of integers: ONNX's Div rounds towards 0; where that is not down, the two remainders that Mod has differ by b."""
    a, b = writer.operands(node)
    quotient = chain(writer, "Div", [a, b], result)
    if node.result.type.is_float:
        writer.op("Floor", [quotient], result)
        return
    remainders = [chain(writer, "Mod", [a, b], result, fmod=fmod) for fmod in (0, 1)]
    too_much = chain(writer, "Div", [chain(writer, "Sub", remainders, result), b], result)
    writer.op("Sub", [quotient, too_much], result)


@writes("nn.remainder")
def _remainder(writer: OnnxNodes, node: Node, result: str) -> None:
    a, b = writer.operands(node)
    if not node.result.type.is_float:
        writer.op("Mod", [a, b], result, fmod=0)
        return
    whole = chain(writer, "Floor", [chain(writer, "Div", [a, b], result)], result)
    writer.op("Sub", [a, chain(writer, "Mul", [whole, b], result)], result)
