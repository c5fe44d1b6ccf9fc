"""Passes over graphs, one file a pass. Each is callable as a function that returns a new graph."""

from qgraph.passes.canonicalize import canonicalize
from qgraph.passes.drop_dropout import drop_dropout
from qgraph.passes.fold_batchnorm import fold_batchnorm
from qgraph.passes.fuse_conv_relu import fuse_conv_relu
from qgraph.passes.insert_fake_quant import insert_fake_quant
from qgraph.passes.lower import lower
from qgraph.passes.registry import get, graph_pass, names

__all__ = [
    "canonicalize",
    "drop_dropout",
    "fold_batchnorm",
    "fuse_conv_relu",
    "get",
    "graph_pass",
    "insert_fake_quant",
    "lower",
    "names",
]
