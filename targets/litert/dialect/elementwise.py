"""Ops of two operands with broadcasting: ADD, SUB, MUL, SQUARED_DIFFERENCE, MAXIMUM, MINIMUM.

The functions are the reference kernels'. `Precision` is the float type in which a kernel forms its multiplier: LiteRT's
reference kernels and TFLite Micro differ in nothing else on many ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.arith.gemmlowp import divide_by_pot, saturate
from qgraph.arith.requantize import DoubleRounding
from qgraph.errors import UnsupportedOp
from qgraph.exporters import tflite
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.targets.litert.dialect.elements import check_elements, same_storage
from qgraph.targets.litert.dialect.floats import PLAIN, REFERENCE, on_floats
from qgraph.targets.litert.dialect.parameters import (
    activation_range,
    centred,
    saturated,
    scale,
    scaled,
    zero_point,
)
from qgraph.targets.litert.dialect.powers_of_two import exponent_of_two
from qgraph.targets.litert.dialect.tables import tabulated, tabulated_pairs
from qgraph.targets.litert.dialect.windows import ACTIVATIONS
from qgraph.targets.litert.rows import FUSED, row

Precision = type[np.floating]

MORE_BITS = {"i8": 20, "u8": 20, "i16": 15}
"""Bits by which ADD and SUB shift their operands left."""


@tabulated_pairs
def add(
    a: Array, b: Array, ta: TensorType, tb: TensorType, result: TensorType, activation: str, sign: int = 1
) -> Array:
    """ADD, and SUB with sign = -1: both operands at more bits and scaled to twice the larger scale, then the sum.

    Three double roundings, their multipliers formed in float64. 255 << 20 and 2**15 << 15 are below 2**31.
    Source: reference/add.h, add.cc (AddOpData).
    """
    twice = twice_the_larger(ta, tb)
    first, second = (at_common_scale(x, t, result, twice) for x, t in ((a, ta), (b, tb)))
    total = first + second if sign > 0 else first - second
    return requantized(total, sum_factor(twice, result), result, activation)


def twice_the_larger(ta: TensorType, tb: TensorType) -> float:
    """The scale in which ADD, SUB and SQUARED_DIFFERENCE have both operands, but for more bits."""
    return 2.0 * max(float(scale(ta)), float(scale(tb)))


def sum_factor(twice: float, result: TensorType) -> float:
    """What scales the sum of ADD and SUB to the result; raises UnsupportedOp where it is not below 1.

    ADD aborts the process there, SUB gives what is no difference.
    """
    factor = twice / (2.0 ** MORE_BITS[result.dtype] * float(scale(result)))
    if factor >= 1:
        raise UnsupportedOp(
            f"ADD and SUB take operands of scales up to 2**{MORE_BITS[result.dtype] - 1} times the result's; LiteRT "
            f"and TFLite Micro abort or overflow at {twice / 2:.3g} with a result of scale {scale(result):.3g}",
            help="give the result a larger scale",
        )
    return factor


def requantized(acc: Array, real: float, result: TensorType, activation: str) -> Array:
    """round(acc * real) + zero_point with double rounding, clamped as the fused activation says; acc int32 [...]."""
    return double_rounding(real, result, activation)(acc)


def double_rounding(real: float, result: TensorType, activation: str = "NONE") -> DoubleRounding:
    """From integers in steps of `real` of the result's scale to its codes."""
    multiplier, shift = quantize_multiplier(real)
    bounds = activation_range(activation, result)
    return DoubleRounding(multiplier, shift, zero_point(result), *bounds, result.numpy.type)


@tabulated
def at_common_scale(x: Array, type: TensorType, result: TensorType, twice: float) -> Array:
    """An operand of ADD and SUB at more bits, times scale / twice; int32."""
    return scaled(centred(x, type) << MORE_BITS[result.dtype], float(scale(type)) / twice)


