"""A scale that is trained by its own gradient: LSQ, Esser et al. 2020 (arXiv 1902.08153)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        own: Mapping[str, Tensor],
    ) -> Tensor:
        low, high = quant_range
        step = slowed(scale, step_gain(x, scale, quant_range))
        result: Tensor = ((round(x, step) + zero_point).clamp(low, high) - zero_point) * step
        return result


def step_gain(x: Tensor, scale: Tensor, quant_range: tuple[int, int]) -> float:
    """`1 / sqrt(elements * largest integer)`, of the elements that have one scale."""
    low, high = quant_range
    return float((x.numel() / scale.numel() * (high - low) / 2) ** -0.5)


def slowed(parameter: Tensor, gain: float) -> Tensor:
    """The parameter, with `gain` times its gradient."""
    slow = parameter * gain
    return parameter.detach() + (slow - slow.detach())
