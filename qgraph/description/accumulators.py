"""The accumulators of an op: their storage, what the op says of them, and the range that they have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgraph.arith.stages_widths import Width
from qgraph.description.description import Settings
from qgraph.description.staging import Ends
from qgraph.errors import LoweringError
from qgraph.ir import Array, Attr
from qgraph.ops.npu.storage import ACCUMULATORS, storage_of
from qgraph.targets.lowering import CALIBRATE


@dataclass(frozen=True)
class Accumulator:
    """Storage, attributes of the accumulating op, and the least and greatest accumulators."""

    dtype: str
    words: dict[str, Attr]
    ends: Ends


def accumulator_of(settings: Settings, products: Ends, begin: Array) -> Accumulator:
    """The accumulators of an op, of sums of products within `products` that begin with `begin`, [1] or [O].

    Raises LoweringError where they may overflow and the description does not say what happens then.
    """
    text = settings.get("accumulator.width")
    words: dict[str, Any] = {
        "accumulator": text,
        "order": settings.get("accumulator.order"),
        "product": settings.get("accumulator.product"),
    }
    width = Width.parse(text.split()[0])
    assert width is not None
    ends = begin + products[0], begin + products[1]
    dtype = storage_of(width.low, width.high, tuple(ACCUMULATORS.split("|")))
    assert dtype is not None
    if ends[0].min() >= width.low and ends[1].max() <= width.high:
        return Accumulator(dtype, words, ends)
    if not re.search(r"wrap|saturate", text):
        bound = max(-int(ends[0].min()), int(ends[1].max()))
        raise LoweringError(f"accumulators of up to {bound} leave {width}", help=CALIBRATE)
    whole = np.broadcast_to(width.low, ends[0].shape), np.broadcast_to(width.high, ends[1].shape)
    return Accumulator(dtype, words, whole)
