"""What transformers and tables are made of: attention, normalizations of groups, sums, bags of embeddings, and
indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.ir import Builder, Node, Value, op_def
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import numeral, times, way

UNSEEN = float(np.finfo(np.float32).min)
"""What masked scores become; -inf would make NaN of a row that sees nothing."""


@way("nn.attention", "nn.matmul", "nn.softmax", "nn.transpose", "nn.mul", "nn.add", "nn.where", "nn.gather")
def attention(match: Match, build: Builder) -> Replacement:
    """Two products, and a softmax between them; the scale is the query's, what is not seen has the lowest score."""
    layer = op_def("nn.attention").view(match.root)
    depth = layer.query.type.shape[-1]
    if layer.scale is None and isinstance(depth, str):
        return Declined(f"the scale is 1 / sqrt({depth}), which is not known")
    seen = _seen(layer, build)
    if isinstance(seen, Declined):
        return seen
    key, value = (_for_all_heads(layer, each, build) for each in (layer.key, layer.value))
    query = times(build, layer.query, 1 / math.sqrt(depth) if layer.scale is None else layer.scale)
    rank = key.type.rank
    scores = build.nn.matmul(query, build.nn.transpose(key, perm=(*range(rank - 2), rank - 1, rank - 2)))
    for mask in seen:
        if mask.type.dtype == "bool":
            scores = build.nn.where(mask, scores, numeral(build, scores, UNSEEN))
        else:
            scores = build.nn.add(scores, mask)
    share = build.nn.softmax(scores, axis=scores.type.rank - 1)
    for mask in seen:
        if mask.type.dtype == "bool" and not _always_sees(mask):
            share = build.nn.where(mask, share, numeral(build, share, 0.0))
    return build.nn.matmul(share, value)


def _seen(layer: Any, build: Builder) -> list[Value] | Declined:
    """The masks: what a causal row sees, and the one that is given."""
    masks = [] if layer.mask is None else [layer.mask]
    if not layer.causal:
        return masks
    rows, columns = layer.query.type.shape[-2], layer.key.type.shape[-2]
    if isinstance(rows, str) or isinstance(columns, str):
        return Declined(f"what each of {rows} rows sees of {columns} columns is not known")
    return [build.constant(np.tri(rows, columns) > 0, "seen"), *masks]


def _always_sees(mask: Value) -> bool:
    """Whether each row of a constant mask sees something."""
    return mask.is_constant and bool(mask.data.any(axis=-1).all())


def _for_all_heads(layer: Any, x: Value, build: Builder) -> Value:
    """Keys or values for every head of the query: each group's as often as it has heads."""
    heads, groups = layer.query.type.shape[-3], x.type.shape[-3]
    if heads == groups:
        return x
    which = build.constant(np.repeat(np.arange(groups), heads // groups), "heads")
    made: Value = build.nn.gather(x, which, axis=x.type.rank - 3)
    return made


@way("nn.group_norm", "nn.layer_norm", "nn.reshape", "nn.mul", "nn.add")
def group_norm(match: Match, build: Builder) -> Replacement:
    """Layer normalization of each group, then factors and summands for the channels."""
    layer = op_def("nn.group_norm").view(match.root)
    x, rank = layer.x, layer.x.type.rank
    if any(isinstance(size, str) for size in x.type.shape[1:]):
        return Declined(f"{x.type} has sizes that are not known behind the first")
    grouped = build.nn.reshape(x, shape=(-1, layer.groups, math.prod(x.type.shape[1:]) // layer.groups))
    y = build.nn.reshape(build.nn.layer_norm(grouped, eps=layer.eps), shape=(-1, *x.type.shape[1:]))
    column = (-1, *(1,) * (rank - 2))
    y = y if layer.gamma is None else build.nn.mul(y, build.nn.reshape(layer.gamma, shape=column))
    return y if layer.beta is None else build.nn.add(y, build.nn.reshape(layer.beta, shape=column))


@way("nn.sum", "nn.mean", "nn.mul")
def total(match: Match, build: Builder) -> Replacement:
    """As many means as there are elements."""
    node = match.root
    sizes = [node.operand(0).type.shape[axis] for axis in node.attrs["axes"]]
    if any(isinstance(size, str) for size in sizes) or not node.result.type.is_float:
        return Declined("only floats have a mean, and their number must be known")
    return times(build, build.nn.mean(node.operand(0), **node.attrs), math.prod(sizes))


@way("nn.embedding_bag", "nn.embedding", "nn.mean", "nn.sum", "nn.max", "nn.mul", "nn.reshape")
def embedding_bag(match: Match, build: Builder) -> Replacement:
    """The rows, weighted, and what is made of them."""
    node: Node = match.root
    bag = op_def("nn.embedding_bag").view(node)
    if bag.padding is not None:
        return Declined("rows of padding do not count")
    rows = build.nn.embedding(bag.indices, bag.w)
    if bag.weights is not None:
        if any(isinstance(size, str) for size in bag.weights.type.shape[1:]):
            return Declined("how many weights a bag has is not known")
        column = build.nn.reshape(bag.weights, shape=(-1, *bag.weights.type.shape[1:], 1))
        rows = build.nn.mul(rows, column)
    made: Value = getattr(build.nn, bag.mode)(rows, axes=(1,))
    return made


@way("nn.index", "nn.reshape", "nn.gather")
def index(match: Match, build: Builder) -> Replacement:
    """Constant indices along several dimensions, one behind the other, as indices of these as one dimension."""
    node: Node = match.root
    x, *indices = node.inputs
    axes, shape = node.attrs["axes"], x.type.shape
    sizes = [shape[axis] for axis in axes]
    if len(axes) < 2 or list(axes) != [*range(axes[0], axes[-1] + 1)] or any(isinstance(size, str) for size in sizes):
        return Declined(f"axes {list(axes)} of {x.type} are not several, of known sizes, one behind the other")
    if not all(value.is_constant for value in indices):
        return Declined("an index is computed")
    if sum(isinstance(size, str) for size in shape) > 1:
        return Declined(f"a Reshape cannot say {x.type} with {list(axes)} as one")
    places = np.zeros((), np.int64)
    for value, size in zip(indices, sizes, strict=True):
        places = places * size + value.data % size
    joined = [*shape[: axes[0]], math.prod(sizes), *shape[axes[-1] + 1 :]]
    flat = build.nn.reshape(x, shape=tuple(-1 if isinstance(size, str) else size for size in joined))
    return build.nn.gather(flat, build.constant(places, "places"), axis=axes[0])
