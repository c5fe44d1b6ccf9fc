"""`.tflite` files of `litert` graphs, both ways: each dialect op is one operator with its options.

Each op says in its row (`rows`) how it stands in a file. `file_writer` and `file_reader` go by the rows; `own_files`
reads what qgraph wrote, `foreign_files` what other tools have made, `raising` makes `nn` graphs of float files.
"""

from __future__ import annotations

import json

from qgraph.errors import FileError
from qgraph.exporters import tflite
from qgraph.ir import Graph, verify_graph
from qgraph.targets.litert.begun_states import with_begins
from qgraph.targets.litert.file_writer import METADATA, VERSION, to_tflite
from qgraph.targets.litert.foreign_files import read_foreign
from qgraph.targets.litert.own_files import read_graph
from qgraph.targets.litert.variables import without_variables


def from_tflite(data: bytes) -> Graph:
    """The graph in a .tflite file: equal to the one that qgraph exported, or read from another tool's file.

    Another tool's file gives a graph of level "integer" in the `litert` dialect, a float one a graph of level "float"
    with inputs and outputs in the file's order of dimensions (NHWC). Raises FileError for a file that is damaged, or
    holds what qgraph does not run.
    """
    model = with_begins(tflite.read(data))
    if METADATA not in model.metadata:
        return read_foreign(model)
    try:
        words = json.loads(bytes(model.metadata[METADATA]))
        if words["version"] != VERSION:
            raise FileError(f"the file has version {words['version']} of qgraph's entry, this qgraph reads {VERSION}")
        graph = read_graph(*without_variables(model, dict(words.get("changed", ()))), words)
        verify_graph(graph)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FileError(
            f"the file's entry {METADATA!r} does not fit its operators: {error!r}", help="export again"
        ) from None
    return graph


__all__ = ["METADATA", "from_tflite", "to_tflite"]
