"""What earlier releases of TFLite Micro compute differently, as far as known; see `releases.json`.

Measured on 0.dev20250617161257; between which releases each changed, on six others.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from qgraph.ir import Array
from qgraph.targets.litert.dialect import activation
from qgraph.targets.litert.dialect.activation import Abs, HardSwish, Relu
from qgraph.targets.litert.dialect.layers import is_wide, narrow
from qgraph.targets.litert.dialect.transposed import TransposeConv
from qgraph.targets.litert.earlier import leaky_relu
from qgraph.targets.target import Kernel
from qgraph.targets.tflm import layers
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
    plain = copy(op)
    plain.activation = "NONE"
    return layers.layer(plain, *operands)


EARLIER: Mapping[str, Mapping[str, Kernel]] = {
    "0.dev20261016174617": {
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