def add_by_shifts(
    a: Array, b: Array, ta: TensorType, tb: TensorType, result: TensorType, activation: str, sign: int = 1
) -> Array:
    """ADD and SUB of int16 with scales that are powers of two: the operands are shifted to the result's scale.

    The reference kernels want one operand that has that scale, and none with a larger one; their ADD aborts the
    process where it broadcasts. Source: add.cc (pot_scale_int16), reference/add.h.
    """
    if sign > 0 and a.shape != b.shape:
        raise UnsupportedOp(
            "LiteRT aborts the process in an ADD of int16 that broadcasts, whose scales are all powers of two",
            help="use scales that are no powers of two, or pot_scale_int16=False",
        )
    below, *exponents = (exponent_of_two(scale(t)) or 0 for t in (result, ta, tb))
    shifts = [below - exponent for exponent in exponents]
    if min(shifts) < 0 or 0 not in shifts:
        raise UnsupportedOp(
            "LiteRT refuses the sum of int16 whose scales are powers of two where no operand has the result's scale, "
            "or one has a larger scale",
            help="use scales that are no powers of two, or pot_scale_int16=False",
        )
    first, second = (divide_by_pot(centred(x, t), n) for x, t, n in zip((a, b), (ta, tb), shifts, strict=True))
    return np.clip(saturate(first + sign * second, 16), *activation_range(activation, result)).astype(np.int16)


@tabulated_pairs
def multiply(
    a: Array,
    b: Array,
    ta: TensorType,
    tb: TensorType,
    result: TensorType,
    activation: str,
    precision: Precision = np.float32,
) -> Array:
    """MUL: double rounding of the product with (a_scale * b_scale) / result_scale, here in **float32**.

    The product is below 2**31: 255**2, or 2**15 * 2**15. Source: mul.cc, reference/integer_ops/mul.h.
    """
    real = product_factor(ta, tb, result, precision)
    return requantized(centred(a, ta) * centred(b, tb), real, result, activation)


def product_factor(ta: TensorType, tb: TensorType, result: TensorType, precision: Precision = np.float32) -> float:
    """What scales the product of MUL to the result."""
    return float(precision(scale(ta)) * precision(scale(tb)) / precision(scale(result)))


@tabulated_pairs
def squared_difference(a: Array, b: Array, ta: TensorType, tb: TensorType, result: TensorType) -> Array:
    """SQUARED_DIFFERENCE: both operands at 7 more bits and twice the larger scale, then the square of the difference.

    255 << 7 < 2**15, so the square is below 2**31. Source: squared_difference.cc.
    """
    twice = twice_the_larger(ta, tb)
    first, second = (at_seven_more_bits(x, t, twice) for x, t in ((a, ta), (b, tb)))
    square = (first - second) * (first - second)
    return saturated(scaled(square, square_factor(ta, tb, result)), result)


def at_seven_more_bits(x: Array, type: TensorType, twice: float) -> Array:
    """An operand of SQUARED_DIFFERENCE, times scale / twice; int32."""
    return scaled(centred(x, type) << 7, float(scale(type)) / twice)


def square_factor(ta: TensorType, tb: TensorType, result: TensorType) -> float:
    """What scales the square of SQUARED_DIFFERENCE to the result."""
    twice = twice_the_larger(ta, tb)
    return twice * twice / (2.0**14 * float(scale(result)))


def require_square_factor_below_1(ta: TensorType, tb: TensorType, result: TensorType) -> None:
    """Raise UnsupportedOp where LiteRT's SQUARED_DIFFERENCE aborts the process."""
    factor = square_factor(ta, tb, result)
    if factor >= 1:
        raise UnsupportedOp(
            f"LiteRT aborts the process in SQUARED_DIFFERENCE where max(scales)**2 / (2**12 * result_scale) is 1 or "
            f"more; here it is {factor:.3g}",
            help="give the result a larger scale",
        )


class Binary:
    """What ops of two operands share."""

    a: Operand
    b: Operand
    result: Result

    def infer(self) -> TensorType:
        return self.a.type.with_shape(broadcast_shape(self.a.type.shape, self.b.type.shape))

    def check(self) -> None:
        check_elements(type(self).__name__, *self.types)

    @property
    def types(self) -> tuple[TensorType, TensorType, TensorType]:
        """The types of both operands and of the result."""
        return self.a.type, self.b.type, self.result.type


class Selection(Binary):
    """What MAXIMUM and MINIMUM share: they do not look at the parameters."""

    def check(self) -> None:
        same_storage(type(self).__name__, *self.types)


