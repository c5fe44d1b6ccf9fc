"""Orders of dimensions, and the ops that may stand on either side of a transpose.

Elementwise ops may. The class of another one that may has `permuted`, which gives the attributes that the op has in the
other layout, or None where it has to stay:

    op(x.transpose(perm(r)), **permuted(perm)) == op(x).transpose(perm(s))

for an operand of rank r and a result of rank s, `perm` being `to_last` or `to_first`.
"""

from __future__ import annotations

from collections.abc import Callable

Perm = Callable[[int], tuple[int, ...]]
"""The order of dimensions that a layout has for each rank."""


def to_last(rank: int) -> tuple[int, ...]:
    """The order of dimensions that moves the channels from place 1 to the end; ranks below 3 keep theirs."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def to_first(rank: int) -> tuple[int, ...]:
    """The order of dimensions that moves the channels from the end to place 1; ranks below 3 keep theirs."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else tuple(range(rank))
