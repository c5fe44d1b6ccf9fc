"""Fake-quantization in torch: the float32 results of `qgraph.ops.quant`, with straight-through gradients.

The gradient of rounding is taken as 1, that of clamping is 1 within the range and 0 outside (Bengio et al. 2013,
arXiv 1308.3432): it passes where the integer before clamping lies within [quant_min, quant_max].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qgraph.errors import InputError
from qgraph.ops.quant import INT32, places_of

BELOW_HALF = 0.49999997
"""The largest float32 below one half; see `qgraph.arith.rounding.round_half_away`."""


def _half_away(quotient: Tensor) -> Tensor:
    if quotient.dtype == torch.float64:
        raise InputError("half_away rounding trains in float32 only")
    return quotient.add_(torch.copysign(torch.full_like(quotient, BELOW_HALF), quotient)).trunc_()


ROUNDING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "half_even": lambda x, scale: (x / scale).round_(),
    "half_away": lambda x, scale: _half_away(x / scale),
    "half_even_reciprocal": lambda x, scale: (x * (1 / scale)).round_(),
}
"""The same operations, in the same order, as `qgraph.ops.quant.ROUNDING`; each makes a new tensor."""

MEAN_ROUNDING: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "half_away_code": lambda steps, zero, count: _half_away(steps.add_(zero)),
    "half_even_code": lambda steps, zero, count: steps.add_(zero).round_(),
    "half_away_twice": lambda steps, zero, count: _twice(steps, 2 ** places_of(count)).add_(zero),
}
"""As `qgraph.ops.quant.MEAN_ROUNDING`."""


def _twice(steps: Tensor, one: int) -> Tensor:
    return _half_away(steps.mul_(one).add_(0.5).floor_().div_(one))


def per_axis(values: Tensor, rank: int, axis: int | None) -> Tensor:
    """`values` ([1] or [channels]) shaped to broadcast along `axis` of a tensor of that rank."""
    return values.reshape(()) if axis is None else values.reshape([-1 if i == axis else 1 for i in range(rank)])


def unclamped_integers(x: Tensor, scale: Tensor, zero_point: Tensor, rounding: str = "half_even") -> Tensor:
    """`round(x / scale) + zero_point` as floats; scale and zero_point as `per_axis` shapes them, in x's dtype.

    Unlike NumPy's `qgraph.ops.quant.quantize`, what follows keeps NaN as NaN, so that a broken loss shows.
    """
    word, _, divisor = rounding.partition(":")
    if word not in MEAN_ROUNDING:
        return ROUNDING[word](x, scale).add_(zero_point)
    return MEAN_ROUNDING[word]((x / scale).mul_(int(divisor)).round_().div_(int(divisor)), zero_point, int(divisor))


class _StraightThrough(torch.autograd.Function):
    """Saves the integers before clamping. hardtanh's gradient is the fastest mask there is on CPUs: a boolean one takes
    four times as long to make and to apply (0.48 against 0.12 ms for a million floats, torch 2.13).
    """

    @staticmethod
    def backward(
        ctx: torch.autograd.function.BackwardCFunction, grad: Tensor
    ) -> tuple[Tensor, None, None, None, None, None]:
        (integers,) = ctx.saved_tensors
        low, high = ctx.quant_range  # type: ignore[attr-defined]
        return torch.ops.aten.hardtanh_backward(grad, integers, low - 0.5, high + 0.5), None, None, None, None, None


class _FakeQuantize(_StraightThrough):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        axis: int | None,
        rounding: str,
    ) -> Tensor:
        scale = per_axis(scale, x.ndim, axis).to(x.dtype)
        zero = per_axis(zero_point, x.ndim, axis).to(x.dtype)
        integers = unclamped_integers(x, scale, zero, rounding)
        ctx.save_for_backward(integers)
        ctx.quant_range = quant_range  # type: ignore[attr-defined]
        return integers.clamp(*quant_range).sub_(zero).mul_(scale)


class _FakeQuantizeUnfolded(_StraightThrough):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        w: Tensor,
        gain: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        axis: int | None,
    ) -> Tensor:
        gain = per_axis(gain, w.ndim, 0)
        scale = per_axis(scale, w.ndim, axis).to(w.dtype)
        zero = per_axis(zero_point, w.ndim, axis).to(w.dtype)
        integers = unclamped_integers(w * gain, scale, zero)
        ctx.save_for_backward(integers)
        ctx.quant_range = quant_range  # type: ignore[attr-defined]
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
) -> Tensor:
    """x rounded to what integers within `quant_range` (inclusive) stand for; float32 (float64 for a float64 x).

    scale, zero_point: [1], or [channels] along `axis`. The gradient reaches x only.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    result: Tensor = _FakeQuantize.apply(wide, scale, zero_point, quant_range, axis, rounding)  # type: ignore[no-untyped-call]
    return result


def fake_quantize_unfolded(
    w: Tensor, gain: Tensor, scale: Tensor, zero_point: Tensor, quant_range: tuple[int, int], axis: int | None
) -> Tensor:
    """What the integers of the folded weight `w * gain` say about w itself: `integers * (scale / gain)`.

    w: [O, ...], gain: [O]. A convolution with this weight followed by batch normalization is what the folded integers
    compute; see `qgraph.training.layers`. Where `scale / gain` is not finite (a gain of zero) w stays as it is: such a
    channel contributes `gamma * normalized = 0` whatever its weight. The gradient reaches w only; gamma's comes
    through the batch normalization.
    """
    result: Tensor = _FakeQuantizeUnfolded.apply(w, gain, scale, zero_point, quant_range, axis)  # type: ignore[no-untyped-call]
    return result
