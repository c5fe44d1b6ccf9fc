"""What layers share: storage types that go together, options, accumulators that wrap."""

from __future__ import annotations

from typing import Any, Protocol

from qgraph.errors import TypeMismatch
from qgraph.exporters.tflite import Operator
from qgraph.ir import Node, TensorType, Value, op_def

ACTIVATION = "i8q|u8q|i16q"
WEIGHT = "i8q|u8q|i4q"
BIAS = "i32|i64"
BIAS_TYPES = ("i32", "i64")
"""`quantized_bias_type`: of 16-bit activations, how wide the kernel adds up; None where the file does not say."""


class Layer(Protocol):
    """What kernels of layers read of an op."""

    x: Value
    w: Value
    bias: Value | None
    result: Value
    activation: str


def check_layer(op: Layer, name: str, *, shifted: bool = False) -> None:
    """Raise TypeMismatch for storage types or zero points that no kernel of a layer takes.

    Activations and result of one type; uint8 weights with uint8 activations and one zero point, others symmetric
    unless `shifted` (then those of int8 with one scale may have a zero point); scales per channel are those of the
    channels of the result; a bias of int64 with 16-bit activations only.
    """
    x, w, made = op.x.type, op.w.type, op.result.type
    if x.dtype != made.dtype:
        raise TypeMismatch(f"{name}: x is {x} and the result {made}; they must have one storage type")
    if (x.dtype == "u8") != (w.dtype == "u8"):
        raise TypeMismatch(f"{name}: weights of {w.dtype} do not go with activations of {x.dtype}")
    if w.dtype == "u8" and w.q.axis is not None:
        raise TypeMismatch(f"{name}: uint8 weights {w} must have one scale and zero point")
    if w.dtype != "u8" and any(w.q.zero_point) and not (shifted and w.dtype == "i8" and w.q.axis is None):
        raise TypeMismatch(f"{name}: weights {w} must have zero points of 0")
    axis = weight_axis(name)
    if w.q.axis not in (None, axis):
        raise TypeMismatch(f"{name}: weights {w} must have their scales along axis {axis}, that of the output channels")
    if x.dtype == "i16" and (any(x.q.zero_point) or any(made.q.zero_point)):
        raise TypeMismatch(f"{name}: 16-bit activations must have zero points of 0, not {x} and {made}")
    if op.bias is not None and op.bias.type.quant is not None and any(op.bias.type.q.zero_point):
        raise TypeMismatch(f"{name}: the bias {op.bias.type} must have zero points of 0")
    if op.bias is not None and op.bias.type.dtype == "i64" and x.dtype != "i16":
        raise TypeMismatch(f"{name}: a bias of int64 needs 16-bit activations, not {x}")


def weight_axis(name: str) -> int | None:
    """The dimension of a layer's weight that holds the output channels."""
    definition = op_def(name)
    place = definition.operand_index("weight")
    return None if place is None else definition.operands[place].pattern.axis("O")


def weight_zero_point(w: TensorType) -> int:
    """The zero point of the weight; 0 of one with scales per channel."""
    return w.q.zero_point[0]


def written_bias_type(node: Node) -> dict[str, Any]:
    """The option `quantized_bias_type`, where the node has one."""
    given = node.attrs["quantized_bias_type"]
    return {} if given is None else {"quantized_bias_type": given}


def read_bias_type(operator: Operator) -> dict[str, Any]:
    """The attribute `quantized_bias_type`; a file that does not say has the format's default, float."""
    given = operator.options["quantized_bias_type"]
    return {"quantized_bias_type": None if given == "f32" else given}
