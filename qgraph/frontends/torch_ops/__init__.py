"""ATen ops and what they become in the `nn` dialect: one row each, a file for each topic of `qgraph/ops/nn`.

A row's function gets the `Importer` and the call's arguments by the names of the ATen schema; it gives the value that
the node becomes, or a list for a node of several results. In-place ops have no rows: they go by those of their
functional counterparts. Add an op: its definition in `qgraph/ops/nn`, and a row in a file here; one that gives a view
of its operand has its row in `torch_views`. The files are found by themselves.
"""

from qgraph.frontends.torch_ops.complex_numbers import COMPLEX_ROWS
from qgraph.frontends.torch_ops.rows import IGNORED, ROWS, NoBatch
from qgraph.imports import import_modules

__all__ = ["COMPLEX_ROWS", "IGNORED", "ROWS", "NoBatch"]

import_modules(__name__)
