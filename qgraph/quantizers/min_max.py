"""The range covers everything that is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.ir import Array
from qgraph.quantizers.registry import Quantizer, quantizer

if TYPE_CHECKING:
    from torch import Tensor


@quantizer("min_max")
class MinMax(Quantizer):
    """From the least to the largest value; of weights `max|w| / limit`."""

    def scale(self, channels: Array, limit: int) -> Array:
        return np.asarray(np.maximum(channels.max(axis=1), -channels.min(axis=1)) / np.float32(limit), np.float32)

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        return channels.abs().amax(dim=1).float() / limit

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        import torch

        low, high = torch.aminmax(x) if axis is None else torch.aminmax(x.movedim(axis, 0).flatten(1), dim=1)
        return torch.stack((low, -high)).float().reshape(2, -1)

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        import torch

        return torch.minimum(before, seen)

    def calibrated(self, before: Tensor, seen: Tensor, count: int) -> Tensor:
        import torch

        return torch.minimum(before, seen)
