"""Scales of symmetric weights, from the weights themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.pair_safe import pair_safe_scale

SMALLEST = 2.0**-16
"""Smallest scale of a channel, relative to the layer's largest: a channel of (nearly) zero weights keeps a scale at
which its bias fits into int32."""


def weight_scale(weight: NDArray[np.floating], quant_max: int, axis: int | None, observer: str) -> NDArray[np.float32]:
    """The scale of each channel, [channels], or of the whole weight, [1], for integers in [-quant_max, quant_max].

    weight: [O, *rest] float. `axis` 0 or None. `observer` "min_max": max|w| / quant_max; "pair_safe": see
    `qgraph.arith.pair_safe`, with neighbours in the order (kernel.., input channel), as ONNX Runtime multiplies them.
    """
    channels = np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1) if weight.ndim > 1 else weight.reshape(-1, 1)
    if observer == "pair_safe":
        scale = pair_safe_scale(channels, quant_max=quant_max)
    else:
        scale = (np.abs(channels).max(axis=1) / np.float32(quant_max)).astype(np.float32)
    scale = np.where(channels.any(axis=1), scale, np.float32(0))
    if axis is None:
        scale = scale.max(keepdims=True)
    largest = float(scale.max())
    return np.maximum(scale, np.float32(largest * SMALLEST if largest > 0 else 1.0))
