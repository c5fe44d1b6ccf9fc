"""LEAKY_RELU, LOGISTIC, TANH, ELU by XNNPACK, SOFTMAX by LiteRT's optimized kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qgraph.arith import gemmlowp
from qgraph.arith.c_library import expf
from qgraph.ir import Array, TensorType
from qgraph.ir.types import integer_range
from qgraph.targets.litert.dialect.activation import LeakyRelu, ratio
from qgraph.targets.litert.dialect.functions import Elu, Logistic, Tanh
from qgraph.targets.litert.dialect.functions_16 import logistic_or_tanh, power_of_two_shift
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale, scaled, zero_point
from qgraph.targets.litert.dialect.softmax import Softmax
from qgraph.targets.litert.dialect.tables import tabulated
from qgraph.targets.litert_xnnpack.delegation import refusal
from qgraph.targets.target import Kernel

Float64 = NDArray[np.float64]


@tabulated
def leaky(x: Array, type: TensorType, result: TensorType, alpha: float) -> Array:
    """LEAKY_RELU in steps of 1/256: multipliers rint(256 * ratio) and rint(256 * ratio * alpha) in float32, half up.

    Source: qs8-vlrelu.
    """
    value = centred(x, type).astype(np.int64)
    ratio = scale(type) / scale(result)
    above, below = (int(np.rint(np.float32(256) * slope)) for slope in (ratio, ratio * np.float32(alpha)))
    return saturated((value * np.where(value >= 0, above, below) + 128) >> 8, result)


@tabulated
def leaky_16(x: Array, type: TensorType, result: TensorType, alpha: float) -> Array:
    """LEAKY_RELU of int16 with a signed multiplier: ties of a negative alpha go the other way than in the reference.

    Source: optimized/integer_ops/leaky_relu.h (QuantizeLeakyRelu for int16).
    """
    value = centred(x, type)
    above, below = ratio(type, result, np.float32), float(scale(type) * np.float32(alpha) / scale(result))
    return saturated(np.where(value >= 0, scaled(value, above), scaled(value, below)), result)


def leaky_relu(op: LeakyRelu, x: Array) -> Array:
    """LEAKY_RELU; the reference formula where the delegate refuses the slopes."""
    type, result = op.x.type, op.result.type
    if type.dtype == "i16":
        return leaky_16(x, type, result, op.alpha)
    if refusal(op):
        return op.evaluate(x)
    return leaky(x, type, result, op.alpha)


@tabulated
def by_float(x: Array, type: TensorType, result: TensorType, function: Callable[[Float64], Float64]) -> Array:
    """rint(function(real) / result_scale + zero_point), the function in float64, the rest in float32.

    Source: xnnpack src/operators/unary-elementwise-nc.c (the look-up tables of 8-bit functions).
    """
    with np.errstate(all="ignore"):
        real = (x.astype(np.float32) - np.float32(zero_point(type))) * scale(type)
        steps = function(real.astype(np.float64)).astype(np.float32) * (np.float32(1) / scale(result))
        rounded = np.rint(steps + np.float32(zero_point(result)))
    return np.asarray(np.clip(rounded, *integer_range(result.dtype)), result.numpy)


def sigmoid(x: Float64) -> Float64:
    """e / (1 + e) with e = exp(x); 0 and 1 beyond -100 and 100."""
    e = np.exp(np.clip(x, -100, 100))
    return np.where(x > 100, 1, np.where(x < -100, 0, e / (1 + e)))


def exp_minus_1(x: Float64) -> Float64:
    """ELU: x, below zero exp(x) - 1."""
    return np.where(x < 0, np.expm1(x), x)


@tabulated
def function_16(x: Array, type: TensorType, result: TensorType, is_tanh: bool) -> Array:
    """LOGISTIC, TANH of int16: gemmlowp's functions for the scales 2**-12 and (TANH) 2**-11, as the reference else.

    Source: optimized/optimized_ops.h (Logistic, Tanh for int16).
    """
    shift = power_of_two_shift(float(scale(type)), is_tanh)
    if shift is None:
        return logistic_or_tanh(x, type, result, is_tanh)
    function = gemmlowp.tanh if is_tanh else gemmlowp.logistic
    return function(gemmlowp.saturate(x.astype(np.int64) << shift, 16), 3, 16).astype(np.int16)


def logistic(op: Logistic, x: Array) -> Array:
    """LOGISTIC by a table; of int16 by the optimized kernel."""
    if op.x.type.dtype == "i16":
        return function_16(x, op.x.type, op.result.type, False)
    return by_float(x, op.x.type, op.result.type, sigmoid)


def tanh(op: Tanh, x: Array) -> Array:
    """TANH by a table; of int16 by the optimized kernel."""
    if op.x.type.dtype == "i16":
        return function_16(x, op.x.type, op.result.type, True)
    return by_float(x, op.x.type, op.result.type, np.tanh)


def elu(op: Elu, x: Array) -> Array:
    """ELU by a table."""
    return by_float(x, op.x.type, op.result.type, exp_minus_1)


def softmax(op: Softmax, x: Array) -> Array:
    """SOFTMAX by a table of exponentials in float32, added up one after the other; of int16 as the reference.

    Source: optimized/optimized_ops.h (PopulateSoftmaxLookupTable, Softmax for 8 bits).
    """
    if op.x.type.dtype == "i16":
        return op.evaluate(x)
    terms = softmax_exponentials(scale(op.x.type), op.beta)[x.max(axis=-1, keepdims=True).astype(np.int64) - x]
    total = np.cumsum(terms, axis=-1, dtype=np.float32)[..., -1:]
    value = terms * (np.float32(1) / (total * scale(op.result.type))) + np.float32(0.5)
    low, high = integer_range(op.result.type.dtype)
    return np.asarray(np.clip(np.trunc(value) + low, low, high), op.result.type.numpy)


@lru_cache(maxsize=64)
def softmax_exponentials(scale: np.float32, beta: float) -> NDArray[np.float32]:
    """exp of -0, -1, ... -255 steps of x, times beta, in float32. Source: PopulateSoftmaxLookupTable."""
    steps = -scale * np.float32(beta) * np.arange(256, dtype=np.float32)
    return expf(steps)


KERNELS: dict[str, Kernel] = {
    "litert.leaky_relu": leaky_relu,
    "litert.logistic": logistic,
    "litert.tanh": tanh,
    "litert.elu": elu,
    "litert.softmax": softmax,
}
