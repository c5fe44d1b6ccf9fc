"""Masks, and scores of which a mask leaves some out: what is far below the others counts for nothing in a softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.moving_average import MovingAverage
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = -128.0
"""What stands on a grid for a mask's -inf, or -10,000."""
OUT = FLOOR / 2
"""Up to here scores are left out."""
REACH = 16.0
"""How far below the largest score the range reaches: exp(-16) is nothing beside 1."""


@quantizer("masked")
class Masked(MovingAverage):
    """The range of the scores that are left in, and as much below that those left out are nothing in a softmax."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        kept = torch.where(x > OUT, x, torch.zeros_like(x))
        low, negative_high = super().seen(kept, axis)
        return torch.stack((torch.minimum(low, -negative_high - REACH), negative_high))


@quantizer("mask")
class Mask(MovingAverage):
    """The range of a mask that is computed: from `FLOOR` on, whether anything was left out in the examples or not."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        low, negative_high = super().seen(x.clamp(min=FLOOR), axis)
        return torch.stack((torch.full_like(low, FLOOR), negative_high))
