"""Methods of quantization after training: closed forms, what they gain, and that the runtime computes the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import InputError
from qgraph.interpreter.execute import node_evaluator
from qgraph.ir import Array, Graph
from qgraph.ops.quant import unquantized
from qgraph.ptq import METHODS, check_methods, correct_biases, gptq


def correlated(*shape: int, seed: int = 0) -> Array:
    """Examples whose features hang together, as those of real layers do: of each only a few directions are large."""
    rng = np.random.default_rng(seed)
    features = int(np.prod(shape[1:]))
    mixed = rng.normal(0, 1, (shape[0], 4)) @ rng.normal(0, 1, (4, features)) + rng.normal(0, 0.2, (shape[0], features))
    return mixed.reshape(shape).astype(np.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()),
        *(nn.Conv2d(8, 12, 1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 10)),
    ).eval()


def sqnr(wanted: Array, got: Array) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()))


def prepared(model: nn.Module, x: Array, bits: int = 4, target: str = "litert") -> Graph:
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    return qgraph.calibrate(qgraph.prepare(graph, target, overrides={"*": {"bits": bits}} if bits < 8 else None), [x])


def decibels(graph: Graph, model: nn.Module, x: Array) -> float:
    with torch.no_grad():
        return sqnr(model(torch.from_numpy(x)).numpy(), qgraph.run(graph, x))


# ---- gptq


def test_of_all_codes_nearby_gptq_takes_those_with_next_to_the_least_error() -> None:
    """Against all roundings up and down of one row of six weights: nearest rounding is far from the best of them."""
    x = correlated(64, 6)
    torch.manual_seed(1)
    model = nn.Linear(6, 1, bias=False)
    graph = prepared(model, x, bits=3)
    (layer,) = gptq(graph, x).find("nn.linear")
    (before,) = graph.find("nn.linear")
    w, scale = unquantized(before.operand(1)).data[0], before.operand(1).producer.operand(1).data[0]
    seen = qgraph.run(graph, x) * 0 + x  # the input's grid has 8 bits; its rounding is the same for all candidates

    def error(codes: Array) -> float:
        return float((((codes * scale - w) @ seen.T) ** 2).sum())

    candidates = [np.floor(w / scale) + np.array(up) for up in itertools.product((0, 1), repeat=6)]
    best = min(error(np.clip(each, -3, 3)) for each in candidates)
    found = error(np.rint(unquantized(layer.operand(1)).data[0] / scale))
    assert found <= error(np.clip(np.rint(w / scale), -3, 3)) * 0.7
    assert found <= best * 1.5


def test_inputs_that_do_not_hang_together_are_rounded_to_the_nearest() -> None:
    """H is diagonal then, and no weight can make up for another."""
    x = np.concatenate([np.eye(5), -np.eye(5)]).astype(np.float32)
    graph = prepared(nn.Linear(5, 3), x)
    (before,), (after,) = graph.find("nn.linear"), gptq(graph, x).find("nn.linear")
    rounded = node_evaluator(graph)(
        before.operand(1).producer, [each.data for each in before.operand(1).producer.inputs]
    )[0]
    np.testing.assert_array_equal(unquantized(after.operand(1)).data, rounded)


def test_the_weights_lie_on_their_grids_and_the_graph_is_better() -> None:
    model, x = network(), correlated(128, 3, 6, 6)
    graph = prepared(model, x)
    made = gptq(graph, x)
    for layer in (node for node in made.nodes if node.op in ("nn.conv", "nn.linear")):
        fake_quant = layer.operand(1).producer
        w, scale = fake_quant.operand(0).data, fake_quant.operand(1).data
        steps = w.reshape(len(w), -1) / scale[:, None]
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
        assert np.abs(np.rint(steps)).max() <= 7
    fresh = correlated(64, 3, 6, 6, seed=5)
    fresh[:] = x[:64] + fresh * 0.05
    assert decibels(made, model, fresh) > decibels(graph, model, fresh) + 2
    assert graph == prepared(model, x)  # which is not changed


def test_a_weight_that_is_shared_or_transposed_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.up = nn.Linear(6, 6), nn.ConvTranspose2d(1, 2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(self.layer(self.layer(x)).reshape(-1, 1, 2, 3))

    x = correlated(32, 6)
    graph = prepared(Twice(), x, bits=8)
    made = gptq(graph, x)
    for name, value in graph.constants.items():
        np.testing.assert_array_equal(made.constants[name].data, value.data)


def test_rows_keep_what_the_rule_of_the_target_asks_for() -> None:
    """ONNX Runtime's scales keep sums of two products in 16 bits: rows that would leave them stay as they were."""
    model, x = nn.Linear(16, 24), correlated(64, 16)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(model, torch.from_numpy(x[:2])), "onnxruntime"), [x])
    low = qgraph.lower(gptq(graph, x), "onnxruntime")
    assert qgraph.verify(low, inputs=x).bit_exact
    (layer,) = gptq(graph, x).find("nn.linear")
    fake_quant = layer.operand(1).producer
    quantizer = qgraph.quantizers.registry.get(fake_quant.attrs["observer"])
    assert quantizer.binding
    assert (quantizer.scale(fake_quant.operand(0).data, 127) <= fake_quant.operand(1).data * (1 + 1e-6)).all()


