"""Activations that an op can carry as its attribute `activation`: what `fuse-conv-relu` makes."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array

BOUNDS: dict[str, tuple[float, float]] = {"none": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}
"""Lowest and highest result of each activation."""


def activate(x: Array, activation: str) -> Array:
    """Clamp to the bounds of the activation; NaN stays NaN."""
    low, high = BOUNDS[activation]
    return x if activation == "none" else np.clip(x, x.dtype.type(low), x.dtype.type(high))
