"""Fake-quantization in torch: the float32 results of `qgraph.ops.quant`, with straight-through gradients.

The gradient of rounding is taken as 1, that of clamping is 1 within the range and 0 outside (Bengio et al. 2013,
arXiv 1308.3432): it passes where the integer before clamping lies within [quant_min, quant_max]. Other gradients of
rounding (`qgraph.quantizers.gradients`) multiply it there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qgraph.ops.quant import INT32
from qgraph.quantizers.gradients import STRAIGHT_THROUGH, Gradient
from qgraph.quantizers.rounding import get_rounding
from qgraph.training.fused import kernels_for


def per_axis(values: Tensor, rank: int, axis: int | None) -> Tensor:
    """`values` ([1] or [channels]) shaped to broadcast along `axis` of a tensor of that rank."""
    return values.reshape(()) if axis is None else values.reshape([-1 if i == axis else 1 for i in range(rank)])


def unclamped_integers(
    x: Tensor, scale: Tensor, zero_point: Tensor, rounding: str = "half_even", source: Tensor | None = None
) -> Tensor:
    """`round(x / scale) + zero_point` as floats; all broadcast against x, in its dtype.

    Unlike NumPy's `qgraph.ops.quant.quantize`, what follows keeps NaN as NaN, so that a broken loss shows.
    """
    return get_rounding(rounding).torch_codes(x, scale, zero_point, source)


def _keep(ctx: Any, integers: Tensor, residual: Tensor | None, gradient: Gradient) -> None:
    """Save what a gradient of rounding needs: the integers before clamping, and what they were rounded by."""
    ctx.gradient = gradient
    ctx.save_for_backward(integers, *(() if residual is None else (residual,)))


class _StraightThrough(torch.autograd.Function):
    """Saves the integers before clamping. hardtanh's gradient is the fastest mask there is on CPUs: a boolean one takes
    four times as long to make and to apply (0.48 against 0.12 ms for a million floats, torch 2.13).
    """

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        integers, *residual = ctx.saved_tensors
        low, high = ctx.quant_range
        passed = torch.ops.aten.hardtanh_backward(grad, integers, low - 0.5, high + 0.5)
        for each in residual:
            passed = passed * ctx.gradient.factor(passed, each)
        return passed, *(None,) * ctx.constants


class _FakeQuantize(_StraightThrough):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        axis: int | None,
        rounding: str,
        source: Tensor | None,
        gradient: Gradient,
    ) -> Tensor:
        scale = per_axis(scale, x.ndim, axis).to(x.dtype)
        zero = per_axis(zero_point, x.ndim, axis).to(x.dtype)
        source = None if source is None else per_axis(source, x.ndim, None).to(x.dtype)
        integers = unclamped_integers(x, scale, zero, rounding, source)
        _keep(ctx, integers, None if gradient.plain else (x / scale).add_(zero).sub_(integers), gradient)
        ctx.quant_range, ctx.constants = quant_range, 7
        return integers.clamp(*quant_range).sub_(zero).mul_(scale)


class _FakeQuantizeUnfolded(_StraightThrough):
    @staticmethod
    def forward(
        ctx: Any,
        w: Tensor,
        gain: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        axis: int | None,
        gradient: Gradient,
    ) -> Tensor:
        gain = per_axis(gain, w.ndim, 0)
        scale = per_axis(scale, w.ndim, axis).to(w.dtype)
        zero = per_axis(zero_point, w.ndim, axis).to(w.dtype)
        folded = w * gain
        if gradient.random:
            folded = by_chance(folded, scale)
        integers = unclamped_integers(folded, scale, zero)
        _keep(ctx, integers, None if gradient.plain else (folded / scale).add_(zero).sub_(integers), gradient)
        ctx.quant_range, ctx.constants = quant_range, 6
        ratio = scale / gain
        return torch.where(ratio.isfinite(), integers.clamp(*quant_range).sub_(zero).mul_(ratio), w)


class _FakeQuantizeBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, bias: Tensor, x_scale: Tensor, w_scale: Tensor) -> Tensor:
        scale = (x_scale.float() * w_scale.float()).double()
        return (bias / scale).round_().clamp_(*INT32).mul_(scale).to(bias.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.BackwardCFunction, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None


def by_chance(w: Tensor, scale: Tensor) -> Tensor:
    """w moved by up to half a step each way, so that it rounds up as often as it lies near the code above."""
    return w + (torch.rand_like(w) - 0.5) * scale


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, quotient: Tensor, rounded: Tensor, gradient: Gradient) -> Tensor:
        ctx.save_for_backward(quotient - rounded)
        ctx.gradient = gradient
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * ctx.gradient.factor(grad, *ctx.saved_tensors), None, None


def rounded_through(quotient: Tensor, rounded: Tensor, gradient: Gradient) -> Tensor:
    """`rounded`, with the gradient of rounding for `quotient`, of which it was made."""
    if gradient.plain:
        return rounded + (quotient - quotient.detach())
    result: Tensor = _Through.apply(quotient, rounded, gradient)  # type: ignore[no-untyped-call]
    return result


def fake_quantize_bias(bias: Tensor, x_scale: Tensor, w_scale: Tensor) -> Tensor:
    """A bias [O] rounded to what int32 integers of scale `x_scale * w_scale` stand for.

    The bits of `qgraph.ops.quant.bias_in_steps`. x_scale: [1], w_scale: [1] or [O]. The gradient reaches the bias as if
    it were not rounded.
    """
    result: Tensor = _FakeQuantizeBias.apply(bias, x_scale, w_scale)  # type: ignore[no-untyped-call]
    return result


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_range: tuple[int, int],
    axis: int | None = None,
    rounding: str = "half_even",
    source: Tensor | None = None,
    gradient: Gradient = STRAIGHT_THROUGH,
) -> Tensor:
    """x rounded to what integers within `quant_range` (inclusive) stand for; float32 (float64 for a float64 x).

    scale, zero_point: [1], or [channels] along `axis`; source: [1], as in `quant.fake_quant`. The gradient reaches x
    only.
    """
    kernels = kernels_for(x) if axis is None and gradient.plain else None
    if kernels is not None and kernels.takes(x, quant_range, scale, zero_point) and rounding in kernels.ROUNDINGS:
        made: Tensor = kernels.fake_quantize(x, scale, zero_point, quant_range, rounding)
        return made
    wide = x if x.dtype == torch.float64 else x.float()
    result: Tensor = _FakeQuantize.apply(wide, scale, zero_point, quant_range, axis, rounding, source, gradient)  # type: ignore[no-untyped-call]
    return result


def fake_quantize_unfolded(
    w: Tensor,
    gain: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_range: tuple[int, int],
    axis: int | None,
    gradient: Gradient = STRAIGHT_THROUGH,
) -> Tensor:
    """What the integers of the folded weight `w * gain` say about w itself: `integers * (scale / gain)`.

    w: [O, ...], gain: [O]. A convolution with this weight followed by batch normalization is what the folded integers
    compute; see `qgraph.training.layers`. Where `scale / gain` is not finite (a gain of zero) w stays as it is: such a
    channel contributes `gamma * normalized = 0` whatever its weight. The gradient reaches w only; gamma's comes
    through the batch normalization.
    """
    result: Tensor = _FakeQuantizeUnfolded.apply(w, gain, scale, zero_point, quant_range, axis, gradient)  # type: ignore[no-untyped-call]
    return result