# ---- biases


def test_a_bias_makes_up_for_the_mean_error_of_its_channel() -> None:
    model, x = network(), correlated(96, 3, 6, 6)
    graph = prepared(model, x, bits=3)
    made = correct_biases(graph, x)

    def mean_error(each: Graph) -> Array:
        with torch.no_grad():
            return (qgraph.run(each, x) - model(torch.from_numpy(x)).numpy()).mean(0)

    before, after = mean_error(graph), mean_error(made)
    assert np.abs(after).max() < np.abs(before).max() / 5
    assert decibels(made, model, x) > decibels(graph, model, x) + 0.5


def test_the_shift_of_one_layer_is_the_mean_of_what_rounding_its_weight_did() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    x = (np.abs(correlated(50, 4)) + 1).astype(np.float32)
    graph = prepared(model, x, bits=2)
    made = correct_biases(graph, x)
    (before,), (after,) = graph.find("nn.linear"), made.find("nn.linear")
    evaluate = node_evaluator(graph)
    w, (w_rounded,) = (
        model.weight.detach().numpy(),
        evaluate(before.operand(1).producer, [each.data for each in before.operand(1).producer.inputs]),
    )
    (x_rounded,) = evaluate(graph.nodes[0], [x, *(each.data for each in graph.nodes[0].inputs[1:])])
    old, new = (unquantized(node.operand(2)).data for node in (before, after))
    (b_rounded,) = evaluate(before.operand(2).producer, [each.data for each in before.operand(2).producer.inputs])
    expected = (x @ w.T + old).mean(0) - (x_rounded @ w_rounded.T + b_rounded).mean(0)
    np.testing.assert_allclose(new - old, expected, rtol=1e-3, atol=1e-5)


# ---- all of them


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_all_methods_together_gain_and_stay_exact(target: str) -> None:
    model, x = network(), correlated(128, 3, 6, 6)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))

    def quantized(methods: Sequence[str]) -> Graph:
        overrides = {"*": {"bits": 4}} if target != "onnxruntime" else None
        return qgraph.quantize(graph, target, calibration=[x[:64], x[64:]], overrides=overrides, ptq=methods)

    low = quantized([*METHODS])
    assert qgraph.verify(low, inputs=x, layout="NCHW").bit_exact
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    got, plain = (qgraph.run(each, x, dequantize=True, layout="NCHW") for each in (low, quantized([])))
    assert sqnr(wanted, got) > sqnr(wanted, plain) + (3 if target != "onnxruntime" else 0)


def test_methods_may_stand_in_one_word() -> None:
    assert check_methods("gptq,bias-correction") == check_methods(["gptq", "bias-correction"])


def test_a_method_that_there_is_not_is_named() -> None:
    graph = qgraph.trace(nn.Linear(2, 2), torch.zeros(2, 2))
    with pytest.raises(InputError, match="there is no method 'zeroq'"):
        qgraph.quantize(graph, "litert", calibration=[np.zeros((2, 2), np.float32)], ptq=["zeroq"])


def test_a_graph_without_ranges_is_refused() -> None:
    graph = qgraph.trace(nn.Linear(2, 2), torch.zeros(2, 2))
    for each in (graph, qgraph.prepare(graph, "litert")):
        with pytest.raises(InputError, match="has no ranges yet"):
            gptq(each, np.ones((2, 2), np.float32))


def test_a_batch_without_states_is_refused_by_name() -> None:
    class Step(nn.Module):
        def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + h, h * 0.5

    graph = qgraph.trace(Step(), (torch.ones(1, 3), torch.ones(1, 3)), dynamic_batch=False, states={"h": 1})
    with pytest.raises(InputError, match="a batch lacks %h"):
        qgraph.quantize(graph, "litert", calibration=[np.ones((1, 3), np.float32)], ptq="gptq")
