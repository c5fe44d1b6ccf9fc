"""Activations as ops of their own: RELU and its kin, LEAKY_RELU, PRELU, HARD_SWISH, ABS.

The functions are the reference kernels'. Where one takes a `precision`, it is the float type in which it forms its
multiplier: float32 in LiteRT, float64 in TFLite Micro.
"""

from __future__ import annotations

import numpy as np

from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.arith.gemmlowp import divide_by_pot, high_mul, saturate, wrap
from qgraph.arith.rounding import round_half_away, truncating_divide
from qgraph.errors import TypeMismatch, UnsupportedOp
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.targets.litert.dialect.elements import check_elements
from qgraph.targets.litert.dialect.elementwise import Precision
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale, scaled, zero_point
from qgraph.targets.litert.dialect.tables import tabulated, tabulated_pairs
from qgraph.targets.litert.rows import float_row, row


def ratio(type: TensorType, result: TensorType, precision: Precision) -> float:
    """scale / result_scale, formed in this precision."""
    return float(precision(scale(type)) / precision(scale(result)))


@tabulated
def relu(
    x: Array,
    type: TensorType,
    result: TensorType,
    lower: float,
    upper: float | None,
    precision: Precision = np.float32,
) -> Array:
    """RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1 as ops of their own: double rounding, then a clamp.

    Source: activations.cc (QuantizedReluX, ReluPrepare).
    """
    value = scaled(centred(x, type), ratio(type, result, precision))
    low, high = integer_range(result.dtype)
    low = max(low, code(lower, result))
    if upper is not None:
        high = max(low, min(high, code(upper, result)))
    return saturated(value, result, low, high)


def code(real: float, type: TensorType) -> int:
    """zero_point + real / scale, a float32 quotient, rounded half away; wraps where it leaves int32, as on x86."""
    steps = int(round_half_away(np.asarray(np.float32(real) / scale(type))))
    return int(wrap(zero_point(type) + (steps if abs(steps) < 2**31 else -(2**31)), 32))


@tabulated
def leaky_relu(
    x: Array, type: TensorType, result: TensorType, alpha: float, precision: Precision = np.float32
) -> Array:
    """LEAKY_RELU: double rounding with scale / result_scale, below zero with (scale * alpha) / result_scale.

    The sign of a negative alpha is taken off the multiplier and put on the result.
    Source: activations.cc (LeakyReluPrepare), reference/leaky_relu.h.
    """
    value = centred(x, type)
    slope = float(precision(scale(type)) * precision(np.float32(alpha)) / precision(scale(result)))
    below = scaled(value, slope) if slope >= 0 else -scaled(value, -slope)
    return saturated(np.where(value >= 0, scaled(value, ratio(type, result, precision)), below), result)


@tabulated_pairs
def prelu(
    x: Array, alpha: Array, tx: TensorType, ta: TensorType, result: TensorType, precision: Precision = np.float32
) -> Array:
    """PRELU: as LEAKY_RELU, below zero the product with alpha, times (x_scale * alpha_scale) / result_scale.

    Source: activations.cc (PreluPrepare), reference/prelu.h.
    """
    value = centred(x, tx)
    below = scaled(value * centred(alpha, ta), prelu_factor(tx, ta, result, precision))
    return saturated(np.where(value >= 0, scaled(value, ratio(tx, result, precision)), below), result)


def prelu_factor(tx: TensorType, ta: TensorType, result: TensorType, precision: Precision) -> float:
    """What scales the product with alpha to the result."""
    return float(precision(scale(tx)) * precision(scale(ta)) / precision(scale(result)))


@tabulated
def absolute(x: Array, type: TensorType, result: TensorType, precision: Precision = np.float32) -> Array:
    """ABS: double rounding of the magnitude; none where the scales are equal. Source: elementwise.cc (AbsEval)."""
    value = np.abs(centred(x, type))
    if scale(type) != scale(result):
        value = scaled(value, ratio(type, result, precision))
    return saturated(value, result)


@tabulated
def hard_swish(x: Array, type: TensorType, result: TensorType, precision: Precision = np.float32) -> Array:
    """HARD_SWISH, x * relu6(x + 3) / 6, in 16 bits: x at 7 more bits, at the result's scale and in units of 3 / 2**15.

    Source: reference/hard_swish.h, hard_swish.cc (HardSwishPrepare).
    """
    (result_multiplier, result_shift), (relu_multiplier, relu_shift) = hard_swish_factors(type, result, precision)
    x16 = centred(x, type).astype(np.int64) << 7
    at_result = high_mul(x16, result_multiplier, 16)
    gate = saturate(x16 << (relu_shift - 1), 16) if relu_shift > 0 else x16
    gate = high_mul(gate, relu_multiplier, 16)
    gate = saturate(gate << 1, 16) if relu_shift > 0 else divide_by_pot_16(gate, -relu_shift)
    gate = (gate + 2**15) >> 1  # from [-1, 1) to [0, 1)
    product = truncating_divide(gate * at_result, 2**15)
    total = wrap(divide_by_pot_16(product, -result_shift) + zero_point(result), 16)
    return np.clip(total, *integer_range(result.dtype)).astype(result.numpy)


def hard_swish_factors(
    type: TensorType, result: TensorType, precision: Precision = np.float32
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Multiplier of 16 bits and shift to the result, and to the gate, for x with 7 more bits; raises UnsupportedOp.

    Every family refuses scale / (128 * result_scale) >= 1.
    """
    fine = scale(type) / np.float32(128)
    to_result = precision(fine) / precision(scale(result))
    to_gate = fine / (np.float32(3) / np.float32(32768))  # float64 gives the same 16 bits
    factors = multiplier_16(float(to_result)), multiplier_16(float(to_gate))
    if factors[0][1] > 0:
        raise UnsupportedOp(
            f"HARD_SWISH of scale {scale(type):.3g} with a result of scale {scale(result):.3g}: no runtime of the "
            "family takes a quotient of 128 or more"
        )
    return factors


def multiplier_16(real: float) -> tuple[int, int]:
    """The multiplier of a real factor rounded to 16 bits, and its left shift."""
    multiplier, shift = (int(part) for part in quantize_multiplier(real))
    return min((multiplier + 2**15) >> 16, 2**15 - 1), shift


def divide_by_pot_16(x: Array, exponent: int) -> Array:
    """x / 2**exponent in 16 bits, half away; its mask wraps from 16 bits on, as in gemmlowp."""
    if exponent < 16:
        return divide_by_pot(x, exponent)
    mask = int(wrap((1 << exponent) - 1, 16))
    return np.asarray((x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0)))


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
        return relu(x, self.x.type, self.result.type, self.lower, self.upper)


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
        return leaky_relu(x, self.x.type, self.result.type, self.alpha)


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
        return prelu(x, alpha, self.x.type, self.alpha.type, self.result.type)


@op("litert.hard_swish", kind="activation", elementwise=True)
class HardSwish(Elementwise):
    """HARD_SWISH: x * relu6(x + 3) / 6."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return hard_swish(x, self.x.type, self.result.type)


@op("litert.abs", family="elementwise", elementwise=True)
class Abs(Elementwise):
    """ABS."""

    x: Operand = operand("i8q|i16q[...]")
    result: Result = result("i8q|i16q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return absolute(x, self.x.type, self.result.type)


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
