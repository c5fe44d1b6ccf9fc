"""Repetitions, rotations, shuffles and windows: what moves elements by other ops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded, reshaped
from qgraph.frontends.torch_ops.rows import Arguments, aten, each_size
from qgraph.ir import Array, Value
from qgraph.ir.types import Dim, dim_factors, dim_product

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("stack.default")
def stack(at: Importer, a: Arguments) -> Value:
    """Values joined along a new dimension."""
    xs = [at.as_result(x) for x in a["tensors"]]
    axis = a["dim"] % (xs[0].type.rank + 1)
    shape = xs[0].type.shape
    return at.build.nn.concat(*(reshaped(at.build, x, (*shape[:axis], 1, *shape[axis:])) for x in xs), axis=axis)


@aten("repeat.default", "tile.default")
def repeat(at: Importer, a: Arguments) -> Value:
    """x several times along its dimensions, or new ones before them."""
    x, counts = at.value(a["self"]), list(a.get("repeats", a.get("dims")))
    counts = [1] * (x.type.rank - len(counts)) + counts
    x = reshaped(at.build, x, (1,) * (len(counts) - x.type.rank) + x.type.shape)
    result = at.result_type().shape
    for axis, count in enumerate(counts):
        if x.type.shape[axis] == 1:
            x = expanded(at.build, x, (*x.type.shape[:axis], result[axis], *x.type.shape[axis + 1 :]))
        elif not isinstance(count, int):
            x = _copies(at, x, axis, result[axis])
        elif count != 1:
            x = at.build.nn.concat(*[x] * count, axis=axis)
    return x


def _copies(at: Importer, x: Value, axis: int, size: Dim) -> Value:
    """x several times along a dimension, up to a size that is a symbolic multiple of its own."""
    before, own, after = x.type.shape[:axis], x.type.shape[axis], x.type.shape[axis + 1 :]
    factor, symbols = dim_factors(size)
    if not isinstance(own, int) or factor % own:
        raise TypeMismatch(f"{x.type} repeated to the size {size} is not supported")
    apart = reshaped(at.build, x, (*before, 1, own, *after))
    apart = expanded(at.build, apart, (*before, dim_product([*symbols, factor // own]), own, *after))
    return reshaped(at.build, apart, (*before, size, *after))


@aten("repeat_interleave.self_int")
def repeat_interleave(at: Importer, a: Arguments) -> Value:
    """Each element several times."""
    x = at.value(a["self"])
    if a["dim"] is None:
        x = reshaped(at.build, x, (dim_product(x.type.shape),))
    axis, shape = (a["dim"] or 0) % x.type.rank, x.type.shape
    apart = reshaped(at.build, x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    apart = expanded(at.build, apart, (*shape[: axis + 1], a["repeats"], *shape[axis + 1 :]))
    return reshaped(at.build, apart, (*shape[:axis], dim_product([shape[axis], a["repeats"]]), *shape[axis + 1 :]))


@aten("roll.default")
def roll(at: Importer, a: Arguments) -> Value:
    """x turned around along dimensions: its end comes first."""
    x = at.value(a["self"])
    shape, dims = x.type.shape, a["dims"]
    if not dims:
        x, dims = reshaped(at.build, x, (dim_product(shape),)), [0]
    for shift, dim in zip(a["shifts"], dims, strict=True):
        axis = dim % x.type.rank
        size = x.type.shape[axis]
        if isinstance(size, str):
            raise TypeMismatch(f"turning around the symbolic size {size} is not supported")
        cut = -shift % size
        if cut:
            end, start = (at.build.nn.slice(x, axis=axis, start=i, end=j) for i, j in ((cut, size), (0, cut)))
            x = at.build.nn.concat(end, start, axis=axis)
    return reshaped(at.build, x, shape)


@aten("flip.default")
def flip(at: Importer, a: Arguments) -> Value:
    """x backwards along dimensions."""
    x = at.value(a["self"])
    for dim in a["dims"]:
        axis = dim % x.type.rank
        size = x.type.shape[axis]
        if isinstance(size, str):
            raise TypeMismatch(f"the symbolic size {size} backwards is not supported")
        x = at.build.nn.gather(x, at.build.constant(np.arange(size)[::-1].copy(), "backwards"), axis=axis)
    return x


@aten("pixel_shuffle.default", "pixel_unshuffle.default")
def pixel_shuffle(at: Importer, a: Arguments) -> Value:
    """Channels become pixels, or pixels channels, in torch's order: the block's dimensions follow the channel."""
    x = at.value(a["self"])
    *batch, channels, height, width = x.type.shape
    n = len(batch)
    if "unshuffle" in at.op:
        f = a["downscale_factor"]
        parts: tuple[Dim, ...] = (*batch, channels, int(height) // f, f, int(width) // f, f)
        order = (*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    else:
        f = a["upscale_factor"]
        parts = (*batch, int(channels) // f**2, f, f, height, width)
        order = (*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    turned = at.build.nn.transpose(reshaped(at.build, x, parts), perm=order)
    return reshaped(at.build, turned, at.result_type().shape)


@aten("channel_shuffle.default", "native_channel_shuffle.default")
def channel_shuffle(at: Importer, a: Arguments) -> Value:
    """The channels of several groups in turn."""
    x = at.value(a["self"])
    batch, channels, *rest = x.type.shape
    groups = a["groups"]
    apart = reshaped(at.build, x, (batch, groups, int(channels) // groups, *rest))
    turned = at.build.nn.transpose(apart, perm=(0, 2, 1, *range(3, 3 + len(rest))))
    return reshaped(at.build, turned, x.type.shape)


@aten("unfold.default")
def unfold(at: Importer, a: Arguments) -> Value:
    """Windows along a dimension, their elements in a new last one."""
    x = at.value(a["self"])
    axis = a["dimension"] % x.type.rank if x.type.rank else 0
    size = x.type.shape[axis]
    if isinstance(size, str):
        raise TypeMismatch(f"windows along the symbolic size {size} are not supported")
    starts = np.arange(0, size - a["size"] + 1, a["step"])
    made = at.build.nn.gather(x, at.build.constant(starts[:, None] + np.arange(a["size"]), "windows"), axis=axis)
    rank = x.type.rank + 1
    return at.build.nn.transpose(made, perm=(*(i for i in range(rank) if i != axis + 1), axis + 1))


@aten("im2col.default")
def im2col(at: Importer, a: Arguments) -> Value:
    """The windows of an image as columns [N, C * K, L]."""
    x = at.value(a["self"])
    batch, channels, height, width = x.type.shape
    ph, pw = each_size(a["padding"], 2)
    x = at.build.nn.pad(x, pads=(0, 0, ph, pw) * 2) if ph or pw else x
    places = _window_places(a, int(height) + 2 * ph, int(width) + 2 * pw)
    flat = reshaped(at.build, x, (*x.type.shape[:2], dim_product(x.type.shape[2:])))
    made = at.build.nn.gather(flat, at.build.constant(places, "windows"), axis=2)
    return reshaped(at.build, made, (batch, int(channels) * len(places), places.shape[1]))


def _window_places(a: Arguments, height: int, width: int) -> Array:
    """Where in a flat image of that size each element of each window lies: [K, L]."""
    (kh, kw), (sh, sw), (dh, dw) = (each_size(a[name], 2) for name in ("kernel_size", "stride", "dilation"))
    rows = np.arange(0, height - dh * (kh - 1), sh) + np.arange(kh)[:, None] * dh
    columns = np.arange(0, width - dw * (kw - 1), sw) + np.arange(kw)[:, None] * dw
    places = rows[:, None, :, None] * width + columns[None, :, None, :]  # [kh, kw, rows, columns]
    return np.asarray(places.reshape(kh * kw, -1))


@aten("col2im.default")
def col2im(at: Importer, a: Arguments) -> Value:
    """Columns [N, C * K, L] as an image, in which elements of several windows at one place are summed."""
    x = at.value(a["self"])
    batch, columns, _ = x.type.shape
    (height, width), (ph, pw) = a["output_size"], each_size(a["padding"], 2)
    high, wide = height + 2 * ph, width + 2 * pw
    places = _window_places(a, high, wide)
    none = places.size  # the index of a zero behind all elements
    sources: list[list[int]] = [[] for _ in range(high * wide)]
    for index, place in enumerate(places.reshape(-1)):
        sources[place].append(index)
    most = max(map(len, sources))
    table = np.array([each + [none] * (most - len(each)) for each in sources]).reshape(high, wide, most)
    inside = table[ph : ph + height, pw : pw + width].reshape(height * width, most)
    flat = reshaped(at.build, x, (batch, int(columns) // len(places), places.size))
    flat = at.build.nn.pad(flat, pads=(0, 0, 0, 0, 0, 1))
    made = at.build.nn.gather(flat, at.build.constant(inside, "windows"), axis=2)
    return reshaped(at.build, at.build.nn.sum(made, axes=(3,)), at.result_type().shape)
