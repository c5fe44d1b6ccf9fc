"""Ops of several results as ONNX nodes, and read back: recurrent layers, topk."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.errors import ExportError
from qgraph.frontends import from_onnx
from qgraph.ir import Builder, Graph, TensorType
from tests.frontends.test_onnx_float import by_runtime, close, const, outputs, randoms

RECURRENT: dict[str, tuple[int, int, dict[str, object]]] = {
    "nn.lstm": (4, 2, {}),
    "nn.gru": (3, 1, {}),
    "nn.rnn": (1, 1, {}),
    "nn.rnn of relu": (1, 1, {"nonlinearity": "relu"}),
}
"""Name: gates, states, attributes."""


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("given", ["nothing", "biases", "one bias", "states"])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_layer_gives_all_its_results(name: str, given: str, reverse: bool) -> None:
    gates, states, attrs = RECURRENT[name]
    graph = Graph("g")
    x, build = graph.add_input("x", TensorType(("N", 5, 3))), Builder(graph)
    operands = [x, const(build, 4 * gates, 3), const(build, 4 * gates, 4)]
    biases = {"biases": [const(build, 4 * gates), const(build, 4 * gates)], "one bias": [None, const(build, 4 * gates)]}
    operands += biases.get(given, [None, None])
    if given == "states":
        operands += [build.mean(build.slice(x, axis=1, start=i, end=i + 4), axes=(2,)) for i in range(states)]
    made = build.node(name.split(" ")[0], operands, {"reverse": reverse, **attrs}).results
    graph.set_outputs(made)
    data = randoms(2, 5, 3)
    expected = outputs(graph, [data])
    for got in (by_runtime(graph.to_onnx(), [data]), outputs(from_onnx(graph.to_onnx()), [data])):
        assert len(got) == states + 1
        assert all(close(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("biases", [4, 0])
def test_an_lstm_with_a_weight_for_each_gate_is_one_of_all(biases: int) -> None:
    graph = Graph("g")
    x, build = graph.add_input("x", TensorType(("N", 5, 3))), Builder(graph)
    operands = [const(build, 4, size, seed=gate) for size in (3, 4) for gate in range(4)]
    operands += [const(build, 4, seed=gate) for gate in range(biases)]
    steps, cells = build.node("nn.sequence_lstm", [x, *operands], {}).results
    graph.set_outputs([steps])
    data = randoms(2, 5, 3)
    for got in (by_runtime(graph.to_onnx(), [data]), outputs(from_onnx(graph.to_onnx()), [data])):
        assert close(got[0], outputs(graph, [data])[0])
    graph.set_outputs([cells])
    with pytest.raises(ExportError, match="gives no c of every step"):
        graph.to_onnx()


def test_a_projection_is_refused_by_name() -> None:
    graph = Graph("g")
    x, build = graph.add_input("x", TensorType(("N", 5, 3))), Builder(graph)
    operands = [x, const(build, 16, 3), const(build, 16, 2), *[None] * 4, const(build, 2, 4)]
    graph.set_outputs(build.node("nn.lstm", operands, {}).results[:1])
    with pytest.raises(ExportError, match="no projection"):
        graph.to_onnx()


@pytest.mark.parametrize("largest", [True, False])
def test_the_first_of_equal_elements_is_the_largest(largest: bool) -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", 6)))
    graph.set_outputs(Builder(graph).node("nn.topk", [x], {"k": 4, "axis": 1, "largest": largest}).results)
    data = np.float32([[1, 3, 3, 1, 2, 3], [0, 0, 0, 0, 0, 0]])
    for got in (by_runtime(graph.to_onnx(), [data]), outputs(from_onnx(graph.to_onnx()), [data])):
        for a, b in zip(got, outputs(graph, [data]), strict=True):
            np.testing.assert_array_equal(a, b)
