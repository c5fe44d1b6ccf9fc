"""Ops of two operands with broadcasting: ADD, SUB, MUL, SQUARED_DIFFERENCE, MAXIMUM, MINIMUM."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.exporters import tflite
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.elementwise import broadcast_shape, broadcast_type
from qgraph.targets.litert.dialect.elements import check_elements, same_storage
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.dialect.windows import ACTIVATIONS
from qgraph.targets.litert.kernels import elementwise
from qgraph.targets.litert.kernels.common import ACTIVATION_BOUNDS, scale
from qgraph.targets.litert.kernels.powers_of_two import exponent_of_two
from qgraph.targets.litert.rows import FUSED, float_row, row


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
        kernel = elementwise.add_by_shifts if self.is_by_shifts else elementwise.add
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
        return elementwise.multiply(a, b, *self.types, self.activation)


@op("litert.squared_difference", commutative=True, elementwise=True)
class SquaredDifference(Binary):
    """SQUARED_DIFFERENCE with broadcasting."""

    a: Operand = operand("i8q[...]")
    b: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def evaluate(self, a: Array, b: Array) -> Array:
        elementwise.require_square_factor_below_1(*self.types)
        return elementwise.squared_difference(a, b, *self.types)


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


@on_floats("litert.float_add", of="litert.add", exact_on=REFERENCE)
class FloatAdd(Add):
    """ADD on floats."""


@on_floats("litert.float_sub", of="litert.sub", exact_on=REFERENCE)
class FloatSub(Sub):
    """SUB on floats."""


@on_floats("litert.float_mul", of="litert.mul", exact_on=REFERENCE)
class FloatMul(Mul):
    """MUL on floats."""


@on_floats("litert.float_squared_difference", of="litert.squared_difference", exact_on=REFERENCE)
class FloatSquaredDifference(SquaredDifference):
    """SQUARED_DIFFERENCE on floats."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray((a - b) ** 2)


@on_floats("litert.float_maximum", of="litert.maximum", exact_on=REFERENCE, commutative=False)
class FloatMaximum(Maximum):
    """MAXIMUM on floats; which zero is larger the order says."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@on_floats("litert.float_minimum", of="litert.minimum", exact_on=REFERENCE, commutative=False)
class FloatMinimum(Minimum):
    """MINIMUM on floats; which zero is less the order says."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


@op("litert.div", elementwise=True)
class Div:
    """DIV: activation(a / b) on floats, with broadcasting."""

    a: Operand = operand("f32[...]")
    b: Operand = operand("f32[...]")
    result: Result = result("f32[...]")
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def infer(self) -> TensorType:
        return broadcast_type(self.a.type, self.b.type)

    def evaluate(self, a: Array, b: Array) -> Array:
        low, high = ACTIVATION_BOUNDS[self.activation]
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = a / b
        return np.asarray(quotient if self.activation == "NONE" else np.clip(quotient, low, high))


float_row("litert.div", "DIV", options={"activation": FUSED})
