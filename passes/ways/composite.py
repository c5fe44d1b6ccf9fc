"""Normalizations of groups by layer normalization, several indices by one, resampling by products."""

from __future__ import annotations

import math

import numpy as np

from qgraph.ir import Array, Builder, Node, Value, op_def
from qgraph.ops.nn.resizing import by_size, nearest, resampling
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import by_channel, way


@way("nn.group_norm", "nn.layer_norm", "nn.reshape", "nn.mul", "nn.add")
def group_norm(match: Match, build: Builder) -> Replacement:
    """Layer normalization of each group, then factors and summands for the channels."""
    layer = op_def("nn.group_norm").view(match.root)
    x, rank = layer.x, layer.x.type.rank
    if any(isinstance(size, str) for size in x.type.shape[1:]):
        return Declined(f"{x.type} has sizes that are not known behind the first")
    if any(value is not None and not value.is_constant for value in (layer.gamma, layer.beta)):
        return Declined("a parameter is computed")
    grouped = build.nn.reshape(x, shape=(-1, layer.groups, math.prod(x.type.shape[1:]) // layer.groups))
    y = build.nn.reshape(build.nn.layer_norm(grouped, eps=layer.eps), shape=(-1, *x.type.shape[1:]))
    gamma, beta = (None if value is None else by_channel(build, value, rank) for value in (layer.gamma, layer.beta))
    y = y if gamma is None else build.nn.mul(y, gamma)
    return y if beta is None else build.nn.add(y, beta)


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


@way("nn.resize", "nn.matmul", "nn.gather", "nn.transpose")
def resampled(match: Match, build: Builder) -> Replacement:
    """As `weighted`, of any dimensions; or the elements that are nearest."""
    node: Node = match.root
    if by_size(node) or node.attrs["mode"] != "nearest":
        return _weighted(node, build)
    x = node.operand(0)
    for axis, (step, out) in enumerate(zip(node.attrs["steps"], node.attrs["size"], strict=True), 2):
        places = nearest(int(x.type.shape[axis]), out, step)
        x = build.nn.gather(x, build.constant(places, "nearest"), axis=axis)
    return x


@way("nn.resize", "nn.matmul")
def weighted(match: Match, build: Builder) -> Replacement:
    """A product with the weights of each of two dimensions at most, the last first: cubic, or linear by steps that are
    not those of the sizes."""
    x = match.root.operand(0)
    return Declined(f"{x.type} has more dimensions") if x.type.rank > 4 else _weighted(match.root, build)


def _weighted(node: Node, build: Builder) -> Replacement:
    x, mode, aligned = node.operand(0), node.attrs["mode"], node.attrs["align_corners"]
    if mode == "nearest" or (by_size(node) and mode != "cubic"):
        return Declined(f"it is {mode} of {x.type} between sizes")
    for axis, out in [*enumerate(node.attrs["size"], 2)][::-1]:
        size = int(x.type.shape[axis])
        step = size / out if node.attrs["steps"] is None else node.attrs["steps"][axis - 2]
        x = along(build, x, resampling(size, out, step, mode, aligned).astype(x.type.numpy), axis)
    return x


def along(build: Builder, x: Value, weights: Array, axis: int) -> Value:
    """The sums of x along an axis with these weights, [out, size]."""
    last = x.type.rank - 1
    made: Value
    if axis == last - 1:
        made = build.nn.matmul(build.constant(weights, "rows"), x)
        return made
    perm = [*range(last + 1)]
    perm[axis], perm[last] = last, axis
    turned = x if axis == last else build.nn.transpose(x, perm=tuple(perm))
    made = build.nn.matmul(turned, build.constant(np.ascontiguousarray(weights.T), "columns"))
    return made if axis == last else build.nn.transpose(made, perm=tuple(perm))
