"""The eight roundings of a division or a shift, of integers and of floats, exact up to the last bit of int64.

    value     floor  ceil  toward_zero  half_up  half_down  half_away  half_to_zero  half_even
     0.5        0     1        0           1         0          1           0            0
     1.5        1     2        1           2         1          2           1            2
    -0.5       -1     0        0           0        -1         -1           0            0
    -1.5       -2    -1       -1          -1        -2         -2          -1           -2

An integer division gives floor and remainder >= 0; a rounding says from which remainder on the quotient goes up.  So no
rounding constant is added that could overflow, and Python integers in object arrays take the same way as int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TIES: dict[str, Callable[[Array, Array], Any]] = {  # of (negative, floor is odd): 1 where a tie goes down, 0 where up
    "half_up": lambda negative, odd: 0,
    "half_down": lambda negative, odd: 1,
    "half_away": lambda negative, odd: negative,
    "half_to_zero": lambda negative, odd: 1 - negative,
    "half_even": lambda negative, odd: 1 - odd,
}
DIRECTED: dict[str, Callable[[Array], Array]] = {"floor": np.floor, "ceil": np.ceil, "toward_zero": np.trunc}
ROUNDINGS = (*DIRECTED, *TIES)


def shift_right(value: Array, amount: Array | int, rounding: str) -> Array:
    """value / 2**amount, rounded.  Ranges: any int64 (or Python integers), 0 <= amount <= 63; shapes broadcast.

    >>> shift_right(np.array([5, -5, 6]), 2, "half_up"), shift_right(np.array([6, -6]), 2, "half_even")
    (array([ 1, -1,  2]), array([ 2, -2]))
    """
    floor: Array = value >> amount
    if rounding == "floor":
        return floor
    remainder = value - (floor << amount)
    half = value.dtype.type(1) << np.maximum(amount - 1, 0) if value.dtype != object else _half(amount)
    return np.asarray(floor + _goes_up(rounding, remainder, half, 1, value < 0, floor))


def _half(amount: Array | int) -> Array:
    """2**(amount - 1), and 1 where amount is 0, as Python integers: there the remainder is 0."""
    return np.asarray(np.asarray([1], object) << np.asarray(np.maximum(amount - 1, 0), object))


def divide(value: Array, divisor: Array | int, rounding: str) -> Array:
    """value / divisor, rounded.  Ranges: any int64 (or Python integers), 1 <= divisor; shapes broadcast.

    >>> divide(np.array([7, -7, 5]), 2, "half_away"), divide(np.array([5, -5]), 3, "toward_zero")
    (array([ 4, -4,  3]), array([ 1, -1]))
    """
    floor: Array = np.asarray(value // divisor)
    if rounding == "floor":
        return floor
    half = divisor // 2 + divisor % 2
    return np.asarray(floor + _goes_up(rounding, value - floor * divisor, half, 1 - divisor % 2, value < 0, floor))


def _goes_up(rounding: str, remainder: Array, half: Any, has_ties: Any, negative: Array, floor: Array) -> Array:
    """Where the rounded quotient is floor + 1.  `half`: the least remainder of at least half the divisor."""
    if rounding == "ceil":
        return np.asarray(remainder > 0)
    if rounding == "toward_zero":
        return np.asarray((remainder > 0) & negative)
    return np.asarray(remainder >= half + TIES[rounding](negative, floor & 1) * has_ties)


def round_floats(x: Array, rounding: str) -> Array:
    """Each float as the integer that the rounding gives, in x's own dtype.

    Exact: x - trunc(x) is a float without rounding, so ties are seen as such.

    >>> round_floats(np.array([0.5, -0.5, 2.5, 0.49999999999999994]), "half_away")
    array([ 1., -1.,  3.,  0.])
    """
    if rounding in DIRECTED:
        return DIRECTED[rounding](x)
    whole, negative = np.trunc(x), x < 0
    with np.errstate(invalid="ignore"):  # an infinity has no fraction
        fraction = np.abs(x - whole)
    odd = np.floor(x) % 2 == 1 if rounding == "half_even" else np.zeros(x.shape, bool)
    goes_down = np.asarray(TIES[rounding](negative, odd), bool)
    away = (fraction > 0.5) | ((fraction == 0.5) & (goes_down == negative))
    return np.asarray(whole + np.where(away, np.where(negative, -1, 1), 0).astype(x.dtype))
