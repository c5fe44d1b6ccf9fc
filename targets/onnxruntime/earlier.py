"""What earlier releases of ONNX Runtime compute differently, as far as known; see `releases.json`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.ir.types import NUMPY_DTYPE, integer_range
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.float_kernels import normalized, welford
from qgraph.targets.onnxruntime.functions import QLinearSoftmax, exponentials
from qgraph.targets.target import Kernel


def softmax(op: QLinearSoftmax, x: Array) -> Array:
    """QLinearSoftmax: e * steps / total in float32, where the product can be infinite, which becomes the lowest int32.

    Measured on 1.29.0, 1.30.0 and 1.31.1.
    """
    low, high = integer_range(op.result.type.dtype)
    made = np.clip(_codes(op, x), low, high).astype(NUMPY_DTYPE[op.result.type.dtype])
    return np.moveaxis(made, -1, op.axis)


def unclamped_softmax(op: QLinearSoftmax, x: Array) -> Array:
    """QLinearSoftmax: as it was up to 1.31, and i8 is cut off at 255, from where on it wraps.

    Measured on 1.20.1, 1.23.2, 1.27.0 and 1.28.0.
    """
    made = np.minimum(_codes(op, x), 255).astype(NUMPY_DTYPE[op.result.type.dtype])
    return np.moveaxis(made, -1, op.axis)


def _codes(op: QLinearSoftmax, x: Array) -> Array:
    """The int32 codes, the axis last."""
    e, total, steps = exponentials(np.moveaxis(x, op.axis, -1), op.x.type.q, op.result.type.q)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        codes = kernels.to_int32((e * steps) / total)
    return (codes.astype(np.int64) + int(op.result.type.q.zero_points[0])).astype(np.int32)  # wraps


def in_one_pass(x: Array, gain: Array, bias: Array | None, eps: float) -> Array:
    """Layer normalization of rows [R, K]: sums of values and of squares, one by one, the variance by their difference.

    Measured on 1.23.2 to 1.26.0. Source: layer_norm_impl.cc of those releases.
    """
    count = np.float32(x.shape[1])
    if count < 2:
        raise UnsupportedOp("ONNX Runtime before 1.27 has no layer normalization of one value")
    mean = np.add.accumulate(x, axis=1)[:, -1:] / count
    squares = np.add.accumulate(x * x, axis=1)[:, -1:] / count
    made = (x - mean) / np.sqrt(squares - mean * mean + np.float32(eps)) * gain
    return np.asarray(made if bias is None else made + bias)


EARLIER: Mapping[str, Mapping[str, Kernel]] = {
    "1.27": {"nn.layer_norm": partial(normalized, of_rows=in_one_pass)},
    "1.29": {"ort.QLinearSoftmax": unclamped_softmax},
    "1.30": {"nn.layer_norm": partial(normalized, of_rows=welford)},
    "1.32": {"ort.QLinearSoftmax": softmax},
}
"""release -> kernels of all releases before it."""
