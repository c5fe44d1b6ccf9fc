"""Parameters that a gradient trains: each gradient against the paper's, written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph import quantizers
from qgraph.errors import InputError
from qgraph.ir import Graph
from qgraph.quantizers.gradients import SoftRounding, gradient_named
from qgraph.training.fake_quant import fake_quantize, rounded_through
from qgraph.training.observers import ActivationQuantizer

LOW, HIGH = -8, 7
X = [0.3, -0.8, 9.0, -9.0, 1.26]
"""Inside, inside, above, below, inside of a range of steps of 0.5 around the code 1."""
INSIDE = np.array([1, 1, 0, 0, 1], bool)


def learned(observer: str, scale: float = 0.5, zero_point: int = 1) -> tuple[ActivationQuantizer, list[torch.Tensor]]:
    """The module, and x, scale, zero point and result, after the backward pass of their sum."""
    module = ActivationQuantizer(1, (LOW, HIGH), None, observer, symmetric=False)
    x = torch.tensor(X, requires_grad=True)
    s = torch.tensor([scale], requires_grad="scale" in module.quantizer.trains)
    zero = torch.tensor([zero_point], dtype=torch.int32)
    module.begin(s, zero)
    result = module(x, s, zero, None, "half_even", True)
    result.sum().backward()
    return module, [x, s, zero, result]


def codes(scale: float = 0.5, zero_point: int = 1) -> np.ndarray:
    return np.clip(np.rint(np.float32(X) / scale) + zero_point, LOW, HIGH)


def test_the_gradients_of_a_learned_offset_are_those_of_the_paper() -> None:
    """Bhalgat et al. 2020, equations 4 and 5, each times the gain of LSQ."""
    module, (x, scale, zero, result) = learned("lsq_plus")
    assert np.array_equal(result.detach().numpy(), (codes() - 1) * np.float32(0.5))
    assert x.grad is not None and np.array_equal(x.grad.numpy(), INSIDE.astype(np.float32))  # noqa: PT018  for mypy
    gain = 1 / math.sqrt(len(X) * (HIGH - LOW) / 2)
    shifted = np.float32(X) / 0.5 + 1  # (x - offset) / s
    slopes = np.where(INSIDE, codes() - shifted, np.where(np.float32(X) > 0, HIGH, LOW))
    assert scale.grad is not None
    np.testing.assert_allclose(scale.grad, [slopes.sum() * gain], rtol=1e-5)
    assert module.own()["offset"].item() == -0.5
    np.testing.assert_allclose(module.own()["offset"].grad, [2 * gain], rtol=1e-6)  # two are clipped
    with torch.no_grad():
        module.own()["offset"].copy_(torch.tensor([1.3]))
    module(x, scale, zero, None, "half_even", True)
    assert zero.item() == round(-1.3 / 0.5)


def test_what_is_clipped_moves_the_clipping_level_by_1() -> None:
    """Choi et al. 2018, section 3: alpha is 15 steps; the parameter is the step, at 1 / 15**2 of its own rate."""
    _, (x, scale, _, result) = learned("pact", zero_point=LOW)
    assert np.array_equal(result.detach().numpy(), (codes(0.5, LOW) + 8) * np.float32(0.5))
    assert x.grad is not None
    assert scale.grad is not None
    unclamped = np.rint(np.float32(X) / 0.5) + LOW
    above, below = (unclamped > HIGH).sum(), (unclamped < LOW).sum()
    assert (above, below) == (1, 2)
    np.testing.assert_allclose(scale.grad, [(15 * above + 0 * below) / 15**2], rtol=1e-6)
    assert np.array_equal(x.grad.numpy(), ((unclamped >= LOW) & (unclamped <= HIGH)).astype(np.float32))


def test_plain_descent_on_a_clipping_level_moves_it_as_its_own_parameter_would() -> None:
    _, (_, scale, _, _) = learned("pact", zero_point=LOW)
    assert scale.grad is not None
    before, after = 15 * scale.item(), 15 * (scale - 0.1 * scale.grad).item()
    assert after == pytest.approx(before - 0.1 * 1)


def test_the_gradient_of_a_logarithmic_threshold_is_that_of_the_paper() -> None:
    """Jain et al. 2020, equation 7: s * ln 2 * (round(x / s) - x / s), or the ends; s is the power of two above."""
    module, (x, scale, _, result) = learned("tqt", scale=0.4)
    assert scale.item() == 0.5
    assert np.array_equal(result.detach().numpy(), (codes() - 1) * np.float32(0.5))
    slopes = np.where(INSIDE, np.rint(np.float32(X) / 0.5) - np.float32(X) / 0.5, codes() - 1)
    (threshold,) = module.own().values()
    assert threshold.item() == -1.5  # in the middle
    np.testing.assert_allclose(threshold.grad, [0.5 * math.log(2) * slopes.sum()], rtol=1e-5)
    assert x.grad is not None
    assert np.array_equal(x.grad.numpy(), INSIDE.astype(np.float32))


# ---- in a model


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Hardswish()).eval()
    return qgraph.trace(model, torch.from_numpy(IMAGES[:2]))


IMAGES = np.random.default_rng(0).normal(size=(16, 2, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
@pytest.mark.parametrize("observer", ["lsq", "lsq_plus", "pact", "tqt", "lsq:ewgs", "lsq_plus:dsq"])
def test_what_is_learned_moves_and_ships(graph: Graph, observer: str, mode: str) -> None:
    """After a step, and before the next forward pass: what `from_torch` gives is what the module then computes."""
    bits = {"*": {"bits": 4, "activation_bits": 4}}
    prepared = qgraph.prepare(graph, "litert", observers={"activation": observer}, overrides=bits)
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode=mode), [IMAGES]).train()
    optimizer, x = torch.optim.Adam(module.parameters(), 0.005), torch.from_numpy(IMAGES)
    before = {name: each.clone() for name, each in module.state_dict().items()}
    for _ in range(4):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    own = [name for name, _ in module.named_parameters() if name.startswith("ops.")]
    assert bool(own) == (observer.partition(":")[0] in ("lsq_plus", "tqt"))
    assert not own or any(not torch.equal(before[name], module.state_dict()[name]) for name in own)
    if observer not in ("tqt", "pact"):  # it goes by powers of two; nothing was clipped
        assert not torch.equal(before["input_scale"], module.state_dict()["input_scale"])
    trained = qgraph.from_torch(module)
    low = qgraph.lower(trained, "litert")
    got = module.eval()(x).detach().numpy()
    if mode == "bit-true":
        assert np.array_equal(got, qgraph.run(low, IMAGES, dequantize=True, layout="NCHW"))
    assert qgraph.from_torch(module) == trained
    assert qgraph.verify(low, inputs=IMAGES).bit_exact


@pytest.mark.parametrize("target", ["litert-xnnpack", "tflm", "onnxruntime"])
def test_on_every_target_what_is_learned_is_exact(graph: Graph, target: str) -> None:
    for observer in ("lsq_plus:ewgs", "tqt"):
        prepared = qgraph.prepare(graph, target, observers={"activation": observer})
        module = qgraph.calibrate(qgraph.to_torch(prepared, mode="bit-true"), [IMAGES]).train()
        optimizer, x = torch.optim.Adam(qgraph.training.parameter_groups(module, 0.01)), torch.from_numpy(IMAGES)
        for _ in range(2):
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
        low = qgraph.lower(qgraph.from_torch(module), target)
        got = module.eval()(x).detach().numpy()
        assert np.array_equal(got, qgraph.run(low, IMAGES, dequantize=True, layout="NCHW"))
        assert qgraph.verify(low, inputs=IMAGES, layout="NCHW").bit_exact


@pytest.mark.parametrize("observer", ["lsq_plus", "tqt", "pact"])
def test_a_module_of_a_trained_graph_begins_where_that_one_stopped(graph: Graph, observer: str) -> None:
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert", observers={"activation": observer}), [IMAGES])
    x = torch.from_numpy(IMAGES)
    module = qgraph.to_torch(prepared).eval()
    assert qgraph.from_torch(module) == prepared
    loaded = qgraph.to_torch(prepared)
    loaded.load_state_dict(module.state_dict())
    assert torch.equal(loaded.eval()(x), module(x))


def test_a_frozen_quantizer_holds_what_was_learned(graph: Graph) -> None:
    prepared = qgraph.prepare(graph, "litert", observers={"activation": "lsq_plus"})
    module = qgraph.freeze(qgraph.calibrate(qgraph.to_torch(prepared), [IMAGES]))
    module.train()(torch.from_numpy(IMAGES)).sum().backward()
    assert all(each.grad is None for name, each in module.named_parameters() if name.endswith("offset"))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, in tracing
@pytest.mark.parametrize("observer", ["lsq_plus", "tqt", "pact", "moving_average:ewgs", "min_max:power_of_two:dsq"])
def test_compiled_it_trains_alike(graph: Graph, observer: str) -> None:
    weight = "min_max:power_of_two:ewgs" if "power" in observer else "min_max:dsq"
    prepared = qgraph.prepare(graph, "litert", observers={"activation": observer, "weight": weight})
    module = qgraph.calibrate(qgraph.to_torch(prepared), [IMAGES]).train()
    compiled, x = qgraph.calibrate(qgraph.to_torch(prepared), [IMAGES]).train(), torch.from_numpy(IMAGES)
    run = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    for each in (module, run):
        each(x).square().mean().backward()
    for (name, one), other in zip(module.named_parameters(), compiled.parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_a_scale_that_the_optimizer_takes_below_zero_stays_a_scale(graph: Graph) -> None:
    for mode in ("fake-quant", "bit-true"):
        prepared = qgraph.calibrate(qgraph.prepare(graph, "litert", observers={"activation": "lsq"}), [IMAGES])
        module = qgraph.to_torch(prepared, mode=mode)
        with torch.no_grad():
            module.get_parameter("input_scale").neg_()
        expected = qgraph.to_torch(prepared, mode=mode).eval()(torch.from_numpy(IMAGES))
        assert torch.equal(module.eval()(torch.from_numpy(IMAGES)), expected)
        assert qgraph.from_torch(module) == prepared


# ---- gradients of rounding


def test_a_step_away_from_the_code_is_made_larger_by_ewgs() -> None:
    """Lee et al. 2021, equation 4, by hand: delta 0.5, residuals 0.25, -0.25 and one that is clipped."""
    x, upstream = torch.tensor([2.25, 2.75, 90.0], requires_grad=True), torch.tensor([2.0, -4.0, 1.0])
    gradient = gradient_named("ewgs=0.5")
    assert gradient is not None
    one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    y = fake_quantize(x, one, zero, (LOW, HIGH), gradient=gradient)
    y.backward(upstream)
    assert y.tolist() == [2, 3, 7]
    assert x.grad is not None
    assert x.grad.tolist() == [2 * (1 + 0.5 * 0.25), -4 * (1 + 0.5 * 0.25), 0]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_a_stair_that_is_a_step_or_a_line_is_none(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha lies between 0 and 1"):
        SoftRounding(alpha=alpha)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.6])
def test_the_soft_stair_has_the_slope_of_its_function_and_rises_by_a_step(alpha: float) -> None:
    """Gong et al. 2019, equations 3 and 4: (1 + tanh(k t) / tanh(k / 2)) / 2 between two codes."""
    gradient = gradient_named(f"dsq={alpha}")
    assert gradient is not None
    x = torch.linspace(0, 1, 2001, dtype=torch.float64, requires_grad=True)
    rounded_through(x, x.detach().round(), gradient).sum().backward()
    k = math.log(2 / alpha - 1)
    assert 1 - math.tanh(k / 2) == pytest.approx(alpha)
    stair = (1 + torch.tanh(k * (x.detach() - 0.5)) / math.tanh(k / 2)) / 2
    assert x.grad is not None
    torch.testing.assert_close(
        x.grad[1:-1], torch.gradient(stair, spacing=(x.detach(),))[0][1:-1], rtol=1e-4, atol=1e-4
    )
    assert float(torch.trapezoid(x.grad, x.detach())) == pytest.approx(1, abs=1e-5)


def test_rounding_by_chance_is_right_on_average_and_only_in_training(graph: Graph) -> None:
    observers, bits = {"weight": "min_max:stochastic"}, {"*": {"bits": 3}}
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert", observers=observers, overrides=bits), [IMAGES])
    module, name = qgraph.to_torch(prepared), "3.weight"
    quantizer = next(part for part in module.modules() if type(part).__name__ == "WeightQuantizer" and part.axis == 0)
    w, scale = torch.full((4, 1), 0.3), torch.full((4,), 1.0)
    zero = torch.zeros(4, dtype=torch.int32)
    torch.manual_seed(0)
    quantizer.frozen = True
    mean = torch.stack([quantizer(w, scale, zero) for _ in range(4000)]).mean()
    assert float(mean) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 16000))
    assert bool((quantizer.eval()(w, scale, zero) == 0).all())
    assert name in dict(module.named_parameters())
    with pytest.raises(InputError, match="rounded by chance"):
        qgraph.to_torch(prepared, mode="bit-true")


def test_the_gradient_of_a_live_layer_and_of_an_activation_is_the_chosen_one_in_bit_true_mode(graph: Graph) -> None:
    found = {}
    for word in ("ste", "ewgs=0.4"):
        observers = {"activation": f"min_max:{word}", "weight": f"min_max:{word}"}
        bits = {"*": {"bits": 3, "activation_bits": 3}}
        prepared = qgraph.calibrate(qgraph.prepare(graph, "litert", observers=observers, overrides=bits), [IMAGES])
        for mode in ("fake-quant", "bit-true"):
            module = qgraph.to_torch(prepared, mode=mode)
            module(torch.from_numpy(IMAGES)).square().mean().backward()
            gradient = dict(module.named_parameters())["0.weight"].grad
            assert gradient is not None
            found[word, mode] = gradient
    for mode in ("fake-quant", "bit-true"):
        assert not torch.allclose(found["ste", mode], found["ewgs=0.4", mode], rtol=0.01)


def test_a_gradient_of_a_text_prints_as_it_was_said() -> None:
    for text in ("min_max:ewgs", "percentile:99.0:power_of_two:dsq=0.1", "lsq:ewgs=0.01", "mse:power_of_two"):
        assert str(quantizers.get(text)) == text
    assert str(quantizers.get("min_max:ste")) == "min_max"


@pytest.mark.parametrize("observer", ["lsq", "lsq_plus", "pact", "tqt"])
@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_values_that_share_a_grid_are_trained_together(observer: str, target: str) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.layer(x), x], -1)

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    graph = qgraph.prepare(qgraph.trace(Joined(), x), target, observers={"activation": observer})
    module = qgraph.calibrate(qgraph.to_torch(graph), [x.numpy()]).train()
    module(x).square().mean().backward()
    learned = [each for name, each in module.named_parameters() if "layer" not in name]
    assert learned
    assert all(each.grad is not None and each.grad.isfinite().all() for each in learned)
