"""Attention as matrix products and a softmax."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from qgraph.ir import Builder, Value
from qgraph.ops.nn.shape import size_of
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import times, way

LEAST = -1e4
"""What stands for -inf in a sum of scores: exp of it is 0 in every precision, and a scale fits it."""


PARTS = ("nn.matmul", "nn.mul", "nn.add", "nn.softmax", "nn.transpose", "nn.reshape", "nn.expand")


COMPUTED = ("nn.cast", "nn.logical_not")
PLACES = ("nn.arange", "nn.less")


@way("nn.attention", *PARTS, *COMPUTED, *PLACES)
def attention_of_open_length(match: Match, build: Builder) -> Replacement:
    """As `masked_attention`; a causal mask of open sizes is computed."""
    return _written(match, build, (*COMPUTED, *PLACES))


@way("nn.attention", *PARTS, *COMPUTED)
def masked_attention(match: Match, build: Builder) -> Replacement:
    """As `attention`; a mask of booleans that is computed becomes one of floats."""
    return _written(match, build, COMPUTED)


@way("nn.attention", *PARTS)
def attention(match: Match, build: Builder) -> Replacement:
    """softmax(query * scale @ key^T + mask) @ value; a mask of booleans has to be known."""
    return _written(match, build, ())


def _written(match: Match, build: Builder, more: Collection[str]) -> Replacement:
    """`more`: the ops that may be made beside `PARTS`."""
    query, key, value, mask = [*match.root.operands, None][:4]
    assert query is not None  # none of the three is optional
    assert key is not None
    assert value is not None
    if mask is not None and mask.type.dtype == "bool" and not mask.is_constant and not more:
        return Declined("the mask of booleans is computed")
    unseen = _added(match, build, mask, query, key, more)
    if isinstance(unseen, Declined):
        return unseen
    if query.type.shape[-3] != key.type.shape[-3]:
        if key.type.rank != 4:
            return Declined(f"heads share the keys {key.type}, which have another number of dimensions than four")
        count = int(query.type.shape[-3]) // int(key.type.shape[-3])
        key, value = (_repeated(build, each, count) for each in (key, value))
    depth, scale = query.type.shape[-1], match.root.attrs["scale"]
    if scale is None and isinstance(depth, str):
        return Declined(f"the size {depth} is symbolic")
    factor = 1 / math.sqrt(int(depth)) if scale is None else scale
    rank = key.type.rank
    turned = build.nn.transpose(key, perm=(*range(rank - 2), rank - 1, rank - 2))
    scores = build.nn.matmul(times(build, query, factor), turned)
    for each in unseen:
        scores = build.nn.add(scores, each)
    return build.nn.matmul(build.nn.softmax(scores, axis=scores.type.rank - 1), value)


def _added(
    match: Match, build: Builder, mask: Value | None, query: Value, key: Value, more: Collection[str]
) -> list[Value] | Declined:
    """What is added to the scores: `LEAST` where nothing may be seen."""
    made: list[Value] = []
    if match.root.attrs["causal"]:
        rows, columns = query.type.shape[-2], key.type.shape[-2]
        if not isinstance(rows, str) and not isinstance(columns, str):
            made.append(build.constant(np.triu(np.full((rows, columns), LEAST, query.type.numpy), 1), "causal"))
        elif "nn.arange" not in more:
            return Declined("the sizes of the causal mask are symbolic")
        else:
            row, column = (build.nn.arange(each, axis=each.type.rank - 2) for each in (query, key))
            later = build.nn.less(build.nn.reshape(row, shape=(-1, 1)), column)
            made.append(times(build, build.nn.cast(later, dtype=query.type.dtype), LEAST))
    if mask is None:
        return made
    if not mask.is_constant and mask.type.dtype == "bool":
        unseen = build.nn.cast(build.nn.logical_not(mask), dtype=query.type.dtype)
        return [*made, times(build, unseen, LEAST)]
    if not mask.is_constant:
        return [*made, mask]
    numbers = np.where(mask.data, 0, LEAST) if mask.type.dtype == "bool" else np.maximum(mask.data, LEAST)
    return [*made, build.constant(numbers.astype(query.type.numpy), mask.name)]


def _repeated(build: Builder, x: Value, count: int) -> Value:
    """Each head several times, one after the other."""
    batch, heads, rows, depth = x.type.shape
    sizes = [size if isinstance(size, int) else size_of(i) for i, size in enumerate((batch, heads, rows, depth))]
    apart = build.nn.reshape(x, shape=(sizes[0], heads, 1, *sizes[2:]))
    kept = [-1 if isinstance(size, str) else size for size in (batch, heads, rows, depth)]
    more = build.nn.expand(apart, shape=(kept[0], heads, count, *kept[2:]))
    rest = [size if isinstance(size, int) else size_of(i) for i, size in ((0, batch), (3, rows), (4, depth))]
    return build.nn.reshape(more, shape=(rest[0], int(heads) * count, *rest[1:]))
