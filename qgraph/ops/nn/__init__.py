"""The `nn` dialect: float ops on NCHW values with torch's semantics."""

from qgraph.ops.nn import conv_transpose, elementwise, linear, nonlinearity, normalization, pooling, shape

__all__ = ["conv_transpose", "elementwise", "linear", "nonlinearity", "normalization", "pooling", "shape"]
