"""A lowering is held against the fake-quant graph that it was made of, node by node."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph import targets
from qgraph.errors import ValidationError
from qgraph.targets.lowering import Lowering
from tests.models import seeded


class Branches(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.head = torch.nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(self.norm(self.stem(x)))
        z = torch.relu(self.depthwise(y)) + y
        z = torch.cat([torch.max_pool2d(z, 2), torch.nn.functional.avg_pool2d(z, 2)], 1)
        return self.head(z.mean((2, 3))), z


def calibrated(target: str) -> qgraph.Graph:
    x = np.random.default_rng(0).normal(size=(16, 3, 12, 12)).astype(np.float32)
    graph = qgraph.trace(seeded(Branches()).eval(), torch.from_numpy(x))
    return qgraph.calibrate(qgraph.prepare(graph, target=target, check=True), [x])


@pytest.mark.parametrize("target", targets.names())
def test_every_lowered_op_is_what_it_was_made_of(target: str) -> None:
    graph = calibrated(target)
    for io in ("integer", "float"):
        qgraph.lower(graph, target=target, io=io, check=True)


def test_the_op_that_is_lowered_wrongly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Lowering.weight

    def mirrored(self: Lowering, node: qgraph.Node, index: int = 1) -> object:
        found = right(self, node, index)
        return type(found)(found.data[..., ::-1], found.quant, found.name) if "stem" in found.name else found

    graph = calibrated("litert")
    monkeypatch.setattr(Lowering, "weight", mirrored)
    with pytest.raises(ValidationError) as caught:
        qgraph.lower(graph, target="litert", check=True)
    message = str(caught.value)
    assert message.startswith("litert.conv_2d is up to ")
    assert "steps away from the nhwc.conv that it was made of" in message
    assert "origin  stem" in message
    assert "inputs  %x int8[11, 12, 12, 3], random with seed 0" in message
    assert set(caught.value.inputs) == {"x"}


def test_a_graph_that_was_changed_after_lowering_is_not_what_lowering_gives() -> None:
    graph = calibrated("onnxruntime")
    lowered = qgraph.lower(graph, target="onnxruntime")
    name, bias = next((name, value) for name, value in lowered.constants.items() if value.type.dtype == "i32")
    lowered.replace_uses(bias, lowered.add_constant(bias.data + np.int32(1), f"{name}.other", bias.type.quant))
    with pytest.raises(ValidationError, match="is not what lowering the fake-quant graph gives"):
        qgraph.passes.get("lower").check(graph, lowered)


class Shared(torch.nn.Module):
    """A value that is read as it is, and on a grid of fewer bits where it is joined with another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 2, 1), torch.nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.a(x), self.b(x)
        return torch.cat([a, b], 1), b


@pytest.mark.parametrize("target", targets.names())
def test_fewer_bits_on_an_edge_are_not_those_of_the_value_behind_it(target: str) -> None:
    x = np.random.default_rng(0).normal(size=(8, 3, 6, 6)).astype(np.float32)
    graph = qgraph.trace(seeded(Shared()).eval(), torch.from_numpy(x))
    qgraph.quantize(graph, target, calibration=[x], overrides={"a": {"activation_bits": 4}}, check=True)
