"""Flattened images that only linear layers read: their features may have any order, which the weights' columns follow.

%1 = nn.transpose(%x) {perm=[0,3,1,2]}      %2 = nn.reshape(%x) {shape=[-1,144]}
%2 = nn.reshape(%1) {shape=[-1,144]}   ->   %3 = nn.linear(%2, @w[:, order])
%3 = nn.linear(%2, @w)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qgraph.ir import Builder, Graph, Node, Value, op_def
from qgraph.ir.types import dim_product
from qgraph.ops.nn.shape import REST

FAKE_QUANT = "quant.fake_quant"


def is_absorbed(node: Node) -> bool:
    """Whether a node flattens all dimensions but the first for linear layers of constant weights alone."""
    if node.op != "nn.reshape":
        return False
    before, after = node.operand(0).type.shape, node.result.type.shape
    return len(after) == 2 and before[:1] == after[:1] and _feeds_linear_only(node.result)


def _feeds_linear_only(value: Value) -> bool:
    """Whether every reader is a linear layer, or an op that keeps the order and is read by such layers only."""
    return not value.is_output and all(
        (user.op == "nn.linear" and user.operand(0) is value and user.operand(1) is not value and _weight(user))
        or (_passes(user, value) and _feeds_linear_only(user.result))
        for user in value.users
    )


def _passes(node: Node, value: Value) -> bool:
    """Whether an op works on each element of a value alone, by itself."""
    if node.op == FAKE_QUANT:
        return node.operand(0) is value and node.attrs["axis"] is None
    return op_def(node.op).traits.elementwise and node.inputs == [value]


def _weight(layer: Node) -> Value | None:
    """The constant behind a layer's weight, fake-quantized per row or as a whole, or not at all."""
    w = layer.operand(1)
    if w.producer is not None and w.producer.op == FAKE_QUANT and w.producer.attrs["axis"] in (None, 0):
        w = w.producer.operand(0)
    return w if w.is_constant else None


def absorb_transposes(graph: Graph) -> dict[Value, NDArray[np.int64]]:
    """Take away each transpose before such a flatten, and permute the columns of the weights that follow.

    Gives the flattened values, and for each of their features which one it was.
    """
    reordered: dict[Value, NDArray[np.int64]] = {}
    for node in graph.nodes:
        moved = node.operand(0).producer if node.op == "nn.reshape" else None
        if moved is None or moved.op != "nn.transpose" or moved.attrs["perm"][0] != 0 or not is_absorbed(node):
            continue
        x, perm = moved.operand(0), moved.attrs["perm"]
        sizes = [int(size) for size in moved.result.type.shape[1:]]
        places = np.arange(dim_product(sizes)).reshape(sizes)
        order = places.transpose([perm.index(i) - 1 for i in range(1, len(perm))]).reshape(-1)
        for layer in list(_layers(node.result)):
            _permute_columns(graph, layer, order)
        made = Builder(graph, node, node.origins).nn.reshape(x, shape=(REST, order.size), name=node.result.name)
        graph.replace_uses(node.result, made)
        graph.erase(node)
        reordered.update(dict.fromkeys(_flattened(made), order))
        if not moved.result.use_count:
            graph.erase(moved)
    return reordered


def _flattened(value: Value) -> Iterator[Value]:
    """The value, and what is made of each of its elements by itself before the layers."""
    yield value
    for user in value.users:
        if user.op != "nn.linear":
            yield from _flattened(user.result)


def _layers(value: Value) -> Iterator[Node]:
    for user in value.users:
        if user.op == "nn.linear":
            yield user
        else:
            yield from _layers(user.result)


def _permute_columns(graph: Graph, layer: Node, order: NDArray[np.int64]) -> None:
    source = _weight(layer)
    assert source is not None
    permuted = graph.add_constant(source.data.take(order, axis=1), source.name, source.type.quant)
    maker = layer.operand(1).producer
    if maker is not None:
        build = Builder(graph, layer, maker.origins)
        permuted = build.node(maker.op, [permuted, *maker.operands[1:]], maker.attrs).result
    graph.set_operands(layer, [layer.operands[0], permuted, *layer.operands[2:]])
