"""Ops of two values, or three, of one rank, whose sizes of 1 are repeated. Source: TOSA specification 1.0.

Where the specification requires something of the elements (a sum within int32, a divisor that is not 0), others are
refused as they are met: the reference model calls them unpredictable.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.rounding import truncating_divide
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.tosa.dialect.elements import broadcast, check_types, unpredictable, wide, within
from qgraph.targets.tosa.rows import row

INTEGERS = "i8|i16|i32"
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def _infer(self: Any, name: str, dtype: str = "") -> TensorType:
    if self.a.type.dtype != self.b.type.dtype:
        raise TypeMismatch(f"{name}: {self.a.type} and {self.b.type} are not of one storage")
    return TensorType(broadcast(name, self.a.type, self.b.type), dtype or self.a.type.dtype)


def _same_storage(self: Any, name: str) -> None:
    if self.result.type.dtype != self.a.type.dtype:
        raise TypeMismatch(f"{name} of {self.a.type} makes no {self.result.type}")


class _OfInt32:
    """Arithmetic on int32; the result's parameters are free."""

    name = ""
    a: Operand = operand("i32[...]")
    b: Operand = operand("i32[...]")
    result: Result = result("i32[...]", free=True)

    def infer(self) -> TensorType:
        return _infer(self, self.name)


@op("tosa.add", commutative=True, elementwise=True)
class Add(_OfInt32):
    """ADD: a + b within int32."""

    name = "tosa.add"

    def evaluate(self, a: Array, b: Array) -> Array:
        return within(self.name, np.add(a, b, dtype=np.int64), "i32")


@op("tosa.sub", elementwise=True)
class Sub(_OfInt32):
    """SUB: a - b within int32."""

    name = "tosa.sub"

    def evaluate(self, a: Array, b: Array) -> Array:
        return within(self.name, np.subtract(a, b, dtype=np.int64), "i32")


@op("tosa.intdiv", elementwise=True)
class Intdiv(_OfInt32):
    """INTDIV: a / b, rounded toward zero."""

    name = "tosa.intdiv"

    def evaluate(self, a: Array, b: Array) -> Array:
        if not b.all():
            raise unpredictable(self.name, "a divisor is 0")
        return within(self.name, truncating_divide(a, b), "i32")


@op("tosa.maximum", commutative=True, elementwise=True)
class Maximum(_OfInt32):
    """MAXIMUM."""

    name = "tosa.maximum"
    nan_mode: str = attr("PROPAGATE")

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@op("tosa.minimum", commutative=True, elementwise=True)
class Minimum(_OfInt32):
    """MINIMUM."""

    name = "tosa.minimum"
    nan_mode: str = attr("PROPAGATE")

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


@op("tosa.mul", commutative=True, elementwise=True)
class Mul:
    """MUL: a * b in int32; of int32 the low 32 bits, or the product shifted right by `shift`, rounded half up."""

    a: Operand = operand(f"{INTEGERS}[...]")
    b: Operand = operand(f"{INTEGERS}[...]")
    result: Result = result("i32[...]", free=True)
    shift: int = attr(0)

    def infer(self) -> TensorType:
        if not 0 <= self.shift <= 63 or (self.shift and self.a.type.dtype != "i32"):
            raise TypeMismatch(f"tosa.mul: {self.a.type} has no shift of {self.shift}")
        return _infer(self, "tosa.mul", "i32")

    def evaluate(self, a: Array, b: Array) -> Array:
        product: Array = wide(a) * wide(b)
        if self.shift:
            rounded = (product >> (self.shift - 1)) + 1 >> 1
            return within("tosa.mul", rounded, "i32")
        return product.astype(np.int32)  # wraps


class _OfIntegers:
    """Bits of integers of one storage."""

    name = ""
    a: Operand = operand(f"{INTEGERS}[...]")
    b: Operand = operand(f"{INTEGERS}[...]")
    result: Result = result(f"{INTEGERS}[...]", free=True)

    def infer(self) -> TensorType:
        return _infer(self, self.name)

    def check(self) -> None:
        _same_storage(self, self.name)


@op("tosa.bitwise_and", commutative=True, elementwise=True)
class BitwiseAnd(_OfIntegers):
    """BITWISE_AND."""

    name = "tosa.bitwise_and"

    def evaluate(self, a: Array, b: Array) -> Array:
        return a & b


@op("tosa.bitwise_or", commutative=True, elementwise=True)
class BitwiseOr(_OfIntegers):
    """BITWISE_OR."""

    name = "tosa.bitwise_or"

    def evaluate(self, a: Array, b: Array) -> Array:
        return a | b


@op("tosa.bitwise_xor", commutative=True, elementwise=True)
class BitwiseXor(_OfIntegers):
    """BITWISE_XOR."""

    name = "tosa.bitwise_xor"

    def evaluate(self, a: Array, b: Array) -> Array:
        return a ^ b


