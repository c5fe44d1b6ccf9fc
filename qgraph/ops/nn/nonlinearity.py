"""Functions of one element, and softmax: relu, relu6, clamp, leaky_relu, hard_swish, hard_sigmoid, sigmoid, tanh."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Attr, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.activation import activate, check_bounds, relu6
from qgraph.ops.nn.permuting import Perm


@op("nn.relu", kind="activation", elementwise=True, homogeneous=True)
class Relu:
    """max(x, 0)."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return activate(x, "relu")


@op("nn.relu6", kind="activation", elementwise=True)
class Relu6:
    """min(max(x, 0), 6)."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return relu6(x)


@op("nn.clamp", kind="activation", elementwise=True)
class Clamp:
    """min(max(x, `min`), `max`), torch's `clamp`; a bound that is not given is infinite."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    min: float = attr(-np.inf)
    max: float = attr(np.inf)

    def infer(self) -> TensorType:
        check_bounds(self.min, self.max)
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return activate(x, "clamp", (self.min, self.max))


@op("nn.leaky_relu", kind="activation", elementwise=True, homogeneous=True)
class LeakyRelu:
    """x where x > 0, else x * `negative_slope`."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    negative_slope: float = attr(0.01)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.where(x > 0, x, x * x.dtype.type(self.negative_slope))


@op("nn.hard_swish", kind="activation", elementwise=True)
class HardSwish:
    """x * relu6(x + 3) / 6, in this order of operations.

    Source: PyTorch 2.13, `hardswish_kernel` in aten/src/ATen/native/cpu/Activation.cpp.
    """

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return activate(x, "hard_swish")


@op("nn.hard_sigmoid", elementwise=True)
class HardSigmoid:
    """relu6(x + 3) / 6, in this order of operations.

    Source: PyTorch 2.13, `hardsigmoid_kernel` in aten/src/ATen/native/cpu/Activation.cpp.
    """

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(relu6(x + x.dtype.type(3)) / x.dtype.type(6))


@op("nn.sigmoid", elementwise=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        with np.errstate(over="ignore"):  # exp(-x) = inf gives the 0 that is right
            return np.asarray(1 / (1 + np.exp(-x)))


@op("nn.tanh", elementwise=True)
class Tanh:
    """The hyperbolic tangent."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.tanh(x))


@op("nn.softmax", family="activation")
class Softmax:
    """exp(x) / sum of exp(x) over the dimension `axis`."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    axis: int = attr()

    def infer(self) -> TensorType:
        if not 0 <= self.axis < self.x.type.rank:
            raise TypeMismatch(f"nn.softmax: axis {self.axis} is not a dimension of {self.x.type}")
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        powers = np.exp(x - x.max(axis=self.axis, keepdims=True))  # the largest is 1: no overflow
        return np.asarray(powers / powers.sum(axis=self.axis, keepdims=True))

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        return {"axis": perm(self.x.type.rank).index(self.axis)}
