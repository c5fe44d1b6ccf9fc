"""What earlier releases of LiteRT's reference kernels compute differently, as far as known; see `releases.json`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.targets.litert.dialect.activation import LeakyRelu
from qgraph.targets.litert.dialect.layers import is_wide, narrow, refuse_bias_scale, refuse_misread_bias, wide
from qgraph.targets.litert.dialect.linear import BatchMatmul, FullyConnected
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale, scaled
from qgraph.targets.target import Kernel


def fully_connected(op: FullyConnected, x: Array, w: Array, bias: Array | None) -> Array:
    """FULLY_CONNECTED: a fixed-point multiplier, rounded twice, or of 16 bits the wide product, as in TFLite Micro.

    Measured on 1.2.0; from 1.3.0 on it is the float64 product.
    """
    refuse_bias_scale(op)
    acc = op.accumulate(x, w, bias)
    if not is_wide(op):
        return narrow(op, acc)
    refuse_misread_bias(op, op.quantized_bias_type, "FULLY_CONNECTED")
    return narrow(op, acc) if op.quantized_bias_type == "i32" else wide(op, acc)


def leaky_relu(op: LeakyRelu, x: Array) -> Array:
    """LEAKY_RELU with a signed multiplier below zero: ties of a negative alpha go the other way.

    Measured on 1.2.0, 1.4.0 and 2.1.0; 2.1.6 takes the sign off.
    """
    type, result = op.x.type, op.result.type
    value = centred(x, type)
    above, below = (np.float32(step / scale(result)) for step in (scale(type), scale(type) * np.float32(op.alpha)))
    return saturated(np.where(value >= 0, scaled(value, float(above)), scaled(value, float(below))), result)


def refuse_flattened(op: BatchMatmul, x: Array, y: Array) -> None:
    """Raise UnsupportedOp for a BATCH_MATMUL of a transposed x of several matrices times one y.

    Earlier kernels take x for one matrix of all rows, of which they multiply the first; the memory of the others is
    left as it was. Source: batch_matmul.cc (Eval: "Compress BatchMatMul when third from last RHS dimension is one").
    """
    if op.adj_x and min(x.ndim, y.ndim) > 2 and y.shape[-3] == 1 != x.shape[-3]:
        raise UnsupportedOp(
            "this release multiplies the first of several transposed x with one y, and leaves the others"
        )


def batch_matmul(op: BatchMatmul, x: Array, y: Array) -> Array:
    """BATCH_MATMUL of what is not flattened wrongly."""
    refuse_flattened(op, x, y)
    return op.evaluate(x, y)


EARLIER: Mapping[str, Mapping[str, Kernel]] = {
    "1.3": {"litert.fully_connected": fully_connected},
    "2.1.6": {"litert.leaky_relu": leaky_relu, "litert.batch_matmul": batch_matmul},
}
"""release -> kernels of all releases before it."""
