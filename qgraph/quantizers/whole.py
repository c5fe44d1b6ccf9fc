"""Values that are integers, as of a rounding: on a grid on which integers lie, so that a cast finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.arrays import library_of
from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from qgraph.quantizers.arrays import Numbers

STEPS = 255.0
"""Of a grid of 8 bits."""


@quantizer("whole")
class Whole(MinMax):
    """The range of what is seen, as much wider that the step is a power of two."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        return _widened(super().seen(x, axis))

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return _widened(super().trained(before, seen))

    def calibrated(self, before: Numbers, seen: Numbers, count: int) -> Numbers:
        return _widened(super().calibrated(before, seen, count))


def _widened(range: Numbers) -> Numbers:
    """The range from an integer on, over `STEPS` steps; what was widened before is what it was."""
    library = library_of(range)
    low, high = library.ceil(range[0].clip(max=0)), library.floor((-range[1]).clip(min=0))
    step = library.exp2(-library.floor(library.log2(STEPS / (high - low).clip(min=1))))
    return library.stack((low, -(low + STEPS * step)))  # type: ignore[no-any-return]
