"""Recurrent layers: from torch to the graph, the same step by step, and in integers on the targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.errors import PassError
from qgraph.ir import Builder, Graph, TensorType

LINEAR = "nn.linear|nn.sigmoid|nn.tanh|nn.relu|nn.add|nn.sub|nn.mul|nn.slice|nn.reshape|nn.concat|nn.transpose"


class Layer(nn.Module):
    """One recurrent module of torch's; `states`: given, zeros by default."""

    def __init__(self, kind: str, states: bool = False, **words: Any) -> None:
        super().__init__()
        self.inner = getattr(nn, kind)(5, 4, **words)
        self.states = states

    def forward(self, x: Tensor, *states: Tensor) -> Any:
        given = states if len(states) == 2 else states[0] if states else None
        return self.inner(x, given) if self.states else self.inner(x)


def _results(made: Any) -> list[np.ndarray]:
    if isinstance(made, dict):
        return list(made.values())
    if isinstance(made, Tensor):
        return [made.detach().numpy()]
    return [array for each in made for array in _results(each)] if isinstance(made, (list, tuple)) else [made]


def _traced(layer: nn.Module, *inputs: Tensor) -> tuple[Graph, list[np.ndarray]]:
    graph = qgraph.trace(layer.eval(), inputs, dynamic_batch=False)
    return graph, _results(layer(*inputs))


def _close(graph: Graph, inputs: tuple[Tensor, ...], wanted: list[np.ndarray]) -> None:
    feeds = {value.name: tensor.numpy() for value, tensor in zip(graph.inputs, inputs, strict=True)}
    got = _results(qgraph.run(graph, feeds))
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


WORDS: list[dict[str, Any]] = [
    {"batch_first": True},
    {"batch_first": True, "num_layers": 2, "bidirectional": True},
    {"batch_first": False, "bidirectional": True, "bias": False},
    {"batch_first": True, "num_layers": 3, "dropout": 0.5},
]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("states", [False, True])
def test_layers_and_their_steps_are_torchs(kind: str, words: dict[str, Any], states: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 5)
    count = words.get("num_layers", 1) * (2 if words.get("bidirectional") else 1)
    batch = 3 if words["batch_first"] else 6
    starts = [torch.rand(count, batch, 4) - 0.5 for _ in range(2 if kind == "LSTM" else 1)] if states else []
    inputs = (x, *starts)
    graph, wanted = _traced(Layer(kind, states, **words), *inputs)
    assert any(node.op == f"nn.{kind.lower()}" for node in graph.nodes)
    _close(graph, inputs, wanted)
    _close(qgraph.passes.decompose(graph, ops=LINEAR), inputs, wanted)


def _whole_lstm(clip: float, bias: bool, read_cells: bool = False, computed: int | None = None) -> Graph:
    """An `nn.sequence_lstm` of 5 steps of 2 numbers to 3, with one of its weights computed maybe."""
    graph, rng = Graph(), np.random.default_rng(0)
    build = Builder(graph)
    x = graph.add_input("x", TensorType(("N", 5, 2), "f32"))
    shapes = [(3, 2)] * 4 + [(3, 3)] * 4 + [(3,)] * 4 * bias
    given = [graph.add_constant(np.float32(rng.normal(size=s)), f"p{i}.input") for i, s in enumerate(shapes)]
    if computed is not None:
        given[computed] = build.nn.tanh(given[computed])
    results = build.node("nn.sequence_lstm", [x, *given], {"cell_clip": clip}).results
    graph.set_outputs(results if read_cells else results[:1])
    return graph


@pytest.mark.parametrize("clip", [0.0, 0.25])
@pytest.mark.parametrize("bias", [False, True])
def test_an_lstm_of_whole_sequences_is_its_steps(clip: float, bias: bool) -> None:
    graph, x = _whole_lstm(clip, bias), np.random.default_rng(1).normal(size=(4, 5, 2)).astype(np.float32)
    made = qgraph.passes.decompose(graph, ops=f"{LINEAR}|nn.clamp")
    assert not made.find("nn.sequence_lstm")
    assert bool(made.find("nn.clamp")) == bool(clip)
    wanted = qgraph.run(graph, x)
    np.testing.assert_allclose(qgraph.run(made, x), wanted, rtol=1e-5, atol=1e-6)
    assert (np.abs(wanted) <= np.tanh(clip or np.inf)).all()


@pytest.mark.parametrize("words", [{"read_cells": True}, {"computed": 1}, {"computed": 6}, {"computed": 11}])
def test_an_lstm_of_whole_sequences_whose_cells_are_read_or_whose_weights_are_computed_is_not_written_so(
    words: Any,
) -> None:
    with pytest.raises(PassError, match=r"nn\.sequence_lstm cannot be written by"):
        qgraph.passes.decompose(_whole_lstm(0.0, True, **words), ops=f"{LINEAR}|nn.clamp")


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
@pytest.mark.parametrize("states", [False, True])
def test_cells_are_torchs(kind: str, states: bool) -> None:
    torch.manual_seed(0)
    starts = [torch.rand(3, 4) - 0.5 for _ in range(2 if kind == "LSTMCell" else 1)] if states else []
    inputs = (torch.randn(3, 5), *starts)
    graph, wanted = _traced(Layer(kind, states), *inputs)
    _close(graph, inputs, wanted)
    _close(qgraph.passes.decompose(graph, ops=LINEAR), inputs, wanted)


def test_relu_layers_are_torchs() -> None:
    inputs = (torch.randn(3, 6, 5),)
    graph, wanted = _traced(Layer("RNN", batch_first=True, nonlinearity="relu"), *inputs)
    _close(graph, inputs, wanted)
    _close(qgraph.passes.decompose(graph, ops=LINEAR), inputs, wanted)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch has another form
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("states", [False, True])
def test_layers_with_a_projection_are_torchs(words: dict[str, Any], states: bool) -> None:
    torch.manual_seed(0)
    count = words.get("num_layers", 1) * (2 if words.get("bidirectional") else 1)
    batch = 3 if words["batch_first"] else 6
    starts = [torch.rand(count, batch, size) - 0.5 for size in (2, 4)] if states else []
    inputs = (torch.randn(3, 6, 5), *starts)
    graph, wanted = _traced(Layer("LSTM", states, **words, proj_size=2), *inputs)
    assert any(node.op == "nn.lstm" for node in graph.nodes)
    _close(graph, inputs, wanted)
    _close(qgraph.passes.decompose(graph, ops=LINEAR), inputs, wanted)
    for got, expected in zip(_results(qgraph.to_torch(graph).eval()(*inputs)), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