class Sum(Binary):
    """What ADD and SUB share."""

    activation: str
    pot_scale_int16: bool | None
    sign = 1

    @property
    def is_by_shifts(self) -> bool:
        """Whether LiteRT adds int16 by shifts: where all scales are powers of two (nearly), unless told not to."""
        return (
            self.result.type.dtype == "i16"
            and self.pot_scale_int16 is not False
            and all(exponent_of_two(scale(type)) is not None for type in self.types)
        )

    def evaluate(self, a: Array, b: Array) -> Array:
        kernel = add_by_shifts if self.is_by_shifts else add
        return kernel(a, b, *self.types, self.activation, self.sign)


@op("litert.add", commutative=True, elementwise=True)
class Add(Sum):
    """ADD with broadcasting."""

    a: Operand = operand("i8q|u8q|i16q[...]")
    b: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    activation: str = attr("NONE", choices=ACTIVATIONS)
    pot_scale_int16: bool | None = attr(None)  # False: never by shifts; the format's default is otherwise


@op("litert.sub", elementwise=True)
class Sub(Sum):
    """SUB with broadcasting."""

    a: Operand = operand("i8q|u8q|i16q[...]")
    b: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    activation: str = attr("NONE", choices=ACTIVATIONS)
    pot_scale_int16: bool | None = attr(None)  # False: never by shifts; the format's default is otherwise
    sign = -1


@op("litert.mul", commutative=True, elementwise=True)
class Mul(Binary):
    """MUL with broadcasting."""

    a: Operand = operand("i8q|u8q|i16q[...]")
    b: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def evaluate(self, a: Array, b: Array) -> Array:
        return multiply(a, b, *self.types, self.activation)


@op("litert.squared_difference", commutative=True, elementwise=True)
class SquaredDifference(Binary):
    """SQUARED_DIFFERENCE with broadcasting."""

    a: Operand = operand("i8q[...]")
    b: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def evaluate(self, a: Array, b: Array) -> Array:
        require_square_factor_below_1(*self.types)
        return squared_difference(a, b, *self.types)


@op("litert.maximum", commutative=True, elementwise=True)
class Maximum(Selection):
    """MAXIMUM with broadcasting: the larger integer, whatever the parameters."""

    a: Operand = operand("i8q|u8q|i16q[...]")
    b: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@op("litert.minimum", commutative=True, elementwise=True)
class Minimum(Selection):
    """MINIMUM with broadcasting: the smaller integer, whatever the parameters."""

    a: Operand = operand("i8q|u8q|i16q[...]")
    b: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


def _write_pot_scale(node: Node) -> dict[str, Any]:
    return {"pot_scale_int16": node.attrs["pot_scale_int16"] is not False}


def _read_pot_scale(operator: tflite.Operator) -> dict[str, Any]:
    return {"pot_scale_int16": None if operator.options["pot_scale_int16"] else False}


for _name in ("add", "sub"):
    row(f"litert.{_name}", _name.upper(), options={"activation": FUSED}, write=_write_pot_scale, read=_read_pot_scale)
row("litert.mul", "MUL", options={"activation": FUSED})
for _name in ("squared_difference", "maximum", "minimum"):
    row(f"litert.{_name}", _name.upper())


@on_floats("litert.float_add", of="litert.add", exact_on=REFERENCE, elements=PLAIN)
class FloatAdd(Add):
    """ADD on floats, or on plain integers."""


@on_floats("litert.float_sub", of="litert.sub", exact_on=REFERENCE, elements=PLAIN)
class FloatSub(Sub):
    """SUB on floats, or on plain integers."""


@on_floats("litert.float_mul", of="litert.mul", exact_on=REFERENCE, elements=PLAIN)
class FloatMul(Mul):
    """MUL on floats, or on plain integers."""


@on_floats("litert.float_squared_difference", of="litert.squared_difference", exact_on=REFERENCE)
class FloatSquaredDifference(SquaredDifference):
    """SQUARED_DIFFERENCE on floats."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray((a - b) ** 2)


@on_floats("litert.float_maximum", of="litert.maximum", exact_on=REFERENCE, elements=PLAIN, commutative=False)
class FloatMaximum(Maximum):
    """MAXIMUM on floats, or on plain integers; which zero is larger the order says."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@on_floats("litert.float_minimum", of="litert.minimum", exact_on=REFERENCE, elements=PLAIN, commutative=False)
class FloatMinimum(Minimum):
    """MINIMUM on floats, or on plain integers; which zero is less the order says."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)
