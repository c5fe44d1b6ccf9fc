"""The table of ops as ONNX has them, and how a row is registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from qgraph.ir import Array, Node, Value


class OnnxNodes(Protocol):
    """What a row writes to: ONNX nodes and tensors by name."""

    def op(self, op: str, inputs: Sequence[str], result: str | Sequence[str], **attrs: Any) -> None:
        """Append one ONNX node; several results by their names."""

    def operands(self, node: Node) -> list[str]:
        """The names of a node's operands."""

    def name(self, value: Value) -> str:
        """The name of a value that is there already, or of a constant."""

    def constant(self, data: Array, wanted: str) -> str:
        """A new initializer."""

    def unique(self, wanted: str) -> str:
        """A name that is not taken."""


ToOnnx = Callable[[OnnxNodes, Node, str], None]
"""Writes the ONNX nodes of a node, of which one makes the tensor of the given name, its first result; for other results
`OnnxNodes.name` has names."""

ROWS: dict[str, ToOnnx] = {}
"""Op of the dialect `nn` -> how it is written."""


def writes(*names: str) -> Callable[[ToOnnx], ToOnnx]:
    """Register the row of ops."""

    def register(row: ToOnnx) -> ToOnnx:
        ROWS.update(dict.fromkeys(names, row))
        return row

    return register


def same(name: str, op: str, **attrs: str) -> None:
    """Register an op that ONNX has too; `attrs`: ONNX's name of an attribute = our name of it."""

    def write(writer: OnnxNodes, node: Node, result: str) -> None:
        writer.op(op, writer.operands(node), result, **_attributes(node, attrs))

    ROWS[name] = write


def with_integers(name: str, op: str, *lists: str, **attrs: str) -> None:
    """Register an op whose attributes `lists` are inputs in ONNX: lists of int64."""

    def write(writer: OnnxNodes, node: Node, result: str) -> None:
        made = [writer.constant(np.atleast_1d(np.array(node.attrs[n], np.int64)), f"{result}.{n}") for n in lists]
        writer.op(op, [*writer.operands(node), *made], result, **_attributes(node, attrs))

    ROWS[name] = write


def _attributes(node: Node, names: Mapping[str, str]) -> dict[str, Any]:
    values = {theirs: node.attrs[ours] for theirs, ours in names.items()}
    return {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}
