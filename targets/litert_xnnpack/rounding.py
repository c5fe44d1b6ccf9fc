"""How XNNPACK rounds where fake-quant has to know: floats, LEAKY_RELU, and QUANTIZE of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qgraph.arith.rounding import round_half_even
from qgraph.ir import Array
from qgraph.quantizers.rounding import Rounding, rounding
from qgraph.targets.litert.rounding import DoubleRounding, LeakyDoubleRounding, torch_whole, whole

if TYPE_CHECKING:
    from torch import Tensor

RATIOS = (2.0**-8, 2.0**7)
"""Of scales: what the delegate requantizes; LiteRT's optimized kernel handles others."""
SLOPES = (2.0**-8, 2.0**7)
"""Of LEAKY_RELU, times that ratio."""


@rounding("half_even_reciprocal")
class HalfEvenReciprocal(Rounding):
    """rint(x * (1 / scale))."""

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        return np.asarray(round_half_even(x * (scale.dtype.type(1) / scale)) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        return (x * (1 / scale)).round_().add_(zero)


@rounding("steps_of_256")
class StepsOf256(DoubleRounding):
    """QUANTIZE of integers: (x - zero_point) * rint(256 * scale / result_scale) / 256, half up (qs8-vcvt)."""

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        assert source is not None
        ratio = source.astype(np.float32) / scale.astype(np.float32)
        if not RATIOS[0] <= ratio <= RATIOS[1]:
            return super().codes(x, scale, zero, source)
        steps = whole(x / source).astype(np.int64)
        return np.asarray(((steps * int(np.rint(256 * ratio)) + 128) >> 8).astype(x.dtype) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        import torch

        assert source is not None
        ratio = source.float() / scale.float()
        made = ((torch_whole(x / source) * (256 * ratio).round().long() + 128) >> 8).to(x.dtype).add_(zero)
        within = (ratio >= RATIOS[0]) & (ratio <= RATIOS[1])
        return torch.where(within, made, super().torch_codes(x, scale, zero, source))


@rounding("leaky_steps_of_256")
@dataclass(frozen=True)
class LeakyStepsOf256(LeakyDoubleRounding):
    """LEAKY_RELU of a `slope` above zero: both multipliers in steps of 1/256, half up (qs8-vlrelu)."""

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        assert source is not None
        ratio = source.astype(np.float32) / scale.astype(np.float32)
        slope = ratio * np.float32(self.slope)
        if not (RATIOS[0] <= ratio <= RATIOS[1] and SLOPES[0] <= slope <= SLOPES[1]):
            return super().codes(x, scale, zero, source)
        above, below = (int(np.rint(256 * each)) for each in (ratio, slope))
        steps = whole(np.where(x >= 0, x / source, x / (source * x.dtype.type(self.slope)))).astype(np.int64)
        return np.asarray(((steps * np.where(x >= 0, above, below) + 128) >> 8).astype(x.dtype) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        import torch

        assert source is not None
        ratio = source.float() / scale.float()
        slope = ratio * self.slope
        above, below = ((256 * each).round().long() for each in (ratio, slope))
        steps = torch_whole(torch.where(x >= 0, x / source, x / (source * self.slope)))
        made = ((steps * torch.where(x >= 0, above, below) + 128) >> 8).to(x.dtype).add_(zero)
        within = (ratio >= RATIOS[0]) & (ratio <= RATIOS[1]) & (slope >= SLOPES[0]) & (slope <= SLOPES[1])
        return torch.where(within, made, super().torch_codes(x, scale, zero, source))
