"""Functions of one operand: LOGISTIC, TANH, GELU, EXP, LOG, ELU, SQRT, RSQRT.

The reference kernels compute most of them in float, code by code; float functions are those of the C library in float32
(`qgraph.arith.c_library`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.c_library import erfcf, expf, logf, tanhf
from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.arith.inverse_square_root import inverse_square_root
from qgraph.arith.rounding import round_half_away
from qgraph.errors import InputError, UnsupportedOp
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.targets.litert.dialect import functions_16
from qgraph.targets.litert.dialect.activation import Elementwise
from qgraph.targets.litert.dialect.elements import require_parameters
from qgraph.targets.litert.dialect.elementwise import Precision
from qgraph.targets.litert.dialect.floats import DELEGATED, REFERENCE, on_floats
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale, zero_point
from qgraph.targets.litert.dialect.tables import tabulated
from qgraph.targets.litert.rows import row

Float32 = NDArray[np.float32]
Function = Callable[[Float32], Float32]


@tabulated
def by_float(x: Array, type: TensorType, result: TensorType, function: Function) -> Array:
    """round(function(scale * (x - zero_point)) / result_scale), half away, in float32 by the reciprocal.

    Source: LUTPopulate, kernels/internal/common.h.
    """
    with np.errstate(all="ignore"):
        real = scale(type) * centred(x, type).astype(np.float32)
        steps = (function(real) * (np.float32(1) / scale(result))).astype(np.float64)
        rounded = round_half_away(steps).astype(np.float32) + np.float32(zero_point(result))
    low, high = integer_range(result.dtype)
    return np.asarray(np.clip(np.nan_to_num(np.trunc(rounded), nan=low), low, high), result.numpy)


def logistic(x: Float32) -> Float32:
    """1 / (1 + expf(-x))."""
    return np.float32(1) / (np.float32(1) + expf(-x))


def exp_minus_1(x: Float32) -> Float32:
    """ELU: x, below zero expf(x) - 1."""
    return np.where(x < 0, expf(x) - np.float32(1), x)


def gelu(x: Float32) -> Float32:
    """0.5 * x * erfc(-x / sqrt(2)). Source: reference/gelu.h."""
    return np.float32(0.5) * x * erfcf(x * np.float32(-math.sqrt(0.5)))


def gelu_by_tanh(x: Float32) -> Float32:
    """0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))). Source: reference/gelu.h."""
    cube = np.float32(0.044715) * x * x * x
    return np.float32(0.5) * x * (np.float32(1) + tanhf(np.float32(math.sqrt(2 / math.pi)) * (x + cube)))


@tabulated
def square_root(x: Array, type: TensorType, result: TensorType) -> Array:
    """SQRT: sqrt(scale * (x - zero_point)) / result_scale in float32, **truncated**. Source: elementwise.cc."""
    real = scale(type) * np.maximum(centred(x, type), 0).astype(np.float32)
    return saturated(np.trunc(np.sqrt(real) / scale(result)).astype(np.int64), result)


@tabulated
def reciprocal_square_root(x: Array, type: TensorType, result: TensorType, precision: Precision = np.float32) -> Array:
    """RSQRT: the multiplier of 1 / sqrt(x - zero_point) at 20 more bits, double rounding twice; the highest code of 0.

    Codes below the zero point give an arbitrary code here: the op refuses them. Source: elementwise.cc (RsqrtEval).
    """
    value = centred(x, type)
    multiplier, shift = inverse_square_root(np.maximum(value, 0))
    root = multiply_double_rounding(np.ones(value.shape, np.int32), multiplier, shift + 20)
    step = np.sqrt(precision(scale(type))) * precision(scale(result))
    factor, exponent = quantize_multiplier(1.0 / float(step))
    scaled = multiply_double_rounding(root, factor, exponent - 20)
    return np.where(value > 0, saturated(scaled, result), integer_range(result.dtype)[1]).astype(result.numpy)


LOGISTIC_RESULT = {"i8": (2.0**-8, -128), "u8": (2.0**-8, 0), "i16": (2.0**-15, 0)}
TANH_RESULT = {"i8": (2.0**-7, 0), "u8": (2.0**-7, 128), "i16": (2.0**-15, 0)}
"""Scale and zero point of the result, by storage."""


@op("litert.logistic", kind="sigmoid", elementwise=True)
class Logistic(Elementwise):
    """LOGISTIC: 1 / (1 + exp(-x)); the parameters of the result are fixed."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)

    def check(self) -> None:
        super().check()
        require_parameters(self.result.type, LOGISTIC_RESULT, "litert.logistic")

    def evaluate(self, x: Array) -> Array:
        if self.x.type.dtype == "i16":
            return functions_16.logistic_or_tanh(x, self.x.type, self.result.type, False)
        return by_float(x, self.x.type, self.result.type, logistic)


