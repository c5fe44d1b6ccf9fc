"""The `litert` dialect: LiteRT's builtin operators. `evaluate` is the reference kernels' arithmetic.

An op is its class, a row that says how it stands in a file (`rows.row`), and its kernel; each module here holds some.
"""

from qgraph.imports import import_modules

import_modules(__name__)
