"""Accumulators to output integers: multiply by a real factor, round, add the zero point, clamp.

Three ways, each bit for bit what a runtime does.  All take `acc` [..., C], an accumulator of `exactness`, wrapped to
int32 where it is wider; factors as scalars or [C]; and give `dtype` [..., C].  The output dtype has 8 or 16 bits and
holds [quant_min, quant_max], which a fused activation may have narrowed.  They dispatch on the accumulator: what holds
it elsewhere than NumPy registers how it is requantized there, to the same integers.
"""

from __future__ import annotations

from functools import singledispatch
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.channel_rows import ChannelRows, cut
from qgraph.arith.exactness import FLOAT32_EXACT, FLOAT64_EXACT, Accumulator, as_int32
from qgraph.arith.fixed_point import multiply_double_rounding
from qgraph.arith.rounding import round_half_away

Quantized = TypeVar("Quantized", np.int8, np.uint8, np.int16, np.uint16)
Factor = TypeVar("Factor", bound=np.generic)
Narrow: TypeAlias = "NDArray[np.float32] | NDArray[np.int32]"

INT32_MIN = -(2**31)


@singledispatch
def requantize_double_rounding(
    acc: Accumulator,
    multiplier: ArrayLike,
    shift: ArrayLike,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    dtype: type[Quantized],
) -> NDArray[Quantized]:
    """clamp(multiply_double_rounding(acc, multiplier, shift) + zero_point), the sum in int32, where it may wrap.

    `shift`: left when positive.
    Ranges: |multiplier| < 2**31, -31 <= shift <= 30.

    Computed in float64 where that is exact.  With n the right shift, c = 2**-(n+1) if n > 0 else 0, and
    t = acc * multiplier / 2**(31+n), `multiply_double_rounding` shows the result to be floor(t + 1/2 +- c), the sign
    being t's.  For |t| >= c, +-c is clip(t, -c, c); for |t| < c <= 1/4 the floor is 0 with either.
    Let R = max(|quant_min - zero_point|, |quant_max - zero_point|) + 1 and (R + 1) * 2**(31+n) <= 2**53.  While
    |t| <= R, t and every sum are multiples of 2**-(31+n) below R + 1: exact.  Beyond, every step is monotone in t
    even as rounded by float64, so the result is at or past that of |t| = R, which the clamp has reached.
    For 8-bit outputs that holds up to n = 13 (factors above 2**-14).
    It is also exact, for every t, where A + 2**n <= 2**22 with A = max|acc| * 2**(left shift) of this very acc: |t| + 1
    is then at most 2**53 times 2**-(31+n). That serves smaller factors, unless accumulators are large; int64 the rest.
    Source: TFLite MultiplyByQuantizedMultiplier, TFLITE_SINGLE_ROUNDING off.
    """
    acc = _narrow(acc)
    multiplier, shift = np.asarray(multiplier), np.asarray(shift)
    low, high = quant_min - zero_point, quant_max - zero_point
    if not _float64_is_exact(acc, shift, max(abs(low), abs(high)) + 1):
        return _requantize_in_integers(acc, multiplier, shift, zero_point, quant_min, quant_max, dtype)
    right = np.maximum(-shift.astype(np.int64), 0)
    factor = np.ldexp(multiplier.astype(np.float64), np.asarray(shift - 31, np.int32))
    nudge = np.where(right > 0, np.ldexp(1.0, np.asarray(-1 - right, np.int32)), 0.0)
    rows, factors, flat, out = _rows(acc, factor, dtype)
    upper = rows.repeated(nudge)
    lower = np.negative(upper)
    signed = low < 0  # else a negative t gives at most 0 with either sign of c, which the clamp makes `low`
    offset: NDArray[np.float64] = np.asarray(0.5 if signed else upper + 0.5)
    buffer, nudges = np.empty((2, rows.length), np.float64)
    for part in rows:
        size = part.stop - part.start
        value = buffer[:size]
        np.copyto(value, flat[part])
        value *= cut(factors, size)
        if signed:
            value += np.clip(value, cut(lower, size), cut(upper, size), out=nudges[:size])
        value += cut(offset, size)
        np.floor(value, out=value)
        _store(value, float(low), float(high), zero_point, out[part])
    return out.reshape(acc.shape)


@singledispatch
def requantize_fp32(
    acc: Accumulator,
    scale: ArrayLike,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    dtype: type[Quantized],
) -> NDArray[Quantized]:
    """clamp(rint(float32(acc) * scale) + zero_point), ties to even, the product in float32.

    `scale`: float32, scalar or [C].  acc converts to float32 with ties to even.  The product is clamped before the
    zero point is added, so nothing overflows however large it is.
    Source: XNNPACK qs8 `fp32` requantization; ONNX Runtime MlasRequantizeOutput.
    """
    acc = _narrow(acc)
    rows, repeated, flat, out = _rows(acc, np.asarray(scale, np.float32), dtype)
    buffer = np.empty(rows.length, np.float32)
    low, high = np.float32(quant_min - zero_point), np.float32(quant_max - zero_point)
    for part in rows:
        value = buffer[: part.stop - part.start]
        if flat.dtype == np.float32:
            np.multiply(flat[part], cut(repeated, value.size), out=value)
        else:
            np.copyto(value, flat[part], casting="same_kind")
            value *= cut(repeated, value.size)
        np.rint(value, out=value)
        _store(value, low, high, zero_point, out[part])
    return out.reshape(acc.shape)


