"""Masks, and scores of which a mask leaves some out: what is far below the others counts for nothing in a softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.moving_average import MOMENTUM, MovingAverage
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = -128.0
"""What stands on a grid for a mask's -inf, or -10,000."""
OUT = FLOOR / 2
"""Up to here scores are left out."""
REACH = 16.0
"""How far below the largest score the range reaches: exp(-16) is nothing beside 1."""
FAR = 1e3
"""No score is as large: what lies beyond in what is added to scores leaves them out."""
BOUND = 1e4
"""What stands on a grid for the larger numbers of which masks are computed, each of them, so that their sums hold."""


@quantizer("masked")
class Masked(MovingAverage):
    """The range of the scores that are left in, and as much below that those left out are nothing in a softmax."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        kept = torch.where(x > OUT, x, torch.zeros_like(x))
        low, negative_high = super().seen(kept, axis)
        return torch.stack((torch.minimum(low, -negative_high - REACH), negative_high))


class Following(MinMax):
    """A range that follows the batches in training; its subclasses have options of their own."""

    uses: ClassVar[tuple[str, ...]] = ()

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before.lerp(seen, MOMENTUM)


@quantizer("mask")
class Mask(Following):
    """The range of a mask that is computed: from `FLOOR` on, whether anything was left out in the examples or not; of
    one that is subtracted (`sign` -1) up to `-FLOOR`."""

    sign: float = 1.0

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        low, negative_high = super().seen((x * self.sign).clamp(min=FLOOR), axis)
        return _signed(torch.stack((torch.full_like(low, FLOOR), negative_high)), self.sign)


@quantizer("addend")
class Addend(Following):
    """The range of an input that is added to scores, or subtracted (`sign` -1): from `FLOOR` on where the examples show
    that it is a mask, which has numbers beyond `FAR`."""

    sign: float = 1.0

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        x = x * self.sign
        floor = torch.where((x < -FAR).any(), FLOOR, -torch.inf)  # no branch: a GPU would be waited for
        return _signed(super().seen(x.clamp(min=floor), axis), self.sign)


@quantizer("of_masks")
class OfMasks(MovingAverage):
    """The range of what masks are computed of, within `BOUND`."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        return super().seen(x.clamp(-BOUND, BOUND), axis)


@quantizer("scores")
class Scores(Following):
    """The range of what counts in a softmax over `along`, an axis counted from the end: from `reach` below the largest
    of each row on. Rows of which nothing is left in do not count. Where a mask is `certain` the range has room for it,
    whether anything was left out in the examples or not."""

    along: float = -1.0
    reach: float = REACH
    certain: float = 0.0
    by_rows: ClassVar[bool] = True

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        largest = x.amax(int(self.along), keepdim=True)
        rows = largest > OUT / REACH * self.reach
        kept = torch.where(rows, torch.maximum(x, largest - self.reach), torch.zeros_like(x))
        low, negative_high = super().seen(kept, axis)
        if self.certain:
            lowest = torch.where(rows, largest, torch.inf).amin() - self.reach  # infinite without rows
            low = torch.minimum(low, lowest)
        return torch.stack((low, negative_high))


def _signed(range: Tensor, sign: float) -> Tensor:
    """A range of x from that of x * sign."""
    return range if sign > 0 else range.flip(0)
