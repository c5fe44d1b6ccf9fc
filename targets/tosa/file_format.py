"""`.tosa` files of `tosa` graphs, both ways. Each op says in its row (`rows`) how it stands in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qgraph.errors import FileError, VerificationError
from qgraph.exporters import tosa
from qgraph.ir import Graph, verify_graph
from qgraph.targets.tosa.file_reader import Reader, read_operators
from qgraph.targets.tosa.file_writer import ENTRY, VERSION

FOREIGN: Mapping[str, str] = {"target": "tosa", "layout": "NHWC", "io": "integer"}
"""Metadata of a graph from another tool's file."""


def from_tosa(data: bytes) -> Graph:
    """The graph in a .tosa file, of level "integer": equal to the one that qgraph exported, or another tool's.

    Raises FileError for a file that is damaged, is not of the integer profile, or breaks a rule of the specification
    that is known before it runs ("ERROR_IF").
    """
    model = tosa.read(data)
    words = entry(model)
    try:
        graph = _read(model, words)
        verify_graph(graph)
    except VerificationError as error:
        raise FileError(error.what, where=error.where, help=error.help) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if not words:
            raise
        raise FileError(
            f"the file's entry {ENTRY!r} does not fit its operators: {error!r}", help="export again"
        ) from None
    return graph


def entry(model: tosa.Model) -> Mapping[str, Any]:
    """What qgraph said beside the operators; empty for another tool's file."""
    location = model.operators[0].location if model.operators else ""
    if f'"{ENTRY}"' not in location:
        return {}
    try:
        words = json.loads(location)
    except ValueError:
        return {}
    if not isinstance(words, dict) or words.get(ENTRY) != VERSION:
        raise FileError(f"the file's entry {ENTRY!r} is of another version than {VERSION}", help="export it again")
    return words


def _read(model: tosa.Model, words: Mapping[str, Any]) -> Graph:
    graph = Graph(words.get("name", "model"), "integer", dict(words.get("metadata", FOREIGN)))
    reader = Reader(model, graph, words)
    for name in model.inputs:
        if name in reader.values:
            raise FileError(f"input {name!r} is there twice")
        reader.values[name] = graph.add_input(reader.name(name), reader.type(name))
    reader.add_own_constants()
    read_operators(reader)
    outputs = [reader.returned(name) for name in model.outputs]
    graph.set_outputs(outputs, words.get("outputs", ()) if words else model.outputs)
    return graph
