"""The `nn` dialect: float ops on NCHW values with torch's semantics."""

from qgraph.ops.nn import elementwise, linear, normalization, pooling, shape

__all__ = ["elementwise", "linear", "normalization", "pooling", "shape"]
