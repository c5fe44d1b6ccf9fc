"""Shapes, and what moves elements without looking at them."""

from __future__ import annotations

import numpy as np

from qgraph.frontends.composed import one_side, parts
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import axis_of, reads
from qgraph.frontends.target_shapes import expanded, reshaped
from qgraph.ir import Builder, Dim, Value
from qgraph.ir.types import dim_factors, dim_product
from qgraph.ops.nn.elementwise import broadcast_shape


@reads("Reshape")
def _reshape(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    dims = node.reader.dims(node.integers("shape", 1) or ())
    if not node.attr("allowzero", 0):
        dims = [x.type.shape[i] if size == 0 else size for i, size in enumerate(dims)]
    return _reshaped(node, build, dims)


def _reshaped(node: OnnxNode, build: Builder, dims: list[Dim]) -> Value:
    """x in a shape of which one size may be -1, and symbolic ones are those of the graph's values."""
    x = node.operand(0)
    if -1 in dims:
        dims[dims.index(-1)] = _missing(node, x.type.shape, [dim for dim in dims if dim != -1])
    made = reshaped(build, x, tuple(dims))
    if list(made.type.shape) != dims:
        raise node.unsupported(f"{list(x.type.shape)} cannot become {dims}")
    return made


@reads("Expand")
def _expand(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return expanded(build, x, broadcast_shape(x.type.shape, tuple(node.reader.dims(node.integers("shape", 1) or ()))))


@reads("ConstantOfShape")
def _constant_of_shape(node: OnnxNode, build: Builder) -> Value:
    """One number, repeated to a shape of which some sizes are symbolic."""
    data = node.tensor(node.attrs.pop("value")) if "value" in node.attrs else np.zeros(1, np.float32)
    shape = tuple(node.reader.dims(node.integers("shape", 0) or ()))
    return expanded(build, build.constant(data.reshape((1,) * len(shape)), node.outputs[0]), shape)


def _missing(node: OnnxNode, shape: tuple[Dim, ...], rest: list[Dim]) -> Dim:
    """The size that -1 stands for."""
    count, symbols = dim_factors(dim_product(shape))
    known, taken = dim_factors(dim_product(rest))
    left = list(symbols)
    for symbol in taken:
        if symbol not in left:
            raise node.unsupported(f"{list(shape)} has no factor {symbol}")
        left.remove(symbol)
    if known == 0 or count % known:
        raise node.unsupported(f"{list(shape)} cannot become {rest} and -1")
    return dim_product([*left, count // known])


@reads("Flatten")
def _flatten(node: OnnxNode, build: Builder) -> Value:
    shape, axis = node.operand(0).type.shape, node.attr("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return _reshaped(node, build, [dim_product(shape[:axis]), dim_product(shape[axis:])])


@reads("Squeeze")
def _squeeze(node: OnnxNode, build: Builder) -> Value:
    shape = node.operand(0).type.shape
    axes = node.integers("axes", 1, [i for i, size in enumerate(shape) if size == 1]) or ()
    gone = {axis % len(shape) for axis in axes}
    return _reshaped(node, build, [size for i, size in enumerate(shape) if i not in gone])


@reads("Unsqueeze")
def _unsqueeze(node: OnnxNode, build: Builder) -> Value:
    dims = list(node.operand(0).type.shape)
    axes = node.integers("axes", 1) or ()
    rank = len(dims) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        dims.insert(axis, 1)
    return _reshaped(node, build, dims)


@reads("Transpose")
def _transpose(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    return build.nn.transpose(x, perm=node.attr("perm", tuple(reversed(range(x.type.rank)))))


def _image(node: OnnxNode, x: Value) -> tuple[int, int, int, int]:
    """The sizes of images, -1 for an open batch; raises UnsupportedOp where another one is open."""
    batch, channels, height, width = x.type.shape
    if isinstance(channels, str) or isinstance(height, str) or isinstance(width, str):
        raise node.unsupported(f"the sizes of {x.type} must be known")
    return (-1 if isinstance(batch, str) else batch), channels, height, width


@reads("DepthToSpace")
def _depth_to_space(node: OnnxNode, build: Builder) -> Value:
    """Channels become pixels: [N, C, H, W] -> [N, C / b**2, H * b, W * b], the block's axes before or behind C."""
    x, size = node.operand(0), node.attr("blocksize", 1)
    first, channels, height, width = _image(node, x)
    behind = node.attr("mode", "DCR") == "CRD"
    rest = channels // size**2
    split = (rest, size, size) if behind else (size, size, rest)
    blocks = build.nn.reshape(x, shape=(first, *split, height, width))
    turned = build.nn.transpose(blocks, perm=(0, 1, 4, 2, 5, 3) if behind else (0, 3, 4, 1, 5, 2))
    return build.nn.reshape(turned, shape=(first, rest, height * size, width * size))


@reads("SpaceToDepth")
def _space_to_depth(node: OnnxNode, build: Builder) -> Value:
    """Pixels become channels: [N, C, H, W] -> [N, C * b**2, H / b, W / b], the block's axes before C."""
    x, size = node.operand(0), node.attr("blocksize", 1)
    first, channels, height, width = _image(node, x)
    blocks = build.nn.reshape(x, shape=(first, channels, height // size, size, width // size, size))
    turned = build.nn.transpose(blocks, perm=(0, 3, 5, 1, 2, 4))
    return build.nn.reshape(turned, shape=(first, channels * size**2, height // size, width // size))


@reads("Concat")
def _concat(node: OnnxNode, build: Builder) -> Value:
    xs = node.operands()
    return build.nn.concat(*xs, axis=axis_of(node, xs[0], 1))


@reads("Split")
def _split(node: OnnxNode, build: Builder) -> list[Value]:
    x = node.operand(0)
    axis, count = axis_of(node, x, 0), node.attr("num_outputs", len(node.outputs))
    size, given = x.type.shape[axis], node.integers("split", 1, ())
    if isinstance(size, str):
        raise node.unsupported(f"axis {axis} has the open size {size}")
    each = -(-size // count)
    return parts(build, x, axis, list(given or ()) or [each] * (count - 1) + [size - each * (count - 1)])


@reads("Tile")
def _tile(node: OnnxNode, build: Builder) -> Value:
    """The whole again and again along each axis."""
    x = node.operand(0)
    for axis, count in enumerate(node.integers("repeats", 1) or ()):
        x = build.nn.concat(*[x] * count, axis=axis) if count > 1 else x
    return x


@reads("Pad")
def _pad(node: OnnxNode, build: Builder) -> Value:
    """By a number, or, with other modes, by elements of x, one axis after another."""
    x, mode = node.operand(0), node.attr("mode", "constant")
    given, rank = node.integers("pads", 1) or (), x.type.rank
    axes = [axis % rank for axis in node.integers("axes", 3, range(rank)) or ()]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = given[i], given[len(axes) + i]
    if mode == "constant" and min(*before, *after, 0) < 0:
        x = _cut_off(node, build, x, before, after)
        before, after = ([max(size, 0) for size in sizes] for sizes in (before, after))
    if mode == "constant":
        return build.nn.pad(x, pads=(*before, *after), value=node.number("value", 2, 0.0))
    node.has(2)
    for axis in [axis for axis in range(rank) if before[axis] or after[axis]]:
        size = x.type.shape[axis]
        if isinstance(size, str) or min(before[axis], after[axis]) < 0:
            raise node.unsupported(f"axis {axis} of size {size} cannot be padded by {before[axis]}, {after[axis]}")
        places = np.pad(np.arange(size), (before[axis], after[axis]), mode=mode)
        x = build.nn.gather(x, build.constant(places, "places"), axis=axis)
    return x


def _cut_off(node: OnnxNode, build: Builder, x: Value, before: list[int], after: list[int]) -> Value:
    """x without what pads below zero take away."""
    for axis, size in enumerate(x.type.shape):
        low, high = max(-before[axis], 0), max(-after[axis], 0)
        if (low or high) and isinstance(size, str):
            raise node.unsupported(f"axis {axis} of size {size} cannot be padded by {before[axis]}, {after[axis]}")
        if low or high:
            x = build.nn.slice(x, axis=axis, start=low, end=int(size) - high, step=1)
    return x


@reads("Slice")
def _slice(node: OnnxNode, build: Builder) -> Value:
    made = node.operand(0)
    starts, ends = node.integers("starts", 1) or (), node.integers("ends", 2) or ()
    axes = node.integers("axes", 3, range(len(starts))) or ()
    steps = node.integers("steps", 4, [1] * len(starts)) or ()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= made.type.rank
        size = made.type.shape[axis]
        if isinstance(size, str) or step == 0:
            raise node.unsupported(f"axis {axis} of size {size} cannot be cut in steps of {step}")
        first, last, _ = slice(start, end, step).indices(size)
        if step < 0:
            made = build.nn.gather(made, build.constant(np.arange(first, last, step), "places"), axis=axis)
            continue
        made = build.nn.slice(made, axis=axis, start=first, end=last, step=step)
    return made


@reads("Trilu")
def _trilu(node: OnnxNode, build: Builder) -> Value:
    return one_side(build, node.operand(0), int(node.number("k", 1, 0)), lower=not node.attr("upper", 1))
