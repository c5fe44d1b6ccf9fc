"""What moves elements, by simpler ops."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Builder
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import way


@way("nn.expand", "nn.mul")
def expand(match: Match, build: Builder) -> Replacement:
    """x times ones, which is exact for every number, where all new sizes are known."""
    x, shape = match.root.operand(0), match.root.result.type.shape
    ones = build.constant(np.ones([size if isinstance(size, int) else 1 for size in shape], x.type.numpy), "ones")
    if not x.type.is_float or broadcast_shape(x.type.shape, ones.type.shape) != shape:
        return Declined(f"{x.type} is repeated along a symbolic size, or holds no floats")
    return build.nn.mul(x, ones)
