"""Functions of one element that are no activations: powers, roots, angles, roundings."""

from __future__ import annotations

import numpy as np

from qgraph.arith.error_function import erf
from qgraph.ir import Array, Operand, Result, TensorType, op, operand, result


class Function:
    """A function of one element."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type


@op("nn.exp", elementwise=True)
class Exp(Function):
    """e to the power of x."""

    def evaluate(self, x: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(x))


@op("nn.log", elementwise=True)
class Log(Function):
    """The natural logarithm; NaN below 0."""

    def evaluate(self, x: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(x))


@op("nn.sqrt", elementwise=True)
class Sqrt(Function):
    """The square root; NaN below 0."""

    def evaluate(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(x))


@op("nn.rsqrt", elementwise=True)
class Rsqrt(Function):
    """1 / sqrt(x)."""

    def evaluate(self, x: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1 / np.sqrt(x))


@op("nn.abs", elementwise=True)
class Abs(Function):
    """x without its sign."""

    x: Operand = operand("f|i64|i32[...]")
    result: Result = result("f|i64|i32[...]")

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.abs(x))


@op("nn.sign", elementwise=True, whole=True)
class Sign(Function):
    """1 above 0, -1 below, and 0 for 0."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.sign(x))


@op("nn.sin", elementwise=True)
class Sin(Function):
    """The sine."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.sin(x))


@op("nn.cos", elementwise=True)
class Cos(Function):
    """The cosine."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.cos(x))


@op("nn.atan", elementwise=True)
class Atan(Function):
    """The inverse tangent."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.arctan(x))


@op("nn.erf", elementwise=True)
class Erf(Function):
    """The error function."""

    def evaluate(self, x: Array) -> Array:
        return erf(x)


@op("nn.floor", elementwise=True, whole=True)
class Floor(Function):
    """The largest integer that is not above x."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.floor(x))


@op("nn.ceil", elementwise=True, whole=True)
class Ceil(Function):
    """The smallest integer that is not below x."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.ceil(x))


@op("nn.round", elementwise=True, whole=True)
class Round(Function):
    """The nearest integer, the even one of two."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.rint(x))
