"""The range of what is seen of a value in calibration, and the scale and zero point that follow: what
`qgraph.training.observers` does with tensors, to the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qgraph import quantizers
from qgraph.calibration.dead_values import Observed
from qgraph.ir import Array, Node
from qgraph.quantizers.histogram import Histogram
from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.ranges import parameters_of


class Observer:
    """What is seen of the values of one pair of parameters.

    Values come in parts; those of one chunk of examples count as one, whatever the parts are.
    """

    def __init__(self, mark: Node) -> None:
        low, high = mark.attrs["range"]
        self.quant_range, self.axis = (int(low), int(high)), mark.attrs["axis"]
        self.symmetric = bool(mark.attrs["symmetric"])
        self.quantizer = replace(quantizers.get(str(mark.attrs["observer"])), levels=int(high) - int(low))
        self.zero_point: Array = mark.operand(2).data.copy()
        self.scale: Array = np.full(mark.operand(1).data.shape, np.nan, np.float32)
        self.range: Array = np.full((2, self.scale.size), np.nan, np.float32)
        self._seen: Array | None = None
        self._waiting: dict[int, list[Array]] = {}
        self._histogram: Histogram[Array] | None = None

    @property
    def by_parts(self) -> bool:
        """Whether the range of a chunk is that of the ranges of its parts."""
        return self.quantizer.searches or type(self.quantizer).seen is MinMax.seen

    def see(self, x: Array, value: int) -> None:
        """Take in a part of a chunk of a value, [examples, ...], which is the one of that number."""
        if not self.by_parts:
            self._waiting.setdefault(value, []).append(x)
            return
        self._merge(MinMax.seen(self.quantizer, x, self.axis))  # type: ignore[arg-type]  # which asks for no fields
        if self.quantizer.searches:
            more = Histogram.of(x, self.axis)
            self._histogram = more if self._histogram is None else self._histogram.plus(more)

    def _merge(self, seen: Array) -> None:
        seen = np.minimum(seen, np.float32(0))
        self._seen = seen if self._seen is None else np.minimum(self._seen, seen)

    def end_chunk(self, count: int) -> None:
        """Let the range follow what chunk number `count`, from 1 on, has shown."""
        for parts in self._waiting.values():
            self._merge(self.quantizer.seen(_joined(parts), self.axis))
        self._waiting = {}
        if self._seen is not None:
            moved = self.quantizer.calibrated(self.range, self._seen, count)
            self.range = np.where(np.isnan(self.range), self._seen, moved)
            self._seen = None
            self._set_parameters()

    def end(self) -> None:
        """All chunks have been seen: search for the range where the quantizer does."""
        if self._histogram is not None:
            self.range = self.quantizer.searched(self._histogram, self.range, self.symmetric)
            self._set_parameters()

    def _set_parameters(self) -> None:
        given = self.range, self.scale, self.zero_point, self.quant_range, self.quantizer, self.symmetric
        scale, zero_point = parameters_of(*given)
        self.scale, self.zero_point = scale.astype(np.float32), zero_point.astype(np.int32)

    @property
    def observed(self) -> Observed:
        """What has been seen."""
        return Observed(self.quant_range, self.symmetric, self.range)


def _joined(parts: Sequence[Array]) -> Array:
    """Parts of a chunk as one, along the axis in which they differ: the first has one example."""
    sizes = zip(*(part.shape for part in parts), strict=True)
    axis = next((axis for axis, found in enumerate(sizes) if len(set(found)) > 1), 0)
    return np.concatenate(parts, axis) if len(parts) > 1 else parts[0]
