"""A scale and an offset that are trained: LSQ+, Bhalgat et al. 2020 (arXiv 2004.09576)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.lsq import LearnedStep, slowed, step_gain
from qgraph.quantizers.mse import LeastSquares
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor


@quantizer("lsq_plus")
class LearnedStepAndOffset(LearnedStep, LeastSquares):
    """As `lsq`, but that it starts from `mse`, and the zero point follows from an offset that is trained:
    `zero_point = round(-offset / scale)`.

    Equations 3 to 5 there, for x inside the range / below / above: the gradient of the scale is `round(x / s) - x / s`
    / `quant_min` / `quant_max`, that of the offset 0 / 1 / 1. The offset that a code can stand for is a multiple of the
    scale, so it is rounded, straight through. The parameter is `ops....offset` in the `state_dict`.
    """

    own: ClassVar[tuple[str, ...]] = ("offset",)

    def begun(self, scale: Tensor, zero_point: Tensor) -> Mapping[str, Tensor]:
        return {"offset": -zero_point * scale}

    def settle(
        self, own: Mapping[str, Tensor], scale: Tensor, zero_point: Tensor, quant_range: tuple[int, int]
    ) -> None:
        zero_point.copy_((-own["offset"] / scale).round().clamp(*quant_range))

    def learned(
        self,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        round: Callable[[Tensor, Tensor], Tensor],
        own: Mapping[str, Tensor],
    ) -> Tensor:
        gain = step_gain(x, scale, quant_range)
        step, offset = slowed(scale, gain), slowed(own["offset"], gain)
        shift = -offset / step  # which the zero point is, rounded straight through
        codes = (round(x, step) + zero_point + (shift - shift.detach())).clamp(*quant_range)
        real = (codes - zero_point) * step
        result: Tensor = real + zero_point * (step - step.detach()) + (offset - offset.detach())  # zeros with gradients
        return result
