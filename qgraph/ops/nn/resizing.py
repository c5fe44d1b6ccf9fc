"""Images of other sizes: resize, grid_sample, and pooling to a given size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Shape

CUBIC = -0.75
"""The parameter of torch's cubic convolution (Keys 1981)."""
SMOOTH_CUBIC = -0.5
"""The same with antialiasing, as Pillow has it."""


def known(spatial: Shape, size: tuple[int, ...], name: str) -> None:
    """Raise TypeMismatch for spatial sizes that are symbolic, or as many sizes as there are not."""
    if len(size) != len(spatial) or min(size, default=0) < 1 or not all(isinstance(each, int) for each in spatial):
        raise TypeMismatch(f"{name}: {list(spatial)} cannot become {list(size)}")


@op("nn.resize", homogeneous=True, other_layout="nhwc.resize")
class Resize:
    """The spatial dimensions resampled to `size`, torch's `interpolate` without antialiasing.

    An output index i reads x at i * step ("nearest", rounded down), at (i + 1/2) * step - 1/2 ("linear", "cubic"), or
    with `align_corners` at i * (in - 1) / (out - 1); what lies outside is the border. `steps`: in / out where it is not
    given.
    """

    x: Operand = operand("f[N, C, *S]")
    result: Result = result("f[N, C, *S']")
    size: tuple[int, ...] = attr()
    mode: str = attr("nearest", choices=("nearest", "linear", "cubic"))
    align_corners: bool = attr(False)
    steps: tuple[float, ...] | None = attr(None)

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        known(tuple(spatial), self.size, "nn.resize")
        if self.steps is not None and len(self.steps) != len(spatial):
            raise TypeMismatch(f"nn.resize: steps {list(self.steps)} are not one for each of {list(spatial)}")
        return self.x.type.with_shape((batch, channels, *self.size))

    def evaluate(self, x: Array) -> Array:
        for i, out in enumerate(self.size):
            axis, size = 2 + i, x.shape[2 + i]
            step = size / out if self.steps is None else self.steps[i]
            if self.mode == "nearest":
                x = np.take(x, nearest(size, out, step), axis=axis)
                continue
            matrix = resampling(size, out, step, self.mode, self.align_corners).astype(x.dtype)
            x = np.moveaxis(np.matmul(np.moveaxis(x, axis, -1), matrix.T), -1, axis)
        return np.ascontiguousarray(x)


def by_size(node: Node) -> bool:
    """Whether the steps of a `nn.resize` are those that follow from the sizes."""
    steps, sizes = node.attrs["steps"], node.operand(0).type.shape[2:]
    sized = [int(size) / out for size, out in zip(sizes, node.attrs["size"], strict=True)]
    return steps is None or node.attrs["align_corners"] or list(steps) == sized


def nearest(size: int, out: int, step: float) -> Array:
    """Which of `size` elements each of `out` is. Source: PyTorch, `nearest_neighbor_compute_source_index`."""
    places = np.floor(np.arange(out, dtype=np.float32) * np.float32(step)).astype(np.int64)
    return np.asarray(np.minimum(places, size - 1))


def enlargement(size: int, out: int) -> np.float32:
    """out / size, or a little more, so that size * this is out or a little more before it is rounded: the form that
    ONNX has, whose inference of shapes rounds the exact product down."""
    scale = np.float32(out) / np.float32(size)
    while size * float(scale) < out:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def resampling(size: int, out: int, step: float, mode: str, aligned: bool) -> Array:
    """How much of each of `size` elements goes into each of `out`: a matrix [out, size] in float64.

    Source: PyTorch, `area_pixel_compute_source_index` and `get_cubic_upsample_coefficients`.
    """
    index = np.arange(out, dtype=np.float64)
    places = index * ((size - 1) / (out - 1) if out > 1 else 0) if aligned else (index + 0.5) * step - 0.5
    return interpolation(places, size, mode)


def interpolation(places: Array, size: int, mode: str) -> Array:
    """How much of each of `size` elements goes into what is read at each place, between elements: a matrix [places,
    size] in float64."""
    if mode == "linear":
        places = np.maximum(places, 0)
    first = np.floor(places).astype(np.int64)
    t = places - first
    taps = {0: 1 - t, 1: t} if mode == "linear" else {d: _cubic(np.abs(t - d)) for d in (-1, 0, 1, 2)}
    matrix = np.zeros((len(places), size))
    for offset, weight in taps.items():
        np.add.at(matrix, (np.arange(len(places)), np.clip(first + offset, 0, size - 1)), weight)
    return matrix


