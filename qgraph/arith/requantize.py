"""Accumulators to output integers: multiply by a real factor, round, add the zero point, clamp.

Four ways, each bit for bit what a runtime does, are objects: made once of factors, scalars or [C], and called with
`acc` [..., C], an accumulator of `exactness`, wrapped to int32 where it is wider, but for `WideRounding`.
They give `dtype` [..., C], of 8 or 16 bits, which holds [quant_min, quant_max]: a fused activation may have narrowed
it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.channel_rows import ChannelRows, PerChannel, cut
from qgraph.arith.exactness import FLOAT32_EXACT, FLOAT64_EXACT, Accumulator, as_int32
from qgraph.arith.fixed_point import multiply_double_rounding, multiply_wide
from qgraph.arith.rounding import round_half_away

Codes: TypeAlias = "np.int8 | np.uint8 | np.int16 | np.uint16"
Narrow: TypeAlias = "NDArray[np.float32] | NDArray[np.int32]"

INT32_MIN = -(2**31)
BELOW_HALF = np.nextafter(0.5, 0.0)


class Requantization:
    """clamp(round(acc * factor) + zero_point); which factor, and how it is rounded, the subclasses say."""

    def __init__(self, zero_point: int, quant_min: int, quant_max: int, dtype: type[Codes]) -> None:
        self.zero_point, self.quant_min, self.quant_max, self.dtype = zero_point, quant_min, quant_max, dtype

    def __call__(self, acc: Accumulator) -> NDArray[Codes]:
        """The codes [..., C] of accumulators [..., C]; those that are no NumPy array requantize themselves."""
        if not isinstance(acc, np.ndarray):
            return acc.requantized(self)
        narrow = cast("Narrow", np.asarray(acc if acc.dtype == np.float32 else as_int32(acc), order="C"))
        out = np.empty(narrow.size, self.dtype)
        self._requantize(narrow, narrow.reshape(-1), out)
        return out.reshape(acc.shape)

    def _requantize(self, acc: Narrow, flat: Narrow, out: NDArray[Codes]) -> None:
        """Write the codes of acc, which is `flat` without its shape."""
        raise NotImplementedError

    @cached_property
    def _limits(self) -> tuple[float, float]:
        return float(self.quant_min - self.zero_point), float(self.quant_max - self.zero_point)


class DoubleRounding(Requantization):
    """clamp(multiply_double_rounding(acc, multiplier, shift) + zero_point), the sum in int32, where it may wrap.

    `shift`: left when positive.
    Ranges: |multiplier| < 2**31, -31 <= shift <= 30.

    Computed in float64 where that is exact.  With n the right shift, c = 2**-(n+1) if n > 0 else 0, and
    t = acc * multiplier / 2**(31+n), `multiply_double_rounding` shows the result to be floor(t + 1/2 +- c), the sign
    being t's.  For |t| >= c, +-c is clip(t, -c, c); for |t| < c <= 1/4 the floor is 0 with either.
    Let R = max(|quant_min - zero_point|, |quant_max - zero_point|) + 1 and (R + 1) * 2**(31+n) <= 2**53.  While
    |t| <= R, t and every sum are multiples of 2**-(31+n) below R + 1: exact.  Beyond, every step is monotone in t
    even as rounded by float64, so the result is at or past that of |t| = R, which the clamp has reached.
    For 8-bit outputs that holds up to n = 13 (factors above 2**-14).
    It is also exact, for every t, where A + 2**n <= 2**22 with A = max|acc| * 2**(left shift) of this very acc: |t| + 1
    is then at most 2**53 times 2**-(31+n). That serves smaller factors, unless accumulators are large; int64 the rest.
    Source: TFLite MultiplyByQuantizedMultiplier, TFLITE_SINGLE_ROUNDING off.
    """

    def __init__(
        self,
        multiplier: ArrayLike,
        shift: ArrayLike,
        zero_point: int,
        quant_min: int,
        quant_max: int,
        dtype: type[Codes],
    ) -> None:
        super().__init__(zero_point, quant_min, quant_max, dtype)
        self.multiplier, self.shift = np.asarray(multiplier), np.asarray(shift)

    def _requantize(self, acc: Narrow, flat: Narrow, out: NDArray[Codes]) -> None:
        if not self._float64_is_exact(acc):
            return self._requantize_in_integers(acc, flat, out)
        low, high = self._limits
        signed = low < 0  # else a negative t gives at most 0 with either sign of c, which the clamp makes `low`
        rows, factors, lower, upper, offset = self._float64.beside(acc)
        buffer, nudges = np.empty((2, rows.length), np.float64)
        for part in rows:
            size = part.stop - part.start
            value = buffer[:size]
            value[...] = flat[part]
            value *= cut(factors, size)
            if signed:
                value += value.clip(cut(lower, size), cut(upper, size), nudges[:size])
            value += cut(offset, size)
            np.floor(value, value)
            _store(value, low, high, self.zero_point, out[part])
        return None

    @cached_property
    def _float64(self) -> PerChannel:
        """The factor, the bounds of +-c, and what is added before the floor, scalars or [C]."""
        right = np.maximum(-self.shift.astype(np.int64), 0)
        factor = np.ldexp(self.multiplier.astype(np.float64), np.asarray(self.shift - 31, np.int32))
        nudge = np.where(right > 0, np.ldexp(1.0, np.asarray(-1 - right, np.int32)), 0.0)
        signed = self._limits[0] < 0
        return PerChannel(factor, -nudge, nudge, np.asarray(0.5) if signed else nudge + 0.5)

    @cached_property
    def _shifts(self) -> tuple[int, int]:
        """The largest right shift, and the largest left one."""
        return max(-int(self.shift.min()), 0), max(int(self.shift.max()), 0)

    @cached_property
    def _always_in_float64(self) -> tuple[bool, bool]:
        """Whether the first condition holds for accumulators of float32, and of int32: no left shift and no zero point
        may make int32 wrap. An int32 accumulator cannot while every shift is to the right: the product is then at most
        2**30."""
        (right, left), (low, high) = self._shifts, self._limits
        fine = (int(max(abs(low), abs(high))) + 2) << (31 + right) <= FLOAT64_EXACT
        return fine and FLOAT32_EXACT << left < 2**31, fine and int(self.shift.max()) < 0

    def _float64_is_exact(self, acc: Narrow) -> bool:
        """One of the two conditions of the class."""
        if acc.size == 0 or self.shift.size == 0 or self._always_in_float64[acc.dtype != np.float32]:
            return True
        right, left = self._shifts
        magnitude = max(int(acc.max()), -int(acc.min()))
        return ((magnitude << left) + (1 << right)) << 31 <= FLOAT64_EXACT

    def _requantize_in_integers(self, acc: Narrow, flat: Narrow, out: NDArray[Codes]) -> None:
        """The formula itself; adding the zero point wraps at int32, as it does in the runtime."""
        rows = ChannelRows(acc.shape[-1] if acc.ndim else 1, acc.size)
        multipliers, shifts = rows.repeated(self.multiplier), rows.repeated(self.shift)
        for part in rows:
            size = part.stop - part.start
            value = multiply_double_rounding(flat[part].astype(np.int32), cut(multipliers, size), cut(shifts, size))
            value += np.int32(self.zero_point)
            out[part] = value.clip(self.quant_min, self.quant_max)


class Float32Even(Requantization):
    """clamp(rint(float32(acc) * scale) + zero_point), ties to even, the product in float32.

    `scale`: float32, scalar or [C].  acc converts to float32 with ties to even.  The product is clamped before the
    zero point is added, so nothing overflows however large it is.
    Source: XNNPACK qs8 `fp32` requantization; ONNX Runtime MlasRequantizeOutput.
    """

    def __init__(self, scale: ArrayLike, zero_point: int, quant_min: int, quant_max: int, dtype: type[Codes]) -> None:
        super().__init__(zero_point, quant_min, quant_max, dtype)
        self.scale = np.asarray(scale, np.float32)
        self._scales = PerChannel(self.scale)

    def _requantize(self, acc: Narrow, flat: Narrow, out: NDArray[Codes]) -> None:
        rows, repeated = self._scales.beside(acc)
        buffer = np.empty(rows.length, np.float32)
        for part in rows:
            value = buffer[: part.stop - part.start]
            if flat.dtype == np.float32:
                np.multiply(flat[part], cut(repeated, value.size), value)
            else:
                value[...] = flat[part]
                value *= cut(repeated, value.size)
            np.rint(value, value)
            _store(value, *self._limits, self.zero_point, out[part])


class Float64Away(Requantization):
    """clamp(int32(round(float64(acc) * multiplier)) + zero_point), ties away from zero, the sum in int32.

    `multiplier`: float64, scalar or [C].  A rounded product outside int32 becomes INT32_MIN, whatever its sign, as
    x86's conversion makes it.  Adding the zero point wraps: INT32_MIN and a negative zero point give quant_max.
    Measured on LiteRT 2.3.0's reference FULLY_CONNECTED: products on both sides of +-2**31, zero points -128 .. 127.
    Exact: the rounding is that of `round_half_away`, whose docstring has the argument.
    Source: TFLite reference_integer_ops::FullyConnected with a double scale.
    """

    def __init__(
        self, multiplier: ArrayLike, zero_point: int, quant_min: int, quant_max: int, dtype: type[Codes]
    ) -> None:
        super().__init__(zero_point, quant_min, quant_max, dtype)
        self.multiplier = np.asarray(multiplier, np.float64)
        self._multipliers = PerChannel(self.multiplier)

    def _requantize(self, acc: Narrow, flat: Narrow, out: NDArray[Codes]) -> None:
        rows, repeated = self._multipliers.beside(acc)
        largest_acc = FLOAT32_EXACT if acc.dtype == np.float32 else 2**31
        may_overflow = self._largest * largest_acc >= 2.0**31 - 2**16
        buffer, half = np.empty((2, rows.length), np.float64)
        for part in rows:
            value, rounding = buffer[: part.stop - part.start], half[: part.stop - part.start]
            value[...] = flat[part]
            value *= cut(repeated, value.size)
            np.copysign(BELOW_HALF, value, rounding)
            value += rounding
            np.trunc(value, value)
            if may_overflow:
                _convert_and_add_in_int32(value, self.zero_point)
            _store(value, *self._limits, self.zero_point, out[part])

    @cached_property
    def _largest(self) -> float:
        return float(np.abs(self.multiplier).max(initial=0.0))


class WideRounding(Requantization):
    """clamp(multiply_wide(acc, multiplier, shift) + zero_point), of accumulators of 64 bits, which are not wrapped.

    `shift`: left when positive.  Ranges as of `multiply_wide`.
    Source: TFLite MultiplyByQuantizedMultiplier for int64_t.
    """

    def __init__(
        self,
        multiplier: ArrayLike,
        shift: ArrayLike,
        zero_point: int,
        quant_min: int,
        quant_max: int,
        dtype: type[Codes],
    ) -> None:
        super().__init__(zero_point, quant_min, quant_max, dtype)
        self.multiplier, self.shift = np.asarray(multiplier), np.asarray(shift)

    def __call__(self, acc: Accumulator) -> NDArray[Codes]:
        if not isinstance(acc, np.ndarray):
            return acc.requantized(self)
        total = multiply_wide(acc, self.multiplier, self.shift).astype(np.int64) + self.zero_point
        return total.clip(self.quant_min, self.quant_max).astype(self.dtype)


def multiply_float64_away(value: NDArray[np.int64], multiplier: ArrayLike) -> NDArray[np.int32]:
    """round(float64(value) * multiplier), ties away from zero; INT32_MIN where that leaves int32.

    Shapes: value [..., C]; multiplier scalar or [C].
    """
    product = round_half_away(np.asarray(value.astype(np.float64) * np.asarray(multiplier, np.float64)))
    return np.where(np.abs(product) < 2.0**31, product, INT32_MIN).astype(np.int32)


def _convert_and_add_in_int32(value: NDArray[np.float64], zero_point: int) -> None:
    """Make value, integers of any size, those to which an exact addition of zero_point gives what int32 gives."""
    value[(value >= 2.0**31) | (value < INT32_MIN)] = INT32_MIN
    value[value + zero_point >= 2.0**31] -= 2.0**32
    value[value + zero_point < INT32_MIN] += 2.0**32


def _store(
    value: NDArray[np.floating],
    low: float,
    high: float,
    zero_point: int,
    out: NDArray[Codes],
) -> None:
    """Write clip(value, low, high) + zero_point into out; value is overwritten.

    Bounds in value's own dtype: integers up to 2**17 in magnitude, exact in float32.
    """
    value.clip(low, high, value)
    if zero_point:
        value += zero_point
    out[...] = value
