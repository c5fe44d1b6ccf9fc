"""Trace checks its graph against the model, and its errors say what, where and how often."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import qgraph
from qgraph.cli.app import app
from qgraph.errors import InputError, UnsupportedOp
from qgraph.frontends import torch_ops
from qgraph.ir import Graph
from qgraph.ir.finite import check_finite
from tests.frontends.traced import Apply, check_traced, random

IMAGE = (2, 3, 6, 6)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"first": torch.relu(x), "second": torch.sigmoid(self.act(x))}


def test_a_graph_that_computes_something_else_is_refused_with_output_difference_and_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = lambda at, a: at.build.nn.leaky_relu(at.value(a["self"]), negative_slope=0.2)  # noqa: E731
    monkeypatch.setitem(torch_ops.ROWS, "aten.leaky_relu.default", wrong)
    with pytest.raises(InputError) as caught:
        qgraph.trace(Two(), random(IMAGE))
    text = str(caught.value)
    assert (
        "the graph traced from Two computes something else: output 'second' differs from the model's by up to" in text
    )
    assert "node    leaky_relu: aten.leaky_relu.default" in text
    assert "origin  act  (frontends/test_torch_check.py:" in text
    assert len(qgraph.trace(Two(), random(IMAGE), check=False)) == 3


def test_results_that_change_from_call_to_call_are_refused() -> None:
    numbers = itertools.count()

    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + next(numbers)

    with pytest.raises(InputError, match="computes something else"):
        qgraph.trace(Random(), random(IMAGE))


AMPLIFIED: dict[str, Callable[[Apply, Tensor], Tensor]] = {
    "cancellation": lambda m, x: (m.conv(x) + 1000) - 1000,
    "cancelled twice": lambda m, x: ((m.conv(x) * 1e4 + 1e6) - 1e6) * 100,
    "nothing left": lambda m, x: m.conv(x) * 3 - m.conv(x) * 2 - m.conv(x),
    "zeros": lambda m, x: m.conv(x) * 0,
    "not a number": lambda m, x: m.conv(x) * float("inf") * 0,
    "infinite": lambda m, x: torch.relu(m.conv(x)) * float("inf"),
    "huge": lambda m, x: torch.relu(m.conv(x)) * 1e38 * 1e38,
    "tiny": lambda m, x: m.conv(x) * 1e-30 * 1e-12,
}


@pytest.mark.parametrize("name", AMPLIFIED)
def test_rounding_that_the_model_amplifies_is_no_difference(name: str) -> None:
    qgraph.trace(Apply(AMPLIFIED[name]), random(IMAGE))


def test_a_deep_network_of_random_weights_passes() -> None:
    layers = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(15)]
    check_traced(nn.Sequential(nn.Conv2d(3, 8, 1), *layers), IMAGE)


def test_repeated_causes_are_grouped_and_counted() -> None:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.lgamma(x)

    model = nn.Sequential(*(Block() for _ in range(12)), Apply(lambda m, x: torch.erfinv(x)))
    with pytest.raises(UnsupportedOp) as caught:
        qgraph.trace(model, random((2, 4)))
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 ops of the model have no counterpart in qgraph, in 13 places"
    assert lines[1].startswith(
        "  aten.lgamma.default: there is no such op in qgraph: 12 places, the first at 0  (frontends/"
    )
    assert lines[2].startswith("  aten.erfinv.default: there is no such op in qgraph  at 12  (frontends/traced.py:")


def broken(change: Callable[[nn.Sequential], object]) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with torch.no_grad():
        change(model)
    return model


NAN, INFINITE = float("nan"), float("inf")
BROKEN: dict[str, tuple[Callable[[nn.Sequential], object], str]] = {
    "a weight": (
        lambda m: m[0].weight[1, 2, 0, 0].fill_(NAN),
        "@0.weight: 1 of 108 elements are NaN, the first at [1, 2, 0, 0]  in nn.conv at 0",
    ),
    "a bias": (lambda m: m[0].bias[1:].fill_(INFINITE), "@0.bias: 3 of 4 elements are infinite, the first at [1]"),
    "a mean": (lambda m: m[1].running_mean.fill_(-INFINITE), "@1.running_mean: 4 of 4 elements are infinite"),
    "a variance": (lambda m: m[1].running_var[2].fill_(-1), "@1.running_var: 1 of 4 elements are a negative variance"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_parameters_that_are_not_finite_are_named(name: str) -> None:
    change, text = BROKEN[name]
    with pytest.raises(InputError, match="1 parameter of graph @Sequential cannot be computed with") as caught:
        qgraph.trace(broken(change), random(IMAGE))
    assert text in str(caught.value)


def test_masks_may_be_minus_infinity_and_other_infinities_stand_in_float_graphs_only() -> None:
    class Masked(nn.Module):
        def __init__(self, number: float) -> None:
            super().__init__()
            self.register_buffer("mask", torch.zeros(4).index_fill(0, torch.tensor([2]), number))

        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(x + self.mask, -1)

    graph: Graph = check_traced(Masked(-INFINITE), (2, 4))
    check_finite(graph)
    check_finite(graph, masks=True)
    (mask,) = graph.constants.values()
    mask.data[2] = INFINITE
    check_finite(graph)
    with pytest.raises(InputError, match="cannot be computed with"):
        check_finite(graph, masks=True)


def test_the_command_line_can_leave_the_check_out(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    file = f"{tmp_path}/net.py"
    with open(file, "w") as out:
        out.write("import torch\n\n\nclass Net(torch.nn.LeakyReLU):\n    pass\n")
    wrong = lambda at, a: at.build.nn.relu(at.value(a["self"]))  # noqa: E731
    monkeypatch.setitem(torch_ops.ROWS, "aten.leaky_relu.default", wrong)
    words = ["trace", f"{file}:Net", "--input", "2x300", "-o", f"{tmp_path}/g.qg"]  # some are negative
    assert "computes something else" in str(CliRunner().invoke(app, words).exception)
    assert CliRunner().invoke(app, [*words, "--no-check"]).exit_code == 0


def test_one_example_given_by_name_is_checked_as_it_is() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.shape[0] == 1 else x

    with pytest.raises(InputError, match="computes something else"):
        qgraph.trace(Model(), (), {"x": torch.randn(1, 3)})


def test_an_example_that_the_model_does_not_take_is_called_one() -> None:
    with pytest.raises(InputError, match="Linear cannot be run on the example: mat1 and mat2"):
        qgraph.trace(nn.Linear(3, 4), torch.zeros(2, 5))


TIES: dict[str, Callable[[Apply, Tensor], Tensor]] = {
    "two": lambda m, x: torch.topk(x, 2, 1)[1],
    "the smallest": lambda m, x: x.topk(k=3, dim=1, largest=False)[1],
    "along the batch": lambda m, x: torch.topk(x, 1, 0)[1],
}


@pytest.mark.parametrize("name", TIES)
@pytest.mark.parametrize("example", [torch.zeros(4, 7), torch.arange(28.0).reshape(4, 7) % 3])
def test_of_equal_elements_the_first_is_taken(name: str, example: Tensor) -> None:
    """torch takes any; the graph is not accused of that."""
    graph = qgraph.trace(Apply(TIES[name]).eval(), example, dynamic_batch=name != "along the batch")
    axis, largest = 0 if "batch" in name else 1, "small" not in name
    expected = torch.sort(example, dim=axis, descending=largest, stable=True)[1].numpy()
    k = {"two": 2, "the smallest": 3}.get(name)
    assert (qgraph.run(graph, example.numpy()) == (expected[:1] if k is None else expected[:, :k])).all()


@pytest.mark.parametrize("layer", [nn.GroupNorm(6, 6), nn.InstanceNorm1d(6), nn.LayerNorm(6, eps=1e-12)])
def test_what_is_left_of_a_norm_of_equal_elements_is_rounding(layer: nn.Module) -> None:
    shape = (4, 6, 1) if isinstance(layer, nn.GroupNorm) else (4, 6, 6)
    example = random((4, 6, 1)).expand(shape) if not isinstance(layer, nn.LayerNorm) else torch.full(shape, 0.3)
    assert len(qgraph.trace(layer.eval(), example.contiguous())) == 1
