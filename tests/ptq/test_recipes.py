"""Recipes that are tried until the integers are good enough."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import qgraph
from qgraph.cli import main
from qgraph.errors import InputError
from qgraph.ir import Array, Graph
from qgraph.ptq import RECIPES, Recipe, auto, decibels
from tests.ptq.test_ptq import correlated, network

X = correlated(96, 3, 6, 6)
BITS = {"*": {"bits": 4}}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return qgraph.trace(network(), torch.from_numpy(X[:2]))


def test_the_first_recipe_that_reaches_the_goal_is_taken_and_none_after_it(graph: Graph) -> None:
    score = decibels(graph, X)
    first = score(qgraph.quantize(graph, "litert", calibration=[X], overrides=BITS))
    tried = auto(graph, "litert", calibration=[X], evaluate=score, goal=first - 0.1, overrides=BITS)
    assert tried.reached
    assert [trial.recipe for trial in tried.trials] == [RECIPES[0]]
    assert tried.best.score == first
    better = auto(graph, "litert", calibration=[X], evaluate=score, goal=first + 4, overrides=BITS)
    assert better.reached
    assert len(better.trials) > 1
    assert all(trial.score is None or trial.score < first + 4 for trial in better.trials[:-1])
    assert better.best is better.trials[-1]
    assert score(better.lowered) == better.best.score
    assert qgraph.lower(better.graph, "litert") == better.lowered
    assert f"{first:.6g} is below" in better.trials[1].why
    assert "reaches the goal" in str(better)


def test_the_best_is_given_where_none_reaches_the_goal(graph: Graph) -> None:
    recipes = [Recipe(), Recipe(("gptq",)), Recipe(("bias-correction",))]
    tried = auto(
        graph, "litert", calibration=[X], evaluate=decibels(graph, X), goal=1e6, overrides=BITS, recipes=recipes
    )
    assert not tried.reached
    scores = [trial.score for trial in tried.trials]
    assert len(scores) == 3
    assert tried.best.score == max(score for score in scores if score is not None)
    assert "is the best, and stays below the goal of 1e+06" in str(tried)


def test_what_finds_nothing_to_do_is_left_out_and_what_the_target_fixes_is_not_chosen(graph: Graph) -> None:
    recipes = [Recipe(("smooth",)), Recipe((), {"activation": "mse", "weight": "mse"})]
    tried = auto(graph, "onnxruntime", calibration=[X], evaluate=decibels(graph, X), goal=1e6, recipes=recipes)
    assert [trial.why for trial in tried.trials] == ["left out: smooth finds nothing to do", "the cheapest"]
    assert {node.attrs["observer"] for node in tried.graph.find("quant.fake_quant")} >= {"mse"}
    assert qgraph.verify(tried.lowered, inputs=X).bit_exact
    with pytest.raises(InputError, match="no recipe to try"):
        auto(graph, "litert", calibration=[X], evaluate=decibels(graph, X), goal=0, recipes=[])


def test_decibels_are_those_of_results_over_errors(graph: Graph) -> None:
    wanted = qgraph.run(graph, X)

    def off(array: Array) -> float:
        return float(10 * np.log10((wanted.astype(np.float64) ** 2).sum() / ((array - wanted) ** 2).sum()))

    low = qgraph.quantize(graph, "litert", calibration=[X])
    got = qgraph.run(low, X, dequantize=True, layout="NCHW")
    assert isinstance(got, np.ndarray)
    assert decibels(graph, X)(low) == pytest.approx(off(got), rel=1e-6)


@pytest.mark.parametrize(("goal", "status", "said"), [("20", 0, "reaches the goal of 20"), ("900", 1, "is the best")])
def test_the_command_prints_the_trials_and_says_no_where_the_goal_is_not_reached(
    graph: Graph,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    goal: str,
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr("qgraph.ptq.recipes.RECIPES", RECIPES[:2])
    qgraph.save(graph, tmp_path / "g.qg")
    np.savez(tmp_path / "x.npz", input=X)
    words = ["quantize", str(tmp_path / "g.qg"), "--target", "litert", "--calibration", str(tmp_path / "x.npz")]
    words += ["-o", str(tmp_path / "q.qg"), "--ptq", "auto", "--goal", goal]
    monkeypatch.setattr(sys, "argv", ["qgraph", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == status
    assert said in capsys.readouterr().out
    assert qgraph.load(tmp_path / "q.qg").level == "fake_quant"
