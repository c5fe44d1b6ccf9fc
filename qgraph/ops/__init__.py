"""Definitions of the ops that targets share: `nn` and `nhwc` (float, torch's semantics), `quant` (fake-quant), `npu`
(integers of described accelerators)."""

from __future__ import annotations

import importlib

DIALECTS = ("nn", "nhwc", "npu", "quant")


def load_dialect(name: str) -> bool:
    """Whether the dialect `name` is here; its definitions are imported then."""
    if name in DIALECTS:
        importlib.import_module(f"qgraph.ops.{name}")
    return name in DIALECTS
