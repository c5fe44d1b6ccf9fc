"""What earlier releases of TFLite Micro compute differently, as far as known; see `releases.json`.

Measured on 0.dev20250617161257; between which releases each changed, on others, or from the sources' history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.ir.op import varied
from qgraph.targets.litert.dialect import activation, reduction
from qgraph.targets.litert.dialect.activation import Abs, HardSwish, Relu
from qgraph.targets.litert.dialect.elementwise import MORE_BITS, Sum, requantized, sum_factor
from qgraph.targets.litert.dialect.layers import is_wide, narrow
from qgraph.targets.litert.dialect.linear import BatchMatmul
from qgraph.targets.litert.dialect.parameters import centred, scale, scaled
from qgraph.targets.litert.dialect.resizing import Resize
from qgraph.targets.litert.dialect.transposed import TransposeConv
from qgraph.targets.litert.earlier import leaky_relu, refuse_flattened
from qgraph.targets.target import Kernel
from qgraph.targets.tflm import layers
from qgraph.targets.tflm import reduction as of_tflm
from qgraph.targets.tflm.kernels import only


def relu(op: Relu, x: Array) -> Array:
    """RELU with the quotient of the scales in float32."""
    return activation.relu(x, op.x.type, op.result.type, 0.0, None)


def hard_swish(op: HardSwish, x: Array) -> Array:
    """HARD_SWISH with the multiplier to the result formed in float32."""
    return activation.hard_swish(x, op.x.type, op.result.type)


def absolute(op: Abs, x: Array) -> Array:
    """ABS with its multiplier formed in float32."""
    return activation.absolute(x, op.x.type, op.result.type)


def layer(op: Any, *operands: Array | None) -> Array:
    """CONV_2D and FULLY_CONNECTED: with 16-bit activations and no bias double rounding."""
    if op.bias is None and is_wide(op):
        layers.refuse_missing(op)
        return narrow(op, op.accumulate(*operands))
    return layers.layer(op, *operands)


def transposed_convolution(op: TransposeConv, *operands: Array | None) -> Array:
    """TRANSPOSE_CONV, whose activation counts for nothing."""
    return layers.layer(varied(op, activation="NONE"), *operands)


def subtract(op: Sum, a: Array, b: Array) -> Array:
    """SUB: the quotients of the scales, and what scales the difference, formed in float32. Source: sub_common.cc."""
    ta, tb, result = op.types
    bits, (first, second, made) = MORE_BITS[result.dtype], (np.float32(scale(type)) for type in op.types)
    twice = np.float32(2) * max(first, second)
    wide = (scaled(centred(x, type) << bits, float(own / twice)) for x, type, own in ((a, ta, first), (b, tb, second)))
    sum_factor(float(twice), result)  # refused where it is not below 1
    return requantized(next(wide) - next(wide), float(twice / (np.float32(2**bits) * made)), result, op.activation)


def resize_nearest_neighbor(op: Resize, x: Array) -> Array:
    """RESIZE_NEAREST_NEIGHBOR, whose `half_pixel_centers` count for nothing."""
    plain: Any = varied(op, half_pixel_centers=False)
    return plain.evaluate(x)  # type: ignore[no-any-return]  # each resize has it


def summed(op: reduction.Sum, x: Array) -> Array:
    """SUM over one or two axes, for which it has room.

    Raises UnsupportedOp for more: it writes them beside an array on the stack, and gives anything.
    """
    if len({*op.places()}) > MOST_SUMMED:
        raise UnsupportedOp(f"this release of TFLite Micro has room for {MOST_SUMMED} axes of SUM, not {len(op.axes)}")
    return of_tflm.summed(op, x)


MOST_SUMMED = 2
"""kMaxNumberOfReducedAxis of reduce_common.cc."""


def batch_matmul(op: BatchMatmul, x: Array, y: Array) -> Array:
    """BATCH_MATMUL of what is not flattened wrongly."""
    refuse_flattened(op, x, y)
    return layers.batch_matmul(op, x, y)


EARLIER: Mapping[str, Mapping[str, Kernel]] = {
    "0.dev20260125052541": {"litert.sum": summed},
    "0.dev20260811145345": {
        "litert.batch_matmul": batch_matmul,
        "litert.resize_nearest_neighbor": resize_nearest_neighbor,
    },
    "0.dev20261013214400": {
        "litert.sub": only("i8", "i16", run=subtract),
        "litert.relu": only("i8", "i16", run=relu),
        "litert.abs": only("i8", "i16", run=absolute),
        "litert.hard_swish": only("i8", run=hard_swish),
    },
    "0.dev20261002230103": {
        "litert.leaky_relu": only("i8", "i16", run=leaky_relu),
        "litert.conv_2d": layer,
        "litert.fully_connected": layer,
        "litert.transpose_conv": transposed_convolution,
    },
}
"""release -> kernels of all releases before it."""
