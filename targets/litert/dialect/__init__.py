"""The `litert` dialect: LiteRT's builtin operators. `evaluate` is the reference kernels' arithmetic.

An op is its class, a row that says how it stands in a file (`rows.row`), and its kernel; each module here holds some.
"""

from __future__ import annotations

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
