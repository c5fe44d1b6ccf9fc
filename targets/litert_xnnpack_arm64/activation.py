"""HARD_SWISH and SOFTMAX of LiteRT's optimized kernels as NEON computes them."""

from __future__ import annotations

import numpy as np

from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.arith.gemmlowp import saturate
from qgraph.ir import Array, TensorType
from qgraph.ir.types import integer_range
from qgraph.targets.litert.dialect.activation import HardSwish, hard_swish, hard_swish_factors
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale
from qgraph.targets.litert.dialect.softmax import Softmax
from qgraph.targets.litert.dialect.tables import tabulated
from qgraph.targets.litert_xnnpack.activation import softmax_exponentials
from qgraph.targets.target import Kernel

BLOCK = 8
"""Elements that the loop of HARD_SWISH handles at once."""


def hard_swishes(op: HardSwish, x: Array) -> Array:
    """HARD_SWISH: `hard_swish_neon` on whole blocks of 8 elements, the reference formula on the rest."""
    made, blocks = hard_swish(x, op.x.type, op.result.type), x.size // BLOCK * BLOCK
    made.reshape(-1)[:blocks] = hard_swish_neon(x.reshape(-1)[:blocks], op.x.type, op.result.type)
    return made


@tabulated
def hard_swish_neon(x: Array, type: TensorType, result: TensorType) -> Array:
    """HARD_SWISH in 16 bits, where NEON's shifts round half up and its doubling product truncates to the floor.

    Source: optimized/optimized_ops.h (HardSwish), vqrdmulh, vqdmulh, vrshl.
    """
    (result_multiplier, result_shift), (gate_multiplier, gate_shift) = hard_swish_factors(type, result)
    x16 = centred(x, type).astype(np.int64) << 7
    at_result = _rounded_high_mul(x16, result_multiplier)
    gate = _rounded_high_mul(saturate(x16 << max(gate_shift - 1, 0), 16), gate_multiplier)
    gate = saturate(gate << 1, 16) if gate_shift > 0 else _shifted_half_up(gate, -gate_shift)
    gate = (gate + 2**15) >> 1
    product = saturate((2 * gate * at_result) >> 16, 16)
    return saturated(_shifted_half_up(product, -result_shift), result)


def _rounded_high_mul(a: Array, b: int) -> Array:
    return saturate((2 * a * b + 2**15) >> 16, 16)


def _shifted_half_up(x: Array, right: int) -> Array:
    return np.asarray((x + ((1 << right) >> 1)) >> right)


def softmax(op: Softmax, x: Array) -> Array:
    """SOFTMAX by a table of exponentials in 16 bits, an integer sum, and double rounding; of int16 as the reference.

    Source: optimized/optimized_ops.h (SoftmaxInt8LUT of NEON).
    """
    if op.x.type.dtype == "i16":
        return op.evaluate(x)
    exponentials = softmax_exponentials(scale(op.x.type), op.beta) * np.float32(65535) + np.float32(0.5)
    table = np.minimum(np.trunc(exponentials).astype(np.int64), 65535)
    terms = table[x.max(axis=-1, keepdims=True).astype(np.int64) - x]
    total = terms.sum(axis=-1, keepdims=True).astype(np.float32)
    factor = quantize_multiplier(np.float32(1) / (total * np.float32(1 / 256)))
    low, high = integer_range(op.result.type.dtype)
    return np.asarray(np.clip(multiply_double_rounding(terms, *factor) + low, low, high), x.dtype)


KERNELS: dict[str, Kernel] = {
    "litert.hard_swish": hard_swishes,
    "litert.softmax": softmax,
}
