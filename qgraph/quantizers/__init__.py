"""Quantizers: how a scale and a zero point follow from what is seen. One file a quantizer; targets may bring theirs.

    @quantizer("median")
    class Median(MinMax):
        ...

`qgraph.quantizers.get("percentile:99.9")` is the quantizer of that name with its options; `names()` lists all. Words
are for every quantizer: "mse:power_of_two" has scales that are powers of two alone, "lsq:ewgs" another gradient of
rounding (`gradients.py`).
"""

from __future__ import annotations

from qgraph.imports import import_modules
from qgraph.quantizers.registry import Quantizer, get, names, quantizer


def load_quantizers() -> None:
    """Import the files of this package, which register what they define."""
    import_modules(__name__)


__all__ = ["Quantizer", "get", "load_quantizers", "names", "quantizer"]
