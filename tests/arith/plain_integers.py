"""The arithmetic once more in Python integers, line for line from its sources: what the fast forms are held against."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def wrap(value: int, bits: int = 32) -> int:
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def truncate(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def half_away(a: int, b: int) -> int:
    """a / b for b > 0, ties away from zero."""
    return truncate(2 * a + (b if a >= 0 else -b), 2 * b)


def quantize_multiplier(real: float) -> tuple[int, int]:
    fraction, exponent = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, exponent = multiplier // 2, exponent + 1
    return (0, 0) if exponent < -31 or real == 0 else (multiplier, exponent)


def high_mul(a: int, b: int) -> int:
    if a == b == -(2**31):
        return 2**31 - 1
    product = a * b
    return truncate(product + (2**30 if product >= 0 else 1 - 2**30), 2**31)


def divide_by_pot(x: int, exponent: int) -> int:
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


def double_rounding(value: int, multiplier: int, shift: int) -> int:
    return divide_by_pot(high_mul(wrap(wrap(value) << max(shift, 0)), multiplier), max(-shift, 0))


def single_rounding(value: int, multiplier: int, shift: int) -> int:
    return wrap((value * multiplier + (1 << (30 - shift))) >> (31 - shift))


def half_up_rounding(value: int, multiplier: int, shift: int) -> int:
    right = max(-shift, 0)
    return (high_mul(wrap(wrap(value) << max(shift, 0)), multiplier) + ((1 << right) >> 1)) >> right


def shifted_single_rounding(value: int, multiplier: int, shift: int) -> int:
    left, right = (shift + 1, 1) if shift >= 0 else (0, -shift)
    return wrap((((wrap(value << left) * multiplier) >> 31) + (1 << (right - 1))) >> right)


def wide_product(value: int, multiplier: int, shift: int) -> int:
    reduced = (multiplier + (1 << 15)) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF
    return wrap((value * reduced + (1 << (14 - shift))) >> (15 - shift))


def rndnu(value: int, scale: np.float32) -> int:
    """Without the saturation of the left shift."""
    bits = int(scale.view(np.uint32))
    multiplier, shift = (bits << 7) & 0x3FFFFF80 | 0x40000000, 126 - (bits >> 23)
    after = max(shift, 1)
    product = ((value << (after - shift)) * multiplier) >> 31
    return (product + (1 << (after - 1))) >> after


def transpose_convolve(
    x: NDArray[np.integer],
    weight: NDArray[np.integer],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    sizes: tuple[int, ...],
    x_zero_point: int,
    weight_zero_point: int,
    bias: NDArray[np.integer],
) -> NDArray[np.int64]:
    """int64 [N, *sizes, O] of x [N, *S, C], weight [O, *kernel, C], one element of x at a time."""
    acc = np.zeros((x.shape[0], *sizes, weight.shape[0]), np.int64) + bias
    kernel = weight.astype(np.int64) - weight_zero_point
    for place in np.ndindex(*x.shape[1:-1]):
        for tap in np.ndindex(*weight.shape[1:-1]):
            target = tuple(p * s - pad + t for p, s, pad, t in zip(place, stride, pads, tap, strict=True))
            if all(0 <= t < size for t, size in zip(target, sizes, strict=True)):
                centred = x[(slice(None), *place)].astype(np.int64) - x_zero_point
                acc[(slice(None), *target)] += centred @ kernel[(slice(None), *tap)].T
    return acc


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def convolve(
    x: NDArray[np.integer],
    weight: NDArray[np.integer],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    x_zero_point: int,
    weight_zero_point: NDArray[np.int64],
    bias: NDArray[np.integer],
) -> NDArray[np.int64]:
    """int64 [N, *S', O] of x [N, *S, C], weight [O, *kernel, C / groups], one kernel position at a time."""
    rank = weight.ndim - 2
    pairs = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    centred = np.pad(x.astype(np.int64) - x_zero_point, [(0, 0), *pairs, (0, 0)])
    kernel = weight.astype(np.int64) - weight_zero_point.reshape(-1, *(1,) * (weight.ndim - 1))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[1:-1], strict=True)]
    out = [(s - r) // step + 1 for s, r, step in zip(centred.shape[1:-1], reach, stride, strict=True)]
    acc = np.zeros((x.shape[0], *out, weight.shape[0]), np.int64) + bias
    outputs, inputs = weight.shape[0] // groups, weight.shape[-1]
    for position in np.ndindex(*weight.shape[1:-1]):
        starts = [p * d for p, d in zip(position, dilation, strict=True)]
        region = tuple(
            slice(start, start + (n - 1) * step + 1, step) for start, n, step in zip(starts, out, stride, strict=True)
        )
        taken = centred[(slice(None), *region)]
        for group in range(groups):
            rows = slice(group * outputs, (group + 1) * outputs)
            acc[..., rows] += taken[..., group * inputs : (group + 1) * inputs] @ kernel[(rows, *position)].T
    return acc
