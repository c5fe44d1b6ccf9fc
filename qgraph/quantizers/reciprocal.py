"""Reciprocals that products read: of a divisor next to 0, an example of zeros maybe, nothing is left on its grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.moving_average import MovingAverage
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

BEYOND = 2 * 255.0
"""Times the reciprocal of the largest divisor: that of half a step of 8 bits; divisors below have the code of 0."""


@quantizer("reciprocal")
class Reciprocal(MovingAverage):
    """The range of the reciprocals of divisors that have a code beside that of 0; others get the last code."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        size = x.abs()
        return super().seen(torch.where(size <= size.min() * BEYOND, x, torch.zeros_like(x)), axis)

    def calibrated(self, before: Tensor, seen: Tensor, count: int) -> Tensor:
        """The union, of two chunks of which none has divisors next to nothing for the other."""
        import torch

        one, other = _size(before), _size(seen)
        both = torch.where(one > other * BEYOND, seen, super().calibrated(before, seen, count))
        return torch.where(other > one * BEYOND, before, both)


def _size(range: Tensor) -> Tensor:
    """The largest size of numbers in a range."""
    return range.abs().amax(0)
