"""How XNNPACK rounds where fake-quant has to know: floats, means, and QUANTIZE of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qgraph.arith.rounding import round_half_even
from qgraph.ir import Array
from qgraph.quantizers.rounding import OfMean, Rounding, rounding
from qgraph.targets.litert.rounding import STEPS, DoubleRounding

if TYPE_CHECKING:
    from torch import Tensor

RATIOS = (2.0**-8, 2.0**7)
"""Of scales: what the delegate requantizes; LiteRT's optimized kernel handles others."""


@rounding("half_even_reciprocal")
class HalfEvenReciprocal(Rounding):
    """rint(x * (1 / scale))."""

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        return np.asarray(round_half_even(x * (scale.dtype.type(1) / scale)) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        return (x * (1 / scale)).round_().add_(zero)


@rounding("half_even_code")
@dataclass(frozen=True)
class HalfEvenCode(OfMean):
    """The code as it is stored, half to even."""

    def of_steps(self, steps: Array, zero: Array) -> Array:
        return np.asarray(round_half_even(steps + zero))

    def of_torch_steps(self, steps: Tensor, zero: Tensor) -> Tensor:
        return steps.add_(zero).round_()


@rounding("steps_of_256")
class StepsOf256(DoubleRounding):
    """QUANTIZE of integers: (x - zero_point) * rint(256 * scale / result_scale) / 256, half up (qs8-vcvt)."""

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        assert source is not None
        ratio = source.astype(np.float32) / scale.astype(np.float32)
        if not RATIOS[0] <= ratio <= RATIOS[1]:
            return super().codes(x, scale, zero, source)
        steps = np.clip(np.nan_to_num(np.rint(x / source)), *STEPS).astype(np.int64)
        return np.asarray(((steps * int(np.rint(256 * ratio)) + 128) >> 8).astype(x.dtype) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        import torch

        assert source is not None
        ratio = source.float() / scale.float()
        steps = (x / source).round_().nan_to_num_().clamp_(*STEPS).long()
        made = ((steps * (256 * ratio).round().long() + 128) >> 8).to(x.dtype).add_(zero)
        within = (ratio >= RATIOS[0]) & (ratio <= RATIOS[1])
        return torch.where(within, made, super().torch_codes(x, scale, zero, source))
