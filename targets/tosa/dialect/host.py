"""What stands before and behind a graph on integers: floats, which TOSA's integer profile does not have.

A file cannot hold these ops. Rounded half to even, as TOSA's CAST rounds floats.
"""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, Operand, Result, TensorType, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.ops.quant import quantize


@op("tosa.quantize", elementwise=True)
class Quantize:
    """Floats as integers, on the host: round_half_even(x / scale) + zero_point, within the storage."""

    x: Operand = operand("f[...]")
    result: Result = result("i8q|i16q|i32q[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        made = self.result.type
        codes = quantize(x, made.q.scales, made.q.zero_points, integer_range(made.dtype), made.q.axis)
        return codes.astype(made.numpy)


@op("tosa.dequantize", elementwise=True)
class Dequantize:
    """Integers as floats, on the host: (x - zero_point) * scale in float32."""

    x: Operand = operand("i8q|i16q|i32q[...]")
    result: Result = result("f32[...]")

    def infer(self) -> TensorType:
        return TensorType(self.x.type.shape)

    def evaluate(self, x: Array) -> Array:
        q = self.x.type.q
        shape = [1] * x.ndim
        if q.axis is not None:
            shape[q.axis] = -1
        steps = x.astype(np.int64) - q.zero_points.reshape(shape)
        return steps.astype(np.float32) * q.scales.reshape(shape)
