"""Matrix products, attention, and normalizations of each example."""

from __future__ import annotations

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows.functions import chain, number
from qgraph.exporters.onnx_rows.rows import OnnxNodes, same, writes
from qgraph.ir import Node

same("nn.matmul", "MatMul")


@writes("nn.attention")
def _attention(writer: OnnxNodes, node: Node, result: str) -> None:
    """As torch's exporter writes it: products, a softmax between them, and the mask as a sum."""
    query, key, value, *mask = writer.operands(node)
    types = [each.type for each in node.inputs]
    if types[0].shape[-3] != types[1].shape[-3] or (mask and types[3].dtype == "bool"):
        raise ExportError("attention in groups, or with a mask of booleans, has no row here", where=node.where)
    rank, depth = types[0].rank, types[0].shape[-1]
    if isinstance(depth, str):
        raise ExportError(f"attention over the symbolic size {depth} has no row here", where=node.where)
    turned = chain(writer, "Transpose", [key], result, perm=[*range(rank - 2), rank - 1, rank - 2])
    scale = depth**-0.5 if node.attrs["scale"] is None else node.attrs["scale"]
    scores = chain(writer, "MatMul", [query, turned], result)
    scores = chain(writer, "Mul", [scores, number(writer, node, scale, result)], result)
    for each in (*([_unseen(writer, node, result)] if node.attrs["causal"] else []), *mask):
        scores = chain(writer, "Add", [scores, each], result)
    writer.op("MatMul", [chain(writer, "Softmax", [scores], result, axis=-1), value], result)


def _unseen(writer: OnnxNodes, node: Node, result: str) -> str:
    """-inf where a causal row does not see."""
    rows, columns = node.operand(0).type.shape[-2], node.operand(1).type.shape[-2]
    if isinstance(rows, str) or isinstance(columns, str):
        raise ExportError("causal attention over symbolic sizes has no row here", where=node.where)
    unseen = np.triu(np.full((rows, columns), -np.inf, node.result.type.numpy), 1)
    return writer.constant(unseen, f"{result}.unseen")


@writes("nn.layer_norm")
def _layer_norm(writer: OnnxNodes, node: Node, result: str) -> None:
    axes, eps = node.attrs["axes"], node.attrs["eps"]
    x, gamma, beta = [*writer.operands(node), "", ""][:3]
    if not gamma:
        last = [int(size) for size in node.result.type.shape[-axes:]]
        gamma = writer.constant(np.ones(last, node.result.type.numpy), f"{result}.ones")
    writer.op("LayerNormalization", [x, gamma, *([beta] if beta else [])], result, axis=-axes, epsilon=eps)


@writes("nn.rms_norm")
def _rms_norm(writer: OnnxNodes, node: Node, result: str) -> None:
    x, *gamma = writer.operands(node)
    axes = writer.constant(np.arange(-node.attrs["axes"], 0), f"{result}.axes")
    square = chain(writer, "ReduceMean", [chain(writer, "Mul", [x, x], result), axes], result, keepdims=1)
    more = chain(writer, "Add", [square, number(writer, node, node.attrs["eps"], result)], result)
    root = chain(writer, "Sqrt", [more], result)
    if not gamma:
        writer.op("Div", [x, root], result)
        return
    writer.op("Mul", [chain(writer, "Div", [x, root], result), *gamma], result)


@writes("nn.group_norm")
def _group_norm(writer: OnnxNodes, node: Node, result: str) -> None:
    """As torch's exporter writes it: InstanceNormalization of the groups, then the channels' factors and summands."""
    x, gamma, beta = [*writer.operands(node), "", ""][:3]
    groups, type = node.attrs["groups"], node.result.type
    ones, zeros = (writer.constant(np.full(groups, n, type.numpy), f"{result}.{n}") for n in (1, 0))
    shape = writer.constant(np.array([0, groups, -1], np.int64), f"{result}.groups")
    grouped = chain(writer, "Reshape", [x, shape], result)
    made = chain(writer, "InstanceNormalization", [grouped, ones, zeros], result, epsilon=node.attrs["eps"])
    back = writer.constant(np.array([0, *type.shape[1:]], np.int64), f"{result}.shape")
    column = writer.constant(np.array([-1, *(1,) * (type.rank - 2)], np.int64), f"{result}.column")
    steps = [("Reshape", [back])]
    for op, each in (("Mul", gamma), ("Add", beta)):
        if each:
            steps.append((op, [chain(writer, "Reshape", [each, column], result)]))
    for op, others in steps[:-1]:
        made = chain(writer, op, [made, *others], result)
    writer.op(steps[-1][0], [made, *steps[-1][1]], result)
