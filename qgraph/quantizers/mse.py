"""The scale that makes the squared error of rounding and clipping least, out of a row of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.ir import Array
from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.moving_average import MOMENTUM
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

FRACTIONS = tuple(1 - step / 40 for step in range(28))
"""Candidates, as fractions of the range that covers everything; on a tie the largest is taken."""
LEVELS = 255
"""Steps of an activation's range: 8 bits, whatever the range will be used for."""


@quantizer("mse")
class LeastSquares(MinMax):
    """`min_max` times the best of the fractions 1, 0.975 .. 0.325; in calibration the average of all chunks."""

    def scale(self, channels: Array, limit: int) -> Array:
        widest = super().scale(channels, limit)
        wide = channels.astype(np.float64)
        errors = []
        for fraction in FRACTIONS:
            step = np.maximum((widest * np.float32(fraction)).astype(np.float64), 1e-300)[:, None]
            errors.append(np.square(np.clip(np.rint(wide / step), -limit, limit) * step - wide).sum(axis=1))
        best = np.argmin(errors, axis=0)
        return np.asarray(widest * np.asarray(FRACTIONS, np.float32)[best], np.float32)

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        import torch

        widest = super().torch_scale(channels, limit)
        wide, bound = channels.double(), int(limit)
        errors = []
        for fraction in FRACTIONS:
            step = (widest * fraction).double().clamp(min=1e-300)[:, None]
            errors.append(((wide / step).round().clamp(-bound, bound) * step - wide).square().sum(dim=1))
        best = torch.stack(errors).argmin(dim=0)
        return widest * torch.tensor(FRACTIONS, dtype=widest.dtype, device=widest.device)[best]

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        widest = super().seen(x, axis).clamp(max=0)
        rows = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)
        errors = []
        for fraction in FRACTIONS:
            low, negated_high = (widest * fraction)[:, :, None]
            step = (-(low + negated_high) / LEVELS).clamp(min=1e-30)
            errors.append((((rows - low) / step).round().clamp(0, LEVELS) * step + low - rows).square().sum(dim=1))
        best = torch.stack(errors).argmin(dim=0)
        return widest * torch.tensor(FRACTIONS, dtype=widest.dtype, device=widest.device)[best]

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before.lerp(seen, MOMENTUM)

    def calibrated(self, before: Tensor, seen: Tensor, count: int) -> Tensor:
        return before.lerp(seen, 1 / count)
