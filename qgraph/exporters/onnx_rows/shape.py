"""What moves elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.exporters.onnx_rows.rows import OnnxNodes, same, with_integers, writes
from qgraph.ir import Node
from qgraph.ops.nn.shape import REST, size_of

same("nn.concat", "Concat", axis="axis")
same("nn.transpose", "Transpose", perm="perm")
with_integers("nn.slice", "Slice", "start", "end", "axis", "step")


@writes("nn.pad")
def _pad(writer: OnnxNodes, node: Node, result: str) -> None:
    pads = writer.constant(np.array(node.attrs["pads"], np.int64), f"{result}.pads")
    value = writer.constant(np.array(node.attrs["value"], node.result.type.numpy), f"{result}.value")
    writer.op("Pad", [*writer.operands(node), pads, value], result)


@writes("nn.reshape")
def _reshape(writer: OnnxNodes, node: Node, result: str) -> None:
    sizes, source = list(node.attrs["shape"]), len(node.operands) - 1
    if source == 0:
        sizes = [0 if size == size_of(i) else size for i, size in enumerate(sizes)]  # 0: the size of x at that place
    writer.op("Reshape", [writer.name(node.operand(0)), _shape(writer, node, source, sizes, result)], result)


@writes("nn.expand")
def _expand(writer: OnnxNodes, node: Node, result: str) -> None:
    sizes = [1 if size == REST else size for size in node.attrs["shape"]]  # 1: as x has it
    writer.op("Expand", [writer.name(node.operand(0)), _shape(writer, node, 1, sizes, result)], result)


def _shape(writer: OnnxNodes, node: Node, source: int, sizes: Sequence[int], result: str) -> str:
    """A target shape as a tensor: a constant, or joined of parts that come from the shape of an operand."""
    if min(sizes, default=0) >= REST:
        return writer.constant(np.array(sizes, np.int64), f"{result}.shape")
    whole = writer.unique(f"{result}.sizes")
    writer.op("Shape", [writer.name(node.operand(source))], whole)
    parts = []
    for size in sizes:
        if size >= REST:
            parts.append(writer.constant(np.array([size], np.int64), f"{result}.size"))
            continue
        axis = writer.constant(np.array([-2 - size], np.int64), f"{result}.axis")
        parts.append(writer.unique(f"{result}.size"))
        writer.op("Gather", [whole, axis], parts[-1])
    shape = writer.unique(f"{result}.shape")
    writer.op("Concat", parts, shape, axis=0)
    return shape
