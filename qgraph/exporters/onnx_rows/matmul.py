"""Matrix products, attention, and normalizations of each example."""

from __future__ import annotations

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows.functions import chain, number
from qgraph.exporters.onnx_rows.rows import OnnxNodes, same, writes
from qgraph.ir import Array, Node, Value

same("nn.matmul", "MatMul")


HELP = "trace it for known sizes: without dynamic_dims"


@writes("nn.attention")
def _attention(writer: OnnxNodes, node: Node, result: str) -> None:
    """As torch's exporter writes it: products, a softmax between them, and the mask as a sum, or as a choice."""
    query, key, value, *mask = writer.operands(node)
    types = [each.type for each in node.inputs]
    rank, depth = types[0].rank, types[0].shape[-1]
    if isinstance(depth, str):
        raise ExportError(f"attention over the symbolic size {depth} has no row here", where=node.where, help=HELP)
    if types[0].shape[-3] != types[1].shape[-3]:
        key, value = (_for_each_head(writer, node, each, result) for each in node.inputs[1:3])
    turned = chain(writer, "Transpose", [key], result, perm=[*range(rank - 2), rank - 1, rank - 2])
    scale = depth**-0.5 if node.attrs["scale"] is None else node.attrs["scale"]
    scores = chain(writer, "MatMul", [query, turned], result)
    scores = chain(writer, "Mul", [scores, number(writer, node, scale, result)], result)
    causal = _seen(node) if node.attrs["causal"] else None
    chooses = bool(mask) and types[3].dtype == "bool"
    if not chooses:
        unseen = [] if causal is None else [writer.constant(_added(causal, node), f"{result}.unseen")]
        for each in (*unseen, *mask):
            scores = chain(writer, "Add", [scores, each], result)
        writer.op("MatMul", [chain(writer, "Softmax", [scores], result, axis=-1), value], result)
        return
    if causal is not None:
        mask = [chain(writer, "And", [*mask, writer.constant(causal, f"{result}.causal")], result)]
    scores = chain(writer, "Where", [*mask, scores, number(writer, node, -np.inf, result)], result)
    shares = chain(writer, "Softmax", [scores], result, axis=-1)
    shares = chain(writer, "Where", [*mask, shares, number(writer, node, 0, result)], result)  # in a row of -inf too
    writer.op("MatMul", [shares, value], result)


def _for_each_head(writer: OnnxNodes, node: Node, shared: Value, result: str) -> str:
    """Keys or values [N, G, S, E] for each of the H heads of the query, [N, H, S, E]."""
    if shared.type.rank != 4:
        raise ExportError(f"attention in groups over {shared.type.rank} dimensions has no row here", where=node.where)
    heads, groups, width = (int(size) for size in (node.operand(0).type.shape[1], *shared.type.shape[1::2]))
    place = writer.constant(np.array([2], np.int64), f"{result}.place")
    shape = writer.constant(np.array([0, heads, -1, width], np.int64), f"{result}.heads")
    single = chain(writer, "Unsqueeze", [writer.name(shared), place], result)
    several = chain(writer, "Concat", [single] * (heads // groups), result, axis=2)
    return chain(writer, "Reshape", [several, shape], result)


def _seen(node: Node) -> Array:
    """What a causal row sees."""
    rows, columns = node.operand(0).type.shape[-2], node.operand(1).type.shape[-2]
    if isinstance(rows, str) or isinstance(columns, str):
        raise ExportError("causal attention over symbolic sizes has no row here", where=node.where, help=HELP)
    return np.tri(rows, columns, dtype=np.bool_)


def _added(seen: Array, node: Node) -> Array:
    """-inf where a row does not see."""
    return np.where(seen, 0, -np.inf).astype(node.result.type.numpy)


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
