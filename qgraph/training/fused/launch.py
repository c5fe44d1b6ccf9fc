"""The kernels as functions of torch, with gradients, and what they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from qgraph.training.fused import BatchNormOf, kernels

ROUNDINGS = {"half_even": False, "half_away": True}
"""What the kernels know, and whether ties go away from 0."""
WIDEST = 2**20
"""The largest code; see `kernels.CLIPPED`."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
BLOCK, MOST_PROGRAMS, MOST_ROWS = 1024, 512, 8192
EXACT = {"enable_fp_fusion": False}
"""Options of every launch."""


def takes(x: Tensor, quant_range: tuple[int, int], scale: Tensor, zero_point: Tensor) -> bool:
    """Whether the kernels are for such a tensor, range and parameters."""
    single = scale.numel() == zero_point.numel() == 1 and scale.dtype == torch.float32
    return single and x.dtype in FLOATS and x.numel() > 0 and max(map(abs, quant_range)) <= WIDEST


def _launch(kernel: Any, programs: int, x: Tensor, *arguments: object, **constants: object) -> None:
    """Launch so many programs of a kernel, whose first argument is x, on the device where that lies."""
    with torch.cuda.device_of(x):
        kernel[(programs,)](x, *arguments, **constants, **EXACT)


def observe(
    x: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    scale: Tensor,
    zero_point: Tensor,
    quant_range: tuple[int, int],
    momentum: float,
    symmetric: bool,
    first: bool,
) -> None:
    """Take x into the range: `ActivationQuantizer.observe` with state = (seen, before, range), [2, 1] each.

    momentum: that of a moving average; 0 where the range covers everything."""
    x = _dense(x.detach())
    programs = min(triton.cdiv(x.numel(), BLOCK), MOST_PROGRAMS)
    partial = torch.empty(2, programs, device=x.device)
    _launch(kernels.extremes, programs, x, partial, x.numel(), BLOCK=BLOCK)
    _launch(
        kernels.settle,
        1,
        partial,
        programs,
        *state,
        scale,
        zero_point,
        *map(float, quant_range),
        float(np.float32(momentum)),
        FIRST=first,
        MOVING=momentum > 0,
        SYMMETRIC=symmetric,
        BLOCK=MOST_PROGRAMS,
    )


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, quant_range: tuple[int, int], rounding: str) -> Tensor:
    """`qgraph.training.fake_quant.fake_quantize` for one scale, straight through: float32, as x lies in memory."""
    result: Tensor = _FakeQuantize.apply(x, scale, zero_point, quant_range, ROUNDINGS[rounding])  # type: ignore[no-untyped-call]
    return result


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, quant_range: tuple[int, int], away: bool
    ) -> Tensor:
        x = _dense(x)
        result = torch.empty_like(x, dtype=torch.float32)
        steps = torch.empty(2, device=x.device)
        ctx.settings = (x.numel(), *map(float, quant_range))
        programs = triton.cdiv(x.numel(), BLOCK)
        _launch(kernels.quantize, programs, x, scale, zero_point, result, steps, *ctx.settings, AWAY=away, BLOCK=BLOCK)
        ctx.save_for_backward(x, steps)
        ctx.programs, ctx.away = programs, away
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, steps = ctx.saved_tensors

        def pass_back(grad: Tensor, result: Tensor) -> None:
            _launch(kernels.pass_back, ctx.programs, x, steps, grad, result, *ctx.settings, AWAY=ctx.away, BLOCK=BLOCK)

        return _PassedBack.apply(grad, x, pass_back), None, None, None, None  # type: ignore[no-untyped-call]


