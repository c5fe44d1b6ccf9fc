"""Training that is interrupted, saved, loaded and resumed gives the same bits as training that is not."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.ir import Graph
from qgraph.training import OscillationFreezer, Schedule, parameter_groups

IMAGES = np.random.default_rng(0).normal(size=(48, 2, 8, 8)).astype(np.float32)


class Net(nn.Module):
    """Live and folded batch normalizations, a sum, dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4, momentum=None))
        self.head, self.dropout = nn.Linear(4, 3), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        made: Tensor = self.head(self.dropout(torch.relu(x + self.second(x)).mean((2, 3))))
        return made


@pytest.fixture(scope="module")
def graph() -> Graph:
    return qgraph.trace(Net().eval(), torch.from_numpy(IMAGES[:2]))


class Training:
    """A module, its optimizer and what goes with it."""

    def __init__(self, prepared: Graph, mode: str, calibrate: bool) -> None:
        module = qgraph.to_torch(prepared, mode=mode)
        self.module = qgraph.calibrate(module, [IMAGES]) if calibrate else module
        groups = parameter_groups(self.module, 0.01) if calibrate else [{"params": list(self.module.parameters())}]
        self.optimizer = torch.optim.Adam(groups, 0.01)
        self.schedule = Schedule(6, delay=0.2, statistics=0.6, ranges=0.8)
        self.rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.schedule.rate)
        self.freezer = OscillationFreezer(self.module, threshold=0.004)

    def parts(self) -> list[Any]:
        return [self.module, self.optimizer, self.schedule, self.rates, self.freezer]

    def run(self, steps: range) -> None:
        self.module.train()
        for step in steps:
            self.schedule.begin(self.module)
            x = torch.from_numpy(IMAGES[8 * step : 8 * step + 8])
            self.optimizer.zero_grad()
            self.module(x).square().mean().backward()
            self.optimizer.step()
            self.rates.step()
            self.schedule.step(self.module)
            self.freezer.step()

    def saved(self) -> bytes:
        file = io.BytesIO()
        torch.save([torch.get_rng_state(), *(part.state_dict() for part in self.parts())], file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        random, *states = torch.load(io.BytesIO(saved), weights_only=True)
        torch.set_rng_state(random)
        for part, state in zip(self.parts(), states, strict=True):
            part.load_state_dict(state)


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
@pytest.mark.parametrize(
    ("activation", "weight"),
    [
        ("moving_average", "min_max"),
        ("min_max", "mse"),
        ("mse", "min_max:ewgs"),
        ("entropy", "mse:power_of_two"),
        ("lsq", "min_max"),
        ("lsq_plus:ewgs", "mse"),
        ("tqt", "mse:power_of_two:dsq"),
        ("pact", "min_max"),
    ],
)
def test_three_steps_saved_loaded_and_three_more_are_six_steps(
    graph: Graph, activation: str, weight: str, mode: str
) -> None:
    observers = {"activation": activation, "weight": weight}
    bits = {"*": {"bits": 4, "activation_bits": 6}}
    prepared = qgraph.prepare(graph, "litert", observers=observers, overrides=bits)
    torch.manual_seed(7)
    whole = Training(prepared, mode, calibrate=True)
    whole.run(range(6))
    torch.manual_seed(7)
    first = Training(prepared, mode, calibrate=True)
    first.run(range(3))
    saved = first.saved()
    torch.manual_seed(99)
    second = Training(prepared, mode, calibrate=True)  # another process: it may have calibrated otherwise
    second.run(range(1))
    second.load(saved)
    second.run(range(3, 6))
    expected, got = whole.module.state_dict(), second.module.state_dict()
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, got[name]), name
    assert qgraph.from_torch(whole.module) == qgraph.from_torch(second.module)
    x = torch.from_numpy(IMAGES)
    assert torch.equal(whole.module.eval()(x), second.module.eval()(x))


def test_observers_that_begin_in_training_resume_in_a_fresh_module(graph: Graph) -> None:
    prepared = qgraph.prepare(graph, "onnxruntime")
    torch.manual_seed(7)
    whole, first, second = (Training(prepared, "fake-quant", calibrate=False) for _ in range(3))
    whole.run(range(6))
    torch.manual_seed(7)
    first.run(range(3))
    second.load(first.saved())
    second.run(range(3, 6))
    assert qgraph.from_torch(whole.module) == qgraph.from_torch(second.module)


def test_what_is_frozen_is_frozen_in_a_module_that_loads_it(graph: Graph) -> None:
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert"), [IMAGES])
    module, other = qgraph.freeze(qgraph.to_torch(prepared)), qgraph.to_torch(prepared)
    other.load_state_dict(module.state_dict())
    before = copy.deepcopy(other.state_dict())
    torch.manual_seed(0)
    other.train()(torch.from_numpy(IMAGES))
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())
    plain = qgraph.to_torch(prepared)
    assert set(plain.state_dict()) - {"second.1.num_batches_tracked"} <= set(prepared.constants)
    module.load_state_dict(plain.state_dict())  # one without flags leaves those that there are
    assert all(part.frozen for part in module.modules() if hasattr(part, "quant_range"))
