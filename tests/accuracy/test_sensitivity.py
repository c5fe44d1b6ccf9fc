"""`qgraph.sensitivity` and `qgraph.search`: closed forms, brute force, and what a mix is worth on a trained network."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

import qgraph
from qgraph.accuracy import Front, Plan, Sensitivity, front, search
from qgraph.accuracy.sensitivities import Row, Score
from qgraph.cli.app import app
from qgraph.errors import InputError
from qgraph.ir import Array, Graph
from tests.accuracy.planted import TARGETS, examples, network

scipy = pytest.importorskip("scipy", reason="needs the extra search: pip install 'qgraph-compiler[search]'")


def traced(model: nn.Module, x: Array) -> Graph:
    return qgraph.trace(model, torch.from_numpy(x[:2]))


def sqnr(graph: Graph, prepared: Graph, x: Array) -> float:
    real, got = qgraph.run(graph, x), qgraph.run(prepared, x)
    assert isinstance(real, np.ndarray)
    return float(10 * np.log10(np.square(real).sum() / np.square(got - real).sum()))


def calibrated(graph: Graph, x: Array, target: str, overrides: dict[str, dict[str, int]]) -> Graph:
    return qgraph.calibrate(qgraph.prepare(graph, target, overrides=overrides), [x])


# ---- sensitivity


@pytest.mark.parametrize("target", TARGETS)
def test_every_layer_and_grid_has_a_row_and_more_bits_cost_less(target: str) -> None:
    x = examples()
    found = qgraph.sensitivity(traced(network(), x), target, x)
    weights = {row.name: row for row in found.rows if row.word == "bits"}
    assert list(weights) == ["stem", "middle", "last", "head"]
    assert {row.name for row in found.rows if row.word == "activation_bits"} == {"stem", "middle", "last", "head"}
    assert weights["head"].elements == 40
    assert weights["head"].macs == 40
    assert weights["head"].reads == ()  # the mean before it has no path of a module
    assert weights["middle"].reads == ("stem",)
    for row in found.rows:
        noises = [score.noise for score in row.scores]
        assert all(fewer > 10 * more for fewer, more in itertools.pairwise(noises)), row.name  # 12 dB for two bits
        assert all(0 < score.standard_error < 3 for score in row.scores), row.name


def test_the_sqnr_of_one_layer_alone_is_that_of_the_graph_with_it_alone_rounded() -> None:
    """A linear layer whose weight is worked out by hand: 3 codes for 1.0, 0.4 and -0.2."""
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.4, -0.2]]))
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.layer(x)
            return result

    found = qgraph.sensitivity(traced(Named(), x), "litert", x, bits=(2,), activation_bits=())
    (row,) = found.rows
    real, rounded = x @ np.float64([1, 0.4, -0.2]), x @ np.float64([1, 0, 0])
    ratio = np.square(rounded - real).sum() / np.square(real).sum()
    assert row.scores[0].noise == pytest.approx(ratio, rel=1e-5)
    assert row.scores[0].value == pytest.approx(-10 * np.log10(ratio), abs=1e-4)


def test_the_standard_error_is_that_of_drawing_the_examples_again() -> None:
    """Against the spread of 300 samples of examples drawn with replacement (the bootstrap)."""
    from qgraph.accuracy.two_runs import Noise

    rng = np.random.default_rng(0)
    signal = rng.gamma(3, 1, 400)
    noise = Noise(signal, signal * rng.gamma(2, 0.01, 400))
    drawn = [rng.integers(0, 400, 400) for _ in range(300)]
    spread = np.std([Noise(noise.signal[i], noise.error[i]).sqnr_db for i in drawn])
    assert noise.standard_error_db == pytest.approx(spread, rel=0.15)


def test_a_loss_of_the_users_own_is_measured_as_what_it_adds() -> None:
    x = examples()
    answers = np.arange(len(x)) % 5
    graph = traced(network(), x)

    def loss(results: Array) -> Array:
        return functional.cross_entropy(torch.from_numpy(results), torch.from_numpy(answers), reduction="none").numpy()

    found = qgraph.sensitivity(graph, "litert", x, bits=(2,), activation_bits=(), measure=loss)
    assert found.measure == "loss"
    added = {row.name: row.scores[0].value for row in found.rows}
    real = qgraph.run(graph, x)
    assert isinstance(real, np.ndarray)
    from qgraph.accuracy.two_runs import Variant, folded
    from qgraph.accuracy.units import units_of
    from qgraph.interpreter import execute

    two = folded(calibrated(graph, x, "litert", {"head": {"bits": 2}}))
    (head,) = (unit for unit in units_of(two) if unit.path == "head")
    for node in [*two.nodes]:
        if node.op.startswith("quant.fake_quant") and node not in head.weights:
            node.replace_with(node.operand(0))
    assert Variant().floats == frozenset()
    (rounded,) = execute(two, {"x": x})
    assert added["head"] == pytest.approx(float((loss(rounded) - loss(real)).mean()), abs=1e-6)


def test_a_measure_that_is_no_number_for_each_example_is_refused() -> None:
    x = examples(4)
    with pytest.raises(InputError, match=r"gives \[\] numbers for 4 examples"):
        qgraph.sensitivity(traced(network(), x), "litert", x, measure=lambda results: results.sum())


def test_fisher_and_hessian_of_a_linear_model_are_those_in_closed_form() -> None:
    """Squared error of y = w x: the gradient is 2 (w x - t) x, the Hessian 2 x x^T, of which the trace is 2 |x|^2."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.layer(x)
            return result

    torch.manual_seed(1)
    model, rng = Named(), np.random.default_rng(0)
    x, t = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(40, 1)).astype(np.float32)
    words = {"bits": (3,), "labels": t, "loss": functional.mse_loss}
    w = model.layer.weight.detach().numpy()[0].astype(np.float64)
    step = np.abs(w).max() / 3
    moved = np.square(np.rint(w / step) * step - w)
    fisher = qgraph.sensitivity(traced(model, x), "litert", x, measure="fisher", **words)  # type: ignore[arg-type]
    slopes = 2 * (x @ w[:, None] - t) * x
    each = 0.5 * np.square(slopes) @ moved
    score = fisher.rows[0].scores[0]
    assert score.value == pytest.approx(each.mean(), rel=1e-4)
    assert score.standard_error == pytest.approx(each.std(ddof=1) / np.sqrt(40), rel=1e-4)
    hessian = qgraph.sensitivity(traced(model, x), "litert", x, measure="hessian", **words)  # type: ignore[arg-type]
    trace = 2 * np.square(x).sum(axis=1).mean()
    score = hessian.rows[0].scores[0]
    assert score.value == pytest.approx(0.5 * trace / 3 * moved.sum(), abs=4 * score.standard_error)
    assert score.standard_error < score.value / 4


