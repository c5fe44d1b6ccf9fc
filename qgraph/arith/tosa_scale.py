"""The scaling of the TOSA specification: an integer times multiplier / 2**shift, where the shift goes to the right.

    real ~= multiplier * 2**-shift          2 <= shift <= 62

Source: TOSA specification 1.0, scale_helpers (apply_scale_32, apply_scale_16, reciprocal_scale).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.fixed_point import quantize_multiplier

SHORTEST, LONGEST = 2, 62
"""Shifts that the specification admits."""


def scale_of(real: ArrayLike, bits: int = 31) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Multiplier of 31 (or 15) bits and right shift of each real factor >= 0, in real's shape.

    What is below 2**-32 gives the multiplier 0. Raises ValueError for a factor that is too large.

    >>> [int(part) for part in scale_of(0.75)], [int(part) for part in scale_of(0.75, 15)]
    ([1610612736, 31], [24576, 15])
    """
    multiplier, left = quantize_multiplier(real)
    wide: NDArray[np.int64] = np.asarray(multiplier, np.int64)
    shift = 31 - np.asarray(left, np.int64)
    if bits < 31:
        wide = (wide + (1 << (30 - bits))) >> (31 - bits)
        carried = wide == 1 << bits
        wide, shift = np.where(carried, wide >> 1, wide), shift - (31 - bits) - carried
    if np.any(shift < SHORTEST):
        raise ValueError(f"a factor of {np.max(real):.4g} is too large for a shift of {SHORTEST} or more")
    return wide.astype(np.int32), shift.astype(np.int8)


def fits_scale_32(value: NDArray[np.integer], shift: ArrayLike) -> bool:
    """Whether every value is within -2**(shift - 1) and 2**(shift - 1) - 1, as apply_scale_32 requires."""
    if value.size == 0:
        return True
    limit = np.int64(1) << (np.asarray(shift, np.int64) - 1)
    if limit.size == 1:
        return bool(value.min() >= -limit.min() and value.max() < limit.min())
    return bool(((value >= -limit) & (value < limit)).all())


def apply_scale_32(
    value: NDArray[np.integer], multiplier: ArrayLike, shift: ArrayLike, *, double_round: bool = False
) -> NDArray[np.int64]:
    """value * multiplier / 2**shift, rounded half up; `double_round` adds the specification's second rounding step.

    Shapes: value [..., C]; multiplier and shift scalars or [C].  Ranges: 0 <= multiplier < 2**31, 2 <= shift <= 62,
    `fits_scale_32`. The result is within int32.
    Exact: |value * multiplier| < 2**62 and the rounding terms are at most 2**61 + 2**30.
    """
    right = np.asarray(shift, np.int64)
    rounding: NDArray[np.int64] = np.asarray(np.int64(1) << (right - 1))
    product: NDArray[np.int64] = value.astype(np.int64) * np.asarray(multiplier, np.int64)
    if double_round:
        second = np.where(right > 31, np.int64(1 << 30), 0)
        product += np.where(value >= 0, second, -second)
    product += rounding
    product >>= right
    return product


def apply_scale_16(value: NDArray[np.integer], multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int64]:
    """value * multiplier / 2**shift, rounded half up, of values of 48 bits; it may leave int32.

    Ranges: 0 <= multiplier < 2**15, 2 <= shift <= 62.  Exact: |value * multiplier| < 2**62.
    """
    right = np.asarray(shift, np.int64)
    product: NDArray[np.int64] = value.astype(np.int64) * np.asarray(multiplier, np.int64)
    product += np.int64(1) << (right - 1)
    product >>= right
    return product


def reciprocal_scale(count: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and shift of 1 / count, for counts from 1 to 2**31."""
    wide = np.asarray(count, np.int64)
    k = np.frexp(np.maximum(wide - 1, 0).astype(np.float64))[1].astype(np.int64)  # 32 - leading zeros of count - 1
    return (((np.int64(1) << 30) + 1) << k) // wide, 30 + k