class _PassedBack(torch.autograd.Function):
    """A gradient where the codes of x lie within the range: linear, so that its own gradient is the same again."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, pass_back: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.dtype, ctx.pass_back = grad.dtype, pass_back
        result = torch.empty_like(x)
        pass_back(_as_lies(grad, x), result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        again: Tensor = _PassedBack.apply(grad, *ctx.saved_tensors, ctx.pass_back)  # type: ignore[no-untyped-call]
        return again.to(ctx.dtype), None, None


def takes_weight(
    w: Tensor, quant_range: tuple[int, int], scale: Tensor, zero_point: Tensor, bias: Tensor | None
) -> bool:
    """Whether the kernels are for a weight [O, ...] with a scale [O] for each row, and at most one bias [O]."""
    rows = len(w) if w.ndim > 1 else 0
    tensors = [w, scale, *(() if bias is None else (bias,))]
    return (
        0 < rows <= MOST_ROWS
        and w.numel() > 0
        and all(each.dtype == torch.float32 for each in tensors)
        and scale.numel() == rows
        and zero_point.numel() in (1, rows)
        and scale.is_contiguous()
        and (bias is None or bias.numel() == rows)
        and max(map(abs, quant_range)) <= WIDEST
    )


def fake_quantize_weight(
    w: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_range: tuple[int, int],
    bias: Tensor | None,
    x_scale: Tensor | None,
    batch_norm: BatchNormOf | None,
) -> Tensor:
    """w on its grid, whose scale is written from the weight: of w itself, or of w folded with a batch normalization and
    unfolded again. The plain path: `WeightQuantizer.refresh`, and `fake_quantize` or `fake_quantize_unfolded`."""
    result: Tensor = _FakeQuantizeWeight.apply(w, scale, zero_point, quant_range, bias, x_scale, batch_norm)  # type: ignore[no-untyped-call]
    return result


class _FakeQuantizeWeight(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        w: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        bias: Tensor | None,
        x_scale: Tensor | None,
        batch_norm: BatchNormOf | None,
    ) -> Tensor:
        w = w if _is_by_rows(w) else w.contiguous()
        rows, count = len(w), w.numel() // len(w)
        block = min(BLOCK, triton.next_power_of_2(count))
        low, high = map(float, quant_range)
        result, steps = torch.empty_like(w), torch.empty(3, rows, device=w.device)
        absent = zero_point
        of = (absent,) * 4 if batch_norm is None else tuple(each.contiguous() for each in batch_norm[:4])
        beside = absent if x_scale is None else x_scale
        apart = int(zero_point.numel() > 1)
        flags = {"NORMALIZED": batch_norm is not None, "BESIDE": x_scale is not None}
        _launch(
            kernels.weight_rows,
            rows,
            w,
            *of,
            absent if bias is None else bias.contiguous(),
            beside,
            zero_point,
            steps,
            rows,
            count,
            high,
            0.0 if batch_norm is None else batch_norm.eps,
            BIASED=bias is not None,
            BLOCK=block,
            **flags,
        )
        _launch(
            kernels.quantize_rows,
            rows,
            w,
            beside,
            scale,
            zero_point,
            steps,
            result,
            rows,
            count,
            low,
            high,
            apart,
            ROWS=triton.next_power_of_2(rows),
            BLOCK=block,
            **flags,
        )
        ctx.save_for_backward(w, zero_point, steps)
        ctx.settings, ctx.block, ctx.normalized = (rows, count, low, high, apart), block, batch_norm is not None
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        w, zero_point, steps = ctx.saved_tensors

        def pass_back(grad: Tensor, result: Tensor) -> None:
            of = zero_point, steps, grad, result, *ctx.settings
            _launch(kernels.pass_back_rows, len(w), w, *of, NORMALIZED=ctx.normalized, BLOCK=ctx.block)

        return _PassedBack.apply(grad, w, pass_back), *(None,) * 6  # type: ignore[no-untyped-call]


def _is_by_rows(w: Tensor) -> bool:
    """Whether the elements of a row lie together, in whatever order."""
    return w.is_contiguous() or (w.ndim == 4 and w.is_contiguous(memory_format=torch.channels_last))


def _dense(x: Tensor) -> Tensor:
    """x, or a copy that has no gaps in memory."""
    return x if _is_by_rows(x) else x.contiguous()


def _as_lies(grad: Tensor, x: Tensor) -> Tensor:
    """A gradient in the order of x in memory."""
    return grad if grad.stride() == x.stride() else torch.empty_like(x, dtype=grad.dtype).copy_(grad)
