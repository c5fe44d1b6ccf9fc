"""Reshapes and expansions to shapes with symbolic sizes."""

from __future__ import annotations

import itertools

from qgraph.errors import TypeMismatch
from qgraph.ir import Builder, Graph, Value
from qgraph.ir.types import Dim, Shape
from qgraph.ops.nn.shape import REST, size_of, target_shape


def reshaped(build: Builder, x: Value, shape: Shape) -> Value:
    """x in another shape, whose symbolic sizes are its own or those of one other value."""
    if x.type.shape == shape:
        return x
    try:
        made: Value = build.nn.reshape(x, shape=target_shape(x.type.shape, shape))
    except TypeMismatch:
        like = with_sizes(build.graph, {size for size in shape if isinstance(size, str)})
        made = build.nn.reshape(x, like, shape=target_shape(like.type.shape, shape))
    return made


def expanded(build: Builder, x: Value, shape: Shape) -> Value:
    """x repeated to a shape, whose symbolic sizes are those of the graph's values; raises TypeMismatch where it has
    none of such a size."""
    while x.type.shape != shape:
        own = (1,) * (len(shape) - x.type.rank) + x.type.shape
        open_axes = [i for i, size in enumerate(shape) if isinstance(size, str) and size != own[i]]
        like = with_sizes(build.graph, {shape[i] for i in open_axes}) if open_axes else None
        sizes: list[int] = []
        for i, size in enumerate(shape):
            known = like is not None and size in like.type.shape
            if isinstance(size, int):
                sizes.append(size)
            elif size == own[i]:
                sizes.append(REST)
            else:
                sizes.append(size_of(like.type.shape.index(size)) if known and like is not None else 1)
        x = build.nn.expand(x, like, shape=tuple(sizes))
    return x


def with_sizes(graph: Graph, sizes: set[Dim]) -> Value:
    """The first value that has the most of these sizes: an input, or a result."""
    found, most = None, 0
    for value in itertools.chain(graph.inputs, (value for node in graph.nodes for value in node.results)):
        count = len(sizes & {*value.type.shape})
        if count > most:
            found, most = value, count
        if most == len(sizes):
            break
    if found is None:
        raise TypeMismatch(f"an expansion to the sizes {', '.join(sorted(map(str, sizes)))}, which no value has")
    return found
