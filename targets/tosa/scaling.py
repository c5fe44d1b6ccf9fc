"""RESCALE with the multiplier and shift of a real factor: what every row ends with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qgraph.arith.tosa_scale import scale_of
from qgraph.errors import LoweringError
from qgraph.ir import Array, Attr, Builder, Element, QuantParams, TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.targets.lowering import CALIBRATE, Lowering

LARGEST_FACTOR = 2.0**28
"""From which on every integer but 0 is beyond the last code of 16 bits."""


def reach(type: TensorType) -> int:
    """The largest magnitude of an activation without its zero point."""
    low, high = integer_range(type.dtype)
    zero = int(type.q.zero_points[0])
    return max(zero - low, high - zero)


def scale(type: TensorType) -> np.float64:
    """The scale of an activation, in float64."""
    return np.float64(type.q.scales[0])


def zero_point(element: Element) -> int:
    """The zero point of an element type of 8 bits; wider ones have none."""
    dtype, quant = element
    return int(quant.zero_points[0]) if quant is not None and dtype == "i8" else 0


def rescaled(
    build: Builder,
    x: Value,
    element: Element,
    factor: ArrayLike,
    bound: int | None = None,
    zeros: tuple[int, int] | None = None,
) -> Value:
    """x * factor with another element type, rounded half up; `factor`: one, or one for each of the last axis.

    `bound`: the largest magnitude of x without its zero point. `zeros`: zero points of x and the result that are not
    those of their types. Raises LoweringError for a product of int48 that leaves int32.
    """
    factors = np.minimum(np.atleast_1d(np.asarray(factor, np.float64)), LARGEST_FACTOR)
    bits = 15 if x.type.dtype == "i48" else 31
    multiplier, shift = scale_of(factors, bits)
    largest = reach(x.type) if bound is None else bound
    if bits == 15 and largest * float(factors.max()) >= 2**31:
        raise LoweringError(f"RESCALE of up to {largest} by {factors.max():.4g} leaves int32", help=CALIBRATE)
    if bits == 31 and largest >= 1 << (int(shift.min()) - 1):
        x = saturating(build, x, np.minimum((np.int64(1) << (shift.astype(np.int64) - 1)) - 1, 2**31 - 1))
    given = zeros or (zero_point((x.type.dtype, x.type.quant)), zero_point(element))
    words: dict[str, Attr] = {"input_zp": given[0], "output_zp": given[1]}
    words |= {"scale32": bits == 31, "per_channel": factors.size > 1}
    stored = multiplier if bits == 31 else multiplier.astype(np.int16)
    operands = [x, build.constant(stored, "multiplier"), build.constant(shift, "shift")]
    return build.node("tosa.rescale", operands, words, element=element).result


def saturating(build: Builder, x: Value, most: Array) -> Value:
    """x without its zero point within -most and most, in int32: what is beyond becomes the last code anyway.

    most: one, or one for each of the last axis. RESCALE takes values below 2**(shift - 1), and its multiplier is 2**30
    or more: most * factor is 2**28 or more.
    """
    if x.type.dtype != "i32":
        x = widened(build, x)
    shape = (*(1,) * (x.type.rank - 1), most.size)[-x.type.rank :]
    for op, limit in (("minimum", most), ("maximum", -most)):
        numbers = build.constant(limit.astype(np.int32).reshape(shape), "limit")
        x = build.node(f"tosa.{op}", [x, numbers], {}, element=("i32", x.type.quant)).result
    return x


def requantize(lowering: Lowering, x: Value, element: Element) -> Value:
    """x on another grid; raises LoweringError for scales that are too far apart."""
    made = TensorType((), *element)
    if (x.type.dtype, x.type.quant) == element:
        return x
    return rescaled(lowering.build, x, element, scale(x.type) / scale(made))


def clamped(lowering: Lowering, x: Value, low: int, high: int) -> Value:
    """x within the codes low..high."""
    return within(lowering.build, x, low, high)


def within(build: Builder, x: Value, low: int, high: int) -> Value:
    """x within the codes low..high, by CLAMP where the storage has others."""
    lowest, highest = integer_range(x.type.dtype)
    low, high = max(low, lowest), min(high, highest)
    if (low, high) == (lowest, highest):
        return x
    return build.node("tosa.clamp", [x], {"min_val": low, "max_val": high}, element=(x.type.dtype, x.type.quant)).result


def widened(build: Builder, x: Value, factor: float = 1.0) -> Value:
    """x without its zero point, times a factor, in int32; of a constant the constant."""
    made = QuantParams.of(float(scale(x.type) / factor))
    return rescaled(build, x, ("i32", made), factor)
