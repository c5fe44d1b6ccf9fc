"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.floats import on_floats
from qgraph.targets.litert.rows import row

BITS = 10
"""Fractional bits of a position in the reference kernel."""


def truncating_divide(a: Array, b: int) -> Array:
    """a / b, rounded toward zero; b positive."""
    return np.asarray(np.where(a >= 0, a // b, -(-a // b)))


def bilinear(x: Array, size: tuple[int, int], align_corners: bool, half_pixel_centers: bool) -> Array:
    """Four neighbours weighted in 10-bit fixed point, the sum of 20 bits rounded half away from zero.

    x: [N, H, W, C]. Exact: |x| < 2**15 and the weights add up to 2**20, so int64 holds the sum.
    Source: reference/resize_bilinear.h (ResizeBilinearInteger).
    """
    (y_weight, top, bottom), (x_weight, left, right) = (
        places(x.shape[axis], size[axis - 1], align_corners, half_pixel_centers) for axis in (1, 2)
    )
    y_weight, x_weight = y_weight[:, None, None], x_weight[:, None]
    wide, one = x.astype(np.int64), 1 << BITS
    upper, lower = wide[:, top], wide[:, bottom]
    total = (upper[:, :, left] * (one - x_weight) + upper[:, :, right] * x_weight) * (one - y_weight)
    total += (lower[:, :, left] * (one - x_weight) + lower[:, :, right] * x_weight) * y_weight
    half = np.where(total > 0, 1 << (2 * BITS - 1), -(1 << (2 * BITS - 1)))
    return truncating_divide(total + half, 1 << (2 * BITS)).astype(x.dtype)


def places(size: int, out: int, align_corners: bool, half_pixel_centers: bool) -> tuple[Array, Array, Array]:
    """Of each output position: the weight of the second neighbour, and both neighbours."""
    one = 1 << BITS
    if align_corners and out > 1:
        step = (one * (size - 1) + (out - 1) // 2) // (out - 1)
    else:
        step = (one * size + out // 2) // out
    position = np.arange(out, dtype=np.int64) * step
    if half_pixel_centers:
        position += step // 2 - one // 2
    first = np.maximum(truncating_divide(position, one), 0)
    second = np.minimum(truncating_divide(position + one - 1, one), size - 1)
    return position - one * first, first, second


def nearest(size: int, out: int, align_corners: bool, half_pixel_centers: bool) -> Array:
    """The index of the input at each output position, computed in float32.

    Source: reference/resize_nearest_neighbor.h (GetNearestNeighbor).
    """
    aligned = align_corners and out > 1
    step = np.float32(size - 1) / np.float32(out - 1) if aligned else np.float32(size) / np.float32(out)
    position = (np.arange(out, dtype=np.float32) + np.float32(0.5 if half_pixel_centers else 0)) * step
    whole = np.floor(position.astype(np.float64) + 0.5) if align_corners else np.floor(position)
    return np.clip(whole.astype(np.int64), 0, size - 1)


def resized(x: TensorType, size: tuple[int, int]) -> TensorType:
    """The type of x [N, H, W, C] at another height and width; raises TypeMismatch."""
    if min(size) < 1 or not all(isinstance(old, int) for old in x.shape[1:3]):
        raise TypeMismatch(f"{x} cannot be resized to {size}")
    return x.with_shape((x.shape[0], *size, x.shape[3]))


class Resize:
    """What resizes share: the size (height, width), and how positions are counted."""

    x: Operand = operand("i8q|u8q|i16q[N, H, W, C]")
    result: Result = result("i8q|u8q|i16q[N, H', W', C]", free=True)
    size: tuple[int, int] = attr()
    align_corners: bool = attr(False)
    half_pixel_centers: bool = attr(False)

    def infer(self) -> TensorType:
        return resized(self.x.type, self.size)


@op("litert.resize_bilinear", family="shape")
class ResizeBilinear(Resize):
    """RESIZE_BILINEAR to `size` (height, width)."""

    def evaluate(self, x: Array) -> Array:
        return bilinear(x, self.size, self.align_corners, self.half_pixel_centers)


@op("litert.resize_nearest_neighbor", family="shape")
class ResizeNearestNeighbor(Resize):
    """RESIZE_NEAREST_NEIGHBOR to `size` (height, width)."""

    def evaluate(self, x: Array) -> Array:
        rows, columns = (
            nearest(x.shape[axis], self.size[axis - 1], self.align_corners, self.half_pixel_centers) for axis in (1, 2)
        )
        return x[:, rows][:, :, columns]


for _op, _operator in (
    ("resize_bilinear", "RESIZE_BILINEAR"),
    ("resize_nearest_neighbor", "RESIZE_NEAREST_NEIGHBOR"),
):
    row(
        f"litert.{_op}",
        _operator,
        constants={"size": 1},
        options={"align_corners": "align_corners", "half_pixel_centers": "half_pixel_centers"},
    )


@on_floats("litert.float_resize_bilinear", of="litert.resize_bilinear")
class FloatResizeBilinear(ResizeBilinear):
    """RESIZE_BILINEAR in float32. Source: reference/resize_bilinear.h."""

    def evaluate(self, x: Array) -> Array:
        (dy, top, bottom), (dx, left, right) = (self._between(x.shape[axis], self.size[axis - 1]) for axis in (1, 2))
        dy, dx = dy[:, None, None], dx[:, None]
        corners = [x[:, rows][:, :, columns] for rows in (top, bottom) for columns in (left, right)]
        weights = [a * b for a in (1 - dy, dy) for b in (1 - dx, dx)]
        above, below = (corners[i] * weights[i] + corners[i + 1] * weights[i + 1] for i in (0, 2))
        return np.asarray(above + below)

    def _between(self, size: int, out: int) -> tuple[Array, Array, Array]:
        """Where each result lies between two elements of an axis: the distance to the first one, and both places."""
        corners = self.align_corners and out > 1
        step = np.float32(size - 1) / np.float32(out - 1) if corners else np.float32(size) / np.float32(out)
        half = np.float32(0.5 if self.half_pixel_centers else 0)
        place = (np.arange(out, dtype=np.float32) + half) * step - half
        first = np.maximum(np.floor(place), 0).astype(np.int64)
        return place - first.astype(np.float32), first, np.minimum(np.ceil(place), size - 1).astype(np.int64)


@on_floats("litert.float_resize_nearest_neighbor", of="litert.resize_nearest_neighbor")
class FloatResizeNearestNeighbor(ResizeNearestNeighbor):
    """RESIZE_NEAREST_NEIGHBOR on floats."""

    evaluate = ResizeNearestNeighbor.evaluate
