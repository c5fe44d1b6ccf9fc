"""gemmlowp's fixed-point exp, logistic and tanh, on raw integers of 32 or 16 bits.

A raw integer `a` of `bits` bits with `integer_bits` stands for a * 2**(integer_bits + 1 - bits): Q0 has none and spans
[-1, 1). All take integers of any shape and give int64 of that shape; products of two raw integers stay below 2**62.
Source: gemmlowp, fixedpoint/fixedpoint.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Raw = NDArray[np.int64]

EXP_OF_POWERS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""(k, exp(-2**k) in Q0 of 32 bits)."""


def saturate(value: ArrayLike, bits: int) -> Raw:
    """The value clamped to the range of signed integers of `bits` bits."""
    return np.clip(np.asarray(value, np.int64), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def wrap(value: ArrayLike, bits: int) -> Raw:
    """The value modulo 2**bits, as a signed integer."""
    half = 1 << (bits - 1)
    return np.asarray(((np.asarray(value, np.int64) + half) & ((1 << bits) - 1)) - half)


def high_mul(a: ArrayLike, b: ArrayLike, bits: int = 32) -> Raw:
    """a * b / 2**(bits - 1), half up, saturated: SaturatingRoundingDoublingHighMul of either width."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.asarray(np.minimum((product + (1 << (bits - 2))) >> (bits - 1), (1 << (bits - 1)) - 1))


def divide_by_pot(x: ArrayLike, exponent: ArrayLike) -> Raw:
    """x / 2**exponent, ties away from zero: RoundingDivideByPOT."""
    x, exponent = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    return np.asarray((x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0)))


def exp_on_negative_values(a: ArrayLike, integer_bits: int, bits: int = 32) -> Raw:
    """exp(a) in Q0, for a <= 0 with `integer_bits`.

    a is a multiple of -1/4 and a part in [-1/4, 0): the exponential of the part is a polynomial, those of the powers
    of two that make up the multiple are constants.
    """
    a = np.asarray(a, np.int64)
    fraction = bits - 1 - integer_bits
    quarter = 1 << (fraction - 2)
    part = (a & (quarter - 1)) - quarter
    result = _exp_of_minus_a_quarter_to_0(saturate(part << integer_bits, bits), bits)
    multiple = part - a
    for exponent, factor in EXP_OF_POWERS:
        if integer_bits > exponent:
            has = multiple & (1 << (fraction + exponent))
            result = np.where(has, high_mul(result, _constant(factor, bits), bits), result)
    if integer_bits > 5:
        result = np.where(a < _constant(-(1 << (36 - integer_bits)), bits), 0, result)
    return np.where(a == 0, (1 << (bits - 1)) - 1, result)


def _exp_of_minus_a_quarter_to_0(a: Raw, bits: int) -> Raw:
    """exp(a) in Q0 for a in Q0, [-1/4, 0): the Taylor polynomial of degree 4 around -1/8."""
    x = a + (1 << (bits - 4))
    x2 = high_mul(x, x, bits)
    x3, x4 = high_mul(x2, x, bits), high_mul(x2, x2, bits)
    third = _constant(715827883, bits)
    tail = divide_by_pot(high_mul(divide_by_pot(x4, 2) + x3, third, bits) + x2, 1)  # x^2/2 + x^3/6 + x^4/24
    exp_minus_eighth = _constant(1895147668, bits)
    return saturate(exp_minus_eighth + high_mul(exp_minus_eighth, x + tail, bits), bits)


def one_over_one_plus(a: ArrayLike, bits: int = 32) -> Raw:
    """1 / (1 + a) in Q0, for a in Q0, [0, 1)."""
    return saturate(_two_over_one_plus(a, bits) << 1, bits)


def logistic(a: ArrayLike, integer_bits: int, bits: int = 32) -> Raw:
    """1 / (1 + exp(-a)) in Q0, for a with `integer_bits`."""
    a = np.asarray(a, np.int64)
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(a), integer_bits, bits), bits)
    one = (1 << (bits - 1)) - 1
    return np.where(a == 0, 1 << (bits - 2), np.where(a > 0, positive, one - positive))


def tanh(a: ArrayLike, integer_bits: int, bits: int = 32) -> Raw:
    """tanh(a) in Q0, for a with `integer_bits`: (1 - e) / (1 + e) with e = exp(-2 * abs(a))."""
    a = np.asarray(a, np.int64)
    e = exp_on_negative_values(-np.abs(a), integer_bits + 1, bits)
    positive = saturate((_two_over_one_plus(e, bits) - (1 << (bits - 3))) << 2, bits)
    return np.where(a == 0, 0, np.where(a < 0, -positive, positive))


def _two_over_one_plus(a: ArrayLike, bits: int) -> Raw:
    """2 / (1 + a) with two integer bits, for a in Q0, [0, 1): three Newton steps on the half of 1 + a."""
    total = np.asarray(a, np.int64) + (1 << (bits - 1)) - 1
    half = np.where(total >= 0, (total + 1) >> 1, -((1 - total) >> 1))
    x = _constant(1515870810, bits) + high_mul(half, _constant(-1010580540, bits), bits)  # 48/17 - 32/17 * half
    for _ in range(3):
        error = (1 << (bits - 3)) - high_mul(half, x, bits)
        x = wrap(x + saturate(high_mul(x, error, bits) << 2, bits), bits)
    return x


def _constant(value: int, bits: int) -> int:
    """A constant of 32 bits, rounded to `bits`."""
    return value if bits == 32 else int(divide_by_pot(value, 32 - bits))
