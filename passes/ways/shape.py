"""What moves elements, by simpler ops."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Builder
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.ops.nn.shape import size_of
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import way


@way("nn.expand", "nn.mul", "nn.add", "nn.slice", "nn.reshape")
def expand(match: Match, build: Builder) -> Replacement:
    """x times ones, which is exact for every number; plus zeros of a symbolic size, which are 0 * `like`."""
    x, *like = match.root.inputs
    shape = match.root.result.type.shape
    known = [size if isinstance(size, int) else 1 for size in shape]
    if not all(value.type.is_float for value in match.root.inputs):
        return Declined(f"{x.type} or what it takes its size of holds no floats")
    if broadcast_shape(x.type.shape, tuple(known)) == shape:
        return build.nn.mul(x, build.constant(np.ones(known, x.type.numpy), "ones"))
    sizes, (source,) = match.root.attrs["shape"], like or [x]
    untaken = [axis for axis in range(source.type.rank) if size_of(axis) not in sizes]
    if not like or any(isinstance(source.type.shape[axis], str) for axis in untaken):
        return Declined(f"{x.type} is repeated along its own symbolic size, or as a part of a value with several")
    for axis in untaken:
        source = build.nn.slice(source, axis=axis, start=0, end=1, step=1)
    source = build.nn.reshape(source, shape=tuple(size if size <= size_of(0) else 1 for size in sizes))
    return build.nn.add(build.nn.mul(source, build.constant(np.zeros(known, x.type.numpy), "zeros")), x)