@op("litert.tanh", elementwise=True)
class Tanh(Elementwise):
    """TANH; the parameters of the result are fixed."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)

    def check(self) -> None:
        super().check()
        require_parameters(self.result.type, TANH_RESULT, "litert.tanh")

    def evaluate(self, x: Array) -> Array:
        if self.x.type.dtype == "i16":
            return functions_16.logistic_or_tanh(x, self.x.type, self.result.type, True)
        return by_float(x, self.x.type, self.result.type, tanhf)


@op("litert.gelu", elementwise=True)
class Gelu(Elementwise):
    """GELU by erf, or `approximate` by tanh."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)
    approximate: bool = attr(False)

    def evaluate(self, x: Array) -> Array:
        function = gelu_by_tanh if self.approximate else gelu
        return by_float(x, self.x.type, self.result.type, function)


@op("litert.exp", family="elementwise", elementwise=True)
class Exp(Elementwise):
    """EXP."""

    x: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return by_float(x, self.x.type, self.result.type, expf)


@op("litert.log", family="elementwise", elementwise=True)
class Log(Elementwise):
    """LOG; the lowest code where it is not defined."""

    x: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return by_float(x, self.x.type, self.result.type, logf)


@op("litert.elu", elementwise=True)
class Elu(Elementwise):
    """ELU: x, below zero exp(x) - 1. The reference kernels do not have it."""

    x: Operand = operand("i8q[...]")
    result: Result = result("i8q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        raise UnsupportedOp("LiteRT's reference kernels have no int8 ELU")


@op("litert.sqrt", family="elementwise", elementwise=True)
class Sqrt(Elementwise):
    """SQRT, truncated."""

    x: Operand = operand("i8q|i16q[...]")
    result: Result = result("i8q|i16q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        _require_at_least_zero(x, self.x.type, "SQRT")
        return square_root(x, self.x.type, self.result.type)


@op("litert.rsqrt", family="elementwise", elementwise=True)
class Rsqrt(Elementwise):
    """RSQRT: 1 / sqrt(x).

    Of int16 by TFLite Micro alone: LiteRT's interpolates a table, whose steps are too wide next to 0.
    """

    x: Operand = operand("i8q|i16q[...]")
    result: Result = result("i8q|i16q[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        if self.x.type.dtype == "i16":
            raise UnsupportedOp("RSQRT of int16 interpolates a table in LiteRT, which is not computed here")
        return self.root(x)

    def root(self, x: Array, precision: Precision = np.float32) -> Array:
        """The kernel, whose multiplier is formed in float32, or by TFLite Micro in float64; of int16 that alone has
        it."""
        _require_at_least_zero(x, self.x.type, "RSQRT")
        return reciprocal_square_root(x, self.x.type, self.result.type, precision)


def _require_at_least_zero(x: Array, type: TensorType, what: str) -> None:
    if np.any(x < zero_point(type)):
        raise InputError(f"{what} of a value below zero: the runtimes refuse it")


for _name in ("logistic", "tanh", "exp", "log", "elu", "sqrt", "rsqrt"):
    row(f"litert.{_name}", _name.upper())
row("litert.gelu", "GELU", options={"approximate": "approximate"})


@on_floats("litert.float_logistic", of="litert.logistic", exact_on=REFERENCE)
class FloatLogistic(Logistic):
    """LOGISTIC on floats: 1 from 16.619 on, exp(x) below -9. Source: reference/logistic.h."""

    def evaluate(self, x: Array) -> Array:
        middle = 1 / (1 + expf(-x))
        return np.where(x > np.float32(16.619047164916992), np.float32(1), np.where(x < -9, expf(x), middle))


@on_floats("litert.float_tanh", of="litert.tanh", exact_on=REFERENCE)
class FloatTanh(Tanh):
    """TANH on floats."""

    def evaluate(self, x: Array) -> Array:
        return tanhf(x)


@on_floats("litert.float_gelu", of="litert.gelu")
class FloatGelu(Gelu):
    """GELU on floats."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(gelu_by_tanh(x) if self.approximate else gelu(x), np.float32)


@on_floats("litert.float_exp", of="litert.exp", exact_on=REFERENCE)
class FloatExp(Exp):
    """EXP on floats."""

    def evaluate(self, x: Array) -> Array:
        return expf(x)


@on_floats("litert.float_log", of="litert.log", exact_on=REFERENCE)
class FloatLog(Log):
    """LOG on floats."""

    def evaluate(self, x: Array) -> Array:
        return logf(x)


@on_floats("litert.float_elu", of="litert.elu")
class FloatElu(Elu):
    """ELU on floats."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(exp_minus_1(x), np.float32)


@on_floats("litert.float_sqrt", of="litert.sqrt", exact_on=REFERENCE, beyond_delegate=DELEGATED + 1)
class FloatSqrt(Sqrt):
    """SQRT on floats."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.sqrt(x))


@on_floats("litert.float_rsqrt", of="litert.rsqrt", exact_on=REFERENCE, beyond_delegate=DELEGATED + 1)
class FloatRsqrt(Rsqrt):
    """RSQRT on floats."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(1 / np.sqrt(x))