def antialiased(size: int, out: int, step: float, mode: str, aligned: bool) -> Array:
    """How much of each of `size` elements goes into each of `out`, by a filter as wide as a step: a matrix [out, size]
    in float64.

    Source: PyTorch, `_compute_indices_min_size_weights_aa` and `_compute_weights_aa`.
    """
    step = (size - 1) / (out - 1) if aligned and out > 1 else 0.0 if aligned else step
    wide = max(step, 1.0)
    centres, reach = step * (np.arange(out)[:, None] + 0.5), {"linear": 1, "cubic": 2}[mode] * wide
    places = np.arange(size)
    first, last = (np.floor(np.maximum(centres + side * reach + 0.5, 0)) for side in (-1, 1))
    d = np.abs(places - centres + 0.5) / wide
    weights = np.maximum(1 - d, 0) if mode == "linear" else np.where(d < 2, _cubic(d, SMOOTH_CUBIC), 0)
    weights = np.where((places >= first) & (places < last), weights, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _cubic(d: Array, bend: float = CUBIC) -> Array:
    near = ((bend + 2) * d - (bend + 3)) * d * d + 1
    far = ((bend * d - 5 * bend) * d + 8 * bend) * d - 4 * bend
    return np.where(d <= 1, near, far)


class AdaptivePool:
    """A pooling whose window i covers the indices floor(i * in / out) to ceil((i + 1) * in / out)."""

    x: Operand = operand("f[N, C, *S]")
    result: Result = result("f[N, C, *S']")
    size: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        known(tuple(spatial), self.size, "an adaptive pooling")
        return self.x.type.with_shape((batch, channels, *self.size))


def adaptive_windows(size: int, out: int) -> list[tuple[int, int]]:
    """Where each of `out` windows over `size` elements begins and ends."""
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _pooled(x: Array, size: tuple[int, ...], reduce: Callable[..., Any]) -> Array:
    for axis, out in enumerate(size, 2):
        parts = [x.take(np.arange(*window), axis=axis) for window in adaptive_windows(x.shape[axis], out)]
        x = np.concatenate([reduce(part, axis=axis, keepdims=True) for part in parts], axis=axis)
    return x


@op("nn.adaptive_avg_pool", kind="mean", family="pool", homogeneous=True)
class AdaptiveAvgPool(AdaptivePool):
    """The mean of windows whose sizes differ by one where the sizes do not divide, torch's `adaptive_avg_pool`."""

    def evaluate(self, x: Array) -> Array:
        return _pooled(x, self.size, np.mean)


@op("nn.adaptive_max_pool", kind="max_pool", family="pool", moves_data=True, homogeneous=True)
class AdaptiveMaxPool(AdaptivePool):
    """The maximum of windows whose sizes differ by one where the sizes do not divide, torch's `adaptive_max_pool`."""

    def evaluate(self, x: Array) -> Array:
        return _pooled(x, self.size, np.max)


@op("nn.grid_sample", other_layout="nhwc.grid_sample")
class GridSample:
    """x [N, C, H, W] at the places of `grid` [N, H', W', 2], x and y from -1 to 1 over the image: `grid_sample`.

    `align_corners`: -1 and 1 are the centres of the outermost pixels, else their outer edges. `padding`: outside are
    zeros, the border, or the image reflected.
    """

    x: Operand = operand("f[N, C, H, W]")
    grid: Operand = operand("f[N, P, Q, 2]")
    result: Result = result("f[N, C, P, Q]")
    mode: str = attr("bilinear", choices=("bilinear", "nearest"))
    padding: str = attr("zeros", choices=("zeros", "border", "reflection"))
    align_corners: bool = attr(False)

    def infer(self) -> TensorType:
        batch, channels, *_ = self.x.type.shape
        return self.x.type.with_shape((batch, channels, *self.grid.type.shape[1:3]))

    def evaluate(self, x: Array, grid: Array) -> Array:
        columns, rows = (self._places(grid[..., i], x.shape[3 - i]) for i in range(2))
        read = partial(_at, x)
        if self.mode == "nearest":
            return read(np.rint(rows).astype(np.int64), np.rint(columns).astype(np.int64))
        top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
        down, right = (rows - top)[:, None], (columns - left)[:, None]
        above = read(top, left) * (1 - right) + read(top, left + 1) * right
        below = read(top + 1, left) * (1 - right) + read(top + 1, left + 1) * right
        return np.asarray(above * (1 - down) + below * down).astype(x.dtype)

    def _places(self, grid: Array, size: int) -> Array:
        """Coordinates from -1 to 1 as indices, within the image unless zeros are outside."""
        aligned = self.align_corners
        places = (grid + 1) / 2 * (size - 1) if aligned else ((grid + 1) * size - 1) / 2
        if self.padding == "reflection":
            low, span = (0.0, float(size - 1)) if aligned else (-0.5, float(size))
            turned = np.abs(places - low) % (2 * span) if span else np.zeros_like(places)
            places = low + np.minimum(turned, 2 * span - turned)
        return places if self.padding == "zeros" else np.clip(places, 0, size - 1)


def _at(x: Array, rows: Array, columns: Array) -> Array:
    """The pixels of each image at [N, P, Q] rows and columns as [N, C, P, Q]; 0 outside of the image."""
    height, width = x.shape[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    batch = np.arange(len(x))[:, None, None]
    pixels = x[batch, :, np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.moveaxis(np.where(inside[..., None], pixels, x.dtype.type(0)), -1, 1)
