from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qgraph.arith import fixed_point, requantize
from qgraph.arith.accumulation import Accumulation
from qgraph.arith.exactness import as_int32
from tests.arith import plain_integers as plain

RANGES = [
    (np.int8, 3, -128, 127),
    (np.int8, -128, -128, 127),  # RELU
    (np.int8, -5, -5, 60),  # RELU6
    (np.int8, 127, -128, 127),
    (np.uint8, 0, 0, 255),
    (np.uint8, 131, 0, 255),
    (np.int16, 0, -32768, 32767),
]
SHIFTS = st.integers(-31, 8) | st.integers(-14, -5)
MULTIPLIERS = st.integers(2**30, 2**31 - 1) | st.sampled_from([0, 2**30, 2**30 + 1, 2**31 - 1, 2**29 + 1])


def near_steps(multiplier: int, shift: int, low: int, high: int, count: int = 300) -> list[int]:
    """Accumulators on both sides of every output step within [low - 1, high + 1], as far as they fit int32."""
    if multiplier == 0:
        return [0, 1, -1]
    steps = np.unique(np.linspace(low - 1, high + 1, count).astype(np.int64))
    centres = [((2 * int(step) + 1) << (30 - shift)) // multiplier for step in steps]
    return [c + d for c in centres for d in (-2, -1, 0, 1, 2) if -(2**31) <= c + d < 2**31]


def accumulators(values: list[int]) -> list[NDArray[np.generic]]:
    """The same integers in every dtype that an accumulator has and that holds them."""
    wide = np.array(values, np.int64)
    small = wide[np.abs(wide) < 2**24]
    return [small.astype(np.float32), wide.astype(np.int32), wide, wide + 2**32]


def double_rounded(acc: NDArray[np.generic], *settings: Any) -> NDArray[np.generic]:
    """The codes of a few accumulators, in float64, and of many, in float32 where the results are narrow: the same."""
    how = requantize.DoubleRounding(*settings)
    few = how(acc)
    many = how(np.concatenate([acc] * (requantize.SETTLING // max(1, acc.size) + 1)))
    assert np.array_equal(many, np.resize(few, many.shape))
    return few


def plain_double(value: int, multiplier: int, shift: int, zero_point: int, low: int, high: int) -> int:
    return plain.clamp(plain.wrap(plain.double_rounding(value, multiplier, shift) + zero_point), low, high)


@settings(max_examples=150)
@given(MULTIPLIERS, SHIFTS, st.sampled_from(RANGES), st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30))
def test_double_rounding_equals_python_integers(
    multiplier: int, shift: int, output: tuple[type, int, int, int], others: list[int]
) -> None:
    dtype, zero_point, low, high = output
    extremes = [0, 1, -1, 2**24 - 1, 1 - 2**24, 2**31 - 1, -(2**31)]
    values = near_steps(multiplier, shift, low - zero_point, high - zero_point, 40) + extremes + others
    for acc in accumulators(values):
        result = double_rounded(acc, multiplier, shift, zero_point, low, high, dtype)
        expected = [plain_double(plain.wrap(int(v)), multiplier, shift, zero_point, low, high) for v in acc]
        assert result.dtype == dtype
        assert result.tolist() == expected


@pytest.mark.parametrize("shift", [-14, -13, -12, -9, -1, 0, 1, 7])
@pytest.mark.parametrize("output", RANGES[:3])
def test_floats_and_integers_agree_near_every_step(shift: int, output: tuple[type, int, int, int]) -> None:
    """Every accumulator near every step, for the multipliers with most and fewest bits."""
    dtype, zero_point, low, high = output
    for multiplier in (2**30, 2**30 + 1, 2**31 - 1, 1518500249):
        acc = np.array(near_steps(multiplier, shift, low - zero_point, high - zero_point), np.int64)
        acc = acc[np.abs(acc) < 2**24]
        value = fixed_point.multiply_double_rounding(acc.astype(np.int32), multiplier, shift).astype(np.int64)
        expected = np.clip(value + zero_point, low, high).astype(dtype)
        result = double_rounded(acc.astype(np.float32), multiplier, shift, zero_point, low, high, dtype)
        assert np.array_equal(result, expected)


def test_per_channel_parameters_over_many_rows() -> None:
    rng = np.random.default_rng(1)
    for channels in (1, 3, 16, 100, 20000):
        acc = rng.integers(-(2**22), 2**22, (3, 70 if channels < 1000 else 2, channels)).astype(np.float32)
        multiplier, shift = fixed_point.quantize_multiplier(np.exp(rng.uniform(-12, -1, channels)))
        value = fixed_point.multiply_double_rounding(acc.astype(np.int32), multiplier, shift).astype(np.int64)
        result = double_rounded(acc, multiplier, shift, 7, -128, 127, np.int8)
        assert np.array_equal(result, np.clip(value + 7, -128, 127))
        scale = np.exp(rng.uniform(-12, -1, channels)).astype(np.float32)
        product = np.rint(acc * scale).astype(np.int64)
        result = requantize.Float32Even(scale, 7, -128, 127, np.int8)(acc)
        assert np.array_equal(result, np.clip(product + 7, -128, 127))


def test_the_accumulator_is_left_as_it_was() -> None:
    acc = np.arange(-500, 500, dtype=np.float32)
    for result in (
        requantize.DoubleRounding(2**30, -1, 0, -128, 127, np.int8)(acc),
        requantize.Float32Even(np.float32(0.25), 0, -128, 127, np.int8)(acc),
        requantize.Float64Away(0.25, 0, -128, 127, np.int8)(acc),
    ):
        assert result.shape == acc.shape
        assert np.array_equal(acc, np.arange(-500, 500, dtype=np.float32))


def exact_float32(value: Fraction) -> Fraction:
    """The normal float32 nearest to a rational, ties to even."""
    if value == 0:
        return value
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length() - 24
    exponent += abs(value) >= Fraction(2) ** (exponent + 24)
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


@settings(max_examples=150)
@given(
    st.floats(2.0**-30, 2.0**8, width=32) | st.sampled_from([2.0**-k for k in range(20)]),
    st.sampled_from(RANGES),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20),
)
def test_fp32_rounds_accumulator_and_product_to_float32_and_ties_to_even(
    scale: float, output: tuple[type, int, int, int], others: list[int]
) -> None:
    dtype, zero_point, low, high = output
    steps = [int((step + 0.5) / scale) + d for step in range(-130, 130, 13) for d in (-1, 0, 1)]
    values = [v for v in steps if abs(v) < 2**31] + [2**24 + 1, 2**24 + 3, -(2**31), 2**31 - 1, 0] + others
    for acc in accumulators(values):
        result = requantize.Float32Even(np.float32(scale), zero_point, low, high, dtype)(acc)
        for value, got in zip(acc, result, strict=True):
            product = exact_float32(exact_float32(Fraction(plain.wrap(int(value)))) * Fraction(scale))
            assert int(got) == plain.clamp(round(product) + zero_point, low, high)


@settings(max_examples=150)
@given(
    st.floats(2.0**-30, 2.0**9) | st.sampled_from([2.0**-k for k in range(-8, 20)]),
    st.sampled_from(RANGES),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20),
)
def test_float64_away_rounds_ties_away_and_overflows_as_int32(
    scale: float, output: tuple[type, int, int, int], others: list[int]
) -> None:
    dtype, zero_point, low, high = output
    steps = [int((step + 0.5) / scale) + d for step in range(-130, 130, 13) for d in (-1, 0, 1)]
    border = [int(sign * 2**31 / scale) + d for sign in (-1, 1) for d in (-1, 0, 1)]
    values = [v for v in steps + border if abs(v) < 2**31] + [-(2**31), 2**31 - 1, 2**24 - 1, 0] + others
    for acc in accumulators(values):
        result = requantize.Float64Away(scale, zero_point, low, high, dtype)(acc)
        for value, got in zip(acc, result, strict=True):
            product = Fraction(float(plain.wrap(int(value))) * scale)
            rounded = plain.half_away(product.numerator, product.denominator)
            rounded = rounded if -(2**31) <= rounded < 2**31 else -(2**31)
            assert int(got) == plain.clamp(plain.wrap(rounded + zero_point), low, high)


@given(st.lists(st.integers(-(2**48), 2**48), max_size=30), st.floats(2.0**-40, 2.0**8))
def test_wide_float64_away_overflows_as_int32(values: list[int], multiplier: float) -> None:
    result = requantize.multiply_float64_away(np.array(values, np.int64), multiplier)
    for value, got in zip(values, result.tolist(), strict=True):
        product = float(value) * multiplier
        rounded = int(abs(product) + 0.5) * (1 if product >= 0 else -1) if abs(product) < 2**52 else int(product)
        assert got == (rounded if abs(rounded) < 2**31 else -(2**31))


def test_float64_away_of_the_largest_float_below_one_half_is_zero() -> None:
    below_half = float(np.nextafter(0.5, 0.0))
    result = requantize.Float64Away(below_half, 0, -128, 127, np.int8)(np.array([1, -1], np.int32))
    assert result.tolist() == [0, 0]


def test_the_zero_point_wraps_at_int32() -> None:
    """What LiteRT 2.3.0's reference kernels give where the scaled accumulator lies next to +-2**31."""
    acc = np.array([2**29 - 9, 2**29 + 11, -(2**29) + 11, -(2**29) - 9], np.int32)
    away = [requantize.Float64Away(4.0, zero, -128, 127, np.int8)(acc).tolist() for zero in (-5, 0, 127)]
    assert away == [[127, 127, -128, 127], [127, -128, -128, -128], [-128, -128, -128, -128]]
    acc = np.array([2**31 - 50, -(2**31) + 50], np.int32)
    twice = [requantize.DoubleRounding(2**31 - 1, 0, z, -128, 127, np.int8)(acc).tolist() for z in (-128, 100)]
    assert twice == [[127, 127], [-128, -128]]


def test_empty_and_scalar_accumulators() -> None:
    empty = requantize.DoubleRounding(2**30, 0, 0, -128, 127, np.int8)(np.empty((0, 3), np.float32))
    assert empty.shape == (0, 3)
    scalar = requantize.Float32Even(np.float32(0.5), 0, -128, 127, np.int8)(np.array(5, np.int32))
    assert scalar.shape == ()
    assert int(scalar) == 2


@pytest.mark.parametrize("shift", [-21, -20, -18, -14, -3, 0, 2])
@pytest.mark.parametrize("output", [*RANGES[:3], RANGES[-1]])
def test_floats_and_integers_agree_up_to_large_accumulators(shift: int, output: tuple[type, int, int, int]) -> None:
    """Accumulators up to (2**22 - 2**n) >> left shift, and one beyond it, near every step and at the limit."""
    dtype, zero_point, low, high = output
    limit = (2**22 - 2 ** max(-shift, 0)) >> max(shift, 0)
    for multiplier in (2**30, 2**30 + 1, 2**31 - 1, 1518500249):
        steps = near_steps(multiplier, shift, low - zero_point, high - zero_point)
        values = np.array([*(v for v in steps if abs(v) < limit), *range(limit - 40, limit + 1), -limit], np.int64)
        for acc in (values, np.append(values, limit + 1)):
            value = fixed_point.multiply_double_rounding(acc.astype(np.int32), multiplier, shift).astype(np.int64)
            expected = np.clip(value + zero_point, low, high).astype(dtype)
            for kind in (np.float32, np.int32):
                result = requantize.DoubleRounding(multiplier, shift, zero_point, low, high, dtype)(acc.astype(kind))
                assert np.array_equal(result, expected)


@pytest.mark.parametrize("low", [-128, -5])
def test_what_lies_next_to_a_tie_is_settled_whatever_block_it_is_in(low: int) -> None:
    """Two channels whose every odd accumulator is a tie, or next to one, in blocks of any size."""
    rng = np.random.default_rng(0)
    acc = rng.integers(-300, 300, (2 * requantize.SETTLING, 2)).astype(np.float32)
    multiplier, shift = np.array([2**30, 2**30 + 1]), np.array([0, -3])
    how = requantize.DoubleRounding(multiplier, shift, -5, low, 127, np.int8)
    value = fixed_point.multiply_double_rounding(acc.astype(np.int32), multiplier, shift)
    wanted = np.clip(value - 5, low, 127)
    for cuts in ([], [requantize.SETTLING], [7, requantize.SETTLING + 8, requantize.SETTLING + 9]):
        assert np.array_equal(how.of_blocks(acc.shape, np.split(acc, cuts)), wanted)


def test_an_accumulation_is_requantized_as_its_array() -> None:
    acc = np.arange(-600, 600, dtype=np.int64).reshape(2, 200, 3)
    made = Accumulation(acc.shape, acc.dtype, lambda: iter([acc.reshape(-1, 3)[:77], acc.reshape(-1, 3)[77:]]))
    for how in (
        requantize.DoubleRounding(2**30, -1, 3, -128, 127, np.int8),
        requantize.Float32Even(np.float32(0.25), 0, -128, 127, np.int8),
        requantize.Float64Away(0.25, 0, -128, 127, np.int8),
        requantize.WideRounding(2**30, 1, 0, -32768, 32767, np.int16),
    ):
        assert np.array_equal(how(made), how(acc))
    assert np.array_equal(made, acc)
    assert np.array_equal(as_int32(made), acc)
    assert np.asarray(made, np.float64).dtype == np.float64
    assert (made.max(), made.ndim) == (599, 3)
