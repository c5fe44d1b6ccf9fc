"""Comparisons, logic, choices between values, and conversions between dtypes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import NUMPY_DTYPE
from qgraph.ops.nn.elementwise import broadcast_shape, broadcast_type


class Comparison:
    """A comparison, with broadcasting; false where an operand is NaN, but for `nn.not_equal`."""

    a: Operand = operand("any[...]")
    b: Operand = operand("any[...]")
    result: Result = result("bool[...]")

    def infer(self) -> TensorType:
        return replace(broadcast_type(self.a.type, self.b.type), dtype="bool")


@op("nn.equal", commutative=True, elementwise=True)
class Equal(Comparison):
    """a = b."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a == b)


@op("nn.not_equal", commutative=True, elementwise=True)
class NotEqual(Comparison):
    """a != b."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a != b)


@op("nn.less", elementwise=True)
class Less(Comparison):
    """a < b."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a < b)


@op("nn.less_equal", elementwise=True)
class LessEqual(Comparison):
    """a <= b."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a <= b)


class Logic:
    """A logical function of two booleans, with broadcasting."""

    a: Operand = operand("bool[...]")
    b: Operand = operand("bool[...]")
    result: Result = result("bool[...]")

    def infer(self) -> TensorType:
        return broadcast_type(self.a.type, self.b.type)


@op("nn.logical_and", commutative=True, elementwise=True)
class LogicalAnd(Logic):
    """Both."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a & b)


@op("nn.logical_or", commutative=True, elementwise=True)
class LogicalOr(Logic):
    """Either, or both."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a | b)


@op("nn.logical_xor", commutative=True, elementwise=True)
class LogicalXor(Logic):
    """Exactly one."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a ^ b)


@op("nn.logical_not", elementwise=True)
class LogicalNot:
    """The other."""

    x: Operand = operand("bool[...]")
    result: Result = result("bool[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(~x)


@op("nn.where", elementwise=True)
class Where:
    """a where the condition holds, else b, with broadcasting."""

    condition: Operand = operand("bool[...]", role="indices")
    a: Operand = operand("any[...]")
    b: Operand = operand("any[...]")
    result: Result = result("any[...]")

    def infer(self) -> TensorType:
        chosen = broadcast_type(self.a.type, self.b.type)
        return chosen.with_shape(broadcast_shape(self.condition.type.shape, chosen.shape))

    def evaluate(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)


@op("nn.cast", elementwise=True)
class Cast:
    """x in another dtype: floats become integers towards 0, numbers booleans where they are not 0."""

    x: Operand = operand("any[...]")
    result: Result = result("any[...]")
    dtype: str = attr()

    def infer(self) -> TensorType:
        if self.dtype not in NUMPY_DTYPE or self.x.type.quant is not None:
            raise TypeMismatch(f"nn.cast: {self.x.type} cannot become {self.dtype}")
        return replace(self.x.type, dtype=self.dtype)

    def evaluate(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):  # what NaN becomes is left open, in torch too
            return x.astype(NUMPY_DTYPE[self.dtype])
