"""MEAN and SUM of the reference kernels."""

from __future__ import annotations

import numpy as np

from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.ir import Array, TensorType
from qgraph.targets.litert.kernels.common import saturated, scale, scaled, zero_point


def centred_sum(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType) -> tuple[Array, int]:
    """The sum of x - zero_point over the axes, int64, and how many elements each sum has."""
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    total = x.sum(axis=axes, keepdims=keep_dims, dtype=np.int64)
    return np.asarray(total - count * zero_point(type)), count


def mean(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType, result: TensorType) -> Array:
    """MEAN: the division by the count is folded into the multiplier, at as many more bits as it has, and truncated.

    Source: reference/reduce.h (QuantizedMeanOrSum), reduce.cc (the shift of the multiplier).
    """
    total, count = centred_sum(x, axes, keep_dims, type)
    multiplier, shift = (int(part) for part in quantize_multiplier(float(scale(type)) / float(scale(result))))
    more = min(count.bit_length() - 1, 32, 31 + shift)
    return saturated(multiply_double_rounding(total, (multiplier << more) // count, shift - more), result)


def sum_of_bytes(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType, result: TensorType) -> Array:
    """SUM of int8 as the reference kernels have it: they take the bytes for uint8, in and out (a defect of theirs).

    The zero points are used as they stand in the file. Measured against ai-edge-litert 2.3.0.
    """
    if type.dtype != "i8":
        return sums(x, axes, keep_dims, type, result)
    total, _ = centred_sum(x.view(np.uint8), axes, keep_dims, type)
    value = scaled(total, float(scale(type)) / float(scale(result))).astype(np.int64) + zero_point(result)
    return np.clip(value, 0, 255).astype(np.uint8).view(np.int8)


def sums(x: Array, axes: tuple[int, ...], keep_dims: bool, type: TensorType, result: TensorType) -> Array:
    """SUM: double rounding of the centred sum with the float64 quotient of the scales."""
    total, _ = centred_sum(x, axes, keep_dims, type)
    return saturated(scaled(total, float(scale(type)) / float(scale(result))), result)
