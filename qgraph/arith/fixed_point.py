"""Real factors as an int32 multiplier and a left shift, and the multiplication by them.

    real ~= multiplier * 2**(shift - 31)          2**30 <= multiplier < 2**31, or (0, 0)

`multiplier` and `shift` broadcast against the value's last axis: scalars, or one per channel.
Source: TFLite `quantization_util.cc` and `kernels/internal/common.h`, gemmlowp `fixedpoint.h`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.exactness import wrap_int32

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def quantize_multiplier(real: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Multiplier and shift (left when positive) of each real factor, in real's shape.

    A factor below 2**-32, too small for a right shift of 31, gives (0, 0), as does 0.  A negative factor gives a
    negative multiplier.
    Exact: |m| * 2**31 < 2**31 has at most 53 significant bits and an ulp of at most 2**-22, so adding 0.5 loses
    nothing that `floor` could see.
    Source: TFLite QuantizeMultiplier.

    >>> [int(v) for v in quantize_multiplier(0.75)], [int(v) for v in quantize_multiplier(3.0)]
    ([1610612736, 0], [1610612736, 2])
    """
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    magnitude = np.floor(np.abs(fraction) * 2.0**31 + 0.5).astype(np.int64)
    carried = magnitude == 2**31
    magnitude = np.where(carried, 2**30, magnitude)
    shift = exponent + carried
    vanishes = (shift < -31) | (magnitude == 0)
    multiplier = np.where(vanishes, 0, np.copysign(magnitude, fraction))
    return np.asarray(multiplier, np.int32), np.where(vanishes, 0, shift).astype(np.int32)


def saturating_rounding_doubling_high_mul(a: ArrayLike, b: ArrayLike) -> NDArray[np.int32]:
    """a * b / 2**31, ties toward plus infinity; the one overflow, INT32_MIN squared, saturates.  a, b: int32.

    The source adds 2**30 to a product >= 0 and 1 - 2**30 to a negative one and truncates toward zero; both are
    floor((a * b + 2**30) / 2**31), which is an arithmetic shift.
    Exact: |a * b| <= 2**62.
    Source: gemmlowp SaturatingRoundingDoublingHighMul.
    """
    product: NDArray[np.int64] = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    high = (product + 2**30) >> 31
    return np.asarray(np.minimum(high, INT32_MAX), np.int32)


def rounding_divide_by_pot(x: ArrayLike, exponent: ArrayLike) -> NDArray[np.int32]:
    """x / 2**exponent, ties away from zero.  x: int32, 0 <= exponent <= 31.

    Source: gemmlowp RoundingDivideByPOT.
    """
    x, exponent = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    rounds_up = (x & mask) > threshold
    return np.asarray((x >> exponent) + rounds_up, np.int32)


def multiply_double_rounding(value: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int32]:
    """value * multiplier * 2**(shift - 31), rounded twice: to 31 bits (half up), then by the right shift (half away).

    Shapes: value [..., C]; multiplier, shift scalars or [C].  Ranges: value int32 (wider ones wrap),
    |multiplier| < 2**31, -31 <= shift <= 30; a left shift wraps at int32, as in the source.

    With n = max(-shift, 0) > 0 and p = value * multiplier, both roundings are one shift,

        rounding_divide_by_pot(floor((p + 2**30) / 2**31), n)  ==  (p + 2**(30 + n) +- 2**30) >> (31 + n)

    the sign being p's.  Proof: v = floor((p + 2**30) / 2**31).  Half away is floor((v + 2**(n-1)) / 2**n) for v >= 0
    and floor((v + 2**(n-1) - 1) / 2**n) for v < 0, and nested floors merge: the numerator becomes
    p + 2**30 + 2**(30+n), respectively that minus 2**31.  v and p differ in sign only for
    -2**30 <= p < 0, where both forms give 0.
    Exact: |p| < 2**62 and the rounding terms are below 2**61 + 2**30 + 1, so int64 does not overflow.
    Source: TFLite MultiplyByQuantizedMultiplier, TFLITE_SINGLE_ROUNDING off.
    """
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    product: NDArray[np.int64] = np.asarray(_shifted_left(value, left) * multiplier)
    twice_rounded = right > 0
    half = (np.int64(1) << (30 + right)) + np.where(twice_rounded, 2**30, 0)
    rounding = product >> 63  # -1 where negative, which takes 2**31 off
    rounding &= np.where(twice_rounded, -(2**31), 0)
    rounding += half
    product += rounding
    product >>= 31 + right
    return product.astype(np.int32)