def test_weights_of_which_a_loss_knows_nothing_cost_it_nothing() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"one": self.one(x), "other": self.other(x)}

    torch.manual_seed(0)
    x, t = examples(8)[:, 0, 0, :3], np.ones((8, 1), np.float32)
    for measure in ("fisher", "hessian"):
        found = qgraph.sensitivity(
            traced(Heads(), x),
            "litert",
            x,
            measure=measure,  # type: ignore[arg-type]  # two of its words
            loss=lambda results, right: functional.mse_loss(results["one"], right),
            labels=t,
        )
        values = {row.name: row.scores[0].value for row in found.rows}
        assert values["other"] == 0
        assert values["one"] > 0


@pytest.mark.parametrize("target", TARGETS)
def test_bits_that_the_target_lacks_are_refused(target: str) -> None:
    x = examples(4)
    words = {"bits": (4,), "activation_bits": (8, 16)}
    if target == "litert":
        found = qgraph.sensitivity(traced(network(), x), target, x, **words)  # type: ignore[arg-type]
        assert all(row.scores[-1].bits == 16 for row in found.rows if row.word == "activation_bits")
        return
    with pytest.raises(InputError, match="onnxruntime has no activation_bits=16"):
        qgraph.sensitivity(traced(network(), x), target, x, **words)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="onnxruntime has no bits=9"):
        qgraph.sensitivity(traced(network(), x), target, x, bits=(9,))


# ---- search


