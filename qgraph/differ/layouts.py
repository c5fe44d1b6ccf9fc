"""How an array of one graph lies in the order of the other's dimensions: NHWC against NCHW, also behind a flatten.

Nothing is read from metadata: the candidates follow from the shapes, the choice among them from the layout of the value
that a group reads, and where that does not decide, from the numbers: the layout with the smallest error.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qgraph.ir import Array

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Arrangement:
    """`first = second.reshape(inner).transpose(order).reshape(first_shape)`; all sizes are concrete."""

    first: Sizes
    second: Sizes
    inner: Sizes
    order: tuple[int, ...]

    @property
    def is_identity(self) -> bool:
        """Whether the elements have the same order in both."""
        return self.order == tuple(range(len(self.order)))

    def to_first(self, array: Array) -> Array:
        """An array of the second graph in the first one's layout."""
        return array.reshape(self.inner).transpose(self.order).reshape(self.first)

    def to_second(self, array: Array) -> Array:
        """An array of the first graph in the second one's layout; as it is (strides too) where that is the same, since
        float sums depend on it."""
        if self.is_identity and self.first == self.second:
            return array
        sizes = [self.inner[i] for i in self.order]
        return np.ascontiguousarray(array.reshape(sizes).transpose(np.argsort(self.order)).reshape(self.second))

    def __str__(self) -> str:
        return f"dimensions {list(self.order)} of {list(self.inner)}"


def candidates(first: Sizes, second: Sizes, source: Arrangement | None = None) -> list[Arrangement]:
    """The layouts that fit two shapes; `source`: that of the value they were computed from, for flattened ones."""
    found = [Arrangement(first, second, second, order) for order in _orders(first, second)]
    if not found and [d for d in first if d != 1] == [d for d in second if d != 1]:
        found.append(Arrangement(first, second, second, tuple(range(len(second)))))
    if source is not None and len(first) == len(second) == 2 and len(source.inner) > 2:
        inner = (second[0], *source.inner[1:])
        if np.prod(inner[1:]) == second[1]:
            found.append(Arrangement(first, second, inner, source.order))
    return found


def _orders(first: Sizes, second: Sizes) -> Iterator[tuple[int, ...]]:
    """Orders of dimensions that turn one shape into the other: the same, channels moved, any, whichever fits first."""
    rank = len(second)
    if len(first) != rank or sorted(first) != sorted(second):
        return
    same = tuple(range(rank))
    usual = [same]
    if rank > 2:
        usual += [(0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)]
    fitting = [order for order in dict.fromkeys(usual) if tuple(second[i] for i in order) == first]
    if not fitting and rank <= 5:
        fitting = [p for p in itertools.permutations(same) if tuple(second[i] for i in p) == first]
    yield from fitting


def preferred(fitting: Sequence[Arrangement], source: Arrangement | None, kinds: set[str]) -> Arrangement | None:
    """The layout that follows from that of the value that a group of these kinds reads; None where that is open."""
    if len(fitting) == 1:
        return fitting[0]
    if "transpose" in kinds:
        return None
    if "linear" in kinds and fitting and len(fitting[0].first) == 2:
        return fitting[0]  # a linear layer mixes all features: the result has the order of its rows
    if source is None:
        return None
    return next((layout for layout in fitting if layout.order == source.order), None)
