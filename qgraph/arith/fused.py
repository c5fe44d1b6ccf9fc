"""The fused multiply-add of float32, which NumPy does not have."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def fused_multiply_add(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> NDArray[np.float32]:
    """x * y + z of float32 values, rounded to float32 once; shapes broadcast.

    Exact: the product has at most 48 bits and fits float64. The sum's error e in float64 is found by two-sum (Knuth);
    where it is not 0, an even last bit is made odd on e's side ("rounding to odd"), so that rounding again to 24 bits
    gives what one rounding would (Boldo and Melquiond 2008: 53 >= 24 + 2).

    >>> float(fused_multiply_add(1 + 2**-12, 1 + 2**-12, -1 - 2**-11)) == 2.0**-24
    True
    """
    product = np.asarray(np.asarray(x, np.float32).astype(np.float64) * np.asarray(y, np.float32))
    addend = np.asarray(z, np.float32).astype(np.float64)
    total = np.asarray(product + addend)
    part = total - product
    error = (product - (total - part)) + (addend - part)
    bits = total.view(np.int64)
    away = (error > 0) == (total > 0)
    odd = np.where((error != 0) & (bits & 1 == 0), np.where(away, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(np.float32)
