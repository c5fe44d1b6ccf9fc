"""Reductions over dimensions, and elements by their indices."""

from __future__ import annotations

import numpy as np

from qgraph.exporters.onnx_rows.functions import chain, number, numbers, of_numbers
from qgraph.exporters.onnx_rows.rows import OnnxNodes, same, with_integers, writes
from qgraph.ir import Node

with_integers("nn.sum", "ReduceSum", "axes", keepdims="keepdims")
with_integers("nn.prod", "ReduceProd", "axes", keepdims="keepdims")
same("nn.argmax", "ArgMax", axis="axis", keepdims="keepdims")
same("nn.argmin", "ArgMin", axis="axis", keepdims="keepdims")
same("nn.gather", "Gather", axis="axis")
same("nn.gather_elements", "GatherElements", axis="axis")
same("nn.scatter_elements", "ScatterElements", axis="axis", reduction="reduce")


@writes("nn.max", "nn.min")
def _extreme(writer: OnnxNodes, node: Node, result: str) -> None:
    """Of conditions they are any and all."""
    op = {"nn.max": "ReduceMax", "nn.min": "ReduceMin"}[node.op]
    axes = writer.constant(np.array(node.attrs["axes"], np.int64), f"{result}.axes")
    inputs = [*numbers(writer, node.inputs, result), axes]
    of_numbers(writer, node, op, inputs, result, keepdims=int(node.attrs["keepdims"]))


@writes("nn.topk")
def _topk(writer: OnnxNodes, node: Node, result: str) -> None:
    """Of equal elements the first, as ONNX has it too."""
    k = writer.constant(np.array([node.attrs["k"]], np.int64), f"{result}.k")
    axis, largest = node.attrs["axis"], int(node.attrs["largest"])
    writer.op("TopK", [*writer.operands(node), k], [result, writer.name(node.results[1])], axis=axis, largest=largest)


@writes("nn.cumsum")
def _cumsum(writer: OnnxNodes, node: Node, result: str) -> None:
    axis = writer.constant(np.array(node.attrs["axis"], np.int64), f"{result}.axis")
    writer.op("CumSum", [*writer.operands(node), axis], result)


@writes("nn.embedding")
def _embedding(writer: OnnxNodes, node: Node, result: str) -> None:
    indices, w = writer.operands(node)
    writer.op("Gather", [w, indices], result, axis=0)


@writes("nn.embedding_bag")
def _embedding_bag(writer: OnnxNodes, node: Node, result: str) -> None:
    """The rows, and what is made of them."""
    indices, w, *weights = writer.operands(node)
    rows = chain(writer, "Gather", [w, indices], result, axis=0)
    last = writer.constant(np.array([-1], np.int64), f"{result}.axis")
    if weights:
        rows = chain(writer, "Mul", [rows, chain(writer, "Unsqueeze", [*weights, last], result)], result)
    axes = writer.constant(np.array([1], np.int64), f"{result}.axes")
    mode = node.attrs["mode"]
    if node.attrs["padding"] is None:
        reduce = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax"}[mode]
        writer.op(reduce, [rows, axes], result, keepdims=0)
        return
    index = writer.constant(np.array(node.attrs["padding"], node.operand(0).type.numpy), f"{result}.padding")
    padding = chain(writer, "Unsqueeze", [chain(writer, "Equal", [indices, index], result), last], result)
    zero, one, least = (number(writer, node, each, result) for each in (0, 1, -np.inf))
    rows = chain(writer, "Where", [padding, least if mode == "max" else zero, rows], result)
    if mode == "sum":
        writer.op("ReduceSum", [rows, axes], result, keepdims=0)
    elif mode == "mean":
        counts = chain(
            writer, "ReduceSum", [chain(writer, "Where", [padding, zero, one], result), axes], result, keepdims=0
        )
        total = chain(writer, "ReduceSum", [rows, axes], result, keepdims=0)
        writer.op("Div", [total, chain(writer, "Max", [counts, one], result)], result)
    else:
        largest = chain(writer, "ReduceMax", [rows, axes], result, keepdims=0)
        writer.op("Where", [chain(writer, "Equal", [largest, least], result), zero, largest], result)


@writes("nn.index")
def _index(writer: OnnxNodes, node: Node, result: str) -> None:
    """Gather along one axis; along the first ones GatherND of the indices, broadcast by a sum that is 0; other axes
    are brought to the front, and where they are neighbours what the indices make goes back to their place."""
    (x, *indices), axes = writer.operands(node), node.attrs["axes"]
    if len(axes) == 1:
        writer.op("Gather", [x, *indices], result, axis=axes[0])
        return
    first, rank, made = axes[0], node.operand(0).type.rank, result
    if list(axes) != [*range(len(axes))]:
        rest = [axis for axis in range(rank) if axis not in axes]
        x = chain(writer, "Transpose", [x], result, perm=[*axes, *rest])
    moves_back = first > 0 and list(axes) == [*range(first, first + len(axes))]
    if moves_back:
        made = writer.unique(f"{result}.gathered")
    whole = indices[0]
    for index in indices[1:]:
        whole = chain(writer, "Add", [whole, index], result)
    zero = chain(writer, "Sub", [whole, whole], result)
    last = writer.constant(np.array([-1], np.int64), f"{result}.axis")
    columns = [chain(writer, "Unsqueeze", [chain(writer, "Add", [i, zero], result), last], result) for i in indices]
    writer.op("GatherND", [x, chain(writer, "Concat", columns, result, axis=-1)], made)
    if moves_back:
        count, last_place = node.result.type.rank - rank + len(axes), node.result.type.rank
        perm = [*range(count, count + first), *range(count), *range(count + first, last_place)]
        writer.op("Transpose", [made], result, perm=perm)


@writes("nn.arange")
def _arange(writer: OnnxNodes, node: Node, result: str) -> None:
    """A Range up to the size of a dimension."""
    axis, start, step = (
        writer.constant(np.array(node.attrs[name], np.int64), f"{result}.{name}") for name in ("axis", "start", "step")
    )
    size = chain(writer, "Gather", [chain(writer, "Shape", writer.operands(node), result), axis], result)
    end = chain(writer, "Add", [chain(writer, "Mul", [size, step], result), start], result)
    writer.op("Range", [start, end, step], result)


@writes("nn.grid_sample")
def _grid_sample(writer: OnnxNodes, node: Node, result: str) -> None:
    a = node.attrs
    words = {"mode": a["mode"], "padding_mode": a["padding"], "align_corners": int(a["align_corners"])}
    writer.op("GridSample", writer.operands(node), result, **words)
