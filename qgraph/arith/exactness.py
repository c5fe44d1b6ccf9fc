"""Which dtype holds an integer accumulator exactly.

An **accumulator** (`acc`) is an array of exact integers in one of three dtypes, chosen from a bound on |acc| that
holds for every input of the given dtypes: float32 (bound below 2**24), else int32 (below 2**31), else int64.
`requantize` reads all three; other code calls `as_int32`, which wraps as a runtime's int32 accumulator does.
Those of a layer are an `Accumulation`, which becomes such an array where it is taken for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from qgraph.arith.accumulation import Accumulation

Accumulator: TypeAlias = "NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64] | Accumulation"


class AccumulatorType(NamedTuple):
    """What an op adds up in: the bits of its accumulators in the runtime, and the zero points of the operands whose
    products it adds, by name: a number, or an array that broadcasts along the operand.

    `partial`: what overflows on the way is lost; otherwise the sum alone counts, as where accumulators wrap.
    """

    bits: int
    zeros: Mapping[str, Any]
    partial: bool = False


FLOAT32_EXACT = 2**24  # every integer of smaller magnitude is a float32
FLOAT64_EXACT = 2**53


def product_dtype(bound: int) -> np.dtype[np.float32] | np.dtype[np.float64] | np.dtype[np.int64]:
    """The fastest dtype to sum products in when `bound` limits the sum of their magnitudes.

    Every partial sum, in any order and with fused multiply-adds or without, is an integer within the bound, so
    float32 is exact below 2**24 and float64 below 2**53.
    """
    if bound < FLOAT32_EXACT:
        return np.dtype(np.float32)
    return np.dtype(np.float64) if bound < FLOAT64_EXACT else np.dtype(np.int64)


def accumulator_dtype(bound: int) -> np.dtype[np.float32] | np.dtype[np.int32] | np.dtype[np.int64]:
    """The dtype of an accumulator whose magnitude, and that of its two summands, stays within `bound`."""
    if bound < FLOAT32_EXACT:
        return np.dtype(np.float32)
    return np.dtype(np.int32) if bound < 2**31 else np.dtype(np.int64)


def as_accumulator(acc: NDArray[np.number], bound: int) -> NDArray[Any]:
    """Exact integers in any dtype as an accumulator whose magnitude stays within `bound`."""
    return acc.astype(accumulator_dtype(bound), copy=False)


def largest_magnitude(dtype: np.dtype[np.generic]) -> int:
    """The largest |value| of an integer dtype: 128 for int8, 255 for uint8.

    >>> largest_magnitude(np.dtype(np.int8)), largest_magnitude(np.dtype(np.uint8))
    (128, 255)
    """
    info = np.iinfo(dtype)  # type: ignore[type-var]  # a floating dtype raises ValueError, which is what it should do
    return max(-int(info.min), int(info.max))


def wrap_int32(value: NDArray[np.int64]) -> NDArray[np.int32]:
    """Value modulo 2**32, in int32: what a runtime's int32 accumulator holds after overflow."""
    return value.astype(np.int32)


def as_int32(acc: Accumulator) -> NDArray[np.int32]:
    """The accumulator in int32, modulo 2**32; no copy when it is int32 already.

    >>> as_int32(np.array([2**31, -5]))
    array([-2147483648,          -5], dtype=int32)
    """
    return np.asarray(acc).astype(np.int32, copy=False)