@singledispatch
def requantize_float64_away(
    acc: Accumulator,
    multiplier: ArrayLike,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    dtype: type[Quantized],
) -> NDArray[Quantized]:
    """clamp(int32(round(float64(acc) * multiplier)) + zero_point), ties away from zero, the sum in int32.

    `multiplier`: float64, scalar or [C].  A rounded product outside int32 becomes INT32_MIN, whatever its sign, as
    x86's conversion makes it.  Adding the zero point wraps: INT32_MIN and a negative zero point give quant_max.
    Measured on LiteRT 2.3.0's reference FULLY_CONNECTED: products on both sides of +-2**31, zero points -128 .. 127.
    Exact: the rounding is that of `round_half_away`, whose docstring has the argument.
    Source: TFLite reference_integer_ops::FullyConnected with a double scale.
    """
    acc = _narrow(acc)
    multiplier = np.asarray(multiplier, np.float64)
    rows, repeated, flat, out = _rows(acc, multiplier, dtype)
    largest_acc = FLOAT32_EXACT if acc.dtype == np.float32 else 2**31
    may_overflow = bool(np.any(np.abs(multiplier) * largest_acc >= 2.0**31 - 2**16))
    buffer, half = np.empty((2, rows.length), np.float64)
    below_half = np.nextafter(0.5, 0.0)
    low, high = float(quant_min - zero_point), float(quant_max - zero_point)
    for part in rows:
        value, rounding = buffer[: part.stop - part.start], half[: part.stop - part.start]
        np.copyto(value, flat[part])
        value *= cut(repeated, value.size)
        np.copysign(below_half, value, out=rounding)
        value += rounding
        np.trunc(value, out=value)
        if may_overflow:
            _convert_and_add_in_int32(value, zero_point)
        _store(value, low, high, zero_point, out[part])
    return out.reshape(acc.shape)


def multiply_float64_away(value: NDArray[np.int64], multiplier: ArrayLike) -> NDArray[np.int32]:
    """round(float64(value) * multiplier), ties away from zero; INT32_MIN where that leaves int32.

    Shapes: value [..., C]; multiplier scalar or [C].
    """
    product = round_half_away(np.asarray(value.astype(np.float64) * np.asarray(multiplier, np.float64)))
    return np.where(np.abs(product) < 2.0**31, product, INT32_MIN).astype(np.int32)


def _requantize_in_integers(
    acc: Narrow,
    multiplier: NDArray[np.integer],
    shift: NDArray[np.integer],
    zero_point: int,
    quant_min: int,
    quant_max: int,
    dtype: type[Quantized],
) -> NDArray[Quantized]:
    """The formula itself; adding the zero point wraps at int32, as it does in the runtime."""
    rows, multipliers, flat, out = _rows(acc, multiplier, dtype)
    shifts = rows.repeated(shift)
    for part in rows:
        size = part.stop - part.start
        value = multiply_double_rounding(flat[part].astype(np.int32), cut(multipliers, size), cut(shifts, size))
        value += np.int32(zero_point)
        out[part] = np.clip(value, quant_min, quant_max)
    return out.reshape(acc.shape)


def _convert_and_add_in_int32(value: NDArray[np.float64], zero_point: int) -> None:
    """Make value, integers of any size, those to which an exact addition of zero_point gives what int32 gives."""
    value[(value >= 2.0**31) | (value < INT32_MIN)] = INT32_MIN
    value[value + zero_point >= 2.0**31] -= 2.0**32
    value[value + zero_point < INT32_MIN] += 2.0**32


def _narrow(acc: Accumulator) -> Narrow:
    """The accumulator as contiguous float32 or int32, wrapped modulo 2**32 where it was wider."""
    return cast("Narrow", np.asarray(acc if acc.dtype == np.float32 else as_int32(acc), order="C"))


def _float64_is_exact(acc: Narrow, shift: NDArray[np.integer], largest: int) -> bool:
    """One of the two conditions of `requantize_double_rounding`; no left shift and no zero point may make int32 wrap.

    An int32 accumulator cannot while every shift is to the right: the product is then at most 2**30.
    """
    if acc.size == 0 or shift.size == 0:
        return True
    right, left = max(-int(shift.min()), 0), int(shift.max())
    fits = FLOAT32_EXACT << max(left, 0) < 2**31 if acc.dtype == np.float32 else left < 0
    if fits and (largest + 1) << (31 + right) <= FLOAT64_EXACT:
        return True
    magnitude = max(int(acc.max()), -int(acc.min()))
    return ((magnitude << max(left, 0)) + (1 << right)) << 31 <= FLOAT64_EXACT


def _rows(
    acc: Narrow, factor: NDArray[Factor], dtype: type[Quantized]
) -> tuple[ChannelRows, NDArray[Factor], Narrow, NDArray[Quantized]]:
    """The rows of acc, the factor repeated to their length, acc flat, and the flat output."""
    rows = ChannelRows(acc.shape[-1] if acc.ndim else 1, acc.size)
    return rows, rows.repeated(factor), acc.reshape(-1), np.empty(acc.size, dtype)


def _store(
    value: NDArray[np.floating],
    low: float | np.floating,
    high: float | np.floating,
    zero_point: int,
    out: NDArray[Quantized],
) -> None:
    """Write clip(value, low, high) + zero_point into out; value is overwritten.

    Bounds in value's own dtype: integers up to 2**17 in magnitude, exact in float32.
    """
    np.clip(value, low, high, out=value)
    if zero_point:
        value += zero_point
    np.copyto(out, value, casting="unsafe")
