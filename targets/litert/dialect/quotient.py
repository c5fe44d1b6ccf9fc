"""DIV of int16, and on floats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.arith.gemmlowp import divide_by_pot, high_mul, one_over_one_plus, saturate
from qgraph.errors import InputError
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.elementwise import Binary
from qgraph.targets.litert.dialect.floats import on_floats
from qgraph.targets.litert.dialect.parameters import ACTIVATION_BOUNDS, activation_range, saturated, scale
from qgraph.targets.litert.dialect.windows import ACTIVATIONS
from qgraph.targets.litert.rows import FUSED, row


def reciprocal(value: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """1 / v of 0 < v < 2**31 as a number in Q0 and how far it is to be shifted right.

    Source: GetReciprocal, kernels/internal/common.h.
    """
    room = 32 - np.frexp(value.astype(np.float64))[1].astype(np.int64)
    return one_over_one_plus((value << room) - (1 << 31)), 31 - room


def quotient(a: Array, b: Array, ta: TensorType, tb: TensorType, made: TensorType, activation: str = "NONE") -> Array:
    """a / b: a at all of 31 bits times the reciprocal of b, times the scales, each rounded; b is made positive.

    Raises InputError for a divisor of 0, which the runtime refuses, and where it would shift by more than 31 bits,
    which is not defined: of next to nothing by much. Source: reference/div.h, DivElementwise.
    """
    dividend, divisor = np.broadcast_arrays(a.astype(np.int64), b.astype(np.int64))
    if not divisor.all():
        raise InputError("DIV by 0: the runtimes refuse it")
    inverse, right = reciprocal(np.abs(divisor))
    dividend = np.where(divisor < 0, -dividend, dividend)
    room = 31 - np.frexp(np.where(dividend < 0, ~dividend, dividend).astype(np.float64))[1].astype(np.int64)
    multiplier, left = quantize_multiplier(float(scale(ta) / (scale(tb) * scale(made))))  # in float32
    shift = room + right - int(left)
    if shift.max(initial=0) > 31 or shift.min(initial=0) < 0:
        raise InputError("DIV: the quotient is not within 31 bits of a step of the result: the runtimes are undefined")
    scaled = high_mul(high_mul(dividend << room, inverse), int(multiplier))
    return saturated(saturate(divide_by_pot(scaled, shift), 32), made, *activation_range(activation, made))


@op("litert.div", elementwise=True)
class Div(Binary):
    """DIV: activation(a / b), with broadcasting."""

    a: Operand = operand("i16q[...]")
    b: Operand = operand("i16q[...]")
    result: Result = result("i16q[...]", free=True)
    activation: str = attr("NONE", choices=ACTIVATIONS)

    def evaluate(self, a: Array, b: Array) -> Array:
        return quotient(a, b, *self.types, self.activation)


row("litert.div", "DIV", options={"activation": FUSED})


@on_floats("litert.float_div", of="litert.div")
class FloatDiv(Div):
    """DIV on floats."""

    def evaluate(self, a: Array, b: Array) -> Array:
        low, high = ACTIVATION_BOUNDS[self.activation]
        with np.errstate(divide="ignore", invalid="ignore"):
            made = a / b
        return np.asarray(made if self.activation == "NONE" else np.clip(made, low, high))
