"""Schedules, rates of what is learned, and distillation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import InputError, NotCalibrated
from qgraph.ir import Graph
from qgraph.training import Schedule, delay_quantization, distillation, parameter_groups

X = np.random.default_rng(0).normal(size=(16, 2, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten())
    return qgraph.trace(model.eval(), torch.from_numpy(X[:2]))


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
def test_until_the_delay_is_over_the_module_computes_in_float_and_observes(graph: Graph, mode: str) -> None:
    bits = {"*": {"bits": 2, "activation_bits": 4}}
    module = qgraph.to_torch(qgraph.prepare(graph, "litert", overrides=bits), mode=mode)
    plain, x = qgraph.to_torch(graph), torch.from_numpy(X)
    delay_quantization(module)
    torch.testing.assert_close(module.train()(x), plain.train()(x), rtol=1e-4, atol=1e-5)
    calibrated = module.state_dict()["input_scale"].clone()
    assert calibrated.isfinite().all()
    delay_quantization(module, False)
    assert not torch.allclose(module(x), plain(x), rtol=0.01, atol=0.01)
    module.eval()
    if mode == "bit-true":
        low = qgraph.lower(qgraph.from_torch(module), "litert")
        assert np.array_equal(module(x).detach(), qgraph.run(low, X, dequantize=True, layout="NCHW"))


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
def test_a_delay_goes_on_behind_a_calibration(graph: Graph, mode: str) -> None:
    module = delay_quantization(qgraph.to_torch(qgraph.prepare(graph, "litert"), mode=mode))
    qgraph.calibrate(module, [X])
    x = torch.from_numpy(X)
    torch.testing.assert_close(module.eval()(x), qgraph.to_torch(graph).eval()(x), rtol=1e-4, atol=1e-5)


def test_each_part_of_a_schedule_happens_at_its_step(graph: Graph) -> None:
    module = qgraph.to_torch(qgraph.calibrate(qgraph.prepare(graph, "litert"), [X]))
    schedule = Schedule(10, delay=0.2, statistics=0.5, ranges=0.8)
    schedule.begin(module)
    found = []
    for _ in range(10):
        quantizer, layer = (
            next(part for part in module.modules() if type(part).__name__ == name)
            for name in ("ActivationQuantizer", "ConvBatchNorm")
        )
        found.append((quantizer.delayed, layer.frozen_statistics, quantizer.frozen))
        schedule.step(module)
    assert [each[0] for each in found] == [True] * 2 + [False] * 8
    assert [each[1] for each in found] == [False] * 5 + [True] * 5
    assert [each[2] for each in found] == [False] * 8 + [True] * 2


def test_the_rate_rises_and_falls_along_a_cosine() -> None:
    rate = Schedule(100, warm=0.1).rate
    np.testing.assert_allclose([rate(0), rate(4), rate(9), rate(10), rate(55), rate(100)], [0.1, 0.5, 1, 1, 0.5, 0])
    assert rate(1000) == 0


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 5, "delay": 1.5}, {"steps": 5, "warm": -0.1}])
def test_a_schedule_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="is not a schedule"):
        Schedule(**wrong)  # type: ignore[arg-type]  # numbers


@pytest.mark.parametrize("observer", ["lsq", "lsq_plus", "pact", "tqt", "moving_average"])
def test_what_is_learned_moves_by_its_share_and_without_decay(graph: Graph, observer: str) -> None:
    """Adam's first step is the rate, whatever the gradient."""
    prepared = qgraph.prepare(graph, "litert", observers={"activation": observer})
    module = qgraph.calibrate(qgraph.to_torch(prepared), [X])
    weights, *learned = parameter_groups(module, 0.01, weight_decay=0.1)
    assert weights["weight_decay"] == 0.1
    assert all(group["weight_decay"] == 0 for group in learned)
    parameters = [each for group in (weights, *learned) for each in group["params"]]
    assert {id(each) for each in parameters} == {id(each) for each in module.parameters()}
    assert len(parameters) == len([*module.parameters()])
    assert bool(learned) == (observer != "moving_average")
    before = module.state_dict()["input_scale"].clone()
    optimizer = torch.optim.Adam([weights, *learned])
    (module.train()(torch.from_numpy(X)) * 100).square().mean().backward()
    optimizer.step()
    if observer in ("lsq", "lsq_plus"):
        assert float((module.state_dict()["input_scale"] / before - 1).abs()) == pytest.approx(0.01, rel=1e-2)


def test_without_a_scale_there_is_no_rate(graph: Graph) -> None:
    with pytest.raises(NotCalibrated):
        parameter_groups(qgraph.to_torch(qgraph.prepare(graph, "litert", observers={"activation": "lsq"})), 0.01)


def test_distillation_is_the_divergence_of_the_softened_classes() -> None:
    student, teacher = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[4.0, 0.0], [1.0, 1.0]])
    p, q = (torch.softmax(each / 2, -1).numpy() for each in (teacher, student))
    expected = 4 * (p * np.log(p / q)).sum() / 2
    assert float(distillation(student, teacher, temperature=2.0)) == pytest.approx(expected, rel=1e-5)
    student.requires_grad_()
    teacher.requires_grad_()
    distillation(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_a_moving_average_of_the_weights_is_a_module_that_ships(graph: Graph) -> None:
    """torch's own; its buffers go along, so that statistics and scales are those of the average."""
    module = qgraph.to_torch(qgraph.calibrate(qgraph.prepare(graph, "litert"), [X]))
    ema = torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    averaged = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=ema)
    start = module.state_dict()["3.weight"].clone()
    averaged.update_parameters(module)
    with torch.no_grad():
        module.get_parameter("3.weight").add_(1.0)
    averaged.update_parameters(module)
    trained = qgraph.from_torch(averaged)
    np.testing.assert_allclose(trained.constants["3.weight"].data, (start + 0.5).numpy(), rtol=1e-6)
    assert qgraph.verify(qgraph.lower(trained, "litert"), inputs=X).bit_exact
