"""QUANTIZE and DEQUANTIZE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array, Operand, Result, TensorType, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.ops.quant import per_axis, quantize
from qgraph.targets.litert.dialect.elements import one_scale
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale, scaled
from qgraph.targets.litert.dialect.tables import tabulated
from qgraph.targets.litert.rows import row


@tabulated
def requantize(x: Array, type: TensorType, result: TensorType) -> Array:
    """QUANTIZE integers to integers: double rounding with the float64 quotient of the scales.

    Source: reference/requantize.h.
    """
    return saturated(scaled(centred(x, type), float(scale(type)) / float(scale(result))), result)


OFFERED = {
    "f32": ("i8", "u8", "i16"),
    "i8": ("i8", "u8", "i16"),
    "u8": ("i8", "u8", "i16"),
    "i16": ("i8", "i16", "i32"),
    "i32": ("i8", "i16"),
}
"""From what storage to what LiteRT quantizes."""


@op("litert.quantize")
class Quantize:
    """QUANTIZE: float32 to integers (half away from zero), or integers to integers with other parameters."""

    x: Operand = operand("f32|i8q|u8q|i16q|i32q[...]")
    result: Result = result("i8q|u8q|i16q|i32q[...]", free=True)

    def infer(self) -> TensorType:
        return self.x.type

    def check(self) -> None:
        if self.x.type.quant is not None:
            wide = self.x.type.dtype == "i16"  # of which the kernels subtract any zero point
            one_scale("Quantize", *([replace(self.x.type, dtype="i32")] if wide else [self.x.type]), self.result.type)

    def evaluate(self, x: Array) -> Array:
        self.require_pair("LiteRT", OFFERED)
        self.require_symmetric()
        return self.quantized(x)

    def quantized(self, x: Array, rounding: str = "half_away") -> Array:
        """The result, from whatever storage to whatever; `rounding` of floats."""
        type, result = self.x.type, self.result.type
        if type.quant is not None:
            return requantize(x, type, result)
        q = quantize(x, result.q.scales, result.q.zero_points, integer_range(result.dtype), result.q.axis, rounding)
        return q.astype(result.numpy)

    def require_symmetric(self) -> None:
        """Raise UnsupportedOp where LiteRT refuses 16 bits for their zero point."""
        if self.x.type.dtype == self.result.type.dtype == "i16" and self.x.type.q.zero_point[0]:
            raise UnsupportedOp(f"LiteRT does not quantize {self.x.type} to 16 bits: it wants the zero point 0")

    def require_pair(self, runtime: str, offered: Mapping[str, tuple[str, ...]]) -> None:
        """Raise UnsupportedOp where the runtime does not quantize from and to these types."""
        source, made = self.x.type.dtype, self.result.type.dtype
        if made not in offered.get(source, ()):
            known = ", ".join(offered.get(source, ())) or "nothing"
            raise UnsupportedOp(f"{runtime} quantizes {source} to {known}, not to {made}")


row("litert.quantize", "QUANTIZE", per_axis=("result",))


@op("litert.dequantize")
class Dequantize:
    """DEQUANTIZE: (x - zero_point) * scale in float32; float16 becomes float32."""

    x: Operand = operand("i8q|u8q|i16q|f16[...]")
    result: Result = result("f32[...]")

    def infer(self) -> TensorType:
        return TensorType(self.x.type.shape)

    def evaluate(self, x: Array) -> Array:
        if self.x.type.dtype == "i16" and (self.x.type.q.axis is not None or self.x.type.q.zero_point[0]):
            raise UnsupportedOp(
                f"LiteRT does not dequantize {self.x.type}: 16 bits with one scale and a zero point of 0"
            )
        return self.dequantized(x)

    def dequantized(self, x: Array) -> Array:
        """The floats, of whatever integers."""
        if self.x.type.quant is None:
            return x.astype(np.float32)
        q = self.x.type.q
        centred = x.astype(np.int32) - per_axis(q.zero_points, x.ndim, q.axis).astype(np.int32)
        return np.asarray(centred.astype(np.float32) * per_axis(q.scales, x.ndim, q.axis))


row("litert.dequantize", "DEQUANTIZE", per_axis=("x",))
