"""The kernels, in Triton: formulas and their order are those of the plain path, line by line.

Every quotient and root is rounded as IEEE 754 says (`div_rn`, `sqrt_rn`), and products are not joined with sums (the
launches say `enable_fp_fusion=False`), so that the bits are torch's. Whatever is NaN stays NaN. Tensors are seen as
they lie in memory; offsets are 64 bits wide.
"""

from __future__ import annotations

import triton
import triton.language as tl

from qgraph.quantizers import rounding, weight_scale

BELOW_HALF = tl.constexpr(rounding.BELOW_HALF)
SMALLEST = tl.constexpr(weight_scale.SMALLEST)
BIAS_STEP = tl.constexpr(1 / weight_scale.BIAS_LIMIT)
BIAS_FINE = tl.constexpr(1 / weight_scale.BIAS_GOAL)
TINY = tl.constexpr(2.0**-126)
LARGEST = tl.constexpr(3.4028234663852886e38)
NO_FRACTION = tl.constexpr(2.0**23)
CLIPPED = tl.constexpr(2.0**22)
"""Quotients from here on are clipped by every range that a kernel is used for, rounded or not."""


@triton.jit
def _nearest(q, AWAY: tl.constexpr):
    """q rounded, ties away from 0 or to even: the sum with 2**23 has no room for a fraction."""
    size = tl.abs(q)
    small = size < CLIPPED
    size = tl.where(small, size, 0.0)
    if AWAY:  # noqa: SIM108  # a branch that is compiled
        whole = (size + BELOW_HALF).to(tl.int32).to(tl.float32)
    else:
        whole = (size + NO_FRACTION) - NO_FRACTION
    return tl.where(small, tl.where(q < 0, -whole, whole), q)


@triton.jit
def _clamp(x, low, high):
    """x within [low, high]; NaN stays."""
    return tl.where(x < low, low, tl.where(x > high, high, x))


@triton.jit
def _lesser(a, b):
    """torch.minimum: NaN where either is."""
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def _least(x):
    """The least of a block, NaN where one is."""
    broken = tl.max((x != x).to(tl.int32), 0) > 0
    least = tl.min(tl.where(x != x, float("inf"), x), 0)
    return tl.where(broken, float("nan"), least)


@triton.jit
def _finite(x, nan):
    """torch.nan_to_num of what is not negative."""
    return tl.where(x != x, nan, tl.where(x > LARGEST, LARGEST, x))


@triton.jit
def extremes(x, partial, count, BLOCK: tl.constexpr):
    """partial [2, programs]: the least of x, and of -x, in the blocks of each program."""
    place = tl.program_id(0)
    programs = tl.num_programs(0)
    low = tl.full([BLOCK], float("inf"), tl.float32)
    negative_high = tl.full([BLOCK], float("inf"), tl.float32)
    for block in range(place, tl.cdiv(count, BLOCK), programs):
        at = (tl.zeros([BLOCK], tl.int64) + block) * BLOCK + tl.arange(0, BLOCK)
        inside = at < count
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        low = tl.where(inside, _lesser(low, value), low)
        negative_high = tl.where(inside, _lesser(negative_high, -value), negative_high)
    tl.store(partial + place, _least(low))
    tl.store(partial + programs + place, _least(negative_high))


