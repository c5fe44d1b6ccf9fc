"""Thresholds that are trained in the log domain, scales that are powers of two: TQT, Jain et al. 2020
(arXiv 1903.08066)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from qgraph.ir import Array
from qgraph.quantizers.histogram import power_of_two
from qgraph.quantizers.mse import LeastSquares
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from qgraph.quantizers.arrays import Numbers
    from qgraph.quantizers.histogram import Histogram


@quantizer("tqt")
class TrainedThreshold(LeastSquares):
    """Starts from `mse:power_of_two`; `scale = 2 ** ceil(log2(threshold / steps))`, and that logarithm is trained.

    Equations 6 to 8 there, with a straight-through ceil: the gradient of log2(threshold) is `s * ln(2)` times
    `round(x / s) - x / s` inside the range, times the lowest or highest integer (less the zero point) beyond. The zero
    point stays as calibration finds it: the range grows and shrinks around 0. The parameter is `ops....log2_threshold`
    in the `state_dict`, less log2 of the steps; it begins in the middle between two powers. The paper trains it by Adam
    with rates near 0.01.
    """

    uses: ClassVar[tuple[str, ...]] = ("activation",)
    own: ClassVar[tuple[str, ...]] = ("log2_threshold",)

    def begun(self, scale: Tensor, zero_point: Tensor) -> Mapping[str, Tensor]:
        return {"log2_threshold": scale.log2().ceil() - 0.5}

    def searched(self, seen: Histogram[Numbers], widest: Array, symmetric: bool) -> Array:
        return LeastSquares(power_of_two=True, levels=self.levels).searched(seen, widest, symmetric)

    def settle(
        self, own: Mapping[str, Tensor], scale: Tensor, zero_point: Tensor, quant_range: tuple[int, int]
    ) -> None:
        scale.copy_(power_of_two(own["log2_threshold"].ceil().clamp(-126, 127)))

    def size(self, own: str, span: float) -> float:
        return 1 / math.log(2)  # its threshold then moves by the same share

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
        exponent = own["log2_threshold"]
        step = scale + (scale * math.log(2)) * (exponent - exponent.detach())
        result: Tensor = ((round(x, step) + zero_point).clamp(low, high) - zero_point) * step
        return result
