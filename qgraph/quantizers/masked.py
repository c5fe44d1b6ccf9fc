"""Masks, and scores of which a mask leaves some out: what is far below the others counts for nothing in a softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qgraph.quantizers.arrays import library_of
from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.moving_average import MOMENTUM, MovingAverage
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from qgraph.quantizers.arrays import Numbers

FLOOR = -128.0
"""What stands on a grid for a mask's -inf, or -10,000."""
OUT = FLOOR / 2
"""Up to here scores are left out."""
REACH = 16.0
"""How far below the largest score the range reaches: exp(-16) is nothing beside 1."""
FAR = 1e3
"""No score is as large: what lies beyond in what is added to scores leaves them out."""
BOUND = 1e4
"""What stands on a grid for the larger numbers of which masks are computed, each of them, so that their sums hold."""


@quantizer("masked")
class Masked(MovingAverage):
    """The range of the scores that are left in, and as much below that those left out are nothing in a softmax."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        library = library_of(x)
        kept = library.where(x > OUT, x, library.zeros_like(x))
        low, negative_high = super().seen(kept, axis)
        return library.stack((library.minimum(low, -negative_high - REACH), negative_high))  # type: ignore[no-any-return]


class Following(MinMax):
    """A range that follows the batches in training; its subclasses have options of their own."""

    uses: ClassVar[tuple[str, ...]] = ()

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before.lerp(seen, MOMENTUM)


@quantizer("mask")
class Mask(Following):
    """The range of a mask that is computed: from `FLOOR` on, whether anything was left out in the examples or not; of
    one that is subtracted (`sign` -1) up to `-FLOOR`."""

    sign: float = 1.0

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        library = library_of(x)
        low, negative_high = super().seen((x * self.sign).clip(min=FLOOR), axis)
        found: Numbers = library.stack((library.full_like(low, FLOOR), negative_high))
        return _signed(found, self.sign)


@quantizer("addend")
class Addend(Following):
    """The range of an input that is added to scores, or subtracted (`sign` -1): from `FLOOR` on where the examples show
    that it is a mask, which has numbers beyond `FAR`."""

    sign: float = 1.0

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        x = x * self.sign
        floor = library_of(x).where((x < -FAR).any(), FLOOR, -np.inf)  # no branch: a GPU would be waited for
        return _signed(super().seen(x.clip(min=floor), axis), self.sign)


@quantizer("of_masks")
class OfMasks(MovingAverage):
    """The range of what masks are computed of, within `BOUND`."""

    uses: ClassVar[tuple[str, ...]] = ()

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        return super().seen(x.clip(-BOUND, BOUND), axis)


@quantizer("scores")
class Scores(Following):
    """The range of what counts in a softmax over `along`, an axis counted from the end: from `reach` below the largest
    of each row on. Rows of which nothing is left in do not count. Where a mask is `certain` the range has room for it,
    whether anything was left out in the examples or not."""

    along: float = -1.0
    reach: float = REACH
    certain: float = 0.0
    by_rows: ClassVar[bool] = True

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        library = library_of(x)
        largest = library.amax(x, axis=int(self.along), keepdims=True)
        rows = largest > OUT / REACH * self.reach
        kept = library.where(rows, library.maximum(x, largest - self.reach), library.zeros_like(x))
        low, negative_high = super().seen(kept, axis)
        if self.certain:
            none = library.full_like(largest, np.inf)
            lowest = library.where(rows, largest, none).min() - self.reach  # infinite without rows
            low = library.minimum(low, lowest)
        return library.stack((low, negative_high))  # type: ignore[no-any-return]


def _signed(range: Numbers, sign: float) -> Numbers:
    """A range of x from that of x * sign."""
    return range if sign > 0 else library_of(range).flip(range, (0,))
