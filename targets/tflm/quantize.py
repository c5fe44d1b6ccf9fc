"""QUANTIZE and DEQUANTIZE of TFLite Micro."""

from __future__ import annotations

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.targets.litert.dialect.quantize import Dequantize, Quantize
from qgraph.targets.target import Kernel

OFFERED = {
    "f32": ("i8", "i16"),
    "i8": ("i8", "u8", "i16", "i32"),
    "u8": ("i8",),
    "i16": ("i8", "i16", "i32"),
    "i32": ("i8", "i16"),
}
"""From what storage to what it quantizes."""


def quantized(op: Quantize, x: Array) -> Array:
    """QUANTIZE as the reference kernels, between other types."""
    op.require_pair("TFLite Micro", OFFERED)
    if op.result.type.q.axis is not None:
        raise UnsupportedOp(f"TFLite Micro does not quantize to {op.result.type}: only to integers with one scale")
    return op.quantized(x)


def dequantized(op: Dequantize, x: Array) -> Array:
    """DEQUANTIZE, per tensor only."""
    if op.x.type.quant is None or op.x.type.quant.axis is not None:
        raise UnsupportedOp(f"TFLite Micro does not dequantize {op.x.type}: only integers with one scale")
    return op.dequantized(x)


KERNELS: dict[str, Kernel] = {"litert.quantize": quantized, "litert.dequantize": dequantized}
