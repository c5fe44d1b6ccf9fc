"""`.qg` files: one safetensors file with the constants as tensors and the graph's text in the header. No pickle."""

from __future__ import annotations

import os

import numpy as np

from qgraph.errors import FileError, QGraphError
from qgraph.ir.collector import collector_paused
from qgraph.ir.files import read_bytes, write_atomically
from qgraph.ir.graph import Graph
from qgraph.ir.parser import parse
from qgraph.ir.printer import print_graph

FORMAT = "1"
"""Version of the layout, in the header under `qgraph`."""


@collector_paused()
def to_bytes(graph: Graph) -> bytes:
    """The graph as the content of a `.qg` file."""
    from safetensors.numpy import save

    tensors = {name: np.asarray(value.data, order="C") for name, value in graph.constants.items()}
    return save(tensors, {"qgraph": FORMAT, "graph": print_graph(graph, inline=-1)})


@collector_paused()
def from_bytes(data: bytes, source: str = "the data") -> Graph:
    """The graph in the content of a `.qg` file; raises FileError naming `source`."""
    import safetensors
    from safetensors.numpy import load

    try:
        header_size = int.from_bytes(data[:8], "little")
        tensors = load(data)
        metadata = _metadata(data, header_size)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{source} is not a .qg file: {error}", help="a .qg file is written by qgraph.save") from None
    if metadata.get("qgraph") != FORMAT or "graph" not in metadata:
        raise FileError(
            f"{source} is a safetensors file, but not a .qg file", help="a .qg file is written by qgraph.save"
        )
    try:
        return parse(metadata["graph"], tensors)
    except QGraphError as error:
        raise FileError(f"{source} holds a graph that cannot be read: {error.what}", where=error.where) from None


def _metadata(data: bytes, header_size: int) -> dict[str, str]:
    import json

    header = json.loads(data[8 : 8 + header_size])
    return dict(header.get("__metadata__") or {})


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph to a `.qg` file; raises FileError when the file cannot be written."""
    write_atomically(path, to_bytes(graph))


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a graph from a `.qg` file."""
    return from_bytes(read_bytes(path), str(path))
