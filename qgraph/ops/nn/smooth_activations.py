"""Activations with exponentials: gelu, silu's kin, elu and selu, mish, softplus, and the shrinking ones."""

from __future__ import annotations

import math

import numpy as np

from qgraph.arith.error_function import erf
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Attr, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.functions import Function
from qgraph.ops.nn.permuting import Perm


@op("nn.gelu", kind="activation", elementwise=True)
class Gelu(Function):
    """x times the normal distribution function of x, or where `approximate` is "tanh"

    x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))

    Source: Hendrycks and Gimpel 2016; torch's `gelu`.
    """

    approximate: str = attr("none", choices=("none", "tanh"))

    def evaluate(self, x: Array) -> Array:
        number = x.dtype.type
        half = x * number(0.5)
        if self.approximate == "none":
            return np.asarray(half * (1 + erf(x * number(math.sqrt(0.5)))))
        inner = number(math.sqrt(2 / math.pi)) * (x + number(0.044715) * x * x * x)
        return np.asarray(half * (1 + np.tanh(inner)))


@op("nn.elu", kind="activation", elementwise=True)
class Elu(Function):
    """`scale` * x where x > 0, else `scale` * `alpha` * (exp(`input_scale` * x) - 1): torch's elu, selu and celu."""

    alpha: float = attr(1.0)
    scale: float = attr(1.0)
    input_scale: float = attr(1.0)

    def evaluate(self, x: Array) -> Array:
        number = x.dtype.type
        below = np.expm1(np.minimum(x, 0) * number(self.input_scale)) * number(self.alpha * self.scale)
        return np.asarray(np.where(x > 0, x * number(self.scale), below))


@op("nn.softplus", kind="activation", elementwise=True)
class Softplus(Function):
    """log(1 + exp(`beta` * x)) / `beta`, and x itself where `beta` * x > `threshold`."""

    beta: float = attr(1.0)
    threshold: float = attr(20.0)

    def evaluate(self, x: Array) -> Array:
        scaled = x * x.dtype.type(self.beta)
        soft: Array = np.log1p(np.exp(np.minimum(scaled, x.dtype.type(self.threshold)))) / x.dtype.type(self.beta)
        return np.asarray(np.where(scaled > self.threshold, x, soft))


@op("nn.mish", kind="activation", elementwise=True)
class Mish(Function):
    """x * tanh(log(1 + exp(x)))."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x * np.tanh(np.logaddexp(x, x.dtype.type(0))))


@op("nn.softsign", kind="activation", elementwise=True)
class Softsign(Function):
    """x / (1 + |x|)."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x / (1 + np.abs(x)))


@op("nn.hard_shrink", kind="activation", elementwise=True)
class HardShrink(Function):
    """x, or 0 where |x| <= `bound`."""

    bound: float = attr(0.5)

    def evaluate(self, x: Array) -> Array:
        kept = (x < -x.dtype.type(self.bound)) | (x > x.dtype.type(self.bound)) | np.isnan(x)
        return np.where(kept, x, x.dtype.type(0))


@op("nn.soft_shrink", kind="activation", elementwise=True)
class SoftShrink(Function):
    """x nearer to 0 by `bound`, or 0 where |x| <= `bound`."""

    bound: float = attr(0.5)

    def evaluate(self, x: Array) -> Array:
        bound = x.dtype.type(self.bound)
        return np.where(x > bound, x - bound, np.where(x < -bound, x + bound, x * 0))


@op("nn.log_sigmoid", kind="activation", elementwise=True)
class LogSigmoid(Function):
    """The logarithm of the logistic function."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(-np.logaddexp(-x, x.dtype.type(0)))


@op("nn.prelu", kind="activation", homogeneous=True)
class Prelu:
    """x where x > 0, else x * slope; one slope for each channel (dimension 1), or one for all."""

    x: Operand = operand("f[...]")
    slope: Operand = operand("f[C]", role="parameter")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        shape, slopes = self.x.type.shape, self.slope.type.shape[0]
        if slopes != 1 and (len(shape) < 2 or shape[1] != slopes):
            raise TypeMismatch(f"nn.prelu: {slopes} slopes do not fit the channels of {self.x.type}")
        return self.x.type

    def evaluate(self, x: Array, slope: Array) -> Array:
        return np.where(x > 0, x, x * slope.reshape(-1, *(1,) * max(x.ndim - 2, 0)))


@op("nn.log_softmax", family="activation")
class LogSoftmax:
    """x minus the logarithm of the sum of exp(x) over the dimension `axis`."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    axis: int = attr()

    def infer(self) -> TensorType:
        if not 0 <= self.axis < self.x.type.rank:
            raise TypeMismatch(f"nn.log_softmax: axis {self.axis} is not a dimension of {self.x.type}")
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        less = x - x.max(axis=self.axis, keepdims=True)
        return np.asarray(less - np.log(np.exp(less).sum(axis=self.axis, keepdims=True)))

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        return {"axis": perm(self.x.type.rank).index(self.axis)}
