"""What a chip's accumulators keep of exact sums."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from qgraph.ir import Array


def accumulated(view: Any, *operands: Any) -> Array:
    """The accumulators of an instance of an accumulating op for these operands, in the storage of its result."""
    acc = np.asarray(view.accumulate(*operands))
    match = re.fullmatch(r"s(\d+) wrap", view.accumulator)
    if match is not None:
        bits = 64 - int(match[1])
        acc = (acc.astype(np.int64) << bits) >> bits
    return np.asarray(acc.astype(view.result.type.numpy))
