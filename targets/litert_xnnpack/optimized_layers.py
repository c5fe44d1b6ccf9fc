"""LiteRT's optimized kernels of layers, which run where the XNNPACK delegate refuses one.

They round twice, as the reference kernels do, but the second time half up; how is a parameter (`Rounding`), because
kernels for other processors do it otherwise. Sources below tflite/kernels: optimized_integer_ops, cpu_backend_gemm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.exactness import Accumulator, as_int32
from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.ir import Array
from qgraph.targets.litert.dialect import layers as reference
from qgraph.targets.litert.dialect.convolution import Conv2d, DepthwiseConv2d
from qgraph.targets.litert.dialect.layers import Layer
from qgraph.targets.litert.dialect.linear import FullyConnected
from qgraph.targets.litert.dialect.parameters import activation_range, saturated
from qgraph.targets.litert.dialect.transposed import TransposeConv

Rounding = Callable[[ArrayLike, ArrayLike, ArrayLike], NDArray[np.int32]]
"""(accumulator, multiplier, shift) -> rounded."""

CHANNELS, ELEMENTS = 8, 16
"""What some kernels handle at once, of a row of channels or of all elements; the rest is rounded as elsewhere."""


def convolution(op: Conv2d, acc: Accumulator, rounding: Rounding) -> Array:
    """CONV_2D; grouped, or with 16-bit activations and a bias of int64, it is the reference kernel's."""
    reference.refuse_without_bias(op, "CONV_2D")
    if reference.is_wide(op):
        reference.refuse_misread_bias(op, op.quantized_bias_type, "CONV_2D")
    elif op.x.type.dtype == "u8":
        reference.refuse_bias_scale(op)
    grouped = op.x.type.shape[3] != op.w.type.shape[3]
    if grouped or (reference.is_wide(op) and op.quantized_bias_type != "i32"):
        return reference.convolution(op, acc)
    return rounded(op, acc, reference.layer_multiplier(op), rounding)


def depthwise_convolution(op: DepthwiseConv2d, acc: Accumulator, rounding: Rounding) -> Array:
    """DEPTHWISE_CONV_2D: blocks of channels, and the rest; of uint8 and 16 bits as the reference kernels."""
    if op.x.type.dtype != "i16":
        reference.refuse_without_bias(op, "DEPTHWISE_CONV_2D")
    if op.x.type.dtype != "i8":
        return reference.depthwise_convolution(op, acc)
    return in_blocks(op, acc, rounding, CHANNELS, acc.shape[-1])


def transposed_convolution(op: TransposeConv, acc: Accumulator, rounding: Rounding) -> Array:
    """TRANSPOSE_CONV: blocks of channels, of uint8 blocks of elements; with 16 bits as the width of the bias says."""
    reference.refuse_uncovered(op)
    if op.x.type.dtype == "u8":
        reference.refuse_bias_scale(op)
        return in_blocks(op, acc, rounding, ELEMENTS, acc.size)
    if reference.is_wide(op):
        reference.refuse_misread_bias(op, op.quantized_bias_type, "TRANSPOSE_CONV")
        if op.quantized_bias_type != "i32":
            return reference.wide(op, acc)
    return in_blocks(op, acc, rounding, CHANNELS, acc.shape[-1])


def fully_connected(op: FullyConnected, acc: Accumulator, rounding: Rounding) -> Array:
    """FULLY_CONNECTED; with 16-bit activations added up in int64, or a shifted weight, it is the reference kernel's.

    Per tensor the product of the scales is rounded to float32.
    """
    reference.refuse_bias_scale(op)
    shifted = op.w.type.q.zero_point[0] != 0
    if reference.is_wide(op) and (shifted or "i64" in (op.quantized_bias_type, op.bias and op.bias.type.dtype)):
        return reference.fully_connected(op, acc)
    multiplier = reference.layer_multiplier(op)
    if op.w.type.q.scales.size == 1:
        multiplier = reference.float_multiplier(op)
    return rounded(op, acc, multiplier, rounding)


def rounded(op: Layer, acc: Accumulator, multiplier: ArrayLike, rounding: Rounding) -> Array:
    """The accumulators times the multiplier, rounded and clamped."""
    value = rounding(as_int32(acc), *quantize_multiplier(multiplier))
    return saturated(value, op.result.type, *activation_range(op.activation, op.result.type))


def in_blocks(op: Layer, acc: Accumulator, rounding: Rounding, block: int, length: int) -> Array:
    """As `rounded` on the whole blocks of each row of `length` elements, as the reference kernels on the rest."""
    whole = length // block * block
    held: Any = np.asarray(acc)  # whatever holds it: rows of NumPy are mixed in below
    made = reference.narrow(op, held)
    fast = rounded(op, acc, reference.layer_multiplier(op), rounding)
    made.reshape(-1, length)[:, :whole] = fast.reshape(-1, length)[:, :whole]
    return made
