"""Element by element over two operands: div, pow, maximum, minimum, and the remainder of integers."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, Operand, Result, TensorType, op, operand, result
from qgraph.ops.nn.elementwise import broadcast_type


class Pair:
    """A function of two elements, with broadcasting."""

    a: Operand = operand("f|i64|i32[...]", trained=True)
    b: Operand = operand("f|i64|i32[...]", trained=True)
    result: Result = result("f|i64|i32[...]")

    def infer(self) -> TensorType:
        return broadcast_type(self.a.type, self.b.type)


@op("nn.div", elementwise=True)
class Div(Pair):
    """a / b of floats."""

    a: Operand = operand("f[...]", trained=True)
    b: Operand = operand("f[...]", trained=True)
    result: Result = result("f[...]")

    def evaluate(self, a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(a / b)


@op("nn.floor_div", elementwise=True)
class FloorDiv(Pair):
    """The largest integer that is not above a / b."""

    def evaluate(self, a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.floor(a / b) if a.dtype.kind == "f" else a // b)


@op("nn.remainder", elementwise=True)
class Remainder(Pair):
    """a - b * floor(a / b): what is left of a, with the sign of b."""

    def evaluate(self, a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.mod(a, b))


@op("nn.pow", elementwise=True)
class Pow(Pair):
    """a to the power of b, of floats."""

    a: Operand = operand("f[...]", trained=True)
    b: Operand = operand("f[...]", trained=True)
    result: Result = result("f[...]")

    def evaluate(self, a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(np.power(a, b))


@op("nn.maximum", commutative=True, elementwise=True)
class Maximum(Pair):
    """The larger of a and b; NaN where either is."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(np.maximum(a, b))


@op("nn.minimum", commutative=True, elementwise=True)
class Minimum(Pair):
    """The smaller of a and b; NaN where either is."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(np.minimum(a, b))
