"""Whole models against ONNX Runtime: here, on an x86 without VNNI, on 64-bit ARM."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph.interpreter import execute
from qgraph.ir import Graph, Value
from qgraph.runtimes import Worker
from qgraph.targets.onnxruntime.onnx_writer import to_onnx
from qgraph.targets.onnxruntime.saturation import saturating_nodes
from tests.models import seeded
from tests.targets.onnxruntime.models import Body, Layers, images, lowered, plain, residual
from tests.targets.onnxruntime.op_cases import FUSING, INT8_QDQ, LEVELS

OPTIONS = [{}, {"activations": "i8"}, {"weights": "u8"}, {"weights": "full-range"}]


def differing(graph: Graph, model: bytes, worker: Worker, level: str, count: int = 8) -> int:
    x = images(graph, count)
    (wanted,) = execute(graph, {"x": x})
    run = worker.run(model, [[x]], options={"level": level, "config": INT8_QDQ}).runs[0]
    assert run.outputs[0].name == "output"
    assert len(np.unique(wanted)) > 20
    return int(np.sum(run.outputs[0].data != wanted))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("body", [plain, residual])
def test_bytes_are_the_runtimes(ort: Worker, body: Body, options: dict[str, str]) -> None:
    graph = lowered(body, **options)
    model = to_onnx(graph)
    assert [differing(graph, model, ort, level) for level in LEVELS] == [0, 0, 0, 0]
    assert differing(graph, model, ort, "all", count=3) == 0, "another batch size"


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("body", [plain, residual])
def test_qdq_where_the_runtime_fuses(ort: Worker, body: Body, options: dict[str, str]) -> None:
    graph = lowered(body, **options)
    model = to_onnx(graph, form="qdq")
    assert [differing(graph, model, ort, level) for level in FUSING] == [0, 0]


class Encoder(torch.nn.Module):
    """Words through an encoder layer whose norms, gelu and softmax are float ops between integers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = torch.nn.Embedding(30, 16), torch.nn.Linear(16, 5)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu", norm_first=True)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(self.layer(self.words(words)).mean(1)), -1)


@pytest.mark.parametrize("level", FUSING)
def test_qdq_around_what_stays_in_float(ort: Worker, level: str) -> None:
    words = np.random.default_rng(0).integers(0, 30, (8, 7))
    traced = qgraph.trace(seeded(Encoder()).eval(), torch.from_numpy(words))
    graph = qgraph.quantize(traced, "onnxruntime", calibration=[words], fallback="float")
    assert graph.find("nn.layer_norm|nn.softmax")
    run = ort.run(to_onnx(graph, form="qdq"), [[words]], options={"level": level, "config": INT8_QDQ}).runs[0]
    np.testing.assert_array_equal(run.outputs[0].data, execute(graph, {"words": words})[0])


@pytest.mark.emulated
def test_without_vnni_only_full_range_weights_differ(avx2_ort: Worker) -> None:
    for options in OPTIONS:
        graph = lowered(residual, **options)
        full_range = options == {"weights": "full-range"}
        assert bool(saturating_nodes(graph)) == full_range
        counts = [differing(graph, to_onnx(graph), avx2_ort, level) for level in ("disable", "all")]
        assert all(count > 0 if full_range else count == 0 for count in counts), options


@pytest.mark.emulated
def test_one_input_channel_and_depth_multiplier_without_vnni(avx2_ort: Worker) -> None:
    """Neither is a depthwise convolution to the runtime: their products come in pairs."""

    def body(layers: Layers, x: Value) -> Value:
        y = layers.conv(x, 8, 3, activation="relu")
        return layers.linear(layers.at("mean").nn.mean(layers.conv(y, 16, 3, groups=8), axes=(2, 3)), 10)

    for weights, saturating in (("pair-safe", []), ("full-range", ["ort.QLinearConv", "ort.QLinearConv"])):
        graph = lowered(body, (1, 12, 12), weights=weights)
        assert [node.op for node in saturating_nodes(graph)][:2] == saturating
        assert bool(differing(graph, to_onnx(graph), avx2_ort, "all")) == bool(saturating)


@pytest.mark.emulated
def test_arm64_without_additions_and_means(arm64_ort: Worker) -> None:
    for options in OPTIONS:
        graph = lowered(plain, **options)
        assert differing(graph, to_onnx(graph), arm64_ort, "all") == 0, options
