"""Layers on 64-bit ARM: the matrix products of the optimized kernels and XNNPACK's uint8 kernels round once.

The optimized DEPTHWISE_CONV_2D and TRANSPOSE_CONV round as on x86, and XNNPACK's int8 kernels in float32 as there.
"""

from __future__ import annotations

from typing import Any

from qgraph.arith.exactness import Accumulator, as_int32
from qgraph.arith.fixed_point import (
    multiply_half_up,
    multiply_rndnu,
    multiply_shifted_single_rounding,
    multiply_single_rounding,
)
from qgraph.ir import Array
from qgraph.targets.litert.dialect.parameters import saturated
from qgraph.targets.litert_xnnpack.layers import Roundings, bounds, factor, fp32, layer_kernels
from qgraph.targets.target import Kernel


def delegated(op: Any, acc: Accumulator) -> Array:
    """uint8: `rndnu` of (x_scale * w_scale) / result_scale in float32; int8: float32, as on x86.

    Source: src/qs8-requantization/rndnu-neon-mull.c.
    """
    if op.x.type.dtype != "u8":
        return fp32(op, acc)
    return saturated(multiply_rndnu(as_int32(acc), factor(op)), op.result.type, *bounds(op))


NARROW = layer_kernels(Roundings(delegated, multiply_shifted_single_rounding, multiply_half_up))
WIDE = layer_kernels(Roundings(delegated, multiply_single_rounding, multiply_half_up))
"""Of 16-bit activations, whose matrix products run in plain C++ there."""


def _by_width(name: str) -> Kernel:
    def kernel(op: Any, *operands: Array | None) -> Array:
        made: Array = (WIDE if op.x.type.dtype == "i16" else NARROW)[name](op, *operands)
        return made

    return kernel


KERNELS: dict[str, Kernel] = {name: _by_width(name) for name in NARROW}
