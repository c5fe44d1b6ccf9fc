"""The range covers everything that is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.ir import Array
from qgraph.quantizers.arrays import as_type, extremes, library_of
from qgraph.quantizers.registry import Quantizer, quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from qgraph.quantizers.arrays import Numbers


@quantizer("min_max")
class MinMax(Quantizer):
    """From the least to the largest value; of weights `max|w| / limit`."""

    def scale(self, channels: Array, limit: int) -> Array:
        return np.asarray(np.maximum(channels.max(axis=1), -channels.min(axis=1)) / np.float32(limit), np.float32)

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        return channels.abs().amax(dim=1).float() / limit

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        low, high = extremes(x, axis)
        found: Numbers = library_of(x).stack((low, -high)).reshape(2, -1)
        return as_type(found, "float32")

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return library_of(before).minimum(before, seen)  # type: ignore[no-any-return]

    def calibrated(self, before: Numbers, seen: Numbers, count: int) -> Numbers:
        return library_of(before).minimum(before, seen)  # type: ignore[no-any-return]
