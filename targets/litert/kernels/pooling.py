"""AVERAGE_POOL_2D on every family."""

from __future__ import annotations

import numpy as np

from qgraph.arith.rounding import divide_half_away
from qgraph.ir import Array, TensorType
from qgraph.targets.litert.kernels.common import activation_range


def average(total: Array, count: Array, activation: str, result: TensorType) -> Array:
    """The mean of the raw integers, half away. Source: reference/integer_ops/pooling.h."""
    return np.clip(divide_half_away(total, count), *activation_range(activation, result)).astype(result.numpy)
