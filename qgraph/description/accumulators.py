"""The accumulators of an op: their storage, what the op says of them, and the range that they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.narrow_accumulator import AccumulatorRule
from qgraph.arith.stages_widths import Interval, Overflow
from qgraph.description.description import Settings
from qgraph.description.staging import Ends
from qgraph.ir import Array, Attr
from qgraph.ops.npu.storage import ACCUMULATORS, storage_of


@dataclass(frozen=True)
class Accumulator:
    """Storage, attributes of the accumulating op, and the least and greatest accumulators."""

    dtype: str
    words: dict[str, Attr]
    ends: Ends


def accumulator_of(
    settings: Settings, weight: NDArray[np.integer], x: tuple[int, int], start: Array, kernel: Sequence[int] = ()
) -> Accumulator:
    """The accumulators of an op that adds products of a weight [O, *kernel, C] and x, within its ends, to start [O].

    Raises AccumulatorError where they may overflow and the description does not say what happens then.
    """
    words: dict[str, Any] = {name: settings.get(f"accumulator.{name}") for name in ("width", "order", "product")}
    rule = AccumulatorRule.parse(words["width"], words["order"], words["product"])
    dtype = storage_of(rule.width.low, rule.width.high, tuple(ACCUMULATORS.split("|"))) or "i64"
    flat = weight.reshape(len(weight), -1)
    padded = np.concatenate([flat, np.zeros((len(flat), 1), flat.dtype)], axis=1)
    ordered = padded[:, rule.places(kernel, weight.shape[-1])]
    within = min(x[0], 0), max(x[1], 0)
    rule.check(ordered, within, start)
    return Accumulator(dtype, words, _kept(rule, rule.sums(ordered, within, start)))


def _kept(rule: AccumulatorRule, sums: Interval) -> Ends:
    """The least and the greatest of what is kept of sums."""
    if rule.mode is None or ((sums.low >= rule.width.low).all() and (sums.high <= rule.width.high).all()):
        return sums.low, sums.high
    overflow = Overflow(rule.width, rule.mode)
    if rule.each is None:
        return tuple(overflow.interval(Interval(sums.low.astype(object), sums.high.astype(object))))  # type: ignore[return-value]  # a pair
    low, high = overflow.range
    return np.full(sums.low.shape, low), np.full(sums.high.shape, high)