def multiply_single_rounding(value: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int32]:
    """value * multiplier * 2**(shift - 31), rounded once, ties toward plus infinity; wraps at int32.

    Shapes: value [..., C]; multiplier, shift scalars or [C].  Ranges: value int32, |multiplier| < 2**31,
    -31 <= shift <= 30.
    Exact: |value * multiplier| <= 2**62 and the rounding term is at most 2**61.
    Source: TFLite MultiplyByQuantizedMultiplier, TFLITE_SINGLE_ROUNDING on.
    """
    shift = np.asarray(shift, np.int64)
    product: NDArray[np.int64] = np.asarray(value, np.int64) * np.asarray(multiplier, np.int64)
    rounding = np.int64(1) << (30 - shift)
    return np.asarray((product + rounding) >> (31 - shift)).astype(np.int32)


def multiply_shifted_single_rounding(value: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int32]:
    """As `multiply_single_rounding`, in the steps of ruy's ARM kernels: shift left in int32, multiply, shift right.

    With a factor of 1/2 or more, so `shift` >= 0, the value is shifted left by one more, which may wrap; the product's
    high half, rounded down, is then shifted right by 1, rounded half up. Ranges as in `multiply_double_rounding`.
    Exact: the product is at most 2**62.  Source: ruy kernel_arm64.cc (shl, sqdmulh, srshl).
    """
    shift = np.asarray(shift, np.int64)
    left, right = np.where(shift >= 0, shift + 1, 0), np.where(shift >= 0, 1, -shift)
    high: NDArray[np.int64] = np.asarray((_shifted_left(value, left) * np.asarray(multiplier, np.int64)) >> 31)
    return np.asarray((high + ((np.int64(1) << right) >> 1)) >> right).astype(np.int32)


def multiply_half_up(value: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int32]:
    """value * multiplier * 2**(shift - 31), rounded twice, ties toward plus infinity both times.

    Shapes and ranges as in `multiply_double_rounding`.
    Exact: the first step gives at most 2**31 in magnitude, the rounding term is at most 2**30.
    Source: ruy's MultiplyByQuantizedMultiplier and the NEON loops of TFLite's optimized kernels, also as emulated on
    x86: SaturatingRoundingDoublingHighMul, then a rounding right shift (vrshl).
    """
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = saturating_rounding_doubling_high_mul(_shifted_left(value, left), multiplier).astype(np.int64)
    return np.asarray((high + ((np.int64(1) << right) >> 1)) >> right).astype(np.int32)


def multiply_wide(value: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int32]:
    """value * m * 2**(shift - 15), rounded once, ties toward plus infinity; m is the multiplier rounded to 16 bits.

    Shapes: value [..., C]; multiplier, shift scalars or [C]. Ranges: |value| < 2**47, 0 <= multiplier < 2**31,
    -31 <= shift <= 14. The result wraps at int32.
    Exact: |value * m| < 2**62 and the rounding term is at most 2**45.
    Source: TFLite MultiplyByQuantizedMultiplier for int64_t.
    """
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    reduced = np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)
    product: NDArray[np.int64] = np.asarray(value, np.int64) * reduced
    return np.asarray((product + (np.int64(1) << (14 - shift))) >> (15 - shift)).astype(np.int32)


def multiply_rndnu(value: ArrayLike, scale: ArrayLike) -> NDArray[np.int64]:
    """value * scale, rounded once, ties toward plus infinity: XNNPACK's `rndnu` requantization on ARM.

    Shapes: value [..., C]; scale scalar or [C].  Ranges: value int32, scale float32, 0 < scale < 2**30. XNNPACK's left
    shift, for a scale of at least 1, saturates at int32; here the product stays whole, and the caller clamps it.
    Exact: the multiplier is the scale's own mantissa, |value * multiplier| <= 2**62.
    Source: XNNPACK src/qs8-requantization/rndnu-neon-mull.c, whose two steps, the second rounded, are one.
    """
    multiplier, shift = quantize_multiplier(np.asarray(scale, np.float32))
    shift = shift.astype(np.int64)
    product: NDArray[np.int64] = np.asarray(value, np.int64) * multiplier
    return np.asarray((product + (np.int64(1) << (30 - shift))) >> (31 - shift))


def _shifted_left(value: ArrayLike, left: NDArray[np.int64]) -> NDArray[np.int64]:
    """Value << left, wrapped to int32 and held in int64."""
    value = np.asarray(value)
    wide = value.astype(np.int64)
    if np.can_cast(value.dtype, np.int32) and not np.any(left):
        return wide
    return wrap_int32(wide << left).astype(np.int64)
