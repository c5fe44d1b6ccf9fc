"""Activations that an op can carry as its attributes `activation` and `clamp`: what `fuse-conv-relu` makes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Attr

BOUNDS: dict[str, tuple[float, float]] = {"none": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}
"""Lowest and highest result of the activations that are clamps to fixed bounds."""

ACTIVATIONS = (*BOUNDS, "clamp", "hard_swish")
"""Words of the attribute `activation`; "clamp" takes its bounds from the attribute `clamp`."""

NO_ACTIVATION: dict[str, Attr] = {"activation": "none", "clamp": None}
"""The attributes of an op that carries no activation."""

Bounds = tuple[float, float] | None
"""The attribute `clamp`: lowest and highest result."""


def check_activation(activation: str, clamp: Bounds) -> None:
    """Raise TypeMismatch where bounds are missing, in the wrong order, or given without need."""
    if (activation == "clamp") != (clamp is not None):
        raise TypeMismatch(f"activation={activation!r} and clamp={clamp} do not fit: bounds belong to a clamp")
    if clamp is not None:
        check_bounds(*clamp)


def check_bounds(low: float, high: float) -> None:
    """Raise TypeMismatch unless low <= high."""
    if not low <= high:
        raise TypeMismatch(f"a clamp to [{low}, {high}] has no results: the first bound is the lower one")


def activation_attrs(attrs: Mapping[str, Attr]) -> dict[str, Attr]:
    """The attributes that say which activation an op carries, out of all of them."""
    return {name: attrs[name] for name in NO_ACTIVATION}


def activate(x: Array, activation: str, clamp: Bounds = None) -> Array:
    """The activation of x; NaN stays NaN."""
    if activation == "none":
        return x
    if activation == "hard_swish":
        return np.asarray(x * relu6(x + x.dtype.type(3)) / x.dtype.type(6))
    low, high = clamp or BOUNDS[activation]
    return np.clip(x, x.dtype.type(low), x.dtype.type(high))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return activate(x, "relu6")
