"""Normalizations of groups by layer normalization, several indices by one, bicubic resampling by products."""

from __future__ import annotations

import math

import numpy as np

from qgraph.ir import Builder, Node, op_def
from qgraph.ops.nn.resizing import by_size, resampling
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import way


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
    gamma, beta = (
        None if value is None else build.constant(value.data.reshape(-1, *(1,) * (rank - 2)), value.name)
        for value in (layer.gamma, layer.beta)
    )
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


@way("nn.resize", "nn.matmul")
def bicubic(match: Match, build: Builder) -> Replacement:
    """A product with the weights of each of the two dimensions."""
    node: Node = match.root
    if node.attrs["mode"] != "cubic" or node.operand(0).type.rank != 4 or not by_size(node):
        return Declined(f"it is {node.attrs['mode']} of {node.operand(0).type}, not bicubic between sizes")
    x, aligned = node.operand(0), node.attrs["align_corners"]
    height, width = (
        resampling(int(size), out, int(size) / out, "cubic", aligned).astype(x.type.numpy)
        for size, out in zip(x.type.shape[2:], node.attrs["size"], strict=True)
    )
    return build.nn.matmul(build.constant(height, "rows"), build.nn.matmul(x, build.constant(width.T, "columns")))
