"""Batch normalizations measured anew, SmoothQuant, and absorbed biases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph import passes
from qgraph.ir import Array, Graph
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.passes.engine.log import Log, logging_to
from qgraph.ptq import reestimate_batchnorm, smooth
from tests.ptq.test_ptq import correlated, decibels, network, sqnr

# ---- batch normalization


@pytest.mark.parametrize("weights", ["per channel", "per tensor"])
def test_statistics_are_those_of_the_layer_with_its_quantized_weight(weights: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -0.5, 0.0, 2.0]))
    x = correlated(40, 2, 5, 5)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    options = {"weights": "per-tensor"} if weights == "per tensor" else {}
    bits = {"*": {"bits": 3}}
    calibrated = qgraph.calibrate(qgraph.prepare(graph, "litert", overrides=bits, **options), [x])
    made = reestimate_batchnorm(calibrated, x)
    (before,), (after,) = (each.find("quant.conv_batch_norm") for each in (calibrated, made))
    w, bias, gamma, _, mean, var, scale = (value.data for value in before.operands[1:8])
    gain, eps = batch_norm_gain(gamma, var, before.attrs["eps"]), before.attrs["eps"]
    step = scale.reshape(-1, 1, 1, 1)
    codes = np.clip(np.rint(w * gain.reshape(-1, 1, 1, 1) / step), -3, 3)
    seen = np.clip(np.rint(x / (s := calibrated.constants["input_scale"].data)) * s, x.min() - s, x.max() + s)
    live = gamma != 0
    unfolded = codes * step / np.where(live, gain, 1).reshape(-1, 1, 1, 1)
    y = nn.functional.conv2d(*(torch.from_numpy(each.astype(np.float32)) for each in (seen, unfolded, bias)))
    measured = [each.numpy() for each in (y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False))]
    for old, new, wanted in zip((mean, var), (after.operand(5).data, after.operand(6).data), measured, strict=True):
        np.testing.assert_allclose(new[live], wanted[live], rtol=2e-3, atol=1e-4)
        assert np.array_equal(new[~live], old[~live])
    if weights == "per channel":
        now = batch_norm_gain(gamma, after.operand(6).data, eps).reshape(-1, 1, 1, 1)
        again = np.clip(np.rint(w * now / after.operand(7).data.reshape(-1, 1, 1, 1)), -3, 3)
        assert np.array_equal(again[live], codes[live])


def test_few_bits_are_worth_more_with_statistics_of_their_own() -> None:
    model, x = network(), correlated(128, 3, 6, 6)
    with torch.no_grad():
        model[1].momentum = 1.0
        model.train()(torch.from_numpy(x))
        model.eval()
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    calibrated = qgraph.calibrate(qgraph.prepare(graph, "litert", overrides={"0": {"bits": 2}}), [x])
    made = reestimate_batchnorm(calibrated, x)
    assert decibels(made, model, x) > decibels(calibrated, model, x) + 1
    low = qgraph.lower(made, "litert")
    assert qgraph.verify(low, inputs=x, layout="NCHW").bit_exact
    assert qgraph.from_torch(qgraph.to_torch(made)) == made


def test_a_graph_without_live_batch_normalizations_stays() -> None:
    x = correlated(32, 4)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(nn.Linear(4, 3), torch.from_numpy(x)), "litert"), [x])
    assert reestimate_batchnorm(graph, x) == graph


# ---- SmoothQuant


class Block(nn.Module):
    """A part of a transformer: two linear layers behind one normalization, and one behind another."""

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.second = norm(16), norm(16)
        self.query, self.key, self.up = nn.Linear(16, 16), nn.Linear(16, 16, bias=False), nn.Linear(16, 32)
        with torch.no_grad():
            self.norm.weight[3] *= 40
            self.second.weight[7] *= 25

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        x = x + self.query(y) * torch.sigmoid(self.key(y))
        return self.up(self.second(x))


def traced(model: nn.Module, x: Array) -> Graph:
    return qgraph.trace(model, torch.from_numpy(x[:2]))


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_smoothing_leaves_the_function_and_evens_out_channels(norm: type[nn.Module]) -> None:
    model, x = Block(norm), correlated(32, 8, 16)
    graph = traced(model, x)
    made = smooth(graph, x)
    np.testing.assert_allclose(qgraph.run(made, x), qgraph.run(graph, x), rtol=1e-4, atol=1e-4)
    name = "layer_norm" if norm is nn.LayerNorm else "rms_norm"
    for before, after in zip(graph.find(f"nn.{name}"), made.find(f"nn.{name}"), strict=True):
        ratio = before.operand(1).data / after.operand(1).data
        assert ratio.max() / np.median(ratio) > 3  # the outlier


def test_the_factor_is_the_geometric_mean_of_both_sides() -> None:
    """Equation 4 with alpha 0.5, by hand: largest values 6 and 0.5, largest weights 1.5 and 2."""

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.layer = nn.RMSNorm(2, eps=0.0), nn.Linear(2, 2, bias=False)
            with torch.no_grad():
                self.norm.weight.copy_(torch.tensor([6.0, 0.5]))
                self.layer.weight.copy_(torch.tensor([[1.5, -2.0], [0.3, 1.0]]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.norm(x))

    x = np.float32([[1, 1], [-1, 1], [1, 0.5]])
    normal = x / np.sqrt((x**2).mean(1, keepdims=True))
    seen = np.abs(normal * [6, 0.5]).max(0)
    made = smooth(traced(Tiny(), x), x)
    factor = np.sqrt(seen / [1.5, 2])
    np.testing.assert_allclose(made.find("nn.rms_norm")[0].operand(1).data, [6, 0.5] / factor, rtol=1e-5)
    np.testing.assert_allclose(made.find("nn.linear")[0].operand(1).data, [[1.5, -2], [0.3, 1]] * factor, rtol=1e-5)


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_smoothing_gains_where_channels_are_outliers_and_the_runtime_agrees(target: str) -> None:
    model, x = Block(), correlated(64, 8, 16)
    graph, wanted = traced(model, x), model(torch.from_numpy(x)).detach().numpy()
    found = {}
    for methods in ("", "smooth"):
        low = qgraph.quantize(graph, target, calibration=[x], ptq=methods or ())
        assert qgraph.verify(low, inputs=x[:8]).bit_exact
        got = qgraph.run(low, x, dequantize=True)
        assert isinstance(got, np.ndarray)
        found[methods] = sqnr(wanted, got)
    assert found["smooth"] > found[""] + 1


def test_what_others_read_too_is_not_smoothed_and_the_log_says_why() -> None:
    class PostNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(x)
            return y + self.layer(y)

    x = correlated(8, 4)
    graph = traced(PostNorm(), x)
    log = Log()
    with logging_to(log):
        assert smooth(graph, x) == graph
    assert "read by others than linear layers" in str(log.declined())


def test_a_normalization_without_a_gain_gets_one() -> None:
    model = nn.Sequential(nn.LayerNorm(6, elementwise_affine=False), nn.Linear(6, 3))
    x = correlated(20, 6)
    graph = traced(model, x)
    made = smooth(graph, x)
    np.testing.assert_allclose(qgraph.run(made, x), qgraph.run(graph, x), rtol=1e-4, atol=1e-5)
    assert len(made.find("nn.layer_norm")[0].inputs) == 2


# ---- absorbed biases


def test_what_is_absorbed_makes_ranges_smaller_and_the_result_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten()).eval()
    x = correlated(64, 3, 5, 5)
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([9.0, 5, 3.5, 0, -2, 8]))
        model.train()
        for _ in range(60):
            model(torch.from_numpy(x))
        model.eval()
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    made = passes.absorb_biases(graph)
    assert sqnr(qgraph.run(graph, x), qgraph.run(made, x)) > 40
    calibrated = [qgraph.calibrate(qgraph.prepare(each, "litert"), [x]) for each in (graph, made)]
    scales = [each.find("nn.conv")[-1].operand(0).producer.operand(1).data for each in calibrated]
    largest = [255 * float(scale[0]) for scale in scales]
    assert largest[0] - largest[1] > 4
    assert passes.absorb_biases(made) == made
