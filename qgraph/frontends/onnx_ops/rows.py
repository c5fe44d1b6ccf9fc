"""The table of ONNX ops, and how a row is registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qgraph.frontends.onnx_node import OnnxNode
from qgraph.ir import Builder, Value

FromOnnx = Callable[[OnnxNode, Builder], "Value | Sequence[Value]"]
"""Builds what an ONNX node computes, a list where it has several results; raises UnsupportedOp, by
`node.unsupported`, for what `nn` cannot say."""

ROWS: dict[str, FromOnnx] = {}


def reads(*ops: str) -> Callable[[FromOnnx], FromOnnx]:
    """Register a row for ONNX ops."""

    def register(row: FromOnnx) -> FromOnnx:
        ROWS.update(dict.fromkeys(ops, row))
        return row

    return register


def axis_of(node: OnnxNode, x: Value, default: int = -1) -> int:
    """The attribute `axis`, counted from the front."""
    return int(node.attr("axis", default)) % x.type.rank
