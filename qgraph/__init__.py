"""A compiler for quantized neural networks whose integer results are those of the target's own runtime.

`import qgraph` loads nothing heavy: each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from qgraph.version import __version__

if TYPE_CHECKING:
    from qgraph import passes, targets
    from qgraph.accuracy import Explanation, Sensitivity, explain, search, sensitivity
    from qgraph.differ import GraphDiff, diff
    from qgraph.errors import QGraphError
    from qgraph.frontends import export, from_onnx, load, save, trace
    from qgraph.interpreter import Stream, quantize_inputs, run
    from qgraph.ir import Builder, Graph, Node, Origin, QuantParams, TensorType, Value, parse
    from qgraph.passes.engine.manager import PassManager
    from qgraph.pipeline import calibrate, lower, prepare, quantize
    from qgraph.training import evaluate, freeze, from_torch, to_torch
    from qgraph.verification import Verification, verify

_WHERE = {
    "qgraph.accuracy": ("Explanation", "Sensitivity", "explain", "search", "sensitivity"),
    "qgraph.differ": ("GraphDiff", "diff"),
    "qgraph.errors": ("QGraphError",),
    "qgraph.frontends": ("export", "from_onnx", "load", "save", "trace"),
    "qgraph.interpreter": ("Stream", "quantize_inputs", "run"),
    "qgraph.ir": ("Builder", "Graph", "Node", "Origin", "QuantParams", "TensorType", "Value", "parse"),
    "qgraph.passes.engine.manager": ("PassManager",),
    "qgraph.pipeline": ("calibrate", "lower", "prepare", "quantize"),
    "qgraph.training": ("evaluate", "freeze", "from_torch", "to_torch"),
    "qgraph.verification": ("Verification", "verify"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}
_PACKAGES = ("passes", "targets")

__all__ = [
    "Builder",
    "Explanation",
    "Graph",
    "GraphDiff",
    "Node",
    "Origin",
    "PassManager",
    "QGraphError",
    "QuantParams",
    "Sensitivity",
    "Stream",
    "TensorType",
    "Value",
    "Verification",
    "__version__",
    "calibrate",
    "diff",
    "evaluate",
    "explain",
    "export",
    "freeze",
    "from_onnx",
    "from_torch",
    "load",
    "lower",
    "parse",
    "passes",
    "prepare",
    "quantize",
    "quantize_inputs",
    "run",
    "save",
    "search",
    "sensitivity",
    "targets",
    "to_torch",
    "trace",
    "verify",
]


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return importlib.import_module(f"qgraph.{name}")
    if name not in _MODULE:
        raise AttributeError(f"module 'qgraph' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
