"""The `nn` dialect: float ops on NCHW values with torch's semantics, a file for each topic (found by themselves)."""

from qgraph.imports import import_modules

import_modules(__name__)
