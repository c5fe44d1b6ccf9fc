"""What kernels of all families share: ranges, multipliers, scaling by a fixed-point multiplier.

Kernels take the operands' types besides their integers: a type says storage (i8, u8, i16), scales and zero points.
Source, where no other is named: tflite/kernels of google-ai-edge/LiteRT, measured against ai-edge-litert 2.3.0.
"""

from __future__ import annotations

import numpy as np

from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.arith.rounding import round_half_away
from qgraph.ir import Array, TensorType
from qgraph.ir.types import integer_range

ACTIVATION_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
"""Real bounds of the fused activations."""


def zero_point(type: TensorType) -> int:
    """The zero point of a value with per-tensor parameters."""
    return int(type.q.zero_points[0])


def scale(type: TensorType) -> np.float32:
    """The scale of a value with per-tensor parameters, as the file stores it."""
    return type.q.scales[0]  # type: ignore[no-any-return]  # an element of a float32 array


def centred(x: Array, type: TensorType) -> Array:
    """x - zero_point as int32."""
    return np.asarray(x.astype(np.int32) - np.int32(zero_point(type)))


def saturated(value: Array, type: TensorType, low: int | None = None, high: int | None = None) -> Array:
    """value + zero_point, clamped to the type's range or to narrower bounds; value int32 or wider."""
    lowest, highest = integer_range(type.dtype)
    total = value.astype(np.int64) + zero_point(type)
    return np.clip(total, lowest if low is None else low, highest if high is None else high).astype(type.numpy)


def activation_range(activation: str, type: TensorType) -> tuple[int, int]:
    """Lowest and highest code of a result with a fused activation.

    RELU: from the zero point; RELU6: up to zero_point + round(6 / scale), a float32 quotient, half away; RELU_N1_TO_1:
    between the codes of -1 and 1. Source: CalculateActivationRangeQuantized, kernel_util.cc.
    """
    low, high = integer_range(type.dtype)
    bottom, top = ACTIVATION_BOUNDS[activation]
    if bottom is not None:
        low = max(low, _code(bottom, type))
    if top is not None:
        high = min(high, _code(top, type))
    return low, high


def _code(value: float, type: TensorType) -> int:
    return zero_point(type) + int(round_half_away(np.asarray(np.float32(value) / scale(type))))


def product_multiplier(x: TensorType, w: TensorType, result: TensorType) -> Array:
    """x_scale * w_scale / result_scale in float64, one or one per channel.

    Source: PopulateConvolutionQuantizationParams, kernel_util.cc.
    """
    return float(scale(x)) * w.q.scales.astype(np.float64) / float(scale(result))


def scaled(value: Array, real: float) -> Array:
    """round(value * real) by a fixed-point multiplier with double rounding; value int32 [...]."""
    multiplier, shift = quantize_multiplier(real)
    return multiply_double_rounding(value, multiplier, shift)
