"""MAX_POOL_2D by XNNPACK, which rounds the bounds of an activation otherwise; AVERAGE_POOL_2D it refuses."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array
from qgraph.targets.litert.dialect import parameters
from qgraph.targets.litert.dialect.pooling import MaxPool2d
from qgraph.targets.litert_xnnpack.delegation import refusal
from qgraph.targets.litert_xnnpack.parameters import activation_range
from qgraph.targets.target import Kernel


def max_pool(op: MaxPool2d, x: Array) -> Array:
    """MAX_POOL_2D; where the delegate refuses it, the bounds are those of the reference kernel."""
    bounds = parameters.activation_range if refusal(op) else activation_range
    return np.clip(op.pooled(x), *bounds(op.activation, op.result.type))


KERNELS: dict[str, Kernel] = {"litert.max_pool_2d": max_pool}