def made_up(rows: int, seed: int, pairs: bool = False) -> Sensitivity:
    """Rows of random noises; with `pairs` each layer reads the grid of the one before."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(rows):
        noises = np.sort(rng.lognormal(-4, 2, 3))[::-1]
        scores = tuple(Score(bits, 0.0, 0.0, float(noise)) for bits, noise in zip((2, 4, 8), noises, strict=True))
        reads = (f"{i - 1}",) if pairs and i else ()
        sizes = int(rng.integers(10, 900)), int(rng.integers(100, 9000))
        found.append(Row(f"{i}", "nn.conv", "bits", (f"{i}",), *sizes, reads, scores))
        if pairs:
            found.append(Row(f"{i}", "nn.conv", "activation_bits", (f"{i}",), 0, 0, (), scores[1:]))
    return Sensitivity("g", "litert", "sqnr", 1, tuple(found))


def brute_force(found: Sensitivity, budget: float, cost: str) -> float:
    """The least noise of all combinations within the budget."""
    rows = [row for row in found.rows if row.word == "bits" or cost == "mac_bits"]
    least = float("inf")
    for chosen in itertools.product(*(row.scores for row in rows)):
        bits = {(row.name, row.word): score.bits for row, score in zip(rows, chosen, strict=True)}
        total = 0.0
        for row in (row for row in rows if row.word == "bits"):
            other = bits[row.reads[0], "activation_bits"] if row.reads and cost == "mac_bits" else 8
            own = bits[row.name, "bits"]
            total += row.elements * own / 8 if cost == "bytes" else row.macs * own * other
        if total <= budget:
            least = min(least, sum(score.noise for score in chosen))
    return least


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("cost", "rows"), [("bytes", 5), ("mac_bits", 3)])
def test_the_plan_is_the_best_of_all_combinations(cost: str, rows: int, seed: int) -> None:
    found = made_up(rows, seed, pairs=cost == "mac_bits")
    every = front(found, cost, points=6)  # type: ignore[arg-type]
    for budget in np.linspace(every.plans[0].cost, every.plans[-1].cost, 7)[:-1] * 1.01:
        plan = search(found, float(budget), cost)  # type: ignore[arg-type]
        assert plan.cost <= budget
        assert plan.noise == pytest.approx(brute_force(found, float(budget), cost), rel=1e-6)


def test_no_plan_of_the_front_is_cheaper_and_better_than_another() -> None:
    found = front(made_up(6, 3))
    costs, noises = [plan.cost for plan in found.plans], [plan.noise for plan in found.plans]
    assert len(found.plans) > 5
    assert costs == sorted(costs)
    assert noises == sorted(noises, reverse=True)
    assert found.within(costs[2] + 0.5) is found.plans[2]
    with pytest.raises(InputError, match="the least is"):
        found.within(costs[0] - 1)


def test_a_budget_that_nothing_meets_is_refused_with_the_least_that_is_possible() -> None:
    found = made_up(2, 0)
    least = sum(row.elements * 2 / 8 for row in found.rows)
    with pytest.raises(InputError, match=f"the least that is possible: {least:,.0f}"):
        search(found, 1.0)


@pytest.mark.parametrize("budget", [float("nan"), "50", None, True])
def test_a_budget_that_is_no_number_is_refused(budget: object) -> None:
    with pytest.raises(InputError, match="is no number"):
        search(made_up(2, 0), budget)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [4, ("4",), (4.0,), "4"])
def test_bits_that_are_no_whole_numbers_are_refused(bits: object) -> None:
    x = np.ones((2, 4), np.float32)
    with pytest.raises(InputError, match="are no whole numbers"):
        qgraph.sensitivity(qgraph.trace(torch.nn.Linear(4, 2), torch.ones(2, 4)), "litert", x, bits=bits)  # type: ignore[arg-type]


def test_a_graph_that_is_quantized_already_is_refused() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.tanh(%x)
  return %1
}""")
    x = np.float32([[1, 2, 3, 4]])
    with pytest.raises(InputError, match="quantized already") as raised:
        qgraph.sensitivity(qgraph.prepare(graph, "litert"), "litert", x)
    assert raised.value.help == "give the float graph"


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(InputError, match="this needs scipy") as raised:
        search(made_up(2, 0), 1e9)
    assert "qgraph-compiler[search]" in raised.value.help


