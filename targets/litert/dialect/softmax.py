"""Along the last dimension: SOFTMAX, L2_NORMALIZATION."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from qgraph.arith.c_library import expf, logf
from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.arith.gemmlowp import divide_by_pot, exp_on_negative_values, high_mul, one_over_one_plus, wrap
from qgraph.arith.inverse_square_root import inverse_square_root
from qgraph.errors import TypeMismatch, UnsupportedOp
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.targets.litert.dialect import functions_16
from qgraph.targets.litert.dialect.activation import Elementwise
from qgraph.targets.litert.dialect.elements import one_scale, require_parameters
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale
from qgraph.targets.litert.rows import FUSED, float_row, row

CODES = 256
SUM_BITS = 12  # integer bits of the sum of exponentials
INPUT_BITS = 5  # integer bits of the difference to the largest


def softmax(x: Array, type: TensorType, result: TensorType, beta: float) -> Array:
    """SOFTMAX of 8 bits, to 8 or 16, in gemmlowp's fixed point: exponentials in Q0, their sum with 12 integer bits.

    Differences below about -31 (in real units) count as zero. Raises UnsupportedOp for a row whose sum of exponentials
    is 512 or more: LiteRT's reference kernels and TFLite Micro abort the process there.
    Source: reference/softmax.h (Softmax for 8 bits), quantization_util.cc (PreprocessSoftmaxScaling).
    """
    exponentials, counts = exponentials_of(float(scale(type)), beta)
    below = x.max(axis=-1, keepdims=True).astype(np.int64) - x
    terms = exponentials[below]
    total = divide_by_pot(exponentials, SUM_BITS)[below].sum(axis=-1, keepdims=True)
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    over_unit = bits + SUM_BITS - 32  # the sum is below 2**over_unit
    if np.any(over_unit > 8):
        raise UnsupportedOp(
            "LiteRT's reference kernels and TFLite Micro abort the process where the exponentials of a SOFTMAX sum up "
            "to 512 or more",
            help="make the last dimension shorter than 512, or run it with litert-xnnpack",
        )
    reciprocal = one_over_one_plus((total << (32 - bits)) - 2**31)
    value = _divide_by_pot_half_up(high_mul(reciprocal, terms), over_unit + 31 - 8 * result.numpy.itemsize)
    low, high = integer_range(result.dtype)
    return np.where(counts[below], np.clip(value + low, low, high), low).astype(result.numpy)


@lru_cache(maxsize=64)
def exponentials_of(scale: float, beta: float) -> tuple[Array, Array]:
    """exp of -0, -1, ... -255 steps in Q0, zero where too small, and which are not too small; [256] each."""
    real = min(beta * scale * 2.0 ** (31 - INPUT_BITS), 2.0**31 - 1)
    if real <= 1:
        raise UnsupportedOp(
            f"LiteRT's reference kernels and TFLite Micro abort the process in a SOFTMAX whose beta * scale is "
            f"{beta * scale:.3g}, not above 2**-26",
            help="run it with litert-xnnpack",
        )
    multiplier, left = quantize_multiplier(real)
    smallest = -math.floor((2**INPUT_BITS - 1) * 2.0 ** (31 - INPUT_BITS) / 2.0 ** int(left))
    below = -np.arange(CODES)
    counts = below >= smallest
    raw = high_mul(wrap(np.where(counts, below, 0) << np.int64(left), 32), multiplier)
    return np.where(counts, exp_on_negative_values(raw, INPUT_BITS), 0), counts


def _divide_by_pot_half_up(x: Array, exponent: Array) -> Array:
    """x / 2**exponent for x >= 0, half up."""
    mask = (np.int64(1) << exponent) - 1
    return np.asarray((x >> exponent) + ((x & mask) > (mask >> 1)))


def l2_normalization(x: Array, type: TensorType, result: TensorType) -> Array:
    """L2_NORMALIZATION: each element times the multiplier of 1 / sqrt(sum of squares), at 7 bits.

    Source: reference/integer_ops/l2normalization.h; the result has scale 1/128.
    """
    value = centred(x, type)
    squares = (value.astype(np.int64) ** 2).sum(axis=-1, keepdims=True)
    multiplier, shift = inverse_square_root(squares)
    if result.dtype == "u8":  # l2normalization.h has its own formula for uint8: the 7 bits are in the value
        return saturated(multiply_double_rounding(value << 7, multiplier, shift), result)
    return saturated(multiply_double_rounding(value, multiplier, shift + 7), result)


SOFTMAX_RESULT = {"i8": (2.0**-8, -128), "u8": (2.0**-8, 0), "i16": (2.0**-15, 0)}
WIDE_SCALE = 2.0**-16
"""Of 16 bits that are made of 8, within a thousandth; their zero point is the lowest code."""
L2_RESULT = {"i8": (2.0**-7, 0), "u8": (2.0**-7, 128)}


@op("litert.softmax", family="activation")
class Softmax(Elementwise):
    """SOFTMAX of beta * x; the parameters of the result are fixed. int8 may become int16."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    beta: float = attr(1.0)

    def check(self) -> None:
        if self.widens:
            one_scale("Softmax", self.x.type)
            self._check_wide()
            return
        super().check()
        require_parameters(self.result.type, SOFTMAX_RESULT, "litert.softmax")

    @property
    def widens(self) -> bool:
        """Whether 8 bits become 16."""
        return (self.x.type.dtype, self.result.type.dtype) == ("i8", "i16")

    def _check_wide(self) -> None:
        made = self.result.type.q
        if made.axis is not None or made.zero_point[0] != -32768 or abs(made.scale[0] / WIDE_SCALE - 1) > 1e-3:
            raise TypeMismatch(
                f"litert.softmax: the result {self.result.type} must have scale {WIDE_SCALE} and zero point -32768"
            )

    def evaluate(self, x: Array) -> Array:
        if self.x.type.dtype == "i16":
            return functions_16.softmax(x, self.x.type, self.beta)
        return softmax(x, self.x.type, self.result.type, self.beta)


