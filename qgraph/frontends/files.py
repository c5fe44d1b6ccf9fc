"""Files of graphs: `.qg`, and what the targets export. The suffix says the format; the content must be that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from qgraph import targets
from qgraph.errors import ExportError, FileError, InputError
from qgraph.exporters.content import Content
from qgraph.frontends.readers import readers, suffixes
from qgraph.ir import Graph, storage
from qgraph.ir.files import read_bytes, write_atomically, write_together

GRAPH_SUFFIX = ".qg"
ONNX_SUFFIX = ".onnx"


def load(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    optimization: str | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Graph:
    """The graph in a file: `.qg`, a `.tflite` or an `.onnx` model of any tool.

    A quantized `.tflite` gives level "integer", a float one level "float", its inputs and outputs in the file's order
    of dimensions (NHWC).

    A quantized `.onnx` model is read node by node, and then fused as the runtime does it at the level `optimization`:
    "all" (the default), "extended", "basic" or "disabled".

    `sizes` of open dimensions of an `.onnx` model by their names ("N" for the first of an input), if an op needs it.

    `target` picks the variant of the family that a quantized file is run as ("litert-xnnpack"). Raises FileError for a
    file that is missing, truncated, foreign, or not what its suffix says.
    """
    _check_path(path)
    graph = _read(Content(os.fspath(path), read_bytes(path), optimization or "", sizes or {}))
    if target is not None:
        graph.metadata["target"] = _variant(graph, target)
    return graph


def _check_path(path: object) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"{path!r} is no path of a file", help='give one, such as "model.tflite"')


def _read(content: Content) -> Graph:
    """The graph by the first reader that claims the file."""
    try:
        reader = next((each for each in readers() if each.claims(content)), None)
        if reader is not None:
            return reader.read(content)
    except FileError as error:
        what = error.what if error.what.startswith(content.path) else f"{content.path}: {error.what}"
        raise FileError(what, where=error.where, help=error.help) from None
    raise FileError(
        f"{content.path}: a file of suffix {content.suffix or '(none)'} cannot be read",
        help=f"suffixes: {', '.join(suffixes())}",
    )


def _variant(graph: Graph, target: str) -> str:
    wanted = targets.get(target)
    if graph.level != "integer":
        raise InputError(
            f"the graph is of level {graph.level}: {target} runs integers, and only they are compared bit for bit",
            help="quantize it: qgraph quantize, qgraph lower",
        )
    if targets.of(graph).dialect != wanted.dialect:
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
    exporters = targets.of(graph).exporters
    if suffix not in exporters:
        raise ExportError(
            f"target {graph.target} exports no {suffix or 'file without suffix'}",
            help=f"it exports {', '.join([*exporters, 'C99 to a path without a suffix'])}",
        )
    try:
        return exporters[suffix](graph, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ExportError(f"export to {suffix} has no option {', '.join(options)}") from None


def export(graph: Graph, path: str | os.PathLike[str], **options: str) -> None:
    """Write a lowered graph (or as `.onnx` a float one) as the file that its suffix names, whole or not at all.

    A path without a suffix, such as "model_c/", becomes a folder of C99 source: `model.c` and `model.h`, which need no
    library, and a test of them.
    `.onnx` takes `form="qdq"` for Q/DQ pairs; the default is the QOperator form, whose bytes do not depend on the
    level of optimization. Raises ExportError, and FileError when the file cannot be written.
    """
    _check_path(path)
    if not Path(path).suffix and graph.level == "integer":
        _export_folder(graph, Path(path), **options)
    else:
        write_atomically(path, to_file_bytes(graph, Path(path).suffix, **options))


def _export_folder(graph: Graph, folder: Path, **options: str) -> None:
    """Write C99 source, all files or none."""
    if options:
        raise ExportError(f"export to C99 has no option {', '.join(options)}")
    from qgraph.targets.c_source import to_c99

    files = to_c99(graph)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: {error.strerror or error}") from None
    write_together({folder / name: content for name, content in files.items()})
