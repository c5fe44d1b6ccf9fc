"""In training the range follows the batches; in calibration it covers everything, as `min_max`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

MOMENTUM = 0.05
"""Weight of a new batch in the moving average of a range."""


@quantizer("moving_average")
class MovingAverage(MinMax):
    """The range moves by `momentum` towards that of each batch; the first batch sets it."""

    momentum: float = MOMENTUM

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before.lerp(seen, self.momentum)
