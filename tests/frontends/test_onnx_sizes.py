"""Arithmetic of open sizes as exporters write it, between a Shape and what takes a shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.ir import Array, Graph

node = onnx.helper.make_node


def read(nodes: list[onnx.NodeProto], rank: int, **constants: Array) -> Graph:
    """The graph of nodes from x [N, 4], whose sizes are n and c, to y."""
    first = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Gather", ["s", "one"], ["c"]),
    ]
    constants |= {"zero": np.array([0]), "one": np.array([1])}
    infos = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4]),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * rank),
    ]
    tensors = [onnx.numpy_helper.from_array(data, name) for name, data in constants.items()]
    body = onnx.helper.make_graph([*first, *nodes], "g", infos[:1], infos[1:], tensors)
    return qgraph.from_onnx(onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)]))


@pytest.mark.parametrize(("op", "by", "shape"), [("Mul", "c", ("N*4",)), ("Div", "one", ("N", 4))])
def test_products_and_quotients_of_sizes_are_sizes(op: str, by: str, shape: tuple[int | str, ...]) -> None:
    nodes = [node(op, ["n", by], ["m"])]
    nodes += [node("Concat", ["m", *(["c"] if len(shape) == 2 else [])], ["t"], axis=0)]
    graph = read([*nodes, node("Reshape", ["x", "t"], ["y"])], len(shape))
    assert graph.outputs[0].type.shape == shape
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(qgraph.run(graph, x), x.reshape([12] if len(shape) == 1 else [3, 4]))


def test_a_constant_may_have_an_open_size() -> None:
    value = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [2.5])
    nodes = [node("ConstantOfShape", ["s"], ["k"], value=value), node("Add", ["x", "k"], ["y"])]
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(qgraph.run(read(nodes, 2), x), x + np.float32(2.5))


def test_a_quotient_that_is_no_size_is_refused() -> None:
    nodes = [node("Div", ["n", "c"], ["m"], "half"), node("Concat", ["m", "c"], ["t"], axis=0)]
    with pytest.raises(UnsupportedOp, match="'half': Div: it computes with a symbolic size what depends on that"):
        read([*nodes, node("Reshape", ["x", "t"], ["y"])], 2)


def test_an_exported_graph_with_two_open_sizes_is_read_again(tmp_path: Path) -> None:
    """An encoder layer reshapes [N * T, 8] to [T, N, 8]: the sizes are those of the model's input."""
    network = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    graph = qgraph.trace(network, torch.randn(2, 5, 8), dynamic_dims=[1])
    qgraph.export(graph, tmp_path / "encoder.onnx")
    read = qgraph.load(tmp_path / "encoder.onnx")
    for n, t in ((2, 5), (3, 4), (1, 1)):
        x = np.random.default_rng(n).normal(size=(n, t, 8)).astype(np.float32)
        np.testing.assert_allclose(qgraph.run(read, x), qgraph.run(graph, x), rtol=1e-6, atol=1e-6)


def test_an_lstm_of_open_length_and_batch_is_read() -> None:
    rng = np.random.default_rng(0)
    tensors = {"w": (1, 20, 4), "r": (1, 20, 5), "b": (1, 40)}
    made = [onnx.numpy_helper.from_array(rng.normal(size=s).astype("f"), name) for name, s in tensors.items()]
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["all"], hidden_size=5), node("Squeeze", ["all", "axes"], ["y"])]
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["T", "N", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["T", "N", 5])
    body = onnx.helper.make_graph(nodes, "g", [x], [y], [*made, axes])
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)])
    graph, reference = qgraph.from_onnx(model), onnx.reference.ReferenceEvaluator(model)
    for sizes in ((3, 2), (5, 1), (1, 4)):
        given = rng.normal(size=(*sizes, 4)).astype(np.float32)
        np.testing.assert_allclose(qgraph.run(graph, given), reference.run(None, {"x": given})[0], atol=1e-6)
