"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR of the reference kernels."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array

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
        _places(x.shape[axis], size[axis - 1], align_corners, half_pixel_centers) for axis in (1, 2)
    )
    y_weight, x_weight = y_weight[:, None, None], x_weight[:, None]
    wide, one = x.astype(np.int64), 1 << BITS
    upper, lower = wide[:, top], wide[:, bottom]
    total = (upper[:, :, left] * (one - x_weight) + upper[:, :, right] * x_weight) * (one - y_weight)
    total += (lower[:, :, left] * (one - x_weight) + lower[:, :, right] * x_weight) * y_weight
    half = np.where(total > 0, 1 << (2 * BITS - 1), -(1 << (2 * BITS - 1)))
    return truncating_divide(total + half, 1 << (2 * BITS)).astype(x.dtype)


def _places(size: int, out: int, align_corners: bool, half_pixel_centers: bool) -> tuple[Array, Array, Array]:
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
