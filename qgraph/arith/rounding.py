"""Rounding of floats and integer divisions, with the ties spelled out."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = TypeVar("FloatArray", NDArray[np.float32], NDArray[np.float64])


def round_half_away(x: FloatArray) -> FloatArray:
    """The nearest integer to each element of x, ties away from zero, in x's own dtype.  C's `round`.

    Adding one half would turn the largest float below 0.5 into 1.  With h the largest float below one half,
    trunc(x + h) is right for every float: for |x| in [k, k + 1/2) the sum stays below k + 1 or rounds to something
    below it; a tie's sum k + 1/2 + h lies half an ulp or less below k + 1 and rounds up to it (to even at k = 0);
    from 2**(precision - 1) on, where all floats are integers, x + h rounds to x.

    >>> round_half_away(np.array([0.5, -0.5, 1.5, 2.5, 0.49999997], np.float32))
    array([ 1., -1.,  2.,  3.,  0.], dtype=float32)
    """
    below_half = np.nextafter(x.dtype.type(0.5), x.dtype.type(0))
    return np.trunc(x + np.copysign(below_half, x))


def round_half_even(x: FloatArray) -> FloatArray:
    """The nearest integer to each element of x, ties to the even one, in x's own dtype.  C's `rint`.

    >>> round_half_even(np.array([0.5, 1.5, -2.5]))
    array([ 0.,  2., -2.])
    """
    return np.rint(x)


def truncating_divide(a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """a / b truncated toward zero, as C divides integers.  Ranges: |a| < 2**63, b != 0; shapes broadcast.

    >>> truncating_divide([7, -7, 7], [2, 2, -2])
    array([ 3, -3, -3])
    """
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    quotient: NDArray[np.int64] = np.abs(a) // np.abs(b)
    negative = (a < 0) != (b < 0)
    return np.where(negative, -quotient, quotient)


def divide_half_away(total: ArrayLike, count: ArrayLike) -> NDArray[np.int64]:
    """total / count rounded to nearest, ties away from zero: (total +- count // 2) / count, truncated.

    Ranges: |total| < 2**62, 1 <= count < 2**62; shapes broadcast.
    Source: TFLite reference_integer_ops::AveragePool.

    >>> divide_half_away([5, -5, 4], [2, 2, 3])
    array([ 3, -3,  1])
    """
    total, count = np.asarray(total, np.int64), np.asarray(count, np.int64)
    half = count // 2
    return truncating_divide(np.where(total >= 0, total + half, total - half), count)
