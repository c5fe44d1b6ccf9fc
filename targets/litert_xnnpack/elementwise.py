"""ADD, SUB, MUL by XNNPACK, or by LiteRT's optimized kernels where the delegate refuses."""

from __future__ import annotations

import numpy as np

from qgraph.arith.fixed_point import quantize_multiplier, saturating_rounding_doubling_high_mul
from qgraph.errors import UnsupportedOp
from qgraph.ir import Array, TensorType
from qgraph.targets.litert.dialect.elementwise import Mul, Sum, requantized, sum_factor
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale, zero_point
from qgraph.targets.litert.dialect.tables import tabulated, tabulated_pairs
from qgraph.targets.litert_xnnpack.delegation import refusal
from qgraph.targets.litert_xnnpack.parameters import activation_range
from qgraph.targets.target import Kernel

BLOCK = 16
"""Elements that the optimized kernel handles at once (NEON, emulated by SSE on x86)."""


def add(op: Sum, a: Array, b: Array) -> Array:
    """ADD, SUB: by one rounding, or as the reference where the delegate refuses ratios outside [2^-10, 2^8).

    The optimized kernel of ADD wraps at 16 bits then; raises UnsupportedOp where it may.
    """
    ta, tb, result = op.types
    if result.dtype == "i16":
        return add_16(op, a, b)
    if refusal(op) is None:
        return rounded_once(a, b, ta, tb, result, op.activation, op.sign)
    if op.sign > 0 and max(scale(ta), scale(tb)) / scale(result) >= 2.0**7:
        raise UnsupportedOp(
            f"XNNPACK refuses the ADD of scales {scale(ta):.3g} and {scale(tb):.3g} with a result of scale "
            f"{scale(result):.3g}, and LiteRT's optimized kernel wraps at 16 bits",
            help="give the result a larger scale",
        )
    return op.evaluate(a, b)


@tabulated_pairs
def rounded_once(
    a: Array, b: Array, ta: TensorType, tb: TensorType, result: TensorType, activation: str, sign: int
) -> Array:
    """One multiply-add in int32 with a common shift, rounded half up once.

    shift = 20 - floor(log2(max(scales) / result_scale)); multipliers rint(scale / result_scale * 2**shift).
    Exact in int32: each term is at most 255 * 2**21 and 13 <= shift <= 30, so the sum stays below 2**30 + 2**29.
    Source: qs8-vadd (xnn_init_qs8_add).
    """
    ratios = [scale(type) / scale(result) for type in (ta, tb)]
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    first, second = (
        centred(x, type) * np.int32(np.rint(np.ldexp(np.float64(ratio), shift)))
        for x, type, ratio in ((a, ta, ratios[0]), (b, tb, ratios[1]))
    )
    total = (first + sign * second + np.int32(1 << (shift - 1))) >> np.int32(shift)
    return saturated(total, result, *activation_range(activation, result))


def add_16(op: Sum, a: Array, b: Array) -> Array:
    """ADD, SUB of int16: as the reference, but for ADD of equal shapes on whole blocks of 16 elements.

    There each operand is scaled by one rounding (`scaled_once`). Source: optimized/integer_ops/add.h
    (AddElementwiseInt16).
    """
    if op.sign < 0 or a.shape != b.shape or op.is_by_shifts:
        return op.evaluate(a, b)
    ta, tb, result = op.types
    twice = 2.0 * max(float(scale(ta)), float(scale(tb)))
    total = scaled_once(a, ta, result, twice) + scaled_once(b, tb, result, twice)
    made = requantized(total, sum_factor(twice, result), result, op.activation)
    blocks = a.size // BLOCK * BLOCK
    made.reshape(-1)[blocks:] = op.evaluate(a.reshape(-1)[blocks:], b.reshape(-1)[blocks:])
    return made


@tabulated
def scaled_once(x: Array, type: TensorType, result: TensorType, twice: float) -> Array:
    """x * 2**15 * scale / twice, at most x * 2**14, half up: x is shifted left by 15 less the right shift."""
    multiplier, shift = (int(part) for part in quantize_multiplier(float(scale(type)) / twice))
    left = 15 + shift
    shifted = x.astype(np.int32) << left if left >= 0 else x.astype(np.int32) >> -left
    return saturating_rounding_doubling_high_mul(shifted, multiplier)


def multiply(op: Mul, a: Array, b: Array) -> Array:
    """MUL; of int16 as the reference."""
    return op.evaluate(a, b) if op.result.type.dtype == "i16" else product_fp32(a, b, *op.types, op.activation)


def product_factor(ta: TensorType, tb: TensorType, result: TensorType) -> np.float32:
    """(a_scale * b_scale) / result_scale; raises UnsupportedOp from 2**8 on, where XNNPACK refuses."""
    factor = np.float32((scale(ta) * scale(tb)) / scale(result))
    if factor >= 2.0**8:
        raise UnsupportedOp(
            f"XNNPACK refuses the MUL of scales {scale(ta):.3g} and {scale(tb):.3g} with a result of scale "
            f"{scale(result):.3g}, and LiteRT's optimized kernel wraps at 16 bits",
            help="give the result a larger scale",
        )
    return factor


@tabulated_pairs
def product_fp32(a: Array, b: Array, ta: TensorType, tb: TensorType, result: TensorType, activation: str) -> Array:
    """`rint(float32(product) * ((a_scale * b_scale) / result_scale))`, all in float32.

    |product| <= 255**2 is exact in float32. Source: qs8-vmul (fp32).
    """
    product = (centred(a, ta) * centred(b, tb)).astype(np.float32)
    value = np.rint(product * product_factor(ta, tb, result))
    low, high = activation_range(activation, result)
    return np.asarray(np.clip(value.astype(np.float64) + zero_point(result), low, high), result.numpy)


KERNELS: dict[str, Kernel] = {"litert.add": add, "litert.sub": add, "litert.mul": multiply}
