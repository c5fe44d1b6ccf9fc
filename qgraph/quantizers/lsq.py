"""A scale that is trained by its own gradient: LSQ, Esser et al. 2020 (arXiv 1902.08153)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor


@quantizer("lsq")
class LearnedStep(MinMax):
    """Starts from `min_max` (calibrate before training); then the optimizer moves the scale.

    The gradient of the scale is that of `(clamp(round(x / s)) - z) * s` with a straight-through `round`, times
    `1 / sqrt(elements * largest integer)` (section 2.2 there).
    """

    uses: ClassVar[tuple[str, ...]] = ("activation",)  # of weights the scale would have to follow gamma too
    trains: ClassVar[tuple[str, ...]] = ("scale",)

    def learned(
        self,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        round: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        low, high = quant_range
        gain = (x.numel() / scale.numel() * (high - low) / 2) ** -0.5
        slow = scale * gain
        step = slow + (scale - slow).detach()
        quotient = x / step
        rounded = quotient + (round(x.detach(), scale.detach()) - quotient).detach()
        result: Tensor = ((rounded + zero_point).clamp(low, high) - zero_point) * step
        return result
