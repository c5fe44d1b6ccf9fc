"""Quantizing and dequantizing by scales that are operands: of blocks, or computed while the model runs."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.exporters.onnx_forms import ALONE, NodeForm, Slot
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.ops.quant import per_axis
from qgraph.targets.onnxruntime import read_nodes

SLOTS = (ALONE, Slot("plain", 1), Slot("plain", 2))
CODES = "u8|i8|u16|i16"


def spread(values: Array, x: Array, axis: int, block_size: int | None) -> Array:
    """Numbers as wide as x: one, one for each index of `axis`, or one for each block of `block_size` along it."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1:
        return per_axis(values, x.ndim, axis % x.ndim)
    wide = np.repeat(values, block_size or 1, axis=axis)
    return np.take(wide, np.arange(x.shape[axis]), axis=axis)


def check_scale(x: TensorType, scale: TensorType, axis: int, block_size: int | None, what: str) -> None:
    """Raise TypeMismatch for scales that do not belong to x."""
    if all(size == 1 for size in scale.shape):
        return
    if not -x.rank <= axis < x.rank:
        raise TypeMismatch(f"{what}: axis {axis} is not a dimension of {x}")
    if scale.rank == 1 and not block_size and scale.shape[0] == x.shape[axis]:
        return
    if not block_size or scale.rank != x.rank:
        raise TypeMismatch(f"{what}: the scales {scale} are neither one, nor one for each index of axis {axis} of {x}")
    for place, (size, count) in enumerate(zip(x.shape, scale.shape, strict=True)):
        whole = place != axis % x.rank or isinstance(size, str) or isinstance(count, str)
        fits = size == count if whole else -(-int(size) // block_size) == count
        if not fits:
            raise TypeMismatch(f"{what}: {scale} are no scales of blocks of {block_size} along axis {axis} of {x}")


@op("ort.QuantizeWith", kind="quantize")
class QuantizeWith:
    """QuantizeLinear by scales that are operands: clamp(rint(x / scale) + zero_point), ties to even."""

    onnx = NodeForm(SLOTS, name="QuantizeLinear", read=read_nodes.quantize)
    x: Operand = operand("f32[...]")
    scale: Operand = operand("f32[...]", role="parameter")
    zero_point: Operand = operand(f"{CODES}[...]", role="parameter")
    result: Result = result(f"{CODES}[...]")
    axis: int = attr(1)
    block_size: int | None = attr(None)

    def infer(self) -> TensorType:
        check_scale(self.x.type, self.scale.type, self.axis, self.block_size, "ort.QuantizeWith")
        return TensorType(self.x.type.shape, self.zero_point.type.dtype)

    def evaluate(self, x: Array, scale: Array, zero_point: Array) -> Array:
        steps, zero = (spread(each, x, self.axis, self.block_size) for each in (scale, zero_point.astype(np.float32)))
        low, high = integer_range(self.result.type.dtype)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            value = np.rint(x / steps) + zero
        return np.where(np.isnan(value), low, np.clip(value, low, high)).astype(self.result.type.numpy)


@op("ort.DequantizeWith", kind="dequantize")
class DequantizeWith:
    """DequantizeLinear by scales that are operands: (x - zero_point) * scale."""

    onnx = NodeForm(SLOTS, name="DequantizeLinear")
    x: Operand = operand(f"{CODES}|i32[...]")
    scale: Operand = operand("f32[...]", role="parameter")
    zero_point: Operand | None = operand(f"{CODES}|i32[...]", optional=True, role="parameter")
    result: Result = result("f32[...]")
    axis: int = attr(1)
    block_size: int | None = attr(None)

    def infer(self) -> TensorType:
        check_scale(self.x.type, self.scale.type, self.axis, self.block_size, "ort.DequantizeWith")
        return TensorType(self.x.type.shape)

    def evaluate(self, x: Array, scale: Array, zero_point: Array | None) -> Array:
        value = x.astype(np.float32)
        if zero_point is not None:
            value = value - spread(zero_point.astype(np.float32), x, self.axis, self.block_size)
        return np.asarray(value * spread(scale, x, self.axis, self.block_size))
