"""Accumulators to output integers: multiply by a real factor, round, add the zero point, clamp.

Four ways, each bit for bit what a runtime does, are objects: made once of factors, scalars or [C], and called with
`acc` [..., C], an accumulator of `exactness`, wrapped to int32 where it is wider, but for `WideRounding`.
They give `dtype` [..., C], of 8 or 16 bits, which holds [quant_min, quant_max]: a fused activation may have narrowed
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qgraph.arith.channel_rows import PerChannel, cut
from qgraph.arith.exactness import FLOAT32_EXACT, Accumulator, as_int32
from qgraph.arith.fixed_point import multiply_double_rounding, multiply_wide
from qgraph.arith.rounding import round_half_away

Codes: TypeAlias = "np.int8 | np.uint8 | np.int16 | np.uint16"
Narrow: TypeAlias = "NDArray[np.float32] | NDArray[np.int32]"

INT32_MIN = -(2**31)
SETTLING = 2**15
"""Accumulators from which on to settle those in doubt takes less than what float32 saves."""
BELOW_HALF = np.nextafter(0.5, 0.0)


class Requantization:
    """clamp(round(acc * factor) + zero_point); which factor, and how it is rounded, the subclasses say."""

    def __init__(self, zero_point: int, quant_min: int, quant_max: int, dtype: type[Codes]) -> None:
        self.zero_point, self.quant_min, self.quant_max, self.dtype = zero_point, quant_min, quant_max, dtype

    def __call__(self, acc: Accumulator) -> NDArray[Codes]:
        """The codes [..., C] of accumulators [..., C]; those that are no NumPy array requantize themselves."""
        if not isinstance(acc, np.ndarray):
            return acc.requantized(self)
        return self.of_blocks(acc.shape, [acc])

    def of_blocks(self, shape: Sequence[int], blocks: Iterable[NDArray[Any]]) -> NDArray[Codes]:
        """The codes of that shape, [..., C], of accumulators in blocks [..., C], in order."""
        out = np.empty(math.prod(shape), self.dtype)
        start, unsettled = 0, []
        for block in blocks:
            acc = self._taken(block)
            flat = acc.reshape(-1)
            doubtful = self._requantize(acc, flat, out[start : start + flat.size])
            if doubtful is not None:
                unsettled.append((doubtful + start, flat[doubtful]))
            start += flat.size
        if unsettled:
            places, values = map(np.concatenate, zip(*unsettled, strict=True))
            out[places] = self._settled(values, places % shape[-1] if shape else places)
        return out.reshape(shape)

    def _taken(self, acc: NDArray[Any]) -> NDArray[Any]:
        """An accumulator as `_requantize` takes it, contiguous."""
        return np.asarray(acc if acc.dtype == np.float32 else as_int32(acc), order="C")

    def _requantize(self, acc: Narrow, flat: Narrow, out: NDArray[Codes]) -> NDArray[np.intp] | None:
        """Write the codes of acc, which is `flat` without its shape; the places of those that `_settled` has to say."""
        raise NotImplementedError

    def _settled(self, acc: Narrow, channels: NDArray[np.intp]) -> NDArray[np.int32]:
        """The codes of a few accumulators, each of a channel of its own."""
        raise NotImplementedError

    @cached_property
    def _limits(self) -> tuple[float, float]:
        return float(self.quant_min - self.zero_point), float(self.quant_max - self.zero_point)


class _Steps(NamedTuple):
    """How `DoubleRounding` computes in floats of one kind."""

    kind: type[np.floating]
    bits: type[np.unsignedinteger]  # integers of the same size
    sign: np.unsignedinteger  # the bit of the sign
    doubt: np.floating  # how far from its integer a float may be without doubt
    parameters: PerChannel  # the factor, and the bits of c, scalars or [C]


class DoubleRounding(Requantization):
    """clamp(multiply_double_rounding(acc, multiplier, shift) + zero_point), the sum in int32, where it may wrap.

    `shift`: left when positive.
    Ranges: |multiplier| < 2**31, -31 <= shift <= 30.

    Computed in floats, and what those leave in doubt again in integers.  With n the right shift, c = 2**-(n+1) if n > 0
    else 0, and t = acc * multiplier / 2**(31+n), `multiply_double_rounding` shows the result to be floor(t + 1/2 +- c),
    the sign being t's.  That is rint(t +- c) unless t +- c is a tie, and rounding errors e of the product matter only
    within e of a tie.  Let R be the largest of |quant_min - zero_point| and |quant_max - zero_point|.  Beyond R + 1 the
    clamp decides, as every step is monotone; up to there four roundings (of acc, the factor, the product, the sum) err
    by at most 4 * (R + 2) * eps / 2, less than the distance from a tie at which they are settled: about one in a
    thousand is in float32, which is for many, and hardly any in float64.
    Where a left shift, or adding the zero point, may wrap at int32, integers alone.
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

    def _requantize(self, acc: Narrow, flat: Narrow, out: NDArray[Codes]) -> NDArray[np.intp] | None:
        if not self._never_wraps[acc.dtype != np.float32]:
            channels = np.arange(flat.size) % (acc.shape[-1] if acc.ndim else 1)
            out[...] = self._settled(flat, channels)
            return None
        low, high = self._limits
        signed = low < 0  # else a negative t gives at most 0 with either sign of c, which the clamp makes `low`
        steps = self._in_float32 if flat.size >= SETTLING and max(-low, high) < 2**9 else self._in_float64
        kind, bits, sign = steps.kind, steps.bits, steps.sign
        rows, factors, nudges = steps.parameters.beside(acc)
        value, rounded = np.empty((2, rows.length), kind)
        in_doubt = np.zeros(-(-flat.size // 8) * 8, bool)
        for part in rows:
            size = part.stop - part.start
            x, r = value[:size], rounded[:size]
            if flat.dtype == kind:
                np.multiply(flat[part], cut(factors, size), out=x)
            else:
                x[...] = flat[part]
                x *= cut(factors, size)
            if signed:
                np.bitwise_and(x.view(bits), sign, out=r.view(bits))
                np.bitwise_or(r.view(bits), cut(nudges, size), out=r.view(bits))
                x += r
            else:
                x += cut(nudges, size).view(kind)
            np.rint(x, out=r)
            x -= r
            np.abs(x, out=x)
            np.greater(x, steps.doubt, out=in_doubt[part])
            _store(r, low, high, self.zero_point, out[part])
        return _places(in_doubt) if in_doubt.any() else None

    @cached_property
    def _in_float32(self) -> _Steps:
        return self._steps(np.float32, np.uint32)

    @cached_property
    def _in_float64(self) -> _Steps:
        return self._steps(np.float64, np.uint64)

    def _steps(self, kind: type[np.floating], bits: type[np.unsignedinteger]) -> _Steps:
        right = np.maximum(-self.shift.astype(np.int64), 0)
        factor = np.ldexp(self.multiplier.astype(np.float64), np.asarray(self.shift - 31, np.int32))
        nudge = np.where(right > 0, np.ldexp(1.0, np.asarray(-1 - right, np.int32)), 0.0)
        parameters = PerChannel(factor.astype(kind), np.asarray(nudge, kind).view(bits))
        doubt = kind(0.5 - 4 * (max(map(abs, self._limits)) + 2) * np.finfo(kind).eps)
        return _Steps(kind, bits, bits(1 << (kind(0).itemsize * 8 - 1)), doubt, parameters)

    @cached_property
    def _never_wraps(self) -> tuple[bool, bool]:
        """Whether neither a left shift nor the zero point makes int32 wrap, for accumulators of float32 and of int32.
        The latter cannot while every shift is to the right: the product is then at most 2**30."""
        left = int(self.shift.max(initial=0))
        return FLOAT32_EXACT << left < 2**31 - 2**16, left == 0 and bool((self.shift < 0).all())

    def _settled(self, acc: Narrow, channels: NDArray[np.intp]) -> NDArray[np.int32]:
        """The formula itself; adding the zero point wraps at int32, as it does in the runtime."""
        multiplier, shift = (each[channels] if each.size > 1 else each for each in (self.multiplier, self.shift))
        value = multiply_double_rounding(acc.astype(np.int32), multiplier, shift)
        value += np.int32(self.zero_point)
        return value.clip(self.quant_min, self.quant_max)


def _places(in_doubt: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where it holds, of a multiple of 8, mostly nowhere."""
    words = np.flatnonzero(in_doubt.view(np.uint64))
    at, bit = np.nonzero(in_doubt.reshape(-1, 8)[words])
    return words[at] * 8 + bit


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

    def _taken(self, acc: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(acc)

    def _requantize(self, acc: Any, flat: Any, out: NDArray[Codes]) -> None:
        total = multiply_wide(acc, self.multiplier, self.shift).astype(np.int64) + self.zero_point
        out[...] = total.clip(self.quant_min, self.quant_max).reshape(-1)


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
