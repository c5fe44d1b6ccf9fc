"""What stands before and behind a graph on integers: floats, on the host."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.ops.npu.storage import INTEGERS
from qgraph.ops.quant import per_axis, quantize


@op("npu.quantize", elementwise=True)
class Quantize:
    """Floats as integers, on the host: round(x / scale) + zero_point in float32, within the storage.

    `rounding`: a word of `qgraph.quantizers.rounding`.
    """

    x: Operand = operand("f[...]")
    result: Result = result("i8q|u8q|i16q|u16q[...]", free=True)
    rounding: str = attr("half_even")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        made = self.result.type
        codes = quantize(x, made.q.scales, made.q.zero_points, integer_range(made.dtype), made.q.axis, self.rounding)
        return codes.astype(made.numpy)


@op("npu.dequantize", elementwise=True)
class Dequantize:
    """Integers as floats, on the host: (x - zero_point) * scale in float32."""

    x: Operand = operand("|".join(f"{dtype}q" for dtype in INTEGERS.split("|")) + "[...]")
    result: Result = result("f32[...]")

    def infer(self) -> TensorType:
        return TensorType(self.x.type.shape)

    def evaluate(self, x: Array) -> Array:
        q = self.x.type.q
        steps = x.astype(np.int64) - per_axis(q.zero_points, x.ndim, q.axis)
        return np.asarray(steps.astype(np.float32) * per_axis(q.scales, x.ndim, q.axis))
