"""From models to graphs: torch modules and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.frontends.files import export, load, save, to_file_bytes
from qgraph.frontends.onnx_float import from_onnx

if TYPE_CHECKING:
    from qgraph.frontends.torch_export import trace

__all__ = ["export", "from_onnx", "load", "save", "to_file_bytes", "trace"]


def __getattr__(name: str) -> object:
    if name != "trace":
        raise AttributeError(name)
    from qgraph.frontends.torch_export import trace

    return trace
