"""Values that are integers, as of a rounding: on a grid on which integers lie, so that a cast finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 255.0
"""Of a grid of 8 bits."""


@quantizer("whole")
class Whole(MinMax):
    """The range of what is seen, as much wider that the step is a power of two."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        return _widened(super().seen(x, axis))

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return _widened(super().trained(before, seen))

    def calibrated(self, before: Tensor, seen: Tensor, count: int) -> Tensor:
        return _widened(super().calibrated(before, seen, count))


def _widened(range: Tensor) -> Tensor:
    """The range from an integer on, over `STEPS` steps; what was widened before is what it was."""
    import torch

    low, high = range[0].clamp(max=0).ceil(), (-range[1]).clamp(min=0).floor()
    step = torch.exp2(-torch.floor(torch.log2(STEPS / (high - low).clamp(min=1))))
    return torch.stack((low, -(low + STEPS * step)))
