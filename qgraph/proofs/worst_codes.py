"""Codes that make one accumulator as large, or as small, as it can be.

Which weight a code is multiplied by shows the kernel itself: where all codes but one are at their zero point, and each
weight is its own place along one of its axes, the accumulator is that place. Along an axis an accumulator reads codes
at even distances, and so are the places of their weights. So a search for the first two codes of each
axis, and a probe at them, give the weights of all.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qgraph.ir import Array

if TYPE_CHECKING:
    from qgraph.proofs.accumulators import Layer


def worst_codes(layer: Layer, place: int, up: bool) -> dict[str, Array]:
    """Codes of the computed operands, by name, for which accumulator `place` of one example is largest (`up`) or
    smallest."""
    if layer.constant is None:
        corners = itertools.product(
            *[[layer.codes(name, code) for code in layer.ends(name)] for name in layer.computed]
        )
        given = [dict(zip(layer.computed, each, strict=True)) for each in corners]
        return (max if up else min)(given, key=lambda codes: int(layer.accumulators(**codes).reshape(-1)[place]))
    (name,) = layer.computed
    low, high = layer.ends(name)
    probe = _Probe(layer, name, place)
    read = [probe.read_along(axis) for axis in range(probe.sizes.ndim)]
    weights = probe.weights(read)
    codes = layer.codes(name, int(layer.type.zeros[name]))
    codes[np.ix_(*read)] = np.where((weights > 0) == up, high, low)
    return {name: codes}


class _Probe:
    """Asks the kernel what one accumulator reads."""

    def __init__(self, layer: Layer, name: str, place: int) -> None:
        self.layer, self.name, self.place = layer, name, place
        self.weight = layer.constants[str(layer.constant)]
        self.zero, self.weight_zero = int(layer.type.zeros[name]), layer.type.zeros[str(layer.constant)]
        self.sizes = layer.codes(name, 0)

    def value(self, where: tuple[slice | int, ...], weights: NDArray[np.int64]) -> int:
        """The accumulator where the codes at `where` are one above their zero point and all others at it."""
        codes = np.full(self.sizes.shape, self.zero, np.int64)
        codes[where] += 1
        given = {self.name: codes, str(self.layer.constant): weights + self.weight_zero}
        return int(self.layer.accumulators(**given, **self.layer.bias()).reshape(-1)[self.place])

    def read_along(self, axis: int) -> list[int]:
        """The places along an axis of what the accumulator reads: at even distances."""
        ones = np.ones(self.weight.shape, np.int64)
        before: tuple[slice, ...] = (slice(None),) * axis
        size, most = self.sizes.shape[axis], self.value((), ones)

        def first_from(start: int) -> int | None:
            """The first place from `start` on that is read."""
            if start >= size or not self.value((*before, slice(start, None)), ones):
                return None
            low, high = start, size - 1
            while low < high:
                middle = (low + high) // 2
                if self.value((*before, slice(start, middle + 1)), ones):
                    high = middle
                else:
                    low = middle + 1
            return low

        first = first_from(0)
        if first is None:
            return []
        second = first_from(first + 1)
        if second is None:
            return [first]
        each = self.value((*before, slice(first, first + 1)), ones)
        return list(range(first, first + (most // each) * (second - first), second - first))

    def weights(self, read: list[list[int]]) -> NDArray[np.int64]:
        """The weight, without its zero point, of each code that is read: of the shape of `read`."""
        if not all(read):
            return np.zeros([len(each) for each in read], np.int64)
        centred = self.weight.astype(np.int64) - self.weight_zero
        corner = tuple(each[0] for each in read)
        places = []
        for axis in range(centred.ndim):
            along = np.zeros(centred.shape, np.int64)
            along += np.arange(1, centred.shape[axis] + 1).reshape(
                [-1 if i == axis else 1 for i in range(centred.ndim)]
            )
            begin = self.value(corner, along)
            steps = [
                self.value((*corner[:i], each[1], *corner[i + 1 :]), along) - begin if len(each) > 1 else 0
                for i, each in enumerate(read)
            ]
            grid = np.meshgrid(
                *[np.arange(len(each)) * step for each, step in zip(read, steps, strict=True)], indexing="ij"
            )
            places.append(begin - 1 + sum(grid))
        return np.asarray(centred[tuple(places)])
