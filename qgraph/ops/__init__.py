"""Definitions of the ops that every target shares: `nn` and `nhwc` (float, torch's semantics), `quant` (fake-quant)."""

from __future__ import annotations

import importlib

DIALECTS = ("nn", "nhwc", "quant")


def load_dialect(name: str) -> bool:
    """Whether the dialect `name` is here; its definitions are imported then."""
    if name in DIALECTS:
        importlib.import_module(f"qgraph.ops.{name}")
    return name in DIALECTS
