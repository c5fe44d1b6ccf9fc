"""Reciprocals that products read: of a divisor next to 0, an example of zeros maybe, nothing is left on its grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qgraph.quantizers.arrays import library_of
from qgraph.quantizers.moving_average import MovingAverage
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from qgraph.quantizers.arrays import Numbers

BEYOND = 2 * 255.0
"""Times the reciprocal of the largest divisor: that of half a step of 8 bits; divisors below have the code of 0."""


@quantizer("reciprocal")
class Reciprocal(MovingAverage):
    """The range of the reciprocals of divisors that have a code beside that of 0; others get the last code."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        library, size = library_of(x), abs(x)
        kept: Numbers = library.where(size <= size.min() * BEYOND, x, library.zeros_like(x))
        return super().seen(kept, axis)

    def calibrated(self, before: Numbers, seen: Numbers, count: int) -> Numbers:
        """The union, of two chunks of which none has divisors next to nothing for the other."""
        library, one, other = library_of(seen), _size(before), _size(seen)
        both = library.where(one > other * BEYOND, seen, super().calibrated(before, seen, count))
        return library.where(other > one * BEYOND, before, both)  # type: ignore[no-any-return]


def _size(range: Numbers) -> Numbers:
    """The largest size of numbers in a range."""
    return library_of(range).amax(abs(range), 0)  # type: ignore[no-any-return]
