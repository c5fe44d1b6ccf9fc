"""Files of graphs: `.qg`, and what the targets export. The suffix says the format; the content must be that."""

from __future__ import annotations

import os
from pathlib import Path

from qgraph import targets
from qgraph.errors import ExportError, FileError, InputError
from qgraph.frontends.onnx_float import from_onnx, is_float_model
from qgraph.ir import Graph, storage
from qgraph.ir.files import read_bytes, write_atomically

GRAPH_SUFFIX = ".qg"
ONNX_SUFFIX = ".onnx"


def load(path: str | os.PathLike[str], *, target: str | None = None) -> Graph:
    """The graph in a file: `.qg`, a `.tflite` or a float `.onnx` model of any tool, a quantized `.onnx` of qgraph's
    own.

    A quantized `.tflite` gives level "integer", a float one level "float", its inputs and outputs in the file's order
    of dimensions (NHWC).

    `target` picks the variant of the family that a quantized file is run as ("litert-xnnpack"). Raises FileError for a
    file that is missing, truncated, foreign, or not what its suffix says.
    """
    suffix = Path(path).suffix
    data = read_bytes(path)
    graph = storage.from_bytes(data, str(path)) if suffix == GRAPH_SUFFIX else _imported(path, suffix, data)
    if target is not None:
        graph.metadata["target"] = _variant(graph, target)
    return graph


def _imported(path: str | os.PathLike[str], suffix: str, data: bytes) -> Graph:
    if suffix == ONNX_SUFFIX and is_float_model(data):
        return from_onnx(path)
    known = {GRAPH_SUFFIX}
    for name in targets.names():
        importers = targets.get(name).importers
        if suffix in importers:
            try:
                return importers[suffix](data)
            except FileError as error:
                raise FileError(f"{path}: {error.what}", where=error.where, help=error.help) from None
        known.update(importers)
    raise FileError(
        f"{path}: a file of suffix {suffix or '(none)'} cannot be read", help=f"suffixes: {', '.join(sorted(known))}"
    )


def _variant(graph: Graph, target: str) -> str:
    wanted = targets.get(target)
    if graph.level != "integer":
        raise InputError(
            f"the graph is of level {graph.level}: {target} runs integers, and only they are compared bit for bit",
            help="quantize it: qgraph quantize, qgraph lower",
        )
    if targets.get(graph.target).dialect != wanted.dialect:
        raise InputError(f"the graph is not one of target {target}", help="lower it to that target")
    return target


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph of any level to a `.qg` file."""
    if Path(path).suffix != GRAPH_SUFFIX:
        raise FileError(f"{path}: a graph is saved as {GRAPH_SUFFIX}", help="qgraph.export writes a target's own files")
    storage.save(graph, path)


def to_file_bytes(graph: Graph, suffix: str, **options: str) -> bytes:
    """The content of the file that the graph's target exports under that suffix; raises ExportError.

    A float graph has no target and becomes a float `.onnx` model.
    """
    if graph.level == "float" and suffix == ONNX_SUFFIX and not options:
        data: bytes = graph.to_onnx().SerializeToString(deterministic=True)
        return data
    if graph.level != "integer":
        raise ExportError(f"a graph of level {graph.level} cannot be exported", help="lower it first: qgraph.lower")
    exporters = targets.get(graph.target).exporters
    if suffix not in exporters:
        raise ExportError(
            f"target {graph.target} exports no {suffix or 'file without suffix'}",
            help=f"it exports {', '.join(exporters)}",
        )
    try:
        return exporters[suffix](graph, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ExportError(f"export to {suffix} has no option {', '.join(options)}") from None


def export(graph: Graph, path: str | os.PathLike[str], **options: str) -> None:
    """Write a lowered graph (or as `.onnx` a float one) as the file that its suffix names, whole or not at all.

    `.onnx` takes `form="qdq"` for Q/DQ pairs; the default is the QOperator form, whose bytes do not depend on the
    level of optimization. Raises ExportError, and FileError when the file cannot be written.
    """
    write_atomically(path, to_file_bytes(graph, Path(path).suffix, **options))
