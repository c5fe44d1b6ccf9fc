"""Activations as ops of their own: RELU and its kin, LEAKY_RELU, PRELU, HARD_SWISH, ABS."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.targets.litert.dialect.elements import check_elements
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.kernels import activation
from qgraph.targets.litert.rows import float_row, row


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


@on_floats("litert.float_relu", of="litert.relu", exact_on=REFERENCE)
class FloatRelu(Relu):
    """RELU on floats."""


@on_floats("litert.float_relu6", of="litert.relu6", exact_on=REFERENCE)
class FloatRelu6(Relu6):
    """RELU6 on floats."""


@on_floats("litert.float_relu_n1_to_1", of="litert.relu_n1_to_1", exact_on=REFERENCE)
class FloatReluN1To1(ReluN1To1):
    """RELU_N1_TO_1 on floats."""

    def evaluate(self, x: Array) -> Array:
        return np.clip(x, -1, 1)


@on_floats("litert.float_relu_0_to_1", of="litert.relu_0_to_1", exact_on=REFERENCE)
class FloatRelu0To1(Relu0To1):
    """RELU_0_TO_1 on floats."""

    def evaluate(self, x: Array) -> Array:
        return np.clip(x, 0, 1)


@on_floats("litert.float_leaky_relu", of="litert.leaky_relu", exact_on=REFERENCE)
class FloatLeakyRelu(LeakyRelu):
    """LEAKY_RELU on floats."""


@on_floats("litert.float_prelu", of="litert.prelu", exact_on=REFERENCE)
class FloatPrelu(Prelu):
    """PRELU on floats."""

    def evaluate(self, x: Array, alpha: Array) -> Array:
        return np.asarray(np.where(x >= 0, x, x * alpha))


@on_floats("litert.float_hard_swish", of="litert.hard_swish", exact_on=REFERENCE)
class FloatHardSwish(HardSwish):
    """HARD_SWISH on floats."""


@on_floats("litert.float_abs", of="litert.abs", exact_on=REFERENCE)
class FloatAbs(Abs):
    """ABS on floats."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.abs(x))


@op("litert.neg", family="elementwise", elementwise=True)
class Neg(Elementwise):
    """NEG: -x on floats."""

    x: Operand = operand("f32[...]")
    result: Result = result("f32[...]")

    def check(self) -> None:
        """Floats have no parameters that could be wrong."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(-x)


float_row("litert.neg", "NEG")


@op("litert.square", family="elementwise", elementwise=True)
class Square(Elementwise):
    """SQUARE: x * x on floats."""

    x: Operand = operand("f32[...]")
    result: Result = result("f32[...]")

    def check(self) -> None:
        """Floats have no parameters that could be wrong."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x * x)


float_row("litert.square", "SQUARE")
