"""Weights that swing between two codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import QGraphError
from qgraph.training import OscillationFreezer, dampening
from qgraph.training.oscillations import quantized_weights

X = np.random.default_rng(0).normal(size=(8, 2, 6, 6)).astype(np.float32)


def module(mode: str = "fake-quant") -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    with torch.no_grad():
        model[1].running_var.copy_(torch.tensor([0.5, 1, 2, 4]))
    graph = qgraph.trace(model, torch.from_numpy(X[:2]))
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert", overrides={"*": {"bits": 3}}), [X])
    return qgraph.to_torch(prepared, mode=mode)


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
def test_the_quantized_weights_are_those_that_ship(mode: str) -> None:
    made = module(mode)
    found = {each.path: each for each in quantized_weights(made)}
    assert [*found] == ["0.weight", "4.weight"]
    low = qgraph.lower(qgraph.from_torch(made), "litert")
    weights = [low.find(op)[0].operand(1).data for op in ("litert.conv_2d", "litert.fully_connected")]
    assert np.array_equal(found["0.weight"].codes().permute(0, 2, 3, 1).numpy(), weights[0])
    assert sorted(found["4.weight"].codes().flatten().tolist()) == sorted(weights[1].flatten().tolist())


def test_damping_is_the_square_of_what_rounding_does_and_pulls_to_the_codes() -> None:
    made = module()
    weights = [*quantized_weights(made)]
    expected = sum(float((each.folded() - each.rounded()).detach().square().sum()) for each in weights)
    loss = dampening(made)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    linear = weights[1]
    gradient = made.get_parameter("4.weight").grad
    assert gradient is not None
    torch.testing.assert_close(gradient, 2 * (linear.weight - linear.rounded()).detach())
    with torch.no_grad():
        made.get_parameter("4.weight")[0, 0] = 99.0  # the scale is of before: it is clipped
    made.zero_grad()
    dampening(made).backward()
    assert float(made.get_parameter("4.weight").grad[0, 0]) == 0  # type: ignore[index]  # it is there


@pytest.mark.parametrize("path", ["0.weight", "4.weight"])
def test_a_weight_that_swings_too_often_is_held_where_it_was_most(path: str) -> None:
    """Algorithm 1 of the paper: it takes a threshold's crossing of the moving average of changes that turn back."""
    made = module()
    freezer = OscillationFreezer(made, threshold=0.25, momentum=0.2)
    weight = made.get_parameter(path)
    each = next(each for each in quantized_weights(made) if each.path == path)
    gain = 1.0 if each.gain is None else float(each.gain[1])
    flat = (1, *([0] * (weight.ndim - 1)))
    step = float(each.scale[1]) / gain
    held = []
    for k in range(6):
        with torch.no_grad():
            weight[flat] = step * (1.0 if k % 4 else 0.0) if k < 3 else step * (k % 2)
        held.append(freezer.step())
    assert held[0] == 0
    assert held[-1] == 1
    kept = freezer.state[path]
    assert kept["held"][flat] == 1
    with torch.no_grad():
        weight[flat] = step * 3
    freezer.step()
    assert float(weight.detach()[flat]) == pytest.approx(step * float(kept["value"][flat]), rel=1e-5, abs=1e-7)
    assert float(kept["value"][flat]) in (0.0, 1.0)


def test_weights_that_stay_or_go_one_way_are_never_held() -> None:
    made = module()
    freezer = OscillationFreezer(made, threshold=0.0, momentum=0.5)
    weight = made.get_parameter("4.weight")
    for _ in range(8):
        assert freezer.step() == 0
        with torch.no_grad():
            weight[0, :5] += 0.02


def test_a_weight_that_two_layers_have_is_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x).relu())

    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(Twice(), torch.from_numpy(x[:2])), "litert"), [x])
    assert [each.path for each in quantized_weights(qgraph.to_torch(graph))] == ["layer.weight"]
    mark = graph.find("nn.linear")[0].operand(1).producer
    assert mark is not None
    scale, zero_point = (graph.add_constant(value.data, f"{value.name}.own") for value in mark.inputs[1:])
    second = graph.find("nn.linear")[1]
    own = graph.insert_before(second).quant.fake_quant(mark.operand(0), scale, zero_point, **mark.attrs)
    graph.set_operands(second, [second.operand(0), own, *second.operands[2:]])
    assert [each.path for each in quantized_weights(qgraph.to_torch(graph))] == ["layer.weight"]


def test_a_weight_that_is_computed_is_not_among_them() -> None:
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    graph = qgraph.trace(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)), torch.from_numpy(x[:2]))
    graph = qgraph.calibrate(qgraph.prepare(graph, "litert"), [x])
    mark = graph.find("nn.linear")[0].operand(1).producer
    assert mark is not None
    graph.set_operands(mark, [graph.insert_before(mark).nn.tanh(mark.operand(0)), *mark.operands[1:]])
    assert [each.path for each in quantized_weights(qgraph.to_torch(graph))] == ["1.weight"]


def test_held_weights_have_their_codes_behind_the_gains_of_a_batch_normalization() -> None:
    made = module()
    freezer = OscillationFreezer(made)
    freezer.step()
    (each,) = (each for each in quantized_weights(made) if each.path == "0.weight")
    assert each.gain is not None
    assert not torch.allclose(each.gain, torch.ones(4), atol=0.1)
    kept = freezer.state["0.weight"]
    kept["value"] = torch.randint(-3, 4, kept["value"].shape, generator=torch.Generator().manual_seed(0)).float()
    kept["held"].fill_(1)
    with torch.no_grad():
        freezer._hold(each, kept)
    assert torch.equal(each.codes(), kept["value"])


def test_a_module_of_another_tracer_has_no_quantized_weights_to_tell_of() -> None:
    with pytest.raises(QGraphError, match="to_torch"):
        next(quantized_weights(torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2)))), None)
