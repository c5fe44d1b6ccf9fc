"""The dialect `tosa`: the ops of TOSA's integer profile on plain integers; scales are notes in the types."""

from qgraph.targets.tosa.dialect import (
    conversion,
    convolution,
    elementwise,
    host,
    moving,
    pooling,
    products,
    reduction,
    resizing,
    unary,
)

__all__ = [
    "conversion",
    "convolution",
    "elementwise",
    "host",
    "moving",
    "pooling",
    "products",
    "reduction",
    "resizing",
    "unary",
]
