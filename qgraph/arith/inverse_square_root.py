"""1 / sqrt(v) of an integer as multiplier and shift, in integers only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.gemmlowp import divide_by_pot, high_mul, saturate

HALF_SQRT_2 = 1518500250  # in Q0


def inverse_square_root(value: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and shift (left when positive), in the shape of `value`: multiplier * 2**(shift - 31) ~ 1 / sqrt(v).

    Ranges: 0 <= v < 2**31; 0 and 1 give the largest multiplier, 2**31 - 1.  v is scaled by powers of 4 into
    [2**27, 2**29), five Newton steps follow in Q3, and a multiplication with sqrt(2) / 2.
    Source: TFLite GetInvSqrtQuantizedMultiplierExp, kernels/internal/common.h, reverse_shift = -1.
    """
    v = np.maximum(np.asarray(value, np.int64), 1)
    quarters = np.maximum(_bit_length(v) - 28, 0) // 2  # how often v is divided by 4 until it is below 2**29
    small = v >> (2 * quarters)
    more = (31 - _bit_length(small)) // 2 - 1  # pairs of leading zeros
    shift = 11 + quarters - more
    v_q3 = small << (2 * more)
    half = divide_by_pot(v_q3 >> 1, 1)
    x = np.full(v.shape, 1 << 28, np.int64)  # one, in Q3
    for _ in range(5):
        cube = saturate(high_mul(high_mul(x, x), x) << 6, 32)
        x = saturate((high_mul(3 << 27, x) - high_mul(half, cube)) << 3, 32)
    x = high_mul(x, HALF_SQRT_2)
    x, shift = np.where(shift < 0, x << np.maximum(-shift, 0), x), np.maximum(shift, 0)
    none = np.asarray(value) <= 1
    return np.where(none, 2**31 - 1, x), np.where(none, 0, -shift)


def _bit_length(v: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits of each v, 1 <= v < 2**53."""
    return np.frexp(v.astype(np.float64))[1].astype(np.int64)
