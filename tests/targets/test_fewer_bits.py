"""Activations of fewer bits than their integers have: fake-quant clamps them, and so do the integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph.ir import Array, Builder, Graph, TensorType
from qgraph.ir.origin import Origin
from qgraph.passes import raise_to_fake_quant

TARGETS = pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
LITERT = pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])


def network() -> Graph:
    """conv+relu, max_pool, conv, concat with the input, linear."""
    rng = np.random.default_rng(0)
    graph = Graph("bits")
    x = graph.add_input("x", TensorType(("N", 4, 8, 8)))
    build = Builder(graph)

    def layer(name: str, x: object, activation: str = "none") -> object:
        build.origins = (Origin(name),)
        w = build.constant(rng.normal(size=(4, 4, 1, 1)).astype(np.float32), "w")
        b = build.constant(rng.normal(size=4).astype(np.float32), "b")
        window = {"stride": (1, 1), "pads": (0,) * 4, "dilation": (1, 1)}
        return build.nn.conv(x, w, b, **window, activation=activation)

    first = layer("first", x, "relu")
    build.origins = (Origin("pool"),)
    pooled = build.nn.max_pool(first, kernel=(3, 3), stride=(1, 1), pads=(1,) * 4, dilation=(1, 1))
    second = layer("second", pooled)
    build.origins = (Origin("cat"),)
    joined = build.nn.concat(second, x, axis=1)
    graph.set_outputs([joined])
    return graph


def examples() -> Array:
    return np.random.default_rng(1).normal(size=(8, 4, 8, 8)).astype(np.float32)


def prepared(target: str, overrides: dict[str, dict[str, int]]) -> Graph:
    return qgraph.calibrate(qgraph.prepare(network(), target, overrides=overrides), [examples()])


@TARGETS
@pytest.mark.parametrize("name", ["first", "second", "cat"])
def test_fewer_bits_clamp_the_integers_as_they_clamp_fake_quant(target: str, name: str) -> None:
    graph = prepared(target, {name: {"activation_bits": 4}})
    lowered = qgraph.lower(graph, target)
    x = 3 * examples()  # far outside what calibration has seen
    report = qgraph.verify(lowered, target, inputs=x)
    assert report.bit_exact
    codes = qgraph.run(graph, x), qgraph.run(lowered, x, dequantize=True, layout="NCHW")
    scale = next(n for n in reversed(graph.nodes) if n.op == "quant.fake_quant").operand(1).data[0]
    off = np.abs(np.asarray(codes[0]) - np.asarray(codes[1])) / scale
    assert off.max() < 1.01  # two roundings, where fake-quant has one; without the clamp more than a hundred


@LITERT
@pytest.mark.parametrize("name", ["first", "second", "cat"])
def test_fewer_bits_stay_when_raised(target: str, name: str) -> None:
    lowered = qgraph.lower(prepared(target, {name: {"activation_bits": 4}}), target)
    again = qgraph.lower(raise_to_fake_quant(lowered), target)
    x = 3 * examples()
    assert [n.op for n in again.nodes] == [n.op for n in lowered.nodes]
    assert np.array_equal(qgraph.run(lowered, x), qgraph.run(again, x))


@LITERT
@pytest.mark.parametrize(("low", "high"), [(-0.5, 1.25), (0.25, 1e9), (-1e9, -0.125)])
def test_a_clamp_with_any_bounds_is_a_minimum_and_a_maximum(target: str, low: float, high: float) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.Hardtanh(low, high))
    graph = qgraph.trace(module, torch.zeros(1, 4, 8, 8))
    made = qgraph.calibrate(qgraph.prepare(graph, target), [examples()])
    lowered = qgraph.lower(made, target)
    assert qgraph.verify(lowered, target, inputs=3 * examples()).bit_exact
    again = qgraph.lower(raise_to_fake_quant(lowered), target)
    assert np.array_equal(qgraph.run(lowered, examples()), qgraph.run(again, examples()))
    got = np.asarray(qgraph.run(lowered, examples(), dequantize=True, layout="NCHW"))
    off = np.abs(got - np.asarray(qgraph.run(made, examples()))) / lowered.outputs[0].type.q.scales[0]
    first = lowered.nodes[0].result.type.q.scales[0] / lowered.outputs[0].type.q.scales[0]
    assert off.max() < 1.01 + first  # a step of the convolution's grid, and the rounding to the finer one
