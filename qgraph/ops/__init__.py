"""Definitions of the ops that every target shares: `nn` (float, torch's semantics) and `quant` (fake-quant)."""

from __future__ import annotations

import importlib


def load_dialect(name: str) -> None:
    """Import the definitions of the dialect `name`, if they are here."""
    if name in ("nn", "nhwc", "quant"):
        importlib.import_module(f"qgraph.ops.{name}")
