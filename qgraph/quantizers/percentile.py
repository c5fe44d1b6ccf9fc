"""The range leaves out the outermost values, so that a few large ones do not cost the others their resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import Array
from qgraph.quantizers.arrays import as_type, kth_smallest, library_of, rows_along
from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.moving_average import MOMENTUM
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from qgraph.quantizers.arrays import Numbers


@quantizer("percentile")
class Percentile(MinMax):
    """`percent` of the values lie within the range: as many are left out below as above. In calibration the average of
    all chunks, which are of one size; in training a moving average. Of weights, `percent` of the magnitudes."""

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 50 < self.percent <= 100:
            raise InputError(f"percentile:{self.percent} leaves nothing", help="choose more than 50, at most 100")

    def _rank(self, count: int, percent: float) -> int:
        """The how manieth of `count` sorted values is the last within, from 1 on: more than half of them are."""
        return round(count * percent / 100)

    def scale(self, channels: Array, limit: int) -> Array:
        last = self._rank(channels.shape[1], self.percent) - 1
        kept = np.partition(np.abs(channels), last, axis=1)[:, last]
        return (kept / np.float32(limit)).astype(np.float32)

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        last = self._rank(channels.shape[1], self.percent)
        return channels.abs().kthvalue(last, dim=1).values.float() / limit

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        rows = rows_along(x, axis)
        count = rows.shape[1]
        rank = self._rank(count, 50 + self.percent / 2)
        low, high = kth_smallest(rows, count + 1 - rank), kth_smallest(rows, rank)
        found: Numbers = library_of(x).stack((low, -high))
        return as_type(found, "float32")

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before.lerp(seen, MOMENTUM)

    def calibrated(self, before: Numbers, seen: Numbers, count: int) -> Numbers:
        wide = as_type(before, "float64")  # in which the difference and its part are the same whoever computes them
        return as_type(wide + (as_type(seen, "float64") - wide) / count, "float32")
