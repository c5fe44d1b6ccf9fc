"""What LiteRT computes by default where that is not what the reference kernels compute.

XNNPACK requantizes in float32 with ties to even, and adds with one rounding; where it refuses an op, LiteRT's optimized
kernel runs. Measured against ai-edge-litert 2.3.0; sources are files of google/XNNPACK, or below tflite/kernels of
google-ai-edge/LiteRT.
"""

from __future__ import annotations

import numpy as np

from qgraph.arith.exactness import Accumulator
from qgraph.arith.fixed_point import quantize_multiplier, saturating_rounding_doubling_high_mul
from qgraph.arith.requantize import requantize_fp32
from qgraph.ir import Array, QuantParams
from qgraph.ops.quant import quantize
from qgraph.targets.litert import kernels as reference
from qgraph.targets.litert.dialect import Add, Conv2d, DepthwiseConv2d, FullyConnected, MaxPool2d, Quantize
from qgraph.targets.litert.kernels import INT8
from qgraph.targets.target import Kernel

BLOCK = 16
"""Elements that the optimized requantize kernel handles at once (NEON, emulated by SSE on x86)."""


def activation_range(activation: str, quant: QuantParams) -> tuple[int, int]:
    """Lowest and highest code of a fused activation: XNNPACK adds the zero point before it rounds, ties to even.

    RELU6: up to rint(6 / scale + zero_point) in float32; 6 / scale = 1.5 gives a code less than the reference kernels
    for an odd zero point. Source: xnn_qs8_quantize.
    """
    low, high = reference.activation_range(activation, quant)
    if activation != "RELU6":
        return low, high
    return low, min(INT8[1], int(np.rint(np.float32(6) / quant.scales[0] + quant.zero_points[0].astype(np.float32))))


def max_pool(op: MaxPool2d, x: Array) -> Array:
    """MAX_POOL_2D; the delegate refuses strides beyond the kernel, where the optimized kernel's range holds."""
    delegated = all(stride <= size for stride, size in zip(op.stride, op.kernel, strict=True))
    bounds = activation_range if delegated else reference.activation_range
    return np.clip(op.pooled(x), *bounds(op.activation, op.result.type.q))


def fp32_requantized(acc: Accumulator, op: Conv2d | DepthwiseConv2d | FullyConnected) -> Array:
    """`rint(float32(acc) * scale)`, scale = (x_scale * w_scale) / result_scale in float32.

    Where the product is below -2**31 the AVX512 kernels give the highest code and others the lowest: `check_layer` in
    the lowering refuses such layers. Source: src/qs8-requantization/fp32-scalar-fmagic.c.
    """
    x, w, result = op.x.type.q, op.w.type.q, op.result.type.q
    scale = (x.scales[0] * w.scales) / result.scales[0]
    low, high = activation_range(op.activation, result)
    return requantize_fp32(acc, scale, int(result.zero_points[0]), low, high, np.int8)


def convolution(op: Conv2d | DepthwiseConv2d, x: Array, w: Array, bias: Array) -> Array:
    """CONV_2D and DEPTHWISE_CONV_2D."""
    return fp32_requantized(op.accumulate(x, w, bias), op)


def fully_connected(op: FullyConnected, x: Array, w: Array, bias: Array | None) -> Array:
    """FULLY_CONNECTED."""
    return fp32_requantized(op.accumulate(x, w, bias), op)


def add(op: Add, a: Array, b: Array) -> Array:
    """ADD: one multiply-add in int32 with a common shift, rounded half up once.

    shift = 20 - floor(log2(max(scales) / result_scale)); multipliers rint(scale / result_scale * 2**shift).
    Exact in int32: each term is at most 255 * 2**21 and 13 <= shift <= 30, so the sum stays below 2**30 + 2**29.
    The delegate refuses ratios outside [2^-10, 2^8); the reference formula runs then. Source: qs8-vadd
    (xnn_init_qs8_add).
    """
    qa, qb, result = op.a.type.q, op.b.type.q, op.result.type.q
    ratios = [q.scales[0] / result.scales[0] for q in (qa, qb)]
    if not all(2.0**-10 <= ratio < 2.0**8 for ratio in ratios):
        return reference.add(a, b, qa, qb, result, op.activation)
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    terms = [
        (x.astype(np.int32) - np.int32(q.zero_points[0])) * np.int32(np.rint(np.ldexp(np.float64(ratio), shift)))
        for x, q, ratio in ((a, qa, ratios[0]), (b, qb, ratios[1]))
    ]
    total: Array = (terms[0] + terms[1] + np.int32(1 << (shift - 1))) >> np.int32(shift)
    low, high = activation_range(op.activation, result)
    return np.asarray(np.clip(total + np.int32(result.zero_points[0]), low, high), np.int8)


def quantized(op: Quantize, x: Array) -> Array:
    """QUANTIZE of floats (half to even, times the reciprocal of the scale) and of int8 (`requantize`)."""
    result = op.result.type.q
    if op.x.type.quant is None:
        q = quantize(x, result.scales, result.zero_points, INT8, None, "half_even_reciprocal")
        return q.astype(np.int8)
    return requantize(x, op.x.type.q, result)


def requantize(x: Array, q: QuantParams, result: QuantParams) -> Array:
    """int8 to int8: in steps of 1/256, or the optimized kernel where the ratio is outside [2^-8, 2^7].

    Source: qs8-vcvt; optimized_ops::Requantize, half up on whole blocks of 16 elements, half away on the rest.
    """
    value = x.astype(np.int64) - int(q.zero_points[0])
    ratio = q.scales[0] / result.scales[0]
    if 2.0**-8 <= ratio <= 2.0**7:
        scaled = (value * int(np.rint(np.float32(256) * ratio)) + 128) >> 8
    else:
        scaled = reference.scaled(value.astype(np.int32), float(q.scales[0]) / float(result.scales[0])).astype(np.int64)
        blocks = x.size // BLOCK * BLOCK
        scaled.reshape(-1)[:blocks] = _half_up(value.reshape(-1)[:blocks], q, result)
    return np.asarray(np.clip(scaled + int(result.zero_points[0]), *INT8), np.int8)


def _half_up(value: Array, q: QuantParams, result: QuantParams) -> Array:
    """Double rounding whose second step rounds half up."""
    multiplier, shift = quantize_multiplier(float(q.scales[0]) / float(result.scales[0]))
    left, right = max(int(shift), 0), max(-int(shift), 0)
    shifted = value.astype(np.int32) << left  # wraps, as in the source
    high: Array = saturating_rounding_doubling_high_mul(shifted, multiplier).astype(np.int64)
    return np.asarray((high + ((1 << right) >> 1)) >> right)


KERNELS: dict[str, Kernel] = {
    "litert.conv_2d": convolution,
    "litert.depthwise_conv_2d": convolution,
    "litert.fully_connected": fully_connected,
    "litert.add": add,
    "litert.max_pool_2d": max_pool,
    "litert.quantize": quantized,
}
