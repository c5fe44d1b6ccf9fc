"""What the scale of an operand leaves of that of a result, after calibration and after every step of training.

A mean of next to nothing (of what was normalized) is no finer than its operand's steps can tell. An inverse root has
its pole, an example of zeros maybe, as the last code at the most: that of half a step of its operand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qgraph.ir import Node, Value
from qgraph.ops.quant import grid_of, maker_of

FINEST_MEAN = 2.0**-25
"""Of the scale of a mean to that of its operand: less is below every sum of codes divided by their number."""
Bound = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(scale, steps above zero, scale of the operand) -> the scale within its bound."""


def _of_mean(scale: Tensor, steps: Tensor, of_operand: Tensor) -> Tensor:
    return torch.maximum(scale, of_operand.max() * FINEST_MEAN)


def _of_inverse_root(scale: Tensor, steps: Tensor, of_operand: Tensor) -> Tensor:
    most = 1 / torch.sqrt(of_operand.max().double() / 2) / steps.min()
    return torch.minimum(scale, most.to(scale.dtype))


BOUNDS: dict[str, Bound] = {"nn.mean": _of_mean, "nn.rsqrt": _of_inverse_root}


def bounded_by(mark: Node) -> tuple[str, Value] | None:
    """The op that made what is fake-quantized and the scale of its operand, which bounds that of the result; None where
    none does."""
    x = mark.operand(0)
    maker = x.producer if x.producer is None or x.producer.op == "nn.rsqrt" else maker_of(x)
    grid = grid_of(maker.operand(0)) if maker is not None and maker.op in BOUNDS else None
    return None if grid is None or maker is None else (maker.op, grid.operand(1))


@torch.no_grad()
def hold(op: str, scale: Tensor, zero_point: Tensor, highest: int, of_operand: Tensor) -> None:
    """Bring a scale within the bound that its op has, in place; `highest`: the last code."""
    scale.copy_(BOUNDS[op](scale, highest - zero_point, of_operand))
