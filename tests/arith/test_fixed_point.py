from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgraph.arith import fixed_point
from tests.arith import plain_integers as plain

INT32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from(
    [-(2**31), -(2**31) + 1, -(2**30), -1, 0, 1, 2**30, 2**31 - 1]
)
MULTIPLIER = st.integers(2**30, 2**31 - 1) | st.sampled_from([0, 2**30, 2**30 + 1, 2**31 - 1])
ANY_MULTIPLIER = MULTIPLIER | st.integers(-(2**31) + 1, 2**31 - 1)


@given(st.floats(0, 2.0**30, allow_subnormal=True))
def test_quantize_multiplier(real: float) -> None:
    multiplier, shift = fixed_point.quantize_multiplier(real)
    assert (int(multiplier), int(shift)) == plain.quantize_multiplier(real)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (2**30, 1)),
        (np.nextafter(1.0, 0.0), (2**30, 1)),  # its multiplier rounds up to 2**31
        (2.0**-32, (2**30, -31)),
        (2.0**-32 - 2.0**-85, (2**30, -31)),  # rounds up to it
        (2.0**-32 - 2.0**-63, (0, 0)),
        (1.0 - 2.0**-32, (2**30, 1)),  # exactly on the tie
        (1.0 - 2.0**-32 - 2.0**-53, (2**31 - 1, 0)),
        (-0.75, (-1610612736, 0)),
    ],
)
def test_quantize_multiplier_at_its_borders(real: float, expected: tuple[int, int]) -> None:
    multiplier, shift = fixed_point.quantize_multiplier(real)
    assert (int(multiplier), int(shift)) == expected


def test_quantize_multiplier_keeps_the_shape() -> None:
    multiplier, shift = fixed_point.quantize_multiplier([[0.5, 0.25, 3.0]])
    assert multiplier.dtype == shift.dtype == np.int32
    assert multiplier.tolist() == [[2**30, 2**30, 1610612736]]
    assert shift.tolist() == [[0, -1, 2]]


@given(INT32, INT32)
def test_high_mul(a: int, b: int) -> None:
    assert int(fixed_point.saturating_rounding_doubling_high_mul(a, b)) == plain.high_mul(a, b)


@given(INT32, st.integers(0, 31))
def test_divide_by_pot(x: int, exponent: int) -> None:
    result = int(fixed_point.rounding_divide_by_pot(x, exponent))
    assert result == plain.divide_by_pot(x, exponent) == plain.half_away(x, 2**exponent)


@given(INT32, ANY_MULTIPLIER, st.integers(-31, 30))
def test_double_rounding(value: int, multiplier: int, shift: int) -> None:
    result = int(fixed_point.multiply_double_rounding(np.int32(value), multiplier, shift))
    assert result == plain.double_rounding(value, multiplier, shift)


@given(INT32, ANY_MULTIPLIER, st.integers(-31, 30))
def test_single_rounding(value: int, multiplier: int, shift: int) -> None:
    result = int(fixed_point.multiply_single_rounding(np.int32(value), multiplier, shift))
    assert result == plain.single_rounding(value, multiplier, shift)


@given(INT32, ANY_MULTIPLIER, st.integers(-31, 29))
def test_other_roundings(value: int, multiplier: int, shift: int) -> None:
    for multiply, plainly in (
        (fixed_point.multiply_half_up, plain.half_up_rounding),
        (fixed_point.multiply_shifted_single_rounding, plain.shifted_single_rounding),
    ):
        assert int(multiply(np.int32(value), multiplier, shift)) == plainly(value, multiplier, shift)


@given(st.integers(-(2**47), 2**47) | INT32, MULTIPLIER, st.integers(-31, 14))
def test_wide_product(value: int, multiplier: int, shift: int) -> None:
    assert int(fixed_point.multiply_wide(value, multiplier, shift)) == plain.wide_product(value, multiplier, shift)


@given(INT32, st.floats(2.0**-32, 2.0**20, width=32))
def test_rndnu(value: int, scale: float) -> None:
    assert int(fixed_point.multiply_rndnu(value, np.float32(scale))) == plain.rndnu(value, np.float32(scale))


@given(INT32, st.floats(2.0**-126, 2.0**-33, width=32))
def test_rndnu_of_a_tiny_scale_is_zero(value: int, scale: float) -> None:
    assert int(fixed_point.multiply_rndnu(value, np.float32(scale))) == plain.rndnu(value, np.float32(scale)) == 0


@given(MULTIPLIER, st.integers(-31, 0), st.integers(-300, 300), st.integers(-3, 3))
def test_double_rounding_beside_every_output_step(multiplier: int, shift: int, step: int, distance: int) -> None:
    """The values whose products lie next to (step + 1/2) * 2**(31 - shift), where the two roundings meet."""
    if multiplier == 0:
        return
    value = ((2 * step + 1) << (30 - shift)) // multiplier + distance
    if not -(2**31) <= value < 2**31:
        return
    result = int(fixed_point.multiply_double_rounding(np.int32(value), multiplier, shift))
    assert result == plain.double_rounding(value, multiplier, shift)


def test_parameters_broadcast_over_the_last_axis() -> None:
    value = np.arange(-6000, 6000, dtype=np.int32).reshape(20, 200, 3)
    multiplier, shift = np.array([2**30, 2**31 - 1, 1518500250]), np.array([-3, 2, 0])
    for multiply, plainly in (
        (fixed_point.multiply_double_rounding, plain.double_rounding),
        (fixed_point.multiply_single_rounding, plain.single_rounding),
    ):
        result = multiply(value, multiplier, shift)
        assert result.dtype == np.int32
        for channel in range(3):
            expected = [
                plainly(int(v), int(multiplier[channel]), int(shift[channel])) for v in value[..., channel].flat
            ]
            assert result[..., channel].ravel().tolist() == expected


def test_values_wider_than_int32_wrap() -> None:
    wide = np.array([2**31 + 5, -(2**40) + 7])
    assert np.array_equal(
        fixed_point.multiply_double_rounding(wide, 2**30, -1),
        fixed_point.multiply_double_rounding(wide.astype(np.int32), 2**30, -1),
    )
