"""What calibration has seen of a value, counted in bins, and ranges that are searched for in it.

Bins are powers of two wide, and aligned, so that two of them become one of the next width without rounding. Hence the
counts depend neither on how examples are split nor on their order, and take the same memory however many there are.
Zeros are not counted: a range always has a code for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from qgraph.ir import Array
from qgraph.quantizers.arrays import Numbers, as_type, library_of, numbers_up_to, rows_along
from qgraph.quantizers.min_max import MinMax

if TYPE_CHECKING:
    from torch import Tensor, device

SIDE = 8192
"""Bins on each side of 0: the largest magnitude lies in the upper half of them."""
LEAST = -126
"""The exponent of values that are all zero, or next to that: that of the least normal float32."""
SPANS = np.exp2(-np.arange(161) / 32)
"""Candidates for a range, as fractions of the one that covers everything: from 1 down to 1/32."""
SEARCHED = 2**15
"""A range of more steps than this covers everything: bins tell no more."""


def power_of_two(exponent: Numbers) -> Numbers:
    """2 to the power of integers from -1022 to 1023, float64: exact on every device, as `exp2` may not be."""
    return ((as_type(exponent, "int64") + 1023) << 52).view(library_of(exponent).float64)


@dataclass(frozen=True)
class Histogram(Generic[Numbers]):
    """`counts` [P, 2 * SIDE] of int64; bin j has values from `(j - SIDE) * width` on, `width = 2**exponent / SIDE`,
    `exponent` [P] of int32: all magnitudes are below 2**exponent. Both are of NumPy or both of torch."""

    counts: Numbers
    exponent: Numbers

    @staticmethod
    def of(x: Numbers, axis: int | None) -> Histogram[Numbers]:
        """The histogram of the finite values, for each index of `axis` where it is given."""
        if axis is None and isinstance(x, np.ndarray) and x.dtype == np.float32:
            quick = _of_one_row(x)
            if quick is not None:
                return quick
        library = library_of(x)
        finite: Numbers = library.where(library.isfinite(x), x, library.zeros_like(x))
        rows = rows_along(finite, axis)
        largest = library.amax(abs(rows), 1)
        found: Numbers = library.where(largest > 0, library.frexp(largest)[1], LEAST)
        exponent = as_type(found.clip(min=LEAST), "int32")
        width = power_of_two(SIDE.bit_length() - 1 - exponent)[:, None]
        bins = as_type(library.floor(as_type(rows, "float64") * width), "int64") + SIDE
        return Histogram(_counted(bins, rows != 0), exponent)

    def widened(self, exponent: Numbers) -> Histogram[Numbers]:
        """The same counts in bins that are as wide or wider."""
        if isinstance(exponent, np.ndarray) and np.array_equal(exponent, self.exponent):
            return self  # a GPU would be waited for
        bins = numbers_up_to(2 * SIDE, exponent)[None] - SIDE
        shift = (exponent - self.exponent).clip(max=SIDE.bit_length())[:, None]
        return Histogram(_counted((bins >> shift) + SIDE, self.counts), exponent)

    def to(self, device: str | device) -> Histogram[Numbers]:
        """The same on another device."""
        return Histogram(self.counts.to(device), self.exponent.to(device))  # type: ignore[attr-defined]  # tensors

    def plus(self, other: Histogram[Numbers]) -> Histogram[Numbers]:
        """The histogram of both."""
        exponent = library_of(self.exponent).maximum(self.exponent, other.exponent)
        return Histogram(self.widened(exponent).counts + other.widened(exponent).counts, exponent)


def _of_one_row(x: Array) -> Histogram[Array] | None:
    """`Histogram.of` all values, several times faster: scaled by a power of two float32 are as exact as float64. None
    where one is not finite, or the largest next to nothing."""
    largest = max(float(x.max(initial=0)), -float(x.min(initial=0)))
    exponent = int(np.frexp(np.float32(largest))[1]) if largest > 0 else LEAST
    if not np.isfinite(largest) or exponent <= LEAST + SIDE.bit_length():
        return None
    scaled = x.reshape(-1) * np.float32(2.0 ** (SIDE.bit_length() - 1 - exponent))
    bins = np.floor(scaled, out=scaled).astype(np.intp)
    bins += SIDE
    counts = np.bincount(bins, minlength=2 * SIDE)
    counts[SIDE] -= x.size - np.count_nonzero(x)
    return Histogram(counts[None], np.array([exponent], np.int32))


def _counted(bins: Numbers, counts: Numbers) -> Numbers:
    """What bins [P, K] have of counts [P, K], as [P, 2 * SIDE]; float64 adds up such numbers exactly."""
    flat = (bins + numbers_up_to(len(bins), bins)[:, None] * 2 * SIDE).reshape(-1)
    wide = as_type(counts, "float64").reshape(-1)
    found: Numbers = library_of(bins).bincount(flat, wide, minlength=len(bins) * 2 * SIDE)
    return as_type(found, "int64").reshape(len(bins), -1)


class Searched(MinMax):
    """A range that calibration searches for in a histogram: the one with the least `loss`, and of those the widest.

    Candidates clip magnitudes, and so the longer side of a range first. With scales that are powers of two they are the
    ranges of each such scale, so that the best of all that are allowed is found.
    """

    searches: ClassVar[bool] = True

    def loss(self, counts: Array, values: Array, width: float, bounds: tuple[float, float]) -> float:
        """What is lost under a range from bounds[0] to bounds[1], of values with counts, the middles of bins."""
        raise NotImplementedError

    def clipped(self, counts: Array, values: Array, bounds: tuple[float, float]) -> float:
        """What is lost at least under this range, and any that lies in it."""
        return 0.0

    def searched(self, seen: Histogram[Numbers], widest: Array, symmetric: bool) -> Array:
        found = np.array(widest, np.float32)
        if self.levels > SEARCHED:
            return found
        values = np.arange(-SIDE, SIDE) + 0.5
        of_rows = np.asarray(seen.counts.tolist(), np.float64)
        for row, (counts, exponent) in enumerate(zip(of_rows, seen.exponent.tolist(), strict=True)):
            low, high = float(widest[0, row]), -float(widest[1, row])
            width, some = 2.0**exponent / SIDE, np.flatnonzero(counts)
            if len(some) and np.isfinite(low) and np.isfinite(high):
                given = counts[some], values[some] * width, width
                ranges = [_clipped(low, high, span, symmetric) for span in self._spans(low, high, symmetric)]
                low, high = self._best(*given, ranges)
                found[:, row] = low, -high
        return found

    def _best(
        self, counts: Array, values: Array, width: float, ranges: Iterable[tuple[float, float]]
    ) -> tuple[float, float]:
        """The first of the ranges, which are ever narrower, with the least loss."""
        best, least = (0.0, 0.0), np.inf
        for place, bounds in enumerate(ranges):
            loss = self.loss(counts, values, width, bounds)
            if loss < least or not place:
                best, least = bounds, loss
            elif self.clipped(counts, values, bounds) > least:
                break
        return best

    def _spans(self, low: float, high: float, symmetric: bool) -> NDArray[np.float64]:
        """From the lowest to the highest real of each candidate, the widest first."""
        widest = 2 * max(-low, high) if symmetric else high - low
        if not self.power_of_two:
            return widest * SPANS
        largest = super().allowed(np.asarray([widest / self.levels]))
        return np.asarray(largest * self.levels * np.exp2(-np.arange(6.0)), np.float64)

    def allowed(self, scale: Array) -> Array:
        """The power of two that is nearest to a scale by its ratio, where they alone are allowed: ranges leave out what
        is far from the others anyway."""
        if not self.power_of_two:
            return scale
        mantissa, _ = np.frexp(scale)
        upper = super().allowed(scale)
        return np.where((mantissa > 0.5) & (mantissa <= HALF_BY_RATIO), upper / 2, upper).astype(scale.dtype)

    def torch_allowed(self, scale: Tensor) -> Tensor:
        if not self.power_of_two:
            return scale
        mantissa, _ = scale.frexp()
        upper = super().torch_allowed(scale)
        return (upper / 2).where((mantissa > 0.5) & (mantissa <= HALF_BY_RATIO), upper)


HALF_BY_RATIO = float(np.float32(2**-0.5))
"""The mantissa in the middle between two powers of two."""


def _clipped(low: float, high: float, span: float, symmetric: bool) -> tuple[float, float]:
    """The range of that span, which leaves out the largest magnitudes."""
    if symmetric:
        return -span / 2, span / 2
    if span >= high - low:
        return low, low + span if span > high - low else high
    short = min(-low, high)
    most = span / 2 if span <= 2 * short else span - short
    return max(low, -most), min(high, most)
