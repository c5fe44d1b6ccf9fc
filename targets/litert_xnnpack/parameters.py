"""What XNNPACK's kernels share."""

from __future__ import annotations

import numpy as np

from qgraph.ir import TensorType
from qgraph.ir.types import integer_range
from qgraph.targets.litert.dialect.parameters import ACTIVATION_BOUNDS, scale, zero_point


def activation_range(activation: str, type: TensorType) -> tuple[int, int]:
    """Lowest and highest code of a fused activation: XNNPACK adds the zero point before it rounds, ties to even.

    A bound b is rint(b / scale + zero_point) in float32; RELU6 with 6 / scale = 1.5 gives a code less than the
    reference kernels for an odd zero point. Source: xnn_qs8_quantize.
    """
    low, high = integer_range(type.dtype)
    bottom, top = ACTIVATION_BOUNDS[activation]
    if bottom is not None:
        low = max(low, _code(bottom, type))
    if top is not None:
        high = min(high, _code(top, type))
    return low, high


def _code(value: float, type: TensorType) -> int:
    return int(np.rint(np.float32(value) / scale(type) + np.float32(zero_point(type))))
