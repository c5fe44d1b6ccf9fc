"""What parameters and buffers alone make becomes a constant; and what changes nothing leaves no node."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.ir import Graph
from tests.frontends.traced import Apply, check_traced, random

IMAGE = (2, 3, 6, 6)


def quietly(function: Callable[[], Graph]) -> Graph:
    """The graph; torch warns that the old hooks go away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function()


def conv() -> nn.Conv2d:
    return nn.Conv2d(3, 4, 3)


def pruned() -> nn.Module:
    layer = conv()
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.l1_unstructured(layer, "bias", 2)
    return layer


LAYER = ("0.weight", "0.bias")
NORMED = tuple(f"0.parametrizations.weight.original{i}" for i in "01")
WEIGHTS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "weight_norm": (lambda: parametrizations.weight_norm(conv()), (*NORMED, "0.bias")),
    "weight_norm, old": (lambda: nn.utils.weight_norm(conv()), ("0.weight_g", "0.weight_v", "0.bias")),
    "spectral_norm": (lambda: parametrizations.spectral_norm(conv()), (NORMED[0][:-1], "0.bias")),
    "spectral_norm, old": (lambda: nn.utils.spectral_norm(conv()), ("0.weight_orig", "0.bias")),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(6, 6)), LAYER),
    "pruning": (pruned, ("0.weight_orig", "0.bias_orig")),  # the masks hold in training, too
}
"""The layer, and what is learned: what its weight is made of, where ops of `nn` say how."""


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_computed_weight_becomes_the_weight_of_its_layer(name: str) -> None:
    make, learned = WEIGHTS[name]
    shape = (2, 6) if name == "orthogonal" else IMAGE
    graph = quietly(lambda: check_traced(nn.Sequential(make(), nn.ReLU()), shape))
    assert len(graph) == 2
    assert sorted(name for name, value in graph.constants.items() if value.users) == sorted(LAYER)
    module = qgraph.to_torch(graph)
    assert sorted(name for name, _ in module.named_parameters()) == sorted(learned)


class Positions(nn.Module):
    """A sine table of positions, computed in forward, and a learned one."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.exp(torch.arange(0.0, 4) * -0.7))
        self.learned = nn.Parameter(torch.randn(1, 16, 8))
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[1], dtype=torch.float32)[:, None] * self.frequency
        table = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        return x + self.scale.exp() * table.unsqueeze(0) + self.learned[:, : x.size(1)]


def test_tables_of_positions_become_constants() -> None:
    graph = check_traced(Positions(), (2, 5, 8))
    assert [node.op for node in graph.nodes] == ["nn.add", "nn.add"]


def test_a_plain_parameter_keeps_its_name_and_a_computed_one_does_not_take_it() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(nn.functional.linear(x, self.weight), self.weight.t() * 2)

    graph = check_traced(Both(), (2, 4))
    assert sorted(graph.constants) == ["weight", "weight.folded"]


def test_a_square_weight_and_its_transpose_are_two_constants() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(self.layer(x), self.layer.weight.t())

    assert len(check_traced(Tied(), (2, 4)).constants) == 3


NOTHING = {
    "float": lambda m, x: x.float() + 1,
    "to a dtype": lambda m, x: x.to(torch.float32) + 1,
    "to a dtype, copied": lambda m, x: x.to(torch.float32, copy=True) + 1,
    "to a device": lambda m, x: x.to("cpu") + 1,
    "to another": lambda m, x: x.to(m.conv.weight) + 1,
    "type_as": lambda m, x: x.type_as(m.conv.weight) + 1,
    "cpu": lambda m, x: x.cpu().contiguous().detach() + 1,
    "positive": lambda m, x: +x + 1,
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_leaves_no_node(name: str) -> None:
    assert [node.op for node in check_traced(Apply(NOTHING[name]), IMAGE).nodes] == ["nn.add"]


NUMBERS = {
    "by 255": lambda m, x: x / 255,
    "by a power of two": lambda m, x: x / 4,
    "normalized": lambda m, x: (x - torch.ones(3, 1, 1)) / torch.tensor([0.2, 3, 4])[:, None, None],
    "by a parameter": lambda m, x: x / m.conv.bias[:1].abs().clamp_min(0.1),
    "numbers": lambda m, x: 2 - (3 * x - 1 + 0.5) * True,
    "in place": lambda m, x: (x + 0).div_(255).sub_(0.5).mul_(2),
    "numpy": lambda m, x: x * float(np.float64(0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_arithmetic_with_numbers_and_constants(name: str) -> None:
    check_traced(Apply(NUMBERS[name]), IMAGE)


def test_division_by_a_power_of_two_is_exact_and_else_within_one_step() -> None:
    x = random((64, 3, 5, 5)).numpy()
    assert np.array_equal(qgraph.run(qgraph.trace(Apply(NUMBERS["by a power of two"]), x), x), x / 4)
    got = qgraph.run(qgraph.trace(Apply(NUMBERS["by 255"]), x), x)
    assert (np.abs(got - x / np.float32(255)) <= np.spacing(np.abs(x / np.float32(255)))).all()


def test_a_division_by_a_computed_value_is_one() -> None:
    graph = check_traced(Apply(lambda m, x: x / (m.conv(x)[:, :3].abs() + 1)), IMAGE)
    assert [node.op for node in graph.nodes][-1] == "nn.div"


def test_chance_is_never_a_constant() -> None:
    with pytest.raises(UnsupportedOp, match="rand"):
        qgraph.trace(Apply(lambda m, x: x + torch.rand(6)), random(IMAGE))
    with pytest.raises(UnsupportedOp, match="dropout that acts in eval mode"):
        qgraph.trace(Apply(lambda m, x: nn.functional.dropout(x)), random(IMAGE))


def test_what_parameters_alone_make_is_evaluated_and_not_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch writes a whole program anew to decompose one op, which takes as long as torch.export does."""

    def decompose(*_: object) -> None:
        raise AssertionError("weight_norm reads parameters alone")

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", decompose)
    graph = check_traced(parametrizations.weight_norm(nn.Linear(3, 2)), (4, 3))
    assert [node.op for node in graph.nodes] == ["nn.linear"]
