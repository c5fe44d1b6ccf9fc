"""Models of ids, choices and computed places: to integers, raised, and to the same integers again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph import passes
from qgraph.errors import LoweringError
from qgraph.ir import Array, Graph

FAMILY = ("litert", "litert-xnnpack", "tflm")
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 9, (16, 5))
X = RNG.normal(size=(16, 6)).astype(np.float32)


class Model(nn.Module):
    """A function of a linear layer, a table, and the input."""

    def __init__(self, function: Callable[[Model, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.linear, self.table = function, nn.Linear(6, 6), nn.Parameter(torch.randn(9, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def quantized(function: Callable[[Model, Tensor], Tensor], x: Array, target: str) -> Graph:
    low = qgraph.quantize(qgraph.trace(Model(function).eval(), torch.from_numpy(x)), target, calibration=[x])
    assert qgraph.verify(low, inputs=x).bit_exact
    return low


CHOSEN: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "indexed": lambda m, x: m.table[m.linear(x).argmax(1)],
    "index_select": lambda m, x: m.table.index_select(0, m.linear(x).argmax(1)) + 1,
    "of columns": lambda m, x: m.table.t().index_select(1, m.linear(x).argmax(1)).t(),
    "the nearest": lambda m, x: m.linear(m.table[((m.linear(x).unsqueeze(1) - m.table) ** 2).sum(-1).argmin(1)]),
}


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("target", FAMILY)
def test_rows_of_a_parameter_are_chosen_by_computed_indices(target: str, name: str) -> None:
    low = quantized(CHOSEN[name], X, target)
    wanted = Model(CHOSEN[name])(torch.from_numpy(X)).detach().numpy().astype(np.float64)
    off = np.asarray(qgraph.run(low, X, dequantize=True)) - wanted
    assert 10 * np.log10((wanted**2).sum() / (off**2).sum()) > 35
    raised = passes.raise_to_fake_quant(low)
    assert np.array_equal(qgraph.run(low, X), qgraph.run(qgraph.lower(raised, target), X))


@pytest.mark.parametrize("target", [*FAMILY, "onnxruntime"])
def test_rows_that_no_example_chose_are_within_the_range(target: str) -> None:
    graph = qgraph.trace(Model(lambda m, ids: m.table[ids]).eval(), torch.from_numpy(IDS))
    low = qgraph.quantize(graph, target, calibration=[np.zeros_like(IDS)])
    wanted = Model(lambda m, ids: m.table[ids])(torch.from_numpy(IDS)).detach().numpy()
    (grid,) = {node.result.type.q for node in low.nodes if node.result.type.quant is not None}
    np.testing.assert_array_less(np.abs(np.asarray(qgraph.run(low, IDS, dequantize=True)) - wanted), grid.scales[0] / 2)


RAISED: dict[str, tuple[Callable[[Model, Tensor], Tensor], Array, set[str]]] = {
    "embedding": (lambda m, ids: nn.functional.embedding(ids, m.table), IDS, {"table"}),
    "embedding of clamped ids": (lambda m, ids: nn.functional.embedding(ids.clamp(1, 7), m.table), IDS, {"table"}),
    "compared with a number": (lambda m, x: m.linear(x) * (x > 0.3).float(), X, {"linear.weight", "linear.bias"}),
    "never equal": (lambda m, x: m.linear(x) * (x == 100).float(), X, {"linear.weight", "linear.bias"}),
    "a number compared": (lambda m, x: (m.linear(x) >= 0.5).float(), X, {"linear.weight", "linear.bias"}),
    "of one grid": (lambda m, x: (x.flip(1) < x).float(), X, set()),
    "chosen": (lambda m, x: torch.where(x > 0, m.linear(x), x), X, {"linear.weight", "linear.bias"}),
    "a place": (lambda m, x: m.linear(x).argmax(1) == x.argmin(1), X, {"linear.weight", "linear.bias"}),
}


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("target", FAMILY)
def test_ids_and_conditions_come_back(target: str, name: str) -> None:
    function, x, names = RAISED[name]
    low = quantized(function, x, target)
    raised = passes.raise_to_fake_quant(low)
    assert np.array_equal(qgraph.run(low, x), qgraph.run(qgraph.lower(raised, target), x))
    assert {name for name, _ in qgraph.to_torch(raised).named_parameters()} == names


def test_numbers_of_a_raised_graph_are_not_trained() -> None:
    low = quantized(lambda m, x: (1 - torch.sigmoid(m.linear(x))) * x, X, "litert")
    trained = {name for name, _ in qgraph.to_torch(passes.raise_to_fake_quant(low)).named_parameters()}
    assert trained == {"linear.weight", "linear.bias"}


def test_codes_that_are_read_as_numbers_are_refused_by_name() -> None:
    low = quantized(lambda m, x: torch.cat([m.table[None, :1].expand(x.shape[0], -1, -1), x[:, None]], 1), X, "litert")
    with pytest.raises(LoweringError, match="without looking at scales"):
        passes.raise_to_fake_quant(low)
