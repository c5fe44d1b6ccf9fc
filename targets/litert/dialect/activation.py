"""Activations as ops of their own: RELU and its kin, LEAKY_RELU, PRELU, HARD_SWISH, ABS."""

from __future__ import annotations

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.targets.litert.dialect.elements import check_elements
from qgraph.targets.litert.kernels import activation
from qgraph.targets.litert.rows import row


class Elementwise:
    """What ops of one operand share: the shape stays, the result has parameters of its own."""

    x: Operand
    result: Result

    def infer(self) -> TensorType:
        return self.x.type

    def check(self) -> None:
        check_elements(type(self).__name__, self.x.type, self.result.type)


class Clamped(Elementwise):
    """An activation that clamps, which requantizes as an op of its own."""

    lower: float = 0.0
    upper: float | None = None

    def evaluate(self, x: Array) -> Array:
        return activation.relu(x, self.x.type, self.result.type, self.lower, self.upper)


@op("litert.relu", kind="activation", elementwise=True)
class Relu(Clamped):
    """RELU as an op of its own, which requantizes."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)


@op("litert.relu6", kind="activation", elementwise=True)
class Relu6(Clamped):
    """RELU6 as an op of its own, which requantizes."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    upper = 6.0


@op("litert.relu_n1_to_1", kind="activation", elementwise=True)
class ReluN1To1(Clamped):
    """RELU_N1_TO_1 as an op of its own, which requantizes."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)
    lower = -1.0
    upper = 1.0


@op("litert.relu_0_to_1", kind="activation", elementwise=True)
class Relu0To1(Clamped):
    """RELU_0_TO_1 as an op of its own, which requantizes."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)
    upper = 1.0


@op("litert.leaky_relu", kind="activation", elementwise=True)
class LeakyRelu(Elementwise):
    """LEAKY_RELU: x, below zero alpha * x."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    alpha: float = attr()

    def evaluate(self, x: Array) -> Array:
        return activation.leaky_relu(x, self.x.type, self.result.type, self.alpha)


@op("litert.prelu", kind="activation", family="activation", elementwise=True)
class Prelu:
    """PRELU: x, below zero alpha * x, with alpha broadcast."""

    x: Operand = operand("i8q|u8q[...]")
    alpha: Operand = operand("i8q|u8q[...]", role="parameter")
    result: Result = result("i8q|u8q[...]", free=True)

    def infer(self) -> TensorType:
        if broadcast_shape(self.x.type.shape, self.alpha.type.shape) != self.x.type.shape:
            raise TypeMismatch(f"alpha {self.alpha.type} does not broadcast to {self.x.type}")
        return self.x.type

    def check(self) -> None:
        check_elements(type(self).__name__, self.x.type, self.alpha.type, self.result.type)

    def evaluate(self, x: Array, alpha: Array) -> Array:
        return activation.prelu(x, alpha, self.x.type, self.alpha.type, self.result.type)


@op("litert.hard_swish", kind="activation", elementwise=True)
class HardSwish(Elementwise):
    """HARD_SWISH: x * relu6(x + 3) / 6."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return activation.hard_swish(x, self.x.type, self.result.type)


@op("litert.abs", family="elementwise", elementwise=True)
class Abs(Elementwise):
    """ABS."""

    x: Operand = operand("i8q|i16q[...]")
    result: Result = result("i8q|i16q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return activation.absolute(x, self.x.type, self.result.type)


for _op, _operator in (
    ("relu", "RELU"),
    ("relu6", "RELU6"),
    ("relu_n1_to_1", "RELU_N1_TO_1"),
    ("relu_0_to_1", "RELU_0_TO_1"),
    ("prelu", "PRELU"),
    ("hard_swish", "HARD_SWISH"),
    ("abs", "ABS"),
):
    row(f"litert.{_op}", _operator)
row("litert.leaky_relu", "LEAKY_RELU", options={"alpha": "alpha"})
