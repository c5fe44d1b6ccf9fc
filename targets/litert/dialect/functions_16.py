"""LOGISTIC, TANH, SOFTMAX of int16 by tables that are interpolated.

Sources: reference/integer_ops/logistic.h, tanh.h, lut.h; reference/softmax.h (SoftmaxInt16).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.gemmlowp import saturate, wrap
from qgraph.arith.rounding import round_half_away
from qgraph.ir import Array, TensorType
from qgraph.targets.litert.dialect.elementwise import Precision
from qgraph.targets.litert.dialect.parameters import scale, scaled
from qgraph.targets.litert.dialect.powers_of_two import exponent_of_two
from qgraph.targets.litert.dialect.tables import tabulated

ROUNDED_UP = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46),
    *(49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135),
)
"""Entries of the sigmoid table that are one more than the rounded value."""


@cache
def sigmoid_table() -> NDArray[np.int64]:
    """Sigmoid at i / 24 for i = 0 .. 255, in 16 bits: the entries of TFLite's sigmoid_table_uint16."""
    table = np.rint(65536 / (1 + np.exp(-np.arange(256) / 24))).astype(np.int64)
    table[list(ROUNDED_UP)] += 1
    table[255] = 65535
    return table


@tabulated
def logistic_or_tanh(x: Array, type: TensorType, result: TensorType, is_tanh: bool) -> Array:
    """LOGISTIC, TANH of int16: three times the argument with 12 fractional bits, then the interpolated table."""
    multiplier, right = argument_factor(float(scale(type)), is_tanh)
    argument = wrap(x.astype(np.int64) * multiplier + ((1 << right) >> 1), 32) >> right
    return sigmoid_of_3x(argument, is_tanh).astype(result.numpy)


def argument_factor(scale: float, is_tanh: bool) -> tuple[int, int]:
    """Multiplier (truncated to 15 bits) and right shift that make three times the argument, 12 fractional bits."""
    shift = power_of_two_shift(scale, is_tanh)
    if shift is not None:
        return 3 << shift, 0
    multiplier, right = 3.0 * 4096.0 * scale, 0
    while multiplier <= 32767.0 / 2 and right <= 30:
        multiplier, right = multiplier * 2, right + 1
    return int(multiplier), right


def power_of_two_shift(scale: float, is_tanh: bool) -> int | None:
    """How far a scale that is (nearly) a power of two lies above 2**-12: 0, for TANH also 1; None for all others."""
    exponent = exponent_of_two(np.float32(scale))
    return None if exponent is None else {-12: 0, -11: 1 if is_tanh else None}.get(exponent)


def sigmoid_of_3x(v: Array, is_tanh: bool) -> NDArray[np.int64]:
    """sigmoid(v / 3), or tanh(v / 3), in Q0 of 16 bits, for v with 12 fractional bits."""
    table, bits = sigmoid_table(), 8 if is_tanh else 9
    magnitude = np.abs(v)
    place = np.minimum(magnitude >> bits, 254)
    between = (table[place] << bits) + (magnitude & ((1 << bits) - 1)) * (table[place + 1] - table[place])
    beyond = magnitude >> bits >= 255
    if is_tanh:
        between = np.where(beyond, 0xFFFF << 8, between)
        return np.where(v >= 0, between - 2**23 + 128, 2**23 - between + 127) >> 8
    between = np.where(beyond, 0x7FFF << 10, between)
    return np.where(v >= 0, between + 512, 2**25 - between + 511) >> 10


def softmax(x: Array, type: TensorType, beta: float, precision: str = "float64") -> Array:
    """SOFTMAX of int16: tables of exp and 1 / (1 + x), made in `precision`.

    The factor of the differences to the largest, scale * beta, is formed in float32 by LiteRT (tables in float64) and
    in float64 by TFLite Micro (tables in float32); both divide it by the step of the table in float64.
    """
    product = float(scale(type) * np.float32(beta))
    if precision == "float32":
        product = float(scale(type)) * float(np.float32(beta))
    below = x.astype(np.int32) - x.max(axis=-1, keepdims=True)
    argument = saturate(scaled(below, product / (10.0 / 65535.0)).astype(np.int64) + 32767, 16)
    exponentials = interpolated(argument, exp_table(precision))
    total = exponentials.sum(axis=-1, keepdims=True)
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    position = saturate((((total << (headroom - 1)) + 8192) >> 14) - 98304, 16)
    reciprocal = interpolated(position, reciprocal_table(precision))
    value = (exponentials * reciprocal + (np.int64(1) << (30 - headroom))) >> (31 - headroom)
    return np.asarray(np.clip(value, 0, 32767), np.int16)


@cache
def exp_table(precision: str) -> NDArray[np.int64]:
    """exp(x) on [-10, 0], with 15 fractional bits."""
    return table_16(np.exp, 10.0 / 65535.0, 32767, 2.0 / 65535.0, np.dtype(precision).type)


@cache
def reciprocal_table(precision: str) -> NDArray[np.int64]:
    """1 / (1 + x) on [0, 1], with 15 fractional bits."""
    return table_16(lambda x: 1 / (1 + x), 1.0 / 65535.0, -32768, 2.0 / 65535.0, np.dtype(precision).type)


def table_16(
    function: Callable[[Array], Array],
    step: float,
    zero_point: int,
    result_step: float,
    precision: Precision,
) -> NDArray[np.int64]:
    """A function of int16 at 513 places, each moved by half the interpolation's error in the middle.

    Source: LUTPopulate for int16, kernels/internal/common.h.
    """
    low, high = (precision(step) * precision(code - zero_point) for code in (-32768, 32767))
    width = (high - low) / precision(512)
    inverse = precision(65536) / (
        precision(result_step) * precision(32767) - precision(result_step) * precision(-32768)
    )
    places = low + np.arange(512, dtype=precision) * width

    def value(x: Array) -> Array:
        return np.asarray(function(x.astype(np.float64)).astype(precision))

    left, right = value(places), value(low + np.arange(1, 513, dtype=precision) * width)
    rounded = round_half_away(left * inverse)
    middle = round_half_away((right * inverse + rounded) / precision(2))
    exact = round_half_away(value(places + width / precision(2)) * inverse)
    bias = round_half_away((middle - exact) / precision(2))
    last = round_half_away(value(np.asarray([high])) * inverse)
    return np.asarray(np.clip(np.concatenate([rounded - bias, last]), -32768, 32767), np.int64)


def interpolated(x: Array, table: NDArray[np.int64]) -> NDArray[np.int64]:
    """The table at x, int16: 9 bits choose the place, 7 bits lie between."""
    place = 256 + (x >> 7)
    return np.asarray(table[place] + (((table[place + 1] - table[place]) * (x & 127) + 64) >> 7))
