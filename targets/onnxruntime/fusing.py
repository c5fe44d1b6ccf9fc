"""What ONNX Runtime's optimizer makes of a model, level by level, as far as it changes a bit of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qgraph.ir import Graph


def nothing(graph: Graph) -> None:
    """The graph as it was read."""


OPTIMIZATIONS: Mapping[str, Callable[[Graph], None]] = {
    "all": nothing,
    "extended": nothing,
    "basic": nothing,
    "disabled": nothing,
}
"""Level -> what it does to a graph that was read node by node."""
