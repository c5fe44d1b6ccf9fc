"""MEAN, SUM by XNNPACK: one float32 multiply-add on the raw sum, ties to even."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qgraph.ir import Array
from qgraph.ir.types import integer_range
from qgraph.targets.litert.dialect.parameters import scale, zero_point
from qgraph.targets.litert.dialect.reduction import Mean, Sum
from qgraph.targets.target import Kernel

MultiplyAdd = Callable[[Array, np.float32, np.float32], Array]


def multiply_then_add(x: Array, y: np.float32, z: np.float32) -> Array:
    """x * y + z in float32, rounded twice: x86."""
    return np.asarray(x * y + z)


def reduced(op: Mean | Sum, x: Array, multiply_add: MultiplyAdd = multiply_then_add) -> Array:
    """`rint(float32(sum) * c + offset)` with c = s / so (MEAN: times 1/n), offset = zo - n * zx * c, all in float32.

    Source: qs8-rsum, the requantization of xnn_create_reduce_nd.
    """
    if op.x.type.dtype == "i16":
        return op.evaluate(x)
    axes, result = op.places(), op.result.type
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    factor = np.float32(scale(op.x.type) / scale(result))
    if isinstance(op, Mean):
        factor = factor * (np.float32(1) / np.float32(count))
    zeros = np.asarray(-np.float32(count * zero_point(op.x.type)))
    offset = np.float32(multiply_add(zeros, factor, np.float32(zero_point(result))))
    total = x.sum(axis=axes, keepdims=op.keep_dims, dtype=np.int64).astype(np.float32)
    return np.asarray(np.clip(np.rint(multiply_add(total, factor, offset)), *integer_range(result.dtype)), result.numpy)


KERNELS: dict[str, Kernel] = {"litert.mean": reduced, "litert.sum": reduced}
