"""Ops of one operand that the reference kernels compute in float, code by code: LOGISTIC, TANH, GELU, EXP, LOG, SQRT.

Float functions are those of the C library in float32 (`qgraph.arith.c_library`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.c_library import erfcf, expf, tanhf
from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.arith.inverse_square_root import inverse_square_root
from qgraph.arith.rounding import round_half_away
from qgraph.ir import Array, TensorType
from qgraph.ir.types import integer_range
from qgraph.targets.litert.kernels.common import centred, saturated, scale, zero_point
from qgraph.targets.litert.kernels.tables import tabulated

Float32 = NDArray[np.float32]
Function = Callable[[Float32], Float32]


@tabulated
def by_float(x: Array, type: TensorType, result: TensorType, function: Function) -> Array:
    """round(function(scale * (x - zero_point)) / result_scale), half away, in float32 by the reciprocal.

    Source: LUTPopulate, kernels/internal/common.h.
    """
    with np.errstate(all="ignore"):
        real = scale(type) * centred(x, type).astype(np.float32)
        steps = (function(real) * (np.float32(1) / scale(result))).astype(np.float64)
        rounded = round_half_away(steps).astype(np.float32) + np.float32(zero_point(result))
    low, high = integer_range(result.dtype)
    return np.asarray(np.clip(np.nan_to_num(np.trunc(rounded), nan=low), low, high), result.numpy)


def logistic(x: Float32) -> Float32:
    """1 / (1 + expf(-x))."""
    return np.float32(1) / (np.float32(1) + expf(-x))


def exp_minus_1(x: Float32) -> Float32:
    """ELU: x, below zero expf(x) - 1."""
    return np.where(x < 0, expf(x) - np.float32(1), x)


def gelu(x: Float32) -> Float32:
    """0.5 * x * erfc(-x / sqrt(2)). Source: reference/gelu.h."""
    return np.float32(0.5) * x * erfcf(x * np.float32(-math.sqrt(0.5)))


def gelu_by_tanh(x: Float32) -> Float32:
    """0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))). Source: reference/gelu.h."""
    cube = np.float32(0.044715) * x * x * x
    return np.float32(0.5) * x * (np.float32(1) + tanhf(np.float32(math.sqrt(2 / math.pi)) * (x + cube)))


@tabulated
def square_root(x: Array, type: TensorType, result: TensorType) -> Array:
    """SQRT: sqrt(scale * (x - zero_point)) / result_scale in float32, **truncated**. Source: elementwise.cc."""
    real = scale(type) * np.maximum(centred(x, type), 0).astype(np.float32)
    return saturated(np.trunc(np.sqrt(real) / scale(result)).astype(np.int64), result)


@tabulated
def reciprocal_square_root(x: Array, type: TensorType, result: TensorType) -> Array:
    """RSQRT: the multiplier of 1 / sqrt(x - zero_point) at 20 more bits, double rounding twice; the highest code of 0.

    Codes below the zero point give an arbitrary code here: the op refuses them. Source: elementwise.cc (RsqrtEval).
    """
    value = centred(x, type)
    multiplier, shift = inverse_square_root(np.maximum(value, 0))
    root = multiply_double_rounding(np.ones(value.shape, np.int32), multiplier, shift + 20)
    factor, exponent = quantize_multiplier(1.0 / float(np.sqrt(scale(type)) * scale(result)))
    scaled = multiply_double_rounding(root, factor, exponent - 20)
    return np.where(value > 0, saturated(scaled, result), integer_range(result.dtype)[1]).astype(result.numpy)
