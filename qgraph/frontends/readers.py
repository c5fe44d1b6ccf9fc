"""Readers of files: a table in which the first that claims a file reads it.

A reader of an installed package (`qgraph.extensions`) comes before those here, so that it may read what they refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qgraph import extensions, targets
from qgraph.errors import FileError, InputError
from qgraph.exporters.content import Content
from qgraph.frontends.onnx_float import from_onnx, is_float_model, is_own_model, with_weights
from qgraph.frontends.onnx_integer import from_quantized
from qgraph.frontends.onnx_qonnx import from_qonnx, is_qonnx
from qgraph.ir import Graph, storage


@dataclass(frozen=True)
class Reader:
    """One kind of file: `claims` says whether a file is of it, `read` gives its graph or raises FileError."""

    name: str
    suffixes: tuple[str, ...]
    claims: Callable[[Content], bool]
    read: Callable[[Content], Graph]


def of_suffix(name: str, suffix: str, read: Callable[[Content], Graph]) -> Reader:
    """A reader of all files of that suffix."""
    return Reader(name, (suffix,), lambda content: content.suffix == suffix, read)


FLOAT_ONNX = Reader(
    "float ONNX",
    (".onnx",),
    lambda content: content.suffix == ".onnx" and content.onnx is not None and is_float_model(content.onnx),
    lambda content: from_onnx(with_weights(content.onnx, Path(content.path).parent), content.sizes),
)
QONNX = Reader(
    "QONNX",
    (".onnx",),
    lambda content: content.suffix == ".onnx" and content.onnx is not None and is_qonnx(content.onnx),
    lambda content: from_qonnx(with_weights(content.onnx, Path(content.path).parent)),
)
QUANTIZED_ONNX = Reader(
    "quantized ONNX",
    (".onnx",),
    lambda content: content.suffix == ".onnx" and content.onnx is not None and not is_own_model(content.onnx),
    lambda content: _quantized(content),
)
GRAPH = of_suffix("graph", ".qg", lambda content: storage.from_bytes(content.data, content.path))


def _quantized(content: Content) -> Graph:
    """Of the first target that runs such models."""
    every = map(targets.get, targets.coded_names())
    target = next((each for each in every if each.optimizations), None)
    if target is None:
        raise FileError("no target that is installed runs quantized ONNX models")
    level = content.optimization or next(iter(target.optimizations))
    return from_quantized(with_weights(content.onnx, Path(content.path).parent), target, level, content.sizes)


def readers() -> Iterator[Reader]:
    """All readers, in the order in which they are asked."""
    for name, reader in extensions.installed(extensions.READERS).items():
        if not isinstance(reader, Reader):
            raise InputError(f"the entry point {name} of {extensions.READERS} gives {reader!r}, not a Reader")
        yield reader
    yield GRAPH
    yield QONNX
    yield FLOAT_ONNX
    yield QUANTIZED_ONNX
    for name in targets.coded_names():
        for suffix, read in targets.get(name).importers.items():
            yield of_suffix(name, suffix, read)


def suffixes() -> list[str]:
    """The suffixes of all files that can be read, sorted."""
    return sorted({suffix for reader in readers() for suffix in reader.suffixes})
