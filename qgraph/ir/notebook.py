"""How a graph looks in a notebook."""

from __future__ import annotations

import importlib
from collections import Counter
from html import escape
from typing import cast

from qgraph.ir.graph import Graph

VIEWER = "qgraph.viewer"
"""The module whose `svg(graph)` draws a graph; a name, not an import: it lies above."""
DRAWN = 300
"""Graphs of more nodes are not drawn but counted."""


def graph_html(graph: Graph) -> str:
    """A caption, and a drawing of the graph, or where it is large a table of its ops."""
    inputs, outputs = ", ".join(map(repr, graph.inputs)), ", ".join(str(value.type) for value in graph.outputs)
    about = f"@{graph.name}, {graph.level}, {len(graph)} nodes: {inputs} -> {outputs}"
    body = _counts(graph) if len(graph) > DRAWN else cast(str, importlib.import_module(VIEWER).svg(graph))
    return f"<figure><figcaption><code>{escape(about)}</code></figcaption>{body}</figure>"


def _counts(graph: Graph) -> str:
    counts = Counter(node.op for node in graph.nodes)
    rows = "".join(f"<tr><td>{escape(op)}</td><td>{count}</td></tr>" for op, count in counts.most_common())
    return f"<table><tr><th>op</th><th>nodes</th></tr>{rows}</table>"
