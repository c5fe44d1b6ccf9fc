"""RESIZE_BILINEAR by XNNPACK: positions in float32, weights of 11 bits, one rounding half up."""

from __future__ import annotations

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.targets.litert.dialect.resizing import ResizeBilinear
from qgraph.targets.target import Kernel

BITS = 11


def bilinear(op: ResizeBilinear, x: Array) -> Array:
    """First along x, then along y: `(top << 11) + (bottom - top) * weight`, 22 bits, rounded half up.

    Source: qs8-ibilinear; xnn_indirection_init_resize_bilinear2d for the positions.
    """
    if op.x.type.dtype == "i16":
        return op.evaluate(x)
    if op.x.type.quant != op.result.type.quant:
        raise UnsupportedOp("XNNPACK fails to prepare RESIZE_BILINEAR where the result has parameters of its own")
    (y_weight, top, bottom), (x_weight, left, right) = (
        _places(x.shape[axis], op.size[axis - 1], op.align_corners, op.half_pixel_centers) for axis in (1, 2)
    )
    wide = x.astype(np.int64)
    rows = []
    for row in (wide[:, top], wide[:, bottom]):
        first, second = row[:, :, left], row[:, :, right]
        rows.append((first << BITS) + (second - first) * x_weight[:, None])
    total = (rows[0] << BITS) + (rows[1] - rows[0]) * y_weight[:, None, None]
    return np.asarray((total + (1 << (2 * BITS - 1))) >> (2 * BITS)).astype(x.dtype)


def _places(size: int, out: int, align_corners: bool, half_pixel_centers: bool) -> tuple[Array, Array, Array]:
    """Of each output position: the weight of the second neighbour, and both neighbours."""
    less = int(align_corners and out != 1)
    step = np.float32(size - less) / np.float32(out - less)
    position = np.arange(out, dtype=np.float32) * step
    if half_pixel_centers:
        position = np.maximum(position + (np.float32(0.5) * step - np.float32(0.5)), np.float32(0))
    position = np.minimum(position, np.float32(size - 1))
    first = position.astype(np.int64)
    weight = np.rint((position - first.astype(np.float32)) * np.float32(1 << BITS)).astype(np.int64)
    return weight, first, np.minimum(first + 1, size - 1)


KERNELS: dict[str, Kernel] = {"litert.resize_bilinear": bilinear}
