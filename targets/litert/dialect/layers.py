"""What layers share: storage types that go together, options, accumulators that wrap.

The functions requantize accumulators as the reference kernels of convolutions, FULLY_CONNECTED and BATCH_MATMUL do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qgraph.arith.exactness import Accumulator, AccumulatorType
from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.arith.requantize import DoubleRounding, Float64Away, WideRounding, multiply_float64_away
from qgraph.errors import TypeMismatch, UnsupportedOp
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Node, TensorType, Value, kept_by_node, op_def
from qgraph.targets.litert.dialect.parameters import activation_range, product_multiplier, saturated, scale, zero_point

if TYPE_CHECKING:
    from qgraph.targets.litert.dialect.convolution import Conv2d, DepthwiseConv2d
    from qgraph.targets.litert.dialect.linear import BatchMatmul, FullyConnected
    from qgraph.targets.litert.dialect.transposed import TransposeConv


def convolution(op: Conv2d, acc: Accumulator) -> Array:
    """CONV_2D: double rounding; with 16-bit activations as the bias is wide."""
    refuse_without_bias(op, "CONV_2D")
    if not is_wide(op):
        return narrow_checked(op, acc)
    refuse_misread_bias(op, op.quantized_bias_type, "CONV_2D")
    assert op.bias is not None
    return wide(op, acc) if op.bias.type.dtype == "i64" else narrow(op, acc)


def depthwise_convolution(op: DepthwiseConv2d, acc: Accumulator) -> Array:
    """DEPTHWISE_CONV_2D: double rounding, or with 16-bit activations the wide product."""
    if op.w.type.dtype == "i4":
        raise UnsupportedOp("LiteRT's reference kernels have no DEPTHWISE_CONV_2D with int4 weights (version 7)")
    if not is_wide(op):
        return narrow_checked(op, acc)
    refuse_misread_bias(op, None, "DEPTHWISE_CONV_2D")
    return wide(op, acc)


def transposed_convolution(op: TransposeConv, acc: Accumulator) -> Array:
    """TRANSPOSE_CONV: double rounding, or with 16-bit activations the wide product."""
    refuse_uncovered(op)
    if not is_wide(op):
        return narrow_checked(op, acc)
    refuse_misread_bias(op, op.quantized_bias_type, "TRANSPOSE_CONV")
    return narrow(op, acc) if op.quantized_bias_type == "i32" else wide(op, acc)


def fully_connected(op: FullyConnected, acc: Accumulator) -> Array:
    """FULLY_CONNECTED: `acc * ((x_scale * w_scale) / result_scale)` in float64, half away.

    With 16-bit activations the accumulators have 64 bits, but where `quantized_bias_type` is int32.
    """
    away = _float64_away(op)
    if is_wide(op) and op.quantized_bias_type != "i32":
        value = multiply_float64_away(acc.astype(np.int64), away.multiplier)
        return saturated(value, op.result.type, away.quant_min, away.quant_max)
    return away(acc)


@kept_by_node
def _float64_away(op: FullyConnected) -> Float64Away:
    refuse_bias_scale(op)
    if is_wide(op):
        refuse_misread_bias(op, op.quantized_bias_type, "FULLY_CONNECTED")
    result = op.result.type
    multiplier = product_multiplier(op.x.type, op.w.type, result)
    return Float64Away(multiplier, zero_point(result), *activation_range(op.activation, result), result.numpy.type)


def matrix_product(op: BatchMatmul, acc: Accumulator) -> Array:
    """BATCH_MATMUL: the product of the scales in **float32**, divided in float64; double rounding, or the wide product.

    Scales per channel of y count as 0. Source: batch_matmul.cc (Prepare, GetQuantizedConvolutionMultipler).
    """
    y_scale = scale(op.y.type) if op.y.type.q.scales.size == 1 else np.float32(0)
    real = float(np.float32(scale(op.x.type) * y_scale)) / float(scale(op.result.type))
    return product_scaled(op, acc, real)


def product_scaled(op: BatchMatmul, acc: Accumulator, real: float) -> Array:
    """The accumulators of a matrix product times `real`."""
    result = op.result.type
    multiplier, shift = quantize_multiplier(real)
    how = WideRounding if result.dtype == "i16" else DoubleRounding
    return how(multiplier, shift, zero_point(result), *activation_range("NONE", result), result.numpy.type)(acc)


def is_wide(op: Layer) -> bool:
    """Whether the activations have 16 bits."""
    return op.x.type.dtype == "i16"


def accumulator(op: Layer) -> AccumulatorType:
    """int32, or int64 with 16-bit activations, but where the bias, or an option, says int32."""
    narrow = not is_wide(op) or getattr(op, "quantized_bias_type", None) == "i32"
    narrow |= op.bias is not None and op.bias.type.dtype == "i32"
    zeros = {"x": zero_point(op.x.type), "w": weight_zero_point(op.w.type)}
    return AccumulatorType(32 if narrow else 64, zeros)


def narrow_checked(op: Layer, acc: Accumulator) -> Array:
    """`narrow`, for what the runtime does not refuse."""
    if op.x.type.dtype == "u8":
        refuse_bias_scale(op)
    return narrow(op, acc)


def narrow(op: Layer, acc: Accumulator) -> Array:
    """Accumulators of int32: double rounding. Source: reference/integer_ops/conv.h."""
    return _double_rounding(op)(acc)


@kept_by_node
def _double_rounding(op: Layer) -> DoubleRounding:
    result = op.result.type
    multiplier, shift = quantize_multiplier(layer_multiplier(op))
    bounds = activation_range(op.activation, result)
    return DoubleRounding(multiplier, shift, zero_point(result), *bounds, result.numpy.type)


def wide(op: Layer, acc: Accumulator) -> Array:
    """Accumulators of int64, times a multiplier of 16 bits. Source: reference/integer_ops/conv.h, for int16."""
    return _wide_rounding(op)(acc)


@kept_by_node
def _wide_rounding(op: Layer) -> WideRounding:
    result = op.result.type
    multiplier, shift = quantize_multiplier(layer_multiplier(op))
    bounds = activation_range(op.activation, result)
    return WideRounding(multiplier, shift, zero_point(result), *bounds, result.numpy.type)


def layer_multiplier(op: Layer) -> Array:
    """x_scale * w_scale / result_scale in float64; for uint8 the product is rounded to float32 first.

    Source: kernel_util.cc: PopulateConvolutionQuantizationParams, GetQuantizedConvolutionMultipler.
    """
    if op.x.type.dtype == "u8":
        return float_multiplier(op)
    return product_multiplier(op.x.type, op.w.type, op.result.type)


def float_multiplier(op: Layer) -> Array:
    """The same, with the product of the scales rounded to float32."""
    product = (scale(op.x.type) * op.w.type.q.scales).astype(np.float64)
    return np.asarray(product / np.float64(scale(op.result.type)))


def refuse_without_bias(op: Layer, operator: str) -> None:
    """Raise UnsupportedOp for a layer without a bias."""
    if op.bias is None:
        raise UnsupportedOp(f"LiteRT has no {operator} without a bias", help="give it a bias of zeros")


def refuse_bias_scale(op: Layer) -> None:
    """Raise UnsupportedOp for a bias scale that differs from x_scale * w_scale by over 2% of a step of the result.

    LiteRT compares them for uint8 layers and for FULLY_CONNECTED with weights per tensor.
    Source: GetQuantizedConvolutionMultipler, kernel_util.cc.
    """
    if op.bias is None or op.w.type.q.scales.size > 1:
        return
    product = float(scale(op.x.type) * scale(op.w.type))
    single = op.bias.type.quant is not None and op.bias.type.q.scales.size == 1  # of several LiteRT reads 0
    given = float(scale(op.bias.type)) if single else 0.0
    if abs(product - given) / float(scale(op.result.type)) > 0.02:
        raise UnsupportedOp(f"LiteRT refuses a bias of scale {given:.6g}, as x_scale * w_scale is {product:.6g}")


def refuse_uncovered(op: TransposeConv) -> None:
    """Raise UnsupportedOp for sizes of a result that do not lead back to those of x. Source: transpose_conv.cc."""
    if not op.covers():
        raise UnsupportedOp(f"LiteRT does not make {op.result.type} of {op.x.type} with {op.padding} padding")


def refuse_misread_bias(op: Layer, declared: str | None, operator: str) -> None:
    """Raise UnsupportedOp for an int32 bias of 16-bit activations that the kernel reads as int64, past its end.

    LiteRT goes by the option `quantized_bias_type`, not by the bias's type.
    """
    if op.bias is not None and (op.bias.type.dtype == "i32") != (declared == "i32"):
        raise UnsupportedOp(
            f"LiteRT reads the bias of this {operator} as {'int32' if declared == 'i32' else 'int64'}",
            help="set quantized_bias_type to the type of the bias",
        )


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
