"""QUANTIZE by XNNPACK, or by LiteRT's optimized kernel where the delegate refuses."""

from __future__ import annotations

import numpy as np

from qgraph.arith.fixed_point import multiply_half_up, quantize_multiplier
from qgraph.arith.rounding import round_half_away
from qgraph.errors import UnsupportedOp
from qgraph.ir import Array, TensorType
from qgraph.ir.types import integer_range
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale
from qgraph.targets.litert.dialect.quantize import OFFERED, Quantize
from qgraph.targets.litert.dialect.quantize import requantize as half_away
from qgraph.targets.litert.dialect.tables import tabulated
from qgraph.targets.litert_xnnpack.delegation import refusal
from qgraph.targets.target import Kernel

BYTES = ("i8", "u8")
BLOCK, FLOAT_BLOCK = 16, 8
"""Elements that the optimized kernels handle at once (NEON, emulated by SSE on x86): of integers, of floats."""


def quantized(op: Quantize, x: Array) -> Array:
    """QUANTIZE by the delegate: floats half to even, times the reciprocal of the scale; 8 bits in steps of 1/256."""
    op.require_pair("LiteRT", OFFERED)
    op.require_symmetric()
    type, result = op.x.type, op.result.type
    if refusal(op):
        return optimized(op, x)
    return op.quantized(x, "half_even_reciprocal") if type.quant is None else in_steps_of_256(x, type, result)


def optimized(op: Quantize, x: Array) -> Array:
    """QUANTIZE by the optimized kernels, which handle floats to int16, and 8 bits to 8 bits, in blocks."""
    type, result = op.x.type, op.result.type
    if type.quant is None and result.dtype == "i16" and any(result.q.zero_point):
        raise UnsupportedOp(f"how LiteRT's optimized kernel quantizes to {result} is not known")
    if type.quant is None and result.q.axis is None:
        return with_tail(op.quantized(np.ascontiguousarray(x), "half_even_reciprocal"), x, result)
    if type.dtype in BYTES and result.dtype in BYTES:
        return in_blocks(x, type, result)
    return op.quantized(x)


def with_tail(made: Array, x: Array, result: TensorType) -> Array:
    """int16 of floats by the optimized kernel: as the delegate on blocks of 8 elements, in **float64** on the rest.

    The rest is x / scale in float64, half away. Source: optimized/optimized_ops.h (AffineQuantize for int16).
    """
    blocks = x.size // FLOAT_BLOCK * FLOAT_BLOCK
    rest = round_half_away(x.reshape(-1)[blocks:].astype(np.float64) / np.float64(scale(result)))
    made.reshape(-1)[blocks:] = np.clip(rest, *integer_range(result.dtype))
    return made


def in_blocks(x: Array, type: TensorType, result: TensorType) -> Array:
    """8 bits to 8 bits: half up on whole blocks of 16 elements, half away on the rest.

    Source: optimized/optimized_ops.h (Requantize).
    """
    made = half_away(x, type, result)
    blocks = x.size // BLOCK * BLOCK
    made.reshape(-1)[:blocks] = half_up(x.reshape(-1)[:blocks], type, result)
    return made


@tabulated
def in_steps_of_256(x: Array, type: TensorType, result: TensorType) -> Array:
    """(x - zero_point) * rint(256 * scale / result_scale) / 256, half up. Source: qs8-vcvt."""
    multiplier = int(np.rint(np.float32(256) * (scale(type) / scale(result))))
    return saturated((centred(x, type).astype(np.int64) * multiplier + 128) >> 8, result)


@tabulated
def half_up(x: Array, type: TensorType, result: TensorType) -> Array:
    """Double rounding whose second step rounds half up: the NEON loops of the optimized kernels, emulated on x86."""
    factor = float(scale(type)) / float(scale(result))
    return saturated(multiply_half_up(centred(x, type), *quantize_multiplier(factor)), result)


KERNELS: dict[str, Kernel] = {"litert.quantize": quantized}
