"""Scales that LiteRT's kernels refuse, wrap or abort at, which `lower` refuses.

Each was found by running the families' kernels over scales from 2**-120 to 2**120 (`tests/targets/litert`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.ir import QuantParams
from qgraph.ir.types import integer_range
from qgraph.targets.correspondence import Call, Refusal
from qgraph.targets.lowering import CALIBRATE

LARGEST_RATIO = 2.0**26
"""Of scales, up to which kernels that requantize have been compared: beyond int32 their shifts are undefined."""
LARGEST_SCALE = 2.0**100
"""Of the operand of a function that kernels compute in float32."""
LARGEST_WIDE_SCALE = 1.0
"""Of the operand of a function of 16 bits, whose fixed-point argument leaves int32 somewhat above."""
SMALLEST_OF_FUNCTIONS = 2.0**-25
"""Of the operand of a function: from 2**-26 down the reference SOFTMAX aborts, and TFLite Micro's functions differ."""


LARGEST_MUL_FACTOR = 2.0**8
LARGEST_WIDE_COUNT = 2**15
LARGEST_WIDE = 2**47
"""Of accumulators of int64: their multiplier has 16 bits."""


def ratio_refusal(x: QuantParams, result: QuantParams, factor: float = 1.0) -> Refusal | None:
    """Scales whose ratio, times a factor, is too large to requantize."""
    ratio = abs(factor) * float(x.scales[0]) / float(result.scales[0])
    if ratio < LARGEST_RATIO:
        return None
    return Refusal(f"x_scale / result_scale is {ratio:.3g}, LiteRT's kernels requantize below 2**26", CALIBRATE)


def ratio_limits(call: Call) -> Refusal | None:
    """The operand's scale beside the result's."""
    factor = max(1.0, abs(float(call.attrs.get("negative_slope", 1.0))))
    return ratio_refusal(call.xs[0].type.q, call.quant, factor)


def count_limits(call: Call, count: int) -> Refusal | None:
    """A sum of `count` codes of 16 bits has to fit into int32."""
    if call.element[0] != "i16" or count < LARGEST_WIDE_COUNT:
        return None
    return Refusal(f"the sum of {count} values of 16 bits may leave int32", "ask for 8 bits, or average in two steps")


def function_limits(call: Call) -> Refusal | None:
    """Scales with which a function in float32 overflows; one that is too small is mended (`within_reach`)."""
    scale = float(call.xs[0].type.q.scales[0])
    largest = LARGEST_WIDE_SCALE if call.xs[0].type.dtype == "i16" else LARGEST_SCALE
    if scale < largest:
        return None
    return Refusal(f"the operand's scale is {scale:.3g}, LiteRT takes less than {largest:.3g}", CALIBRATE)


Scales = Sequence[float]
"""Of two operands."""


def given_scales(call: Call) -> Scales:
    """Those that the operands have."""
    return [float(x.type.q.scales[0]) for x in call.xs]


def free_scales(call: Call) -> Scales:
    """The same, but of a constant of zeros, whose scale is free: one with which its codes count as the result's."""
    scales, (a, b) = list(given_scales(call)), given_scales(call)
    for i, (x, other) in enumerate(zip(call.xs, (b, a), strict=True)):
        if x.is_constant and np.all(x.data == x.type.q.zero_points[0]):
            scales[i] = float(call.quant.scales[0]) / (other if call.node.op == "nn.mul" else 1.0)
    return scales


def sum_limits(call: Call, scales: Scales) -> Refusal | None:
    """Scales at which LiteRT's ADD and SUB abort or wrap.

    The reference kernel aborts where 2 * max(scale) >= 2**20 * result_scale. XNNPACK takes scale / result_scale in
    [2^-10, 2^8); for the rest runs the optimized kernel, which narrows to 16 bits without saturation. 2**20 * result
    has to be a float32.
    """
    a, b = scales
    result = float(call.quant.scales[0])
    with np.errstate(over="ignore"):
        ratios = [float(np.float32(scale) / np.float32(result)) for scale in (a, b)]
    narrow = max(ratios) < 2.0**7 or (max(ratios) < 2.0**8 and min(ratios) >= 2.0**-10)
    if narrow and result < LARGEST_SCALE:
        return None
    name = call.node.op.partition(".")[2].upper()
    span = f"at scales {a:.3g} and {b:.3g} with a result of scale {result:.3g}"
    return Refusal(f"LiteRT's {name} wraps or aborts {span}", CALIBRATE)


def product_limits(call: Call, scales: Scales) -> Refusal | None:
    """MUL refuses a factor of 256 or more."""
    a, b = scales
    if a * b / float(call.quant.scales[0]) < LARGEST_MUL_FACTOR and a * b < LARGEST_SCALE:
        return None
    return Refusal("the product of the operands' scales is 256 times that of the result, or more", CALIBRATE)


def hard_swish_limits(call: Call) -> Refusal | None:
    """HARD_SWISH refuses an operand of a much larger scale than the result's, and shifts out of 16 bits beyond 512."""
    x, result = float(call.xs[0].type.q.scales[0]), float(call.quant.scales[0])
    if x / (128 * result) < 1 and x < 2.0**9:
        return None
    reason = "LiteRT's HARD_SWISH refuses an operand whose scale is 128 times the result's, or 512, or more"
    return Refusal(reason, CALIBRATE)


def layer_limits(call: Call) -> Refusal | None:
    """Factors that XNNPACK refuses, and accumulators whose product with the factor may leave int32.

    The factor x_scale * w_scale / result_scale must be below 2**8. Beyond int32, the reference kernel of
    FULLY_CONNECTED and XNNPACK's AVX512 kernels wrap (measured: a large negative accumulator gives 127), others
    saturate.
    """
    x, weight, bias = call.xs[0].type.q, call.weight, call.bias
    assert weight is not None
    assert bias is not None
    factor = x.scales[0].astype(np.float64) * weight.quant.scales / call.quant.scales[0]
    if np.any(factor * (1 + 2.0**-22) >= 2.0**8):  # XNNPACK compares the float32 product
        reason = f"x_scale * w_scale / result_scale is {factor.max():.3g}, XNNPACK takes factors below 256"
        return Refusal(reason, CALIBRATE)
    zero_point = int(x.zero_points[0])
    weights = np.abs(weight.by_channel.astype(np.int16)).sum(axis=1, dtype=np.int64)
    lowest, highest = integer_range(call.xs[0].type.dtype)
    acc = np.abs(bias.data.astype(np.int64)) + max(zero_point - lowest, highest - zero_point) * weights
    wide = bias.type.dtype == "i64"
    reached = (factor if wide else np.maximum(factor, 1)) * acc
    if np.all(reached < 2.0**31 - 2**8) and np.all(acc < LARGEST_WIDE):
        return None
    channel = int(np.argmax(reached))
    reason = f"the accumulator of channel {channel} may reach {acc[channel]}, which with its scales leaves int32"
    return Refusal(reason, call.lowering.tiny_weights())
