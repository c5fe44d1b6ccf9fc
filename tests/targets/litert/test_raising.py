"""A deployed model becomes one that can be trained, and the integers come back."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import qgraph
from qgraph import passes
from qgraph.errors import LoweringError, VerificationError
from qgraph.ir import Builder, Graph, QuantParams, TensorType, verify_graph
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.whole_model import images, small_cnn

EXACT = ("mlperf_tiny/kws_ref_model", "mlperf_tiny/ad01_int8", "tflm/hello_world_int8", "tinyengine/mcunet_vww")


@pytest.fixture(scope="module")
def lowered() -> Graph:
    return from_tflite(to_tflite(qgraph.lower(small_cnn("litert"), "litert")))


def test_raised_and_lowered_again_the_integers_are_the_same(lowered: Graph) -> None:
    raised = passes.raise_to_fake_quant(lowered)
    verify_graph(raised)
    assert raised.level == "fake_quant"
    assert not raised.find("nhwc.*")
    again = qgraph.lower(raised, "litert")
    x = qgraph.quantize_inputs(lowered, images(20, 7))
    assert np.array_equal(qgraph.run(lowered, x), qgraph.run(again, x))
    assert {origin for node in lowered.nodes for origin in node.origins} == {
        origin for node in raised.nodes for origin in node.origins
    }


class Parts(torch.nn.Module):
    """Slices with steps, a concat and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.hardswish(self.a(x))
        y = torch.cat([y * torch.sigmoid(y), y], 1)[:, 6:18, 1:7:2]
        return torch.softmax(self.head(y.mean((2, 3))), 1)


def test_slices_come_back() -> None:
    x = np.random.default_rng(4).normal(size=(16, 3, 8, 8)).astype(np.float32)
    graph = qgraph.trace(Parts().eval(), torch.from_numpy(x[:2]))
    low = qgraph.quantize(graph, "litert", calibration=[x])
    assert low.find("litert.strided_slice")
    again = qgraph.lower(passes.raise_to_fake_quant(low), "litert")
    feed = qgraph.quantize_inputs(low, x)
    assert np.array_equal(qgraph.run(low, feed), qgraph.run(again, feed))


def test_a_shrunk_dimension_and_negative_bounds_come_back() -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    q = QuantParams.of(0.5, 3)
    x = graph.add_input("x", TensorType((2, 5, 6), "i8", q))
    words = {"begin": (0, -2, 1), "end": (0, -1, -1), "strides": (1, 1, 2), "begin_mask": 1, "end_mask": 1}
    made = Builder(graph).litert.strided_slice(x, **words, shrink_axis_mask=2, element=("i8", q))
    graph.set_outputs([made])
    array = np.arange(60, dtype=np.int8).reshape(2, 5, 6)
    raised = passes.raise_to_fake_quant(graph)
    assert np.array_equal(qgraph.run(raised, (array.astype(np.float32) - 3) * 0.5), (array[:, -2, 1:-1:2] - 3.0) * 0.5)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack"])
@pytest.mark.parametrize("io", ["integer", "float"])
def test_a_raised_model_rounds_its_input_as_the_target_does(target: str, io: str) -> None:
    """On ties, where the roundings of the targets differ."""
    given, read = ("i8<0.5:3>", "%x") if io == "integer" else ("f32", "%0")
    quantized = "" if io == "integer" else "  %0: i8<0.5:3>[1,8] = litert.quantize(%x)\n"
    graph = qgraph.parse(f"""graph @g level=integer target={target} (%x: {given}[1,8]) {{
{quantized}  %1: i8<0.5:3>[1,8] = litert.reshape({read}) {{shape=[1,8]}}
  return %1
}}""")
    ties = (np.arange(-4, 4, dtype=np.float32)[None] + np.float32(0.5)) * np.float32(0.5)
    feed = qgraph.quantize_inputs(graph, ties)
    expected = qgraph.run(graph, feed, dequantize=True)
    assert np.array_equal(qgraph.run(passes.raise_to_fake_quant(graph), ties), expected)
    assert np.array_equal(expected[0, 4:6], [0.5, 1.0] if target == "litert" else [0.0, 1.0])


def test_a_raised_model_trains(lowered: Graph) -> None:
    module = qgraph.to_torch(passes.raise_to_fake_quant(lowered)).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    x = torch.from_numpy(images(16, 8))
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = module(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    trained = qgraph.lower(qgraph.from_torch(module), "litert")
    assert qgraph.verify(trained, inputs=images(8, 9)).bit_exact


def test_every_published_model_comes_back(assets: Path) -> None:
    for name in EXACT:
        graph = qgraph.load(assets / "models" / f"{name}.tflite")
        raised = passes.raise_to_fake_quant(graph)
        again = qgraph.lower(raised, "litert", io="integer" if graph.inputs[0].type.quant else "float")
        shape = [1 if isinstance(size, str) else size for size in graph.inputs[0].type.shape]
        x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
        feed = x if graph.inputs[0].type.quant else x.astype(np.float32) / 50
        y = feed if again.inputs[0].type.shape[1:] == graph.inputs[0].type.shape[1:] else feed.transpose(0, 3, 1, 2)
        assert np.array_equal(qgraph.run(graph, feed), qgraph.run(again, y)), name


def test_an_op_without_a_counterpart_is_named() -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    q = QuantParams.of(0.1, 0)
    x = graph.add_input("x", TensorType((1, 4, 4, 2), "i8", q))
    made = Builder(graph).litert.l2_normalization(x, element=("i8", QuantParams.of(1 / 128, 0)))
    graph.set_outputs([made])
    with pytest.raises(LoweringError, match=r"no counterpart in nn for litert\.l2_normalization"):
        passes.raise_to_fake_quant(graph)


def test_what_would_not_lower_again_is_refused_at_the_first_node_that_is_wrong(
    lowered: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(graph: Graph, target: str) -> Graph:
        raise VerificationError("wrong", where=("node    first", "node    second"))

    monkeypatch.setattr(importlib.import_module("qgraph.passes.raise_to_fake_quant"), "lower", refused)
    with pytest.raises(LoweringError, match="what is raised would not lower to a valid graph") as caught:
        passes.raise_to_fake_quant(lowered)
    assert caught.value.where == ("node    first",)
    assert caught.value.help == "raise the part between"
