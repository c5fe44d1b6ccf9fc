"""Plans and measures at their edges: costs of several grids, budgets that are met exactly, curvature in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import qgraph
from qgraph.accuracy import Sensitivity, front, search
from qgraph.accuracy.curvature import _along as along
from qgraph.accuracy.curvature import _squared_gradients as squared_gradients
from qgraph.accuracy.curvature import _traces as traces
from qgraph.accuracy.measuring import of_examples
from qgraph.accuracy.plans import Plan
from qgraph.accuracy.searching import _undominated as undominated
from qgraph.accuracy.sensitivities import Row, Score
from qgraph.errors import InputError
from qgraph.ir import Array

scipy = pytest.importorskip("scipy", reason="needs the extra search: pip install 'qgraph-compiler[search]'")


def scores(**noises: float) -> tuple[Score, ...]:
    return tuple(Score(int(bits[1:]), 0.0, 0.0, noise) for bits, noise in noises.items())


def weights(name: str, *noises: Score, reads: tuple[str, ...] = (), elements: int = 8, macs: int = 10) -> Row:
    return Row(name, "nn.conv", "bits", (name,), elements, macs, reads, noises)


def grid(name: str, *noises: Score) -> Row:
    return Row(name, "nn.relu", "activation_bits", (name,), 0, 0, (), noises)


def measured(*rows: Row) -> Sensitivity:
    return Sensitivity("g", "litert", "sqnr", 1, rows)


def bits_of(plan: Plan) -> dict[str, int]:
    return {f"{each.name}.{each.word}": each.bits for each in plan.chosen}


def test_bytes_are_of_the_weights_with_their_bits() -> None:
    found = measured(weights("a", *scores(b2=0.5, b8=0.25)), grid("b", *scores(b4=9.0, b8=0.0)))
    plan = search(found, 8.0)  # 8 weights of 8 bits, met exactly
    assert (bits_of(plan), plan.cost, plan.noise) == ({"a.bits": 8}, 8.0, 0.25)
    plan = search(found, 7.99)
    assert (bits_of(plan), plan.cost, plan.noise) == ({"a.bits": 2}, 2.0, 0.5)
    assert search(found, 2.0).cost == 2.0
    assert search(found, np.float32(2.0)).cost == 2.0  # type: ignore[arg-type]
    assert search(found, 2).cost == 2.0
    with pytest.raises(InputError, match="nothing costs 2 bytes or less") as raised:
        search(found, 1.99)
    assert raised.value.help == "the least that is possible: 2"


def test_multiplications_cost_the_bits_of_both_where_both_are_chosen_and_eight_else() -> None:
    found = measured(weights("a", *scores(b2=0.5)), grid("b", *scores(b8=0.0)))
    assert search(found, 1e9, "mac_bits").cost == 10 * 2 * 8  # b is not what a reads
    read = measured(weights("a", *scores(b2=0.5), reads=("b",)), grid("b", *scores(b4=0.0)))
    assert search(read, 1e9, "mac_bits").cost == 10 * 2 * 4
    elsewhere = measured(weights("a", *scores(b2=0.5), reads=("c",)), grid("b", *scores(b4=0.0)))
    assert search(elsewhere, 1e9, "mac_bits").cost == 10 * 2 * 8
    two = measured(
        weights("a", *scores(b2=0.5), reads=("b", "c")), grid("b", *scores(b4=0.0)), grid("c", *scores(b8=0.0))
    )
    assert search(two, 1e9, "mac_bits").cost == 5 * 2 * 4 + 5 * 2 * 8  # a half each
    named_alike = measured(weights("a", *scores(b2=0.5), reads=("a",)), grid("a", *scores(b4=0.0)))
    assert search(named_alike, 1e9, "mac_bits").cost == 10 * 2 * 4


def test_a_product_is_paid_where_both_are_taken() -> None:
    found = measured(
        weights("a", *scores(b2=0.5, b4=0.1), reads=("b",)), grid("b", *scores(b4=0.3, b8=0.0))
    )  # costs: 2x4=80, 4x4=160, 2x8=160, 4x8=320; noises: 0.8, 0.4, 0.5, 0.1
    for budget, noise in ((80, 0.8), (159, 0.8), (160, 0.4), (319, 0.4), (320, 0.1)):
        plan = search(found, budget, "mac_bits")
        assert plan.noise == pytest.approx(noise), budget
        assert plan.cost <= budget
    whole = front(found, "mac_bits", points=9)
    assert [(plan.cost, pytest.approx(plan.noise)) for plan in whole.plans] == [(80, 0.8), (160, 0.4), (320, 0.1)]
    assert (whole.measure, whole.unit) == ("sqnr", "mac_bits")


def test_a_front_has_its_two_ends_at_least() -> None:
    found = measured(weights("a", *scores(b2=0.5, b4=0.2, b8=0.1)))
    for points in (0, 1, 2):
        assert [plan.cost for plan in front(found, points=points).plans] == [2, 8]
    assert [plan.cost for plan in front(found, points=4).plans] == [2, 4, 8]


def test_where_nothing_costs_or_nothing_errs_there_is_a_plan() -> None:
    free = measured(weights("a", *scores(b2=0.5, b8=0.25), elements=0))
    plan = search(free, 0.0)
    assert (plan.cost, plan.noise) == (0, 0.25)
    assert len(front(free).plans) == 1
    silent = measured(weights("a", *scores(b2=0.0, b8=0.0)))
    assert search(silent, 2.0).noise == 0
    assert front(silent).plans[0].noise == 0


def test_what_is_searched_has_rows_and_a_cost_that_there_is() -> None:
    with pytest.raises(InputError, match="has no row to choose bits for"):
        search(measured(grid("b", *scores(b4=0.0))), 10.0)
    with pytest.raises(InputError, match="has no row to choose bits for"):
        front(measured(), "mac_bits")
    with pytest.raises(InputError, match="cost='macs' is not a choice") as raised:
        search(measured(weights("a", *scores(b2=0.5))), 10.0, "macs")  # type: ignore[arg-type]
    assert raised.value.help == "choose from bytes, mac_bits"


def test_of_plans_of_one_cost_the_better_one_stays_and_of_one_noise_the_cheaper() -> None:
    plans = [Plan((), cost, noise) for cost, noise in ((3, 0.1), (1, 0.5), (1, 0.4), (2, 0.4), (4, 0.2))]
    assert [(plan.cost, plan.noise) for plan in undominated(plans)] == [(1, 0.4), (3, 0.1)]


def test_a_plan_names_the_bits_of_every_row_with_its_paths() -> None:
    found = measured(
        weights("a", *scores(b2=0.5, b8=0.25), reads=("b",)),
        grid("b", *scores(b4=0.125, b8=0.0)),
        weights("c", *scores(b4=1.0)),
    )
    plan = search(found, 1e9, "mac_bits")
    assert bits_of(plan) == {"a.bits": 8, "b.activation_bits": 8, "c.bits": 4}
    assert [each.paths for each in plan.chosen] == [("a",), ("b",), ("c",)]
    assert plan.noise == 1.25
    assert plan.cost == 10 * 8 * 8 + 10 * 4 * 8


# ---- curvature


def test_traces_are_exact_where_the_hessian_is_diagonal() -> None:
    """w0^3 + 2 w1^3 + v^2: the second derivatives are 6 w0, 12 w1 and 2; of u, which is linear, and of none, 0."""
    w, v = torch.tensor([2.0, 3.0], requires_grad=True), torch.tensor([5.0], requires_grad=True)
    u, none = torch.tensor([1.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    value = w[0] ** 3 + 2 * w[1] ** 3 + (v**2).sum() + u.sum()
    found = traces(value, [w, v, u, none], torch.Generator().manual_seed(0))
    assert [float(each) for each in found] == [pytest.approx(12 + 36), 2, 0, 0]
    assert all(each.dtype == torch.float64 for each in found)
    linear = traces(u.sum(), [u], torch.Generator().manual_seed(0))
    assert [float(each) for each in linear] == [0]


def test_gradients_are_squared_for_each_weight() -> None:
    w, none = torch.tensor([2.0, -3.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    found = squared_gradients((w * torch.tensor([1.0, 4.0])).sum(), [w, none], torch.Generator())
    assert [each.tolist() for each in found] == [[1, 16], [0]]


def test_a_trace_is_spread_evenly_over_the_weights() -> None:
    error = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert along(torch.tensor([1.0, 0.0, 0.0, 2.0]), error) == 9
    assert along(torch.tensor(8.0), error) == 8 / 4 * 10


class Named(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x).tanh()
        return result


def test_fisher_of_two_layers_is_half_the_squared_slopes_of_each_example() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Named(nn.Linear(3, 4, bias=False)), Named(nn.Linear(4, 1, bias=False)))
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=(6, 1)).astype(np.float32)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    words = {"labels": t, "loss": functional.mse_loss, "bits": (3,)}
    found = qgraph.sensitivity(graph, "litert", x, measure="fisher", **words)  # type: ignore[arg-type]
    for row, layer in zip(found.rows, (model[0].layer, model[1].layer), strict=True):
        w = layer.weight.detach().numpy().astype(np.float64)
        step = np.float32(np.abs(w).max(axis=1, keepdims=True) / 3)  # a scale per channel
        moved = np.square(np.rint(w / step) * step - w)
        each = []
        for i in range(6):
            model.zero_grad()
            functional.mse_loss(model(torch.from_numpy(x[i : i + 1])), torch.from_numpy(t[i : i + 1])).backward()
            each.append(float((np.square(layer.weight.grad.numpy()) * moved).sum() / 2))
        assert row.scores[0].value == pytest.approx(np.mean(each), rel=1e-4)
        assert row.scores[0].standard_error == pytest.approx(np.std(each, ddof=1) / np.sqrt(6), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"measure": "fischer"}, "measure='fischer' is not a choice"),
        ({"measure": "fisher", "labels": np.ones((3, 1), np.float32)}, "3 labels are given for 6 examples"),
        ({"measure": "fisher", "labels": None}, "measure='fisher' needs a loss and labels"),
        ({"measure": "hessian", "loss": None}, "measure='hessian' needs a loss and labels"),
    ],
)
def test_curvature_without_what_it_needs_is_refused(words: dict[str, object], message: str) -> None:
    x = np.ones((6, 3), np.float32)
    graph = qgraph.trace(Named(nn.Linear(3, 1)), torch.from_numpy(x[:2]))
    words = {"labels": np.ones((6, 1), np.float32), "loss": functional.mse_loss, **words}
    with pytest.raises(InputError, match=message):
        qgraph.sensitivity(graph, "litert", x, **words)  # type: ignore[arg-type]


# ---- measures


def test_scores_are_means_with_their_standard_errors() -> None:
    score = of_examples(4, np.float64([1, 2, 6]))
    assert (score.bits, score.value, score.noise) == (4, 3, 3)
    assert score.standard_error == pytest.approx(np.sqrt((4 + 1 + 9) / 2 / 3))
    assert np.isnan(of_examples(4, np.float64([1])).standard_error)
    assert not np.isnan(of_examples(4, np.float64([1, 2])).standard_error)


def test_a_measure_of_several_results_gets_them_by_name_and_of_one_alone() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(3, 1), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"one": self.one(x), "other": self.other(x)}

    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    seen: list[dict[str, tuple[int, ...]]] = []

    def measure(results: dict[str, Array]) -> Array:
        seen.append({name: array.shape for name, array in results.items()})
        return results["one"][:, 0]

    graph = qgraph.trace(Heads(), torch.from_numpy(x[:2]))
    found = qgraph.sensitivity(graph, "litert", {"x": x}, bits=(4,), activation_bits=(), measure=measure)
    assert seen[0] == {"one": (5, 1), "other": (5, 2)}
    assert {row.name: row.scores[0].value == 0 for row in found.rows} == {"one": False, "other": True}
    assert (found.examples, found.target, found.measure) == (5, "litert", "loss")
    single = qgraph.trace(Named(nn.Linear(3, 1)), torch.from_numpy(x[:2]))
    shapes = []
    qgraph.sensitivity(
        single, "litert", x, bits=(4,), activation_bits=(), measure=lambda y: shapes.append(y.shape) or y[:, 0]
    )
    assert {*shapes} == {(5, 1)}
