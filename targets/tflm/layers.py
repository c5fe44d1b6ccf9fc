"""Layers: TFLite Micro multiplies FULLY_CONNECTED and BATCH_MATMUL as convolutions, and goes by the bias's type."""

from __future__ import annotations

from typing import Any

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.targets.litert.dialect.convolution import Conv2d
from qgraph.targets.litert.dialect.layers import Layer, is_wide, narrow, product_scaled, refuse_bias_scale, wide
from qgraph.targets.litert.dialect.linear import BatchMatmul, FullyConnected
from qgraph.targets.litert.dialect.parameters import scale
from qgraph.targets.target import Kernel
from qgraph.targets.tflm.kernels import only


def layer(op: Any, *operands: Array | None) -> Array:
    """A convolution or FULLY_CONNECTED: double rounding; with 16-bit activations the wide product, by the bias."""
    refuse_missing(op)
    if isinstance(op, FullyConnected):
        refuse_bias_scale(op)
    acc = op.accumulate(*operands)
    return wide(op, acc) if adds_wide(op) else narrow(op, acc)


def adds_wide(op: Layer) -> bool:
    """Whether the kernel adds up in int64: 16-bit activations, but for an int32 bias.

    Without a bias CONV_2D and FULLY_CONNECTED go by `quantized_bias_type`. Raises UnsupportedOp for an int32 bias of
    DEPTHWISE_CONV_2D and TRANSPOSE_CONV, which they read as int64, past its end.
    """
    if not is_wide(op):
        return False
    if not isinstance(op, (Conv2d, FullyConnected)):
        if op.bias is not None and op.bias.type.dtype == "i32":
            raise UnsupportedOp(f"TFLite Micro reads the bias of this {type(op).__name__} as int64")
        return True
    return op.bias.type.dtype == "i64" if op.bias is not None else op.quantized_bias_type != "i32"


def batch_matmul(op: BatchMatmul, x: Array, y: Array) -> Array:
    """BATCH_MATMUL: as the reference kernel, with the product of the scales in float64, of y the first one."""
    if op.x.type.dtype != op.y.type.dtype:
        raise UnsupportedOp(f"TFLite Micro has no BATCH_MATMUL of {op.x.type} by {op.y.type}")
    real = float(scale(op.x.type)) * float(scale(op.y.type)) / float(scale(op.result.type))
    return product_scaled(op, op.accumulate(x, y), real)


def refuse_missing(op: Layer) -> None:
    """Raise UnsupportedOp for storage types that the kernels do not have."""
    x, w = op.x.type, op.w.type
    if x.dtype == "u8" or (x.dtype, w.dtype) == ("i16", "i4"):
        raise UnsupportedOp(f"TFLite Micro has no {type(op).__name__} of {x.dtype} by {w.dtype}")
    if isinstance(op, FullyConnected) and w.dtype == "i4" and w.q.scales.size > 1:
        raise UnsupportedOp("TFLite Micro has no FULLY_CONNECTED with int4 weights per channel")


KERNELS: dict[str, Kernel] = {
    "litert.conv_2d": layer,
    "litert.depthwise_conv_2d": layer,
    "litert.transpose_conv": layer,
    "litert.fully_connected": layer,
    "litert.batch_matmul": batch_matmul,
    "litert.max_pool_2d": only("i8", "i16"),
    "litert.average_pool_2d": only("i8", "i16"),
}
