"""ONNX ops and what they become in the `nn` dialect: one row each, a file for each topic.

A row's function gets the node and a builder; it gives the value that the node becomes, or a list for a node of several
results. What it does not ask for, an input or an attribute, is refused by the reader. Add an op: its definition in
`qgraph/ops/nn`, and a row in a file here. The files are found by themselves.
"""

from qgraph.frontends.onnx_ops.rows import ROWS, FromOnnx
from qgraph.imports import import_modules

__all__ = ["ROWS", "FromOnnx"]

import_modules(__name__)
