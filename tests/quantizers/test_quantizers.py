"""Quantizers: found by name, chosen by operand, one class each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph import quantizers
from qgraph.cli import main
from qgraph.errors import InputError
from qgraph.ir import Array, Graph
from qgraph.quantizers import registry
from qgraph.quantizers.min_max import MinMax

X = np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 5)
    )


@pytest.fixture(scope="module")
def graph() -> Graph:
    return qgraph.trace(model(), torch.from_numpy(X[:2]))


@pytest.fixture
def median() -> Iterator[str]:
    """An observer of a user's own: everything that there is to write."""

    @quantizers.quantizer("twice_the_mean")
    class TwiceTheMean(MinMax):
        factor: float = 2.0

        def scale(self, channels: Array, limit: int) -> Array:
            return np.asarray(np.abs(channels).max(axis=1) * np.float32(self.factor) / np.float32(limit), np.float32)

        def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
            return channels.abs().amax(dim=1).float() * np.float32(self.factor) / limit

        def seen(self, x: Tensor, axis: int | None) -> Tensor:
            high = self.factor * x.abs().mean()
            return torch.stack((-high, -high)).reshape(2, 1)

    yield "twice_the_mean:3"
    del registry._REGISTRY["twice_the_mean"]
    quantizers.get.cache_clear()


def test_an_observer_of_a_users_own_is_one_class(graph: Graph, median: str) -> None:
    prepared = qgraph.prepare(graph, "litert", observers={"activation": median, "weight": median})
    calibrated = qgraph.calibrate(prepared, [X])
    scale = float(calibrated.constants["input_scale"].data[0])
    np.testing.assert_allclose(scale, 2 * 3 * np.abs(X[:32]).mean() / 255, rtol=0.05)  # the wider of two chunks
    plain = qgraph.prepare(graph, "litert")
    name = next(name for name in plain.constants if name.endswith("weight_scale"))
    np.testing.assert_allclose(prepared.constants[name].data, plain.constants[name].data * 3, rtol=1e-6)
    assert 'observer="twice_the_mean:3.0"' in str(prepared) or f'observer="{median}"' in str(prepared)
    assert qgraph.parse(str(prepared), constants=prepared) == prepared
    assert qgraph.verify(qgraph.lower(calibrated, "litert")).bit_exact


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize(
    "activation",
    [
        *("min_max", "moving_average:0.1", "percentile:99.9", "mse", "entropy", "lsq", "lsq_plus", "pact", "tqt"),
        *("min_max:power_of_two", "mse:power_of_two:ewgs", "lsq:dsq", "percentile:99.9:power_of_two"),
    ],
)
def test_every_observer_calibrates_trains_and_lowers(graph: Graph, target: str, activation: str) -> None:
    spiky = X.copy()
    spiky[5, 0, 0, 0] = 300
    prepared = qgraph.prepare(graph, target, observers={"activation": activation})
    module = qgraph.calibrate(qgraph.to_torch(prepared), torch.from_numpy(spiky).split(8))
    calibrated = qgraph.from_torch(module)
    assert calibrated == qgraph.calibrate(prepared, [spiky])
    assert (calibrated.constants["input_scale"].data[0] < 0.5) == activation.startswith(("percentile", "entropy"))
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        module(torch.from_numpy(X)).square().mean().backward()
        optimizer.step()
    lowered = qgraph.lower(qgraph.from_torch(module), target)
    assert qgraph.verify(lowered, inputs=X[:8]).bit_exact


def test_a_learned_scale_is_trained_by_its_gradient(graph: Graph) -> None:
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, "litert", observers={"activation": "lsq"})), [X])
    parameters = dict(module.named_parameters())
    assert "input_scale" in parameters
    before = parameters["input_scale"].detach().clone()
    module.train()(torch.from_numpy(X)).square().mean().backward()
    assert parameters["input_scale"].grad is not None
    assert parameters["input_scale"].grad.abs().item() > 0
    assert torch.equal(parameters["input_scale"], before)  # only the optimizer moves it
    qgraph.freeze(module)


def test_percentiles_and_least_squares_of_weights(graph: Graph) -> None:
    scales = {}
    for name in ("min_max", "percentile:90", "mse"):
        prepared = qgraph.prepare(graph, "litert", observers={"weight": name})
        scales[name] = prepared.constants["3.weight_scale"].data
        assert np.array_equal(
            qgraph.from_torch(qgraph.to_torch(prepared)).constants["3.weight_scale"].data, scales[name]
        )
    assert (scales["percentile:90"] < scales["min_max"]).all()
    assert (scales["mse"] <= scales["min_max"]).all()
    weight = graph.constants["3.weight"].data.reshape(4, -1)

    def error(scale: Array) -> Array:
        step = scale[:, None].astype(np.float64)
        return np.square(np.clip(np.rint(weight / step), -127, 127) * step - weight).sum(axis=1)

    assert (error(scales["mse"]) <= error(scales["min_max"])).all()


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ({"activation": "median"}, "there is no quantizer 'median'"),
        ({"bias": "min_max"}, "observers name 'bias'"),
        ({"activation": "pair_safe"}, "'pair_safe' is not for activations"),
        ({"weight": "lsq"}, "'lsq' is not for weights"),
        ({"activation": "percentile:high"}, "options are numbers"),
        ({"activation": "percentile:20"}, "leaves nothing"),
        ({"activation": "min_max:1"}, "has 0 options"),
        ({"weight": "mse"}, "would replace 'pair_safe'"),
        ({"activation": "lsq:power_of_two"}, "lsq trains its scale"),
        ({"activation": "lsq:dsq=2"}, "'dsq=2' is not a gradient"),
        ({"activation": "lsq:ste=1"}, "'ste=1' is not a gradient"),
        ({"activation": "lsq:ewgs=much"}, "'ewgs=much' is not a gradient"),
    ],
)
def test_a_wrong_choice_is_refused(graph: Graph, observers: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        qgraph.prepare(graph, "onnxruntime", observers=observers)


def test_the_command_line_chooses_too(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qgraph.save(graph, tmp_path / "g.qg")
    np.savez(tmp_path / "x.npz", x=X)
    words = ["quantize", str(tmp_path / "g.qg"), "--target", "litert", "--calibration", str(tmp_path / "x.npz")]
    for observer, status in (("activation=percentile:99", 0), ("activation=median", 2)):
        monkeypatch.setattr(sys, "argv", ["qgraph", *words, "--observer", observer, "-o", str(tmp_path / "q.qg")])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == status
    assert 'observer="percentile:99"' in str(qgraph.load(tmp_path / "q.qg"))


def test_nothing_here_imports_torch_by_itself() -> None:
    code = "import sys; from qgraph import quantizers; quantizers.load_quantizers(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
