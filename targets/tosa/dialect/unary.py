"""Ops of one value: CLAMP, NEGATE, ABS, CLZ, BITWISE_NOT, LOGICAL_NOT, TABLE, IDENTITY.

Source: TOSA specification 1.0.
"""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.targets.tosa.dialect.elements import (
    check_rank,
    check_types,
    check_zero_point,
    unpredictable,
    wide,
    within,
)
from qgraph.targets.tosa.rows import row

ANY = "bool|i4|i8|i16|i32|i48[...]"
INTEGERS = "i8|i16|i32[...]"


class _Unary:
    """The result has the shape and storage of x."""

    name = ""
    x: Operand
    result: Result

    def infer(self) -> TensorType:
        check_rank(self.name, self.x.type)
        return self.x.type

    def check(self) -> None:
        if self.result.type.dtype != self.x.type.dtype:
            raise TypeMismatch(f"{self.name} of {self.x.type} makes no {self.result.type}")


@op("tosa.identity", moves_data=True, idle=True)
class Identity(_Unary):
    """IDENTITY."""

    name = "tosa.identity"
    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)

    def evaluate(self, x: Array) -> Array:
        return x


@op("tosa.clamp", elementwise=True)
class Clamp(_Unary):
    """CLAMP: integers within min_val and max_val."""

    name = "tosa.clamp"
    x: Operand = operand("i8|i16[...]")
    result: Result = result("i8|i16[...]", free=True)
    min_val: int = attr()
    max_val: int = attr()
    nan_mode: str = attr("PROPAGATE")

    def infer(self) -> TensorType:
        low, high = integer_range(self.x.type.dtype)
        if not low <= self.min_val <= self.max_val <= high:
            raise TypeMismatch(f"tosa.clamp: {self.min_val} to {self.max_val} is no range of {self.x.type.dtype}")
        return super().infer()

    def evaluate(self, x: Array) -> Array:
        return np.clip(x, x.dtype.type(self.min_val), x.dtype.type(self.max_val))


@op("tosa.negate", elementwise=True)
class Negate(_Unary):
    """NEGATE: output_zp - (x - input_zp), within the storage."""

    name = "tosa.negate"
    x: Operand = operand(INTEGERS)
    result: Result = result(INTEGERS, free=True)
    input_zp: int = attr(0)
    output_zp: int = attr(0)

    def check(self) -> None:
        super().check()
        check_zero_point(self.name, self.input_zp, self.x.type)
        check_zero_point(self.name, self.output_zp, self.result.type)

    def evaluate(self, x: Array) -> Array:
        negated = within(self.name, self.output_zp - (wide(x) - self.input_zp), "i32")
        return np.clip(negated, *integer_range(self.x.type.dtype)).astype(x.dtype)


@op("tosa.abs", elementwise=True)
class Abs(_Unary):
    """ABS of int32."""

    name = "tosa.abs"
    x: Operand = operand("i32[...]")
    result: Result = result("i32[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return within(self.name, np.abs(wide(x)), "i32")


@op("tosa.clz", elementwise=True, whole=True)
class Clz(_Unary):
    """CLZ: how many of 32 bits are 0 before the first 1."""

    name = "tosa.clz"
    x: Operand = operand("i32[...]")
    result: Result = result("i32[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        exponent = np.frexp(x.view(np.uint32).astype(np.float64))[1]  # every uint32 is a float64
        return (32 - exponent).astype(np.int32)


@op("tosa.bitwise_not", elementwise=True)
class BitwiseNot(_Unary):
    """BITWISE_NOT."""

    name = "tosa.bitwise_not"
    x: Operand = operand(INTEGERS)
    result: Result = result(INTEGERS, free=True)

    def evaluate(self, x: Array) -> Array:
        return ~x


@op("tosa.logical_not", elementwise=True)
class LogicalNot(_Unary):
    """LOGICAL_NOT."""

    name = "tosa.logical_not"
    x: Operand = operand("bool[...]")
    result: Result = result("bool[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return ~x


TABLE_SIZE = {"i8": 256, "i16": 513}


@op("tosa.table", elementwise=True, kind="lookup")
class Table:
    """TABLE: of 8 bits an element for each code; of 16 bits 513 elements, linear between them, with 7 bits more.

    i16: with i = (x + 2**15) >> 7 and f = x & 127, table[i] * 2**7 + (table[i + 1] - table[i]) * f.
    `function`, on its `arguments` (attributes as JSON), is what a table of 8 bits was made of.
    """

    x: Operand = operand("i8|i16[...]")
    table: Operand = operand("i8|i16[T]", role="parameter")
    result: Result = result("i8|i32[...]", free=True)
    function: str = attr("")
    arguments: str = attr("{}")

    def infer(self) -> TensorType:
        check_rank("tosa.table", self.x.type)
        size = TABLE_SIZE[self.x.type.dtype]
        if self.table.type.shape != (size,) or self.table.type.dtype != self.x.type.dtype:
            raise TypeMismatch(f"tosa.table: {self.table.type} is no table of {size} elements of {self.x.type.dtype}")
        made = self.table.type.with_shape(self.x.type.shape)
        return made if self.x.type.dtype == "i8" else TensorType(made.shape, "i32")

    def check(self) -> None:
        check_types("tosa.table", ("i8 i8", "i16 i32"), self.x.type, self.result.type)
        if not self.table.is_constant:
            raise TypeMismatch("tosa.table: the table is not a constant")

    def evaluate(self, x: Array, table: Array) -> Array:
        if x.dtype == np.int8:
            return table[x.astype(np.int32) + 128]
        return interpolated(x, table)


def interpolated(x: Array, table: Array) -> Array:
    """What a table of 513 elements has for each integer of 16 bits, in int32.

    Exact: |base * 2**7| <= 2**22 and |slope * f| < 2**15 * 2**7.  Source: TOSA specification 1.0, apply_lookup_s.
    """
    base = table.astype(np.int32)
    slope = np.diff(base)
    place, fraction = (x.astype(np.int32) + 2**15) >> 7, x.astype(np.int32) & 127
    taken = slope[place]
    if taken.size and not -(2**15) <= taken.min() <= taken.max() < 2**15:
        raise unpredictable("tosa.table", "a step from one element to the next leaves i16")
    return np.asarray((base[place] << 7) + taken * fraction, np.int32)


for _name in ("identity", "clamp", "abs", "clz", "bitwise_not", "logical_not", "table"):
    row(f"tosa.{_name}", _name.upper())
row("tosa.negate", "NEGATE", {"input_zp": "x", "output_zp": "result"})
