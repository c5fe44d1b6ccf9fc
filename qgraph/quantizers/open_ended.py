"""Values next to a pole: an example that is smaller than all that were seen makes a larger one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.moving_average import MovingAverage
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from qgraph.quantizers.arrays import Numbers

ROOM = 8.0
"""Times what was seen: three of sixteen bits."""


@quantizer("open_ended")
class OpenEnded(MovingAverage):
    """The range of what is seen, and room beyond."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        return super().seen(x, axis) * ROOM