@triton.jit
def settle(
    partial,
    programs,
    seen,
    before,
    range_,
    scale,
    zero_point,
    quant_min,
    quant_max,
    momentum,
    FIRST: tl.constexpr,
    MOVING: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """`ActivationQuantizer.observe` from the extremes on; one program."""
    at = tl.arange(0, BLOCK)
    inside = at < programs
    seen_low = _least(tl.load(partial + at, mask=inside, other=float("inf")))
    seen_high = _least(tl.load(partial + programs + at, mask=inside, other=float("inf")))
    seen_low, seen_high = tl.where(seen_low > 0, 0.0, seen_low), tl.where(seen_high > 0, 0.0, seen_high)
    step, zero = tl.load(scale), tl.load(zero_point).to(tl.float32)
    if FIRST:
        before_low, before_high = tl.load(range_), tl.load(range_ + 1)
        before_low = tl.where(before_low != before_low, (quant_min - zero) * step, before_low)
        before_high = tl.where(before_high != before_high, (zero - quant_max) * step, before_high)
        tl.store(before, before_low)
        tl.store(before + 1, before_high)
    else:
        before_low, before_high = tl.load(before), tl.load(before + 1)
        seen_low, seen_high = _lesser(tl.load(seen), seen_low), _lesser(tl.load(seen + 1), seen_high)
    tl.store(seen, seen_low)
    tl.store(seen + 1, seen_high)
    low = _moved(before_low, seen_low, momentum, MOVING)
    negative_high = _moved(before_high, seen_high, momentum, MOVING)
    tl.store(range_, low)
    tl.store(range_ + 1, negative_high)
    if SYMMETRIC:
        below, above = zero - quant_min, quant_max - zero
        below = tl.where(below > 0, tl.div_rn(-low, below), 0.0)
        above = tl.where(above > 0, tl.div_rn(-negative_high, above), 0.0)
        wanted = -_lesser(-below, -above)
    else:
        wanted = tl.div_rn(-(low + negative_high), quant_max - quant_min)
    step = tl.where(wanted < TINY, _finite(step, 1.0), wanted)
    tl.store(scale, step)
    if not SYMMETRIC:
        zero = _clamp(_nearest(quant_min - tl.div_rn(low, step), False), quant_min, quant_max)
        tl.store(zero_point, zero.to(zero_point.dtype.element_ty))


@triton.jit
def _moved(before, seen, momentum, MOVING: tl.constexpr):
    """The range after a batch; torch's lerp rounds once, and float64 holds the product exactly."""
    if MOVING:
        apart = (seen - before).to(tl.float64) * momentum
        moved = (before.to(tl.float64) + apart).to(tl.float32)
    else:
        moved = _lesser(before, seen)
    return tl.where(before != before, seen, moved)


@triton.jit
def quantize(x, scale, zero_point, result, steps, count, quant_min, quant_max, AWAY: tl.constexpr, BLOCK: tl.constexpr):
    """result: x on its grid; steps [2]: scale and zero point as they are now, for the backward pass."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    step, zero = tl.load(scale), tl.load(zero_point).to(tl.float32)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    code = _clamp(_nearest(tl.div_rn(value, step), AWAY) + zero, quant_min, quant_max)
    tl.store(result + at, (code - zero) * step, mask=inside)
    if tl.program_id(0) == 0:
        tl.store(steps, step)
        tl.store(steps + 1, zero)


@triton.jit
def pass_back(x, steps, grad, result, count, quant_min, quant_max, AWAY: tl.constexpr, BLOCK: tl.constexpr):
    """result: the gradient where the code of x, which is made again, lies within the range."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    step, zero = tl.load(steps), tl.load(steps + 1)
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    code = _nearest(tl.div_rn(value, step), AWAY) + zero
    given = tl.load(grad + at, mask=inside, other=0.0)
    clipped = (code <= quant_min - 0.5) | (code >= quant_max + 0.5)
    tl.store(result + at, tl.where(clipped, 0.0, given).to(result.dtype.element_ty), mask=inside)


@triton.jit
def weight_rows(
    w,
    gamma,
    beta,
    mean,
    var,
    bias,
    x_scale,
    zero_point,
    steps,
    rows,
    count,
    quant_max,
    eps,
    NORMALIZED: tl.constexpr,
    BIASED: tl.constexpr,
    BESIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """steps [2, rows]: the gain of each row of w [rows, count], and the scale that the row alone asks for."""
    row = tl.program_id(0)
    gain = 1.0
    shift = 0.0
    if BIASED:
        shift = tl.load(bias + row)
    if NORMALIZED:
        gain = tl.div_rn(tl.load(gamma + row), tl.sqrt_rn(tl.load(var + row) + eps))
        shift = (shift - tl.load(mean + row)) * gain + tl.load(beta + row)
        tl.store(steps + row, gain)
    low = tl.full([BLOCK], 0.0, tl.float32)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        value = tl.load(w + row.to(tl.int64) * count + at, mask=at < count, other=0.0)
        if NORMALIZED:
            value = value * gain
        low = _lesser(low, -tl.abs(value))
    scale = tl.div_rn(-_least(low), quant_max - tl.load(zero_point).to(tl.float32))
    if BESIDE:
        fine = tl.where(scale > 0, BIAS_STEP, BIAS_FINE)
        needed = _finite(tl.div_rn(tl.abs(shift), tl.load(x_scale)), 0.0) * fine
        scale = -_lesser(-scale, -needed)
    tl.store(steps + rows + row, scale)


@triton.jit
def quantize_rows(
    w,
    x_scale,
    scale,
    zero_point,
    steps,
    result,
    rows,
    count,
    quant_min,
    quant_max,
    apart,
    NORMALIZED: tl.constexpr,
    BESIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """result: each row of w on its grid, and `scale` [rows], which is at least `SMALLEST` of the layer's largest; zero
    points are `apart` in memory, 0 or 1."""
    row = tl.program_id(0)
    places = tl.arange(0, ROWS)
    largest = -_least(-tl.load(steps + rows + places, mask=places < rows, other=0.0))
    free = 1.0
    if BESIDE:
        free = _lesser(1.0, _finite(tl.div_rn(1.0, tl.load(x_scale)), 1.0))
    floor = tl.where(largest > 0, largest * SMALLEST, free)
    step = -_lesser(-tl.load(steps + rows + row), -floor)
    zero = tl.load(zero_point + row * apart).to(tl.float32)
    tl.store(scale + row, step)
    tl.store(steps + 2 * rows + row, step)
    gain = 1.0
    ratio = step
    if NORMALIZED:
        gain = tl.load(steps + row)
        ratio = tl.div_rn(step, gain)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < count
        at = row.to(tl.int64) * count + at
        given = tl.load(w + at, mask=inside, other=0.0)
        value = given
        if NORMALIZED:
            value = given * gain
        code = _clamp(_nearest(tl.div_rn(value, step), False) + zero, quant_min, quant_max)
        made = (code - zero) * ratio
        if NORMALIZED:
            made = tl.where(tl.abs(ratio) <= LARGEST, made, given)
        tl.store(result + at, made, mask=inside)


@triton.jit
def pass_back_rows(
    w,
    zero_point,
    steps,
    grad,
    result,
    rows,
    count,
    quant_min,
    quant_max,
    apart,
    NORMALIZED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """result: the gradient where the code of w, which is made again, lies within the range."""
    row = tl.program_id(0)
    step, zero = tl.load(steps + 2 * rows + row), tl.load(zero_point + row * apart).to(tl.float32)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < count
        at = row.to(tl.int64) * count + at
        value = tl.load(w + at, mask=inside, other=0.0)
        if NORMALIZED:
            value = value * tl.load(steps + row)
        code = _nearest(tl.div_rn(value, step), False) + zero
        clipped = (code <= quant_min - 0.5) | (code >= quant_max + 0.5)
        tl.store(result + at, tl.where(clipped, 0.0, tl.load(grad + at, mask=inside, other=0.0)), mask=inside)
