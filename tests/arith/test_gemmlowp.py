from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgraph.arith import gemmlowp
from qgraph.arith.inverse_square_root import inverse_square_root
from tests.arith import plain_integers as plain

INT32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-(2**31), -(2**30), -1, 0, 1, 2**30, 2**31 - 1])
INT16 = st.integers(-(2**15), 2**15 - 1) | st.sampled_from([-(2**15), -1, 0, 1, 2**15 - 1])
FORMATS = [(32, 0), (32, 4), (32, 5), (16, 3), (16, 4)]
"""Bits, and integer bits of the argument."""
ERROR = {32: 2.6e-7, 16: 2.0**-12}
"""What the polynomial of degree 4 leaves out at 1/8 (its next term is 8**-5 / 120), or a few steps of 16 bits."""


def raw(bits: int, count: int = 4001) -> np.ndarray:
    low = -(1 << (bits - 1))
    return np.unique(np.r_[np.linspace(low, 0, count).astype(np.int64), np.arange(-50, 1), low + np.arange(50)])


@given(INT32, INT32)
def test_high_mul_of_32_bits(a: int, b: int) -> None:
    assert int(gemmlowp.high_mul(a, b)) == plain.high_mul(a, b)


@given(INT16, INT16)
def test_high_mul_of_16_bits(a: int, b: int) -> None:
    expected = 2**15 - 1 if a == b == -(2**15) else plain.truncate(a * b + (2**14 if a * b >= 0 else 1 - 2**14), 2**15)
    assert int(gemmlowp.high_mul(a, b, 16)) == expected


@given(st.integers(-(2**62), 2**62), st.sampled_from([16, 32]))
def test_wrap_and_saturate(value: int, bits: int) -> None:
    assert int(gemmlowp.wrap(value, bits)) == plain.wrap(value, bits)
    assert int(gemmlowp.saturate(value, bits)) == plain.clamp(value, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@given(INT32, st.integers(0, 31))
def test_divide_by_pot(x: int, exponent: int) -> None:
    assert int(gemmlowp.divide_by_pot(x, exponent)) == plain.half_away(x, 2**exponent)


@pytest.mark.parametrize(("bits", "integer_bits"), FORMATS)
def test_exp(bits: int, integer_bits: int) -> None:
    a = raw(bits)
    real = a * 2.0 ** (integer_bits + 1 - bits)
    made = gemmlowp.exp_on_negative_values(a, integer_bits, bits) * 2.0 ** (1 - bits)
    assert np.abs(made - np.exp(real)).max() < ERROR[bits]


@pytest.mark.parametrize(("bits", "integer_bits"), [(32, 4), (16, 3)])
def test_logistic_and_tanh(bits: int, integer_bits: int) -> None:
    a = raw(bits)[1:]
    real = a * 2.0 ** (integer_bits + 1 - bits)
    one = 2 ** (bits - 1) - 1
    logistic, tanh = gemmlowp.logistic(a, integer_bits, bits), gemmlowp.tanh(a, integer_bits, bits)
    assert np.abs(logistic * 2.0 ** (1 - bits) - 1 / (1 + np.exp(-real))).max() < ERROR[bits]
    assert np.abs(tanh * 2.0 ** (1 - bits) - np.tanh(real)).max() < 2 * ERROR[bits]
    away = a != 0
    assert np.array_equal(gemmlowp.logistic(-a, integer_bits, bits)[away], one - logistic[away])
    assert np.array_equal(gemmlowp.tanh(-a, integer_bits, bits), -tanh)


@given(st.integers(2, 2**31 - 1) | st.sampled_from([2, 3, 4, 2**27, 2**28, 2**29 - 1, 2**29, 2**30, 2**31 - 1]))
def test_inverse_square_root(value: int) -> None:
    multiplier, shift = inverse_square_root(value)
    assert 0 < int(multiplier) < 2**31
    assert abs(int(multiplier) * 2.0 ** (int(shift) - 31) * value**0.5 - 1) < 2e-6


def test_inverse_square_root_of_0_and_1_is_the_largest_multiplier() -> None:
    multiplier, shift = inverse_square_root([0, 1])
    assert multiplier.tolist() == [2**31 - 1] * 2
    assert shift.tolist() == [0, 0]
