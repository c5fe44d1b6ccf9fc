"""Ops of `nn` as ONNX nodes: one row each, a file for each topic, found by themselves."""

from qgraph.exporters.onnx_rows.rows import ROWS, OnnxNodes
from qgraph.imports import import_modules

__all__ = ["ROWS", "OnnxNodes"]

import_modules(__name__)