def _shifts(name: str, b: Array) -> Array:
    bits = 8 * b.dtype.itemsize
    if b.size and not 0 <= b.min() <= b.max() < bits:
        raise unpredictable(name, f"a shift is not within 0 and {bits - 1}")
    return b


@op("tosa.arithmetic_right_shift", elementwise=True)
class ArithmeticRightShift(_OfIntegers):
    """ARITHMETIC_RIGHT_SHIFT: rounded down, or with `round` half up."""

    name = "tosa.arithmetic_right_shift"
    round: bool = attr(False)

    def evaluate(self, a: Array, b: Array) -> Array:
        shifts = _shifts(self.name, b)
        made = a >> shifts
        if not self.round:
            return made
        last = (a >> np.maximum(shifts - 1, 0)) & (shifts > 0)
        return np.asarray(made + last, a.dtype)


@op("tosa.logical_left_shift", elementwise=True)
class LogicalLeftShift(_OfIntegers):
    """LOGICAL_LEFT_SHIFT: bits that leave the storage are lost."""

    name = "tosa.logical_left_shift"

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.left_shift(a, _shifts(self.name, b))


@op("tosa.logical_right_shift", elementwise=True)
class LogicalRightShift(_OfIntegers):
    """LOGICAL_RIGHT_SHIFT: zeros come in."""

    name = "tosa.logical_right_shift"

    def evaluate(self, a: Array, b: Array) -> Array:
        unsigned = UNSIGNED[a.dtype.itemsize]
        shifts = _shifts(self.name, b).view(unsigned)
        return np.asarray(np.right_shift(a.view(unsigned), shifts)).view(a.dtype)


class _OfConditions:
    """Logic on booleans."""

    name = ""
    a: Operand = operand("bool[...]")
    b: Operand = operand("bool[...]")
    result: Result = result("bool[...]")

    def infer(self) -> TensorType:
        return _infer(self, self.name)


@op("tosa.logical_and", commutative=True, elementwise=True)
class LogicalAnd(_OfConditions):
    """LOGICAL_AND."""

    name = "tosa.logical_and"

    def evaluate(self, a: Array, b: Array) -> Array:
        return a & b


@op("tosa.logical_or", commutative=True, elementwise=True)
class LogicalOr(_OfConditions):
    """LOGICAL_OR."""

    name = "tosa.logical_or"

    def evaluate(self, a: Array, b: Array) -> Array:
        return a | b


@op("tosa.logical_xor", commutative=True, elementwise=True)
class LogicalXor(_OfConditions):
    """LOGICAL_XOR."""

    name = "tosa.logical_xor"

    def evaluate(self, a: Array, b: Array) -> Array:
        return a ^ b


class _Comparison:
    """Comparisons of int32."""

    name = ""
    a: Operand = operand("i32[...]")
    b: Operand = operand("i32[...]")
    result: Result = result("bool[...]")

    def infer(self) -> TensorType:
        return _infer(self, self.name, "bool")


@op("tosa.equal", commutative=True, elementwise=True)
class Equal(_Comparison):
    """EQUAL."""

    name = "tosa.equal"

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a == b)


@op("tosa.greater", elementwise=True)
class Greater(_Comparison):
    """GREATER."""

    name = "tosa.greater"

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a > b)


@op("tosa.greater_equal", elementwise=True)
class GreaterEqual(_Comparison):
    """GREATER_EQUAL."""

    name = "tosa.greater_equal"

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a >= b)


@op("tosa.select", elementwise=True, kind="where")
class Select:
    """SELECT: a where the condition holds, else b."""

    condition: Operand = operand("bool[...]", role="mask")
    a: Operand = operand(f"bool|{INTEGERS}[...]")
    b: Operand = operand(f"bool|{INTEGERS}[...]")
    result: Result = result(f"bool|{INTEGERS}[...]", free=True)

    def infer(self) -> TensorType:
        storage = _infer(self, "tosa.select").dtype
        return TensorType(broadcast("tosa.select", self.condition.type, self.a.type, self.b.type), storage)

    def check(self) -> None:
        check_types("tosa.select", ("bool bool", "i8 i8", "i16 i16", "i32 i32"), self.a.type, self.result.type)

    def evaluate(self, condition: Array, a: Array, b: Array) -> Array:
        return np.asarray(np.where(condition, a, b))


for _name in (
    *("add", "sub", "intdiv", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"),
    *("arithmetic_right_shift", "logical_left_shift", "logical_right_shift", "logical_and", "logical_or"),
    *("logical_xor", "equal", "greater", "greater_equal", "select"),
):
    row(f"tosa.{_name}", _name.upper())
row("tosa.mul", "MUL", {"shift": "i8"})
