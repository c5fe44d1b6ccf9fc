"""`.tosa` files of `tosa` graphs, both ways. Each op says in its row (`rows`) how it stands in a file."""

from __future__ import annotations

from qgraph.errors import FileError, VerificationError
from qgraph.exporters import tosa
from qgraph.ir import Graph, verify_graph
from qgraph.targets.tosa.file_reader import Reader, read_operators


def from_tosa(data: bytes) -> Graph:
    """The graph in a .tosa file, of level "integer".

    Raises FileError for a file that is damaged, is not of the integer profile, or breaks a rule of the specification
    that is known before it runs ("ERROR_IF").
    """
    model = tosa.read(data)
    reader = Reader(model, Graph("model", "integer", {"target": "tosa", "layout": "NHWC", "io": "integer"}))
    for name in model.inputs:
        if name in reader.values:
            raise FileError(f"input {name!r} is there twice")
        reader.values[name] = reader.graph.add_input(name, reader.type(name))
    read_operators(reader)
    outputs = [reader.returned(name) for name in model.outputs]
    reader.graph.set_outputs(outputs, model.outputs)
    try:
        verify_graph(reader.graph)
    except VerificationError as error:
        raise FileError(error.what, where=error.where, help=error.help) from None
    return reader.graph