row("litert.softmax", "SOFTMAX", options={"beta": "beta"})


@op("litert.l2_normalization", family="norm")
class L2Normalization(Elementwise):
    """L2_NORMALIZATION: x / sqrt(sum of squares); the parameters of the result are fixed."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)
    activation: str = attr("NONE", choices=("NONE",))

    def check(self) -> None:
        super().check()
        require_parameters(self.result.type, L2_RESULT, "litert.l2_normalization")

    def evaluate(self, x: Array) -> Array:
        return l2_normalization(x, self.x.type, self.result.type)


row("litert.l2_normalization", "L2_NORMALIZATION", options={"activation": FUSED})


@on_floats("litert.float_softmax", of="litert.softmax", exact_on=REFERENCE)
class FloatSoftmax(Softmax):
    """SOFTMAX on floats: the exponentials are added in order. Source: reference/softmax.h."""

    def evaluate(self, x: Array) -> Array:
        powers = expf((x - x.max(axis=-1, keepdims=True)) * np.float32(self.beta))
        return np.asarray(powers / np.add.accumulate(powers, axis=-1)[..., -1:])


@on_floats("litert.float_l2_normalization", of="litert.l2_normalization")
class FloatL2Normalization(L2Normalization):
    """L2_NORMALIZATION on floats."""

    def evaluate(self, x: Array) -> Array:
        norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        return np.asarray(x / np.maximum(norm, np.float32(1e-6)))


@op("litert.log_softmax", family="activation")
class LogSoftmax:
    """LOG_SOFTMAX: x - max - log(sum of exp(x - max)) over the last dimension, on floats.

    Exact on LiteRT's reference kernels and on TFLite Micro: the exponentials are added in order, functions are the C
    library's. Source: reference/reference_ops.h, LogSoftmax.
    """

    x: Operand = operand("f32[...]")
    result: Result = result("f32[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def powers(self, x: Array) -> tuple[Array, Array]:
        """x - max, and its exponentials."""
        less = x - x.max(axis=-1, keepdims=True)
        return less, expf(less)

    def evaluate(self, x: Array) -> Array:
        less, powers = self.powers(x)
        total = np.add.accumulate(powers, axis=-1)[..., -1:]
        return np.asarray(less - logf(total))


float_row("litert.log_softmax", "LOG_SOFTMAX", exact_on=REFERENCE)