def test_a_mix_of_bits_is_better_than_one_number_for_all_within_the_same_bytes() -> None:
    """A small CNN, trained on the demo's images: weights of 4 or 5 bits on average, chosen, against that everywhere."""
    from qgraph.examples.classification import train
    from qgraph.examples.fashion_mnist import load
    from qgraph.examples.image_data import Dataset, to_nchw

    data = load()
    data = Dataset(data.train_images[:3000], data.train_labels[:3000], data.test_images[:300], data.test_labels[:300])
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, groups=16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)),
    )
    train(model, data, epochs=4, seed=0)
    x = to_nchw(data.test_images)
    graph = traced(model, x)
    for target in TARGETS:
        found = qgraph.sensitivity(graph, target, x[:100], bits=range(2, 9), activation_bits=())
        for bits in (4, 5):
            budget = sum(row.elements * bits / 8 for row in found.rows)
            plan = qgraph.search(found, budget)
            assert plan.cost <= budget
            mixed = sqnr(graph, calibrated(graph, x[:100], target, plan.overrides), x[100:])
            uniform = sqnr(graph, calibrated(graph, x[:100], target, {"*": {"bits": bits}}), x[100:])
            assert mixed > uniform + 4, (target, bits)  # 8 to 9.5 dB, and 5 to 6.6
            predicted = Front("sqnr", "bytes", (plan,)).value(plan)
            assert predicted == pytest.approx(mixed, abs=4)  # of weights alone; noises add up, about


def test_overrides_of_a_plan_are_those_that_prepare_takes() -> None:
    x = examples()
    graph = traced(network(), x)
    found = qgraph.sensitivity(graph, "litert", x, activation_bits=(4, 8, 16))
    every = front(found, "mac_bits", points=4)
    for plan in every.plans:
        qgraph.lower(calibrated(graph, x, "litert", plan.overrides), "litert")
    assert isinstance(every.plans[0], Plan)
    words = json.loads(every.to_json())
    assert words["plans"][0]["overrides"] == every.plans[0].overrides
    assert every.svg().count("<circle") == len(every.plans) + 1


def test_the_commands_hand_over_files(tmp_path: Path) -> None:
    x = examples(16)
    qgraph.save(traced(network(), x), tmp_path / "g.qg")
    np.savez(tmp_path / "x.npz", x=x)
    run = lambda *words: CliRunner().invoke(app, [str(word) for word in words])  # noqa: E731
    measured = ["sensitivity", tmp_path / "g.qg", "--target", "litert", "--inputs", tmp_path / "x.npz"]
    told = run(*measured, "--bits", "2,4,8", "--activation-bits", "none", "-o", tmp_path / "s.json")
    assert told.exit_code == 0, told.output
    assert "middle weights" in told.output
    assert run(*measured, "-o", tmp_path / "s.svg").exit_code == 0
    assert (tmp_path / "s.svg").read_text().startswith("<svg")
    found = Sensitivity.from_json((tmp_path / "s.json").read_text())
    assert Sensitivity.from_json(found.to_json()) == found
    budget = sum(row.elements * 6 / 8 for row in found.rows)
    words = ["search", tmp_path / "s.json", "--budget", budget, "-o", tmp_path / "o.json"]
    told = run(*words, "--front", tmp_path / "f.svg")
    assert told.exit_code == 0, told.output
    assert " dB  weights:" in told.output
    assert "no noise" not in told.output
    assert (tmp_path / "f.svg").read_text().startswith("<svg")
    words = ["quantize", tmp_path / "g.qg", "--target", "litert", "--calibration", tmp_path / "x.npz"]
    told = run(*words, "--overrides", tmp_path / "o.json", "-o", tmp_path / "q.qg")
    assert told.exit_code == 0, told.output
    ranges = {node.attrs["range"] for node in qgraph.load(tmp_path / "q.qg").find("quant.fake_quant")}
    assert len(ranges) > 2
    (tmp_path / "bad.json").write_text('{"stem": 4}')
    assert run(*words, "--overrides", tmp_path / "bad.json", "-o", tmp_path / "r.qg").exit_code != 0
    assert run("search", tmp_path / "o.json").exit_code != 0
