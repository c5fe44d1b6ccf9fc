"""Layers of codes: a convolution or a linear layer whose exact accumulators serve the integers and the floats alike.

What a layer reads lies on a grid, so it is integers times a scale, as its weight is. The sums of their products are
computed once, in float32: exact while the sum of magnitudes of every channel stays below 2**24, whatever the order
(`qgraph.arith.accumulate`); beyond, over parts of the input channels, which are added in float64. They are given to the
pass in integers, which requantizes them, and times both scales they are the layer's real result. Gradients are those of
the layer on the real values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.arith.exactness import FLOAT32_EXACT
from qgraph.training.exact_products import LARGEST, Window, products
from qgraph.training.fake_quant import per_axis
from qgraph.training.integer_run import Accumulated, Run, not_compiled
from qgraph.training.windows import convolve, is_symmetric, pad

MOST_PARTS = 16
"""Into how many parts a sum of products is split at most; what would need more is not computed in codes."""


class _Scaled(torch.autograd.Function):
    """`acc * factor + bias`, with the gradients of the layer of x and w."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, acc: Tensor, factor: Tensor, window: Window | None
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.window, ctx.axis = window, acc.ndim - 1 if window is None else 1
        factor = _along(factor, acc.ndim, ctx.axis)
        acc = acc.to(x.dtype)
        return acc * factor if bias is None else torch.addcmul(_along(bias, acc.ndim, ctx.axis), acc, factor)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        of_bias = grad.sum([i for i in range(grad.ndim) if i != ctx.axis]) if needs[2] else None
        if ctx.window is None:
            of_x = grad @ w if needs[0] else None
            of_w = grad.flatten(0, -2).T @ x.flatten(0, -2) if needs[1] else None
        else:
            stride, pads, dilation, groups = ctx.window
            rank = len(stride)
            of_x, of_w, _ = torch.ops.aten.convolution_backward(
                grad, x, w, None, stride, pads[:rank], dilation, False, [0] * rank, groups, [*needs[:2], False]
            )
        return of_x, of_w, of_bias, None, None, None


def _along(values: Tensor, rank: int, axis: int) -> Tensor:
    return per_axis(values, rank, axis if values.numel() > 1 else None)


def layer_of_codes(
    run: Run,
    key: int,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    steps: tuple[Tensor, Tensor],
    window: Window | None,
) -> Tensor | None:
    """The real result of a layer whose x and w lie on grids of `steps` ([1], and [1] or [O]), x of 8 bits; its
    accumulators are left to the run, under the key of its result. None where they are too large."""
    if window is not None and not is_symmetric(window.pads):
        x, window = pad(x, window.pads), window._replace(pads=(0,) * len(window.pads))
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x_step, w_step = steps[0].detach(), steps[1].detach()
        x_codes, w_codes = (x / x_step).round_(), (w / _along(w_step, w.ndim, 0)).round_()
        bound = float(w_codes.abs().flatten(1).sum(1).amax()) * LARGEST
        parts = int(bound // FLOAT32_EXACT) + 1
        if parts > min(MOST_PARTS, w.shape[1]) or (parts > 1 and window is not None and window.groups > 1):
            return None
        acc = _sum_of_parts(x_codes, w_codes, window, parts)
    if acc is None:
        return None
    run.accumulators[key] = Accumulated(acc, bound, window is not None)
    scaled: Tensor = _Scaled.apply(x, w, bias, acc, x_step * w_step, window)  # type: ignore[no-untyped-call]
    return scaled


def _sum_of_parts(x: Tensor, w: Tensor, window: Window | None, parts: int) -> Tensor | None:
    """The products of all input channels, added in float64 where there are several parts of them; None where a part is
    still too large."""
    if parts == 1:
        return products(x, w, window)
    total: Tensor | None = None
    axis = x.ndim - 1 if window is None else 1
    for x_part, w_part in zip(x.chunk(parts * 2, axis), w.chunk(parts * 2, 1), strict=True):
        if float(w_part.abs().flatten(1).sum(1).amax()) * LARGEST >= FLOAT32_EXACT:
            return None
        part = products(x_part.contiguous(), w_part.contiguous(), window).double()
        total = part if total is None else total.add_(part)
    return total


class Beside(NamedTuple):
    """A layer with a live batch normalization in the pass in integers: the key of its result, what the constants are
    called that follow from the batch (mean, variance, the scale of the weight, the folded weight), and whether it
    reads codes of 8 bits."""

    run: Run | None
    key: int
    names: tuple[str, ...]
    narrow: bool

    @not_compiled
    def layer(
        self, x: Tensor, w: Tensor, bias: Tensor | None, steps: tuple[Tensor, Tensor], window: Window | None
    ) -> Tensor | None:
        """As `layer_of_codes`."""
        return (
            None
            if self.run is None or not self.narrow
            else layer_of_codes(self.run, self.key, x, w, bias, steps, window)
        )

    @not_compiled
    def tell(self, *measured: Tensor | None) -> None:
        """Let the constants have in this pass what was measured, in the order of `names`."""
        if self.run is not None:
            given = zip(self.names, measured, strict=True)
            self.run.tensors.update((name, tensor) for name, tensor in given if tensor is not None)


class LayerOfCodes(nn.Module):
    """`nn.conv` or `nn.linear` without its activation."""

    def __init__(self, window: Window | None) -> None:
        super().__init__()
        self.window = window

    @not_compiled
    def forward(
        self, x: Tensor, w: Tensor, bias: Tensor | None, run: Run | None, key: int, x_step: Tensor, w_step: Tensor
    ) -> Tensor:
        """`key`: of the result; the others as `layer_of_codes` takes them."""
        made = None if run is None else layer_of_codes(run, key, x, w, bias, (x_step, w_step), self.window)
        if made is not None:
            return made
        return F.linear(x, w, bias) if self.window is None else convolve(x, w, bias, *self.window)
