from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qgraph.arith.fused import fused_multiply_add

FLOAT = st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 2.0**-40)


def nearest(exact: Fraction) -> np.float32:
    """The float32 nearest to a fraction, ties to even."""
    guess = np.float32(float(exact))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(near, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.int32)) & 1))


@given(FLOAT, FLOAT, FLOAT)
def test_one_rounding(x: float, y: float, z: float) -> None:
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    assert float(fused_multiply_add(x, y, z)) == float(nearest(exact))


@given(st.integers(2**23, 2**24 - 1), st.integers(-30, 30), st.sampled_from([-1, 1]))
def test_a_product_beside_a_tie(mantissa: int, exponent: int, side: int) -> None:
    """The sum is a tie of float32 but for a part that float64 cannot hold."""
    x = np.float32(2.0**-12 * (1 + 2.0**-12)), np.float32(2.0**-60 * side)
    z = np.float32(np.ldexp(mantissa, exponent - 24))
    for value in x:
        exact = Fraction(float(value)) * Fraction(float(value)) + Fraction(float(z))
        assert float(fused_multiply_add(value, value, z)) == float(nearest(exact))
