"""Quantizers: how a scale and a zero point follow from what is seen. One file a quantizer; targets may bring theirs.

    @quantizer("median")
    class Median(MinMax):
        ...

`qgraph.quantizers.get("percentile:99.9")` is the quantizer of that name with its options; `names()` lists all.
"""

from __future__ import annotations

import importlib
import pkgutil

from qgraph.quantizers.registry import Quantizer, get, names, quantizer


def load_quantizers() -> None:
    """Import the files of this package, which register what they define."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


__all__ = ["Quantizer", "get", "load_quantizers", "names", "quantizer"]
