"""Integer arithmetic of LiteRT's reference kernels (`BUILTIN_REF`), int8.

Measured against ai-edge-litert 2.3.0; sources are files below tflite/kernels of google-ai-edge/LiteRT.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from qgraph.arith.exactness import Accumulator
from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.arith.requantize import requantize_double_rounding, requantize_float64_away
from qgraph.arith.rounding import divide_half_away, round_half_away
from qgraph.ir import Array, QuantParams

INT8 = (-128, 127)
EVERY_CODE = np.arange(256, dtype=np.uint8).view(np.int8)
"""Every int8, at the index of its bits."""


def activation_range(activation: str, quant: QuantParams) -> tuple[int, int]:
    """Lowest and highest code of a result with a fused activation.

    RELU: [zero_point, 127]; RELU6: up to zero_point + round(6 / scale), a float32 quotient, half away.
    Source: CalculateActivationRangeQuantized, kernel_util.cc.
    """
    low, high = INT8
    zero_point, scale = int(quant.zero_points[0]), quant.scales[0]
    if activation in ("RELU", "RELU6"):
        low = max(low, zero_point)
    if activation == "RELU6":
        high = min(high, zero_point + int(round_half_away(np.float32(6) / scale)))
    return low, high


def product_multiplier(x: QuantParams, w: QuantParams, result: QuantParams) -> Array:
    """x_scale * w_scale / result_scale in float64, one or one per channel.

    Source: PopulateConvolutionQuantizationParams, kernel_util.cc.
    """
    return float(x.scales[0]) * w.scales.astype(np.float64) / float(result.scales[0])


def requantize_convolution(
    acc: Accumulator, x: QuantParams, w: QuantParams, result: QuantParams, activation: str
) -> Array:
    """Accumulators of CONV_2D and DEPTHWISE_CONV_2D to int8: double rounding. Source: reference/integer_ops/conv.h."""
    multiplier, shift = quantize_multiplier(product_multiplier(x, w, result))
    low, high = activation_range(activation, result)
    return requantize_double_rounding(acc, multiplier, shift, int(result.zero_points[0]), low, high, np.int8)


def requantize_fully_connected(
    acc: Accumulator, x: QuantParams, w: QuantParams, result: QuantParams, activation: str
) -> Array:
    """Accumulators of FULLY_CONNECTED to int8: `acc * ((x_scale * w_scale) / result_scale)` in float64, half away."""
    low, high = activation_range(activation, result)
    multiplier = product_multiplier(x, w, result)
    return requantize_float64_away(acc, multiplier, int(result.zero_points[0]), low, high, np.int8)


def scaled(value: Array, real: float) -> Array:
    """round(value * real) by a fixed-point multiplier with double rounding; value int32 [...]."""
    multiplier, shift = quantize_multiplier(real)
    return multiply_double_rounding(value, multiplier, shift)


def add(a: Array, b: Array, qa: QuantParams, qb: QuantParams, result: QuantParams, activation: str) -> Array:
    """ADD with broadcasting, by the table of all pairs of codes."""
    index = np.left_shift(a.view(np.uint8), 8, dtype=np.uint16) | b.view(np.uint8)
    return sum_table(qa, qb, result, activation)[index]


@lru_cache(maxsize=64)
def sum_table(qa: QuantParams, qb: QuantParams, result: QuantParams, activation: str) -> Array:
    """ADD of every pair of codes, [65536], at index (bits of a) * 256 + (bits of b).

    Both operands at 20 more bits, scaled to twice the larger scale, added, scaled to the result.
    |a - zero_point| <= 255 and 255 << 20 < 2**28: nothing overflows. Source: reference/add.h, add.cc (AddOpData).
    """
    twice = 2.0 * max(float(qa.scales[0]), float(qb.scales[0]))
    total = _operand_table(qa, twice)[:, None] + _operand_table(qb, twice)
    multiplier, shift = quantize_multiplier(twice / (2.0**20 * float(result.scales[0])))
    low, high = activation_range(activation, result)
    zero_point = int(result.zero_points[0])
    return requantize_double_rounding(total.reshape(-1), multiplier, shift, zero_point, low, high, np.int8)


def _operand_table(q: QuantParams, twice: float) -> Array:
    """What ADD makes of each int8 operand, [256] int32: its 2**20 times scale / twice."""
    centred = EVERY_CODE.astype(np.int32) - np.int32(q.zero_points[0])
    return scaled(centred << 20, float(q.scales[0]) / twice)


def requantize(x: Array, q: QuantParams, result: QuantParams) -> Array:
    """QUANTIZE int8 to int8: double rounding with the float64 quotient of the scales.

    Source: reference/requantize.h.
    """
    value = scaled(x.astype(np.int32) - np.int32(q.zero_points[0]), float(q.scales[0]) / float(result.scales[0]))
    return np.clip(value + np.int64(result.zero_points[0]), *INT8).astype(np.int8)


def relu(x: Array, q: QuantParams, result: QuantParams, upper: float | None) -> Array:
    """RELU and RELU6 as ops of their own: double rounding, here with the quotient of the scales in **float32**.

    Source: activations.cc, QuantizedReluX.
    """
    value = scaled(x.astype(np.int32) - np.int32(q.zero_points[0]), float(q.scales[0] / result.scales[0]))
    zero_point = int(result.zero_points[0])
    high = INT8[1]
    if upper is not None:
        high = min(high, zero_point + int(round_half_away(np.float32(upper) / result.scales[0])))
    return np.clip(value + np.int64(zero_point), max(INT8[0], zero_point), high).astype(np.int8)


def average(total: Array, count: Array, activation: str, result: QuantParams) -> Array:
    """AVERAGE_POOL_2D on every family: the mean of the raw integers, half away.

    Source: reference/integer_ops/pooling.h.
    """
    return np.clip(divide_half_away(total, count), *activation_range(activation, result)).astype(np.int8)
