"""Activations of TFLite Micro: multipliers in float64, LOGISTIC and TANH in fixed point."""

from __future__ import annotations

import math

import numpy as np

from qgraph.arith import gemmlowp
from qgraph.arith.fixed_point import multiply_double_rounding
from qgraph.arith.rounding import round_half_away
from qgraph.ir import Array, TensorType
from qgraph.ir.types import integer_range
from qgraph.targets.correspondence import Call, Refusal
from qgraph.targets.litert.dialect import activation, functions, functions_16
from qgraph.targets.litert.dialect.activation import Abs, HardSwish, LeakyRelu, Prelu, Relu, Relu6
from qgraph.targets.litert.dialect.functions import Elu, Logistic, Rsqrt, Tanh
from qgraph.targets.litert.dialect.parameters import centred, scale, zero_point
from qgraph.targets.litert.dialect.softmax import Softmax
from qgraph.targets.litert.dialect.tables import tabulated
from qgraph.targets.target import Kernel, not_offered
from qgraph.targets.tflm.kernels import only

INPUT_BITS = 4  # integer bits of the argument of LOGISTIC and TANH


def relu(op: Relu, x: Array) -> Array:
    """RELU with the quotient of the scales in float64. Source: activations_common.cc."""
    return activation.relu(x, op.x.type, op.result.type, 0.0, None, np.float64)


def relu6(op: Relu6, x: Array) -> Array:
    """RELU6 ignores the result's parameters: x itself, from its zero point to zero_point + round(6 / scale).

    Where that code leaves int32 the lowest code stands for it, as on x86. Source: activations.cc, Relu6OpData.
    """
    zero, (low, high) = zero_point(op.x.type), integer_range(op.x.type.dtype)
    six = zero + int(round_half_away(np.asarray(np.float32(6) / scale(op.x.type))))
    six = min(six, high) if six < 2**31 else low
    return np.where(x > six, six, np.maximum(x, zero)).astype(x.dtype)


def leaky_relu(op: LeakyRelu, x: Array) -> Array:
    """LEAKY_RELU with multipliers formed in float64. Source: leaky_relu_common.cc."""
    return activation.leaky_relu(x, op.x.type, op.result.type, op.alpha, np.float64)


def prelu(op: Prelu, x: Array, alpha: Array) -> Array:
    """PRELU with multipliers formed in float64. Source: prelu_common.cc."""
    return activation.prelu(x, alpha, op.x.type, op.alpha.type, op.result.type, np.float64)


def hard_swish(op: HardSwish, x: Array) -> Array:
    """HARD_SWISH with the multiplier to the result formed in float64. Source: hard_swish_common.cc."""
    return activation.hard_swish(x, op.x.type, op.result.type, np.float64)


def absolute(op: Abs, x: Array) -> Array:
    """ABS with its multiplier formed in float64. Source: elementwise.cc."""
    return activation.absolute(x, op.x.type, op.result.type, np.float64)


def elu(op: Elu, x: Array) -> Array:
    """ELU by a table in float32. Source: elu.cc (PopulateLookupTable)."""
    return functions.by_float(x, op.x.type, op.result.type, functions.exp_minus_1)


@tabulated
def fixed_point(x: Array, type: TensorType, result: TensorType, is_tanh: bool) -> Array:
    """LOGISTIC and TANH of int8: the argument with 4 integer bits, gemmlowp's function, the 8 upper bits of Q0.

    Arguments whose scaling would leave the 4 bits give the lowest and highest code.
    Source: logistic_common.cc, tanh.cc, reference/integer_ops/logistic.h, tanh.h (CalculateInputRadius).
    """
    fraction, shift = math.frexp(float(type.q.scales[0]) * 2.0 ** (31 - INPUT_BITS))
    multiplier = math.floor(fraction * 2**31 + 0.5)
    radius = math.floor((2**INPUT_BITS - 1) * 2.0 ** (31 - INPUT_BITS) / 2.0**shift)
    value = centred(x, type)
    argument = multiply_double_rounding(np.clip(value, -radius, radius), multiplier, shift)
    if is_tanh:
        q0 = gemmlowp.divide_by_pot(gemmlowp.tanh(argument, INPUT_BITS), 24)
    else:
        q0 = gemmlowp.divide_by_pot(gemmlowp.logistic(argument, INPUT_BITS), 23) - 128
    low, high = integer_range(result.dtype)
    inside = np.clip(q0, low, high)
    return np.where(value <= -radius, low, np.where(value >= radius, high, inside)).astype(result.numpy)


def sign_limit(call: Call) -> Refusal | None:
    """Scales at which no argument but 0 lies within the 4 bits, and 0 itself counts as beyond the lowest."""
    scale = float(call.xs[0].type.q.scales[0])
    if scale < 2.0 ** (INPUT_BITS - 1):
        return None
    reason = f"the operand's scale is {scale:.3g}: from 8 on TFLite Micro gives the lowest code for an operand of 0"
    return Refusal(reason, "scale or clamp what goes into the function: beyond 16 it is flat")


def logistic(op: Logistic, x: Array) -> Array:
    """LOGISTIC of int8 in fixed point."""
    if op.x.type.dtype == "i16":
        return op.evaluate(x)
    return fixed_point(x, op.x.type, op.result.type, False)


def tanh(op: Tanh, x: Array) -> Array:
    """TANH of int8 in fixed point."""
    if op.x.type.dtype == "i16":
        return op.evaluate(x)
    return fixed_point(x, op.x.type, op.result.type, True)


def inverse_root(op: Rsqrt, x: Array) -> Array:
    """RSQRT of int8 and int16, the multiplier formed in float64. Source: elementwise.cc."""
    return op.root(x, np.float64)


def softmax(op: Softmax, x: Array) -> Array:
    """SOFTMAX; of int16 by tables made in float32. Source: softmax_common.cc."""
    if op.x.type.dtype == "i16":
        return functions_16.softmax(x, op.x.type, op.beta, "float32")
    return op.evaluate(x)


KERNELS: dict[str, Kernel] = {
    "litert.relu": only("i8", "i16", run=relu),
    "litert.relu6": only("i8", "i16", run=relu6),
    "litert.relu_n1_to_1": not_offered("TFLite Micro has no RELU_N1_TO_1"),
    "litert.relu_0_to_1": not_offered("TFLite Micro has no RELU_0_TO_1"),
    "litert.leaky_relu": only("i8", "i16", run=leaky_relu),
    "litert.prelu": only("i8", run=prelu),
    "litert.abs": only("i8", "i16", run=absolute),
    "litert.elu": only("i8", run=elu),
    "litert.logistic": only("i8", "i16", run=logistic),
    "litert.tanh": only("i8", "i16", run=tanh),
    "litert.softmax": only("i8", "i16", run=softmax),
    "litert.hard_swish": only("i8", run=hard_swish),
    "litert.l2_normalization": only("i8"),
    "litert.gelu": not_offered("TFLite Micro has no int8 GELU"),
    "litert.exp": not_offered("TFLite Micro has no int8 EXP"),
    "litert.log": not_offered("TFLite Micro has no int8 LOG"),
    "litert.sqrt": not_offered("TFLite Micro has no int8 SQRT"),
    "litert.rsqrt": only("i8", "i16", run=inverse_root),
    "litert.div": not_offered("TFLite Micro has no int16 DIV"),
}
