"""What methods leave as it is and why, statistics behind layers that were measured anew, and records of recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import InputError
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph, Value
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.passes.engine.log import Log, logging_to
from qgraph.ptq import METHODS, Recipe, auto, check_methods, decibels, improved, reestimate_batchnorm, smooth
from qgraph.ptq import recipes as module
from qgraph.ptq.methods import before_preparing
from qgraph.ptq.recipes import Trial, Tried, _Made, on_examples
from tests.ptq.test_ptq import correlated

# ---- batch normalization


def with_statistics(bits: int = 3, gammas: tuple[float, ...] = (1.0, -0.5, 2.0, 1.5)) -> tuple[Graph, Array]:
    """Two live batch normalizations, one behind the other, whose statistics are those of something else."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        for norm in (model[1], model[3]):
            norm.weight.copy_(torch.tensor(gammas))
            norm.bias.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
            norm.running_mean.copy_(torch.tensor([0.3, 0.0, -0.4, 0.1]))
            norm.running_var.copy_(torch.tensor([0.5, 2.0, 1.0, 4.0]))
    x = correlated(40, 2, 5, 5)
    graph = qgraph.prepare(qgraph.trace(model, torch.from_numpy(x[:2])), "litert", overrides={"*": {"bits": bits}})
    return qgraph.calibrate(graph, [x]), x


def values(graph: Graph, x: Array) -> Mapping[Value, Array]:
    found: dict[Value, Array] = {}
    execute(graph, {graph.inputs[0].name: x}, found.__setitem__)
    return found


def test_results_of_layers_measured_anew_have_the_mean_beta_and_the_deviation_gamma() -> None:
    graph, x = with_statistics()
    made = reestimate_batchnorm(graph, x)
    found = values(made, x)
    for before, layer in zip(*(each.find("quant.conv_batch_norm") for each in (graph, made)), strict=True):
        gamma, beta, var = (layer.operand(i).data for i in (3, 4, 6))
        y = found[layer.result].astype(np.float64)
        step = layer.operand(0).producer.operand(1).data * layer.operand(7).data  # to which the bias is rounded
        assert (np.abs(y.mean((0, 2, 3)) - beta) <= step * 0.501).all()
        np.testing.assert_allclose(y.std((0, 2, 3)), np.abs(gamma) * np.sqrt(var / (var + layer.attrs["eps"])), 1e-5)
        assert not np.allclose(var, before.operand(6).data, rtol=0.1)
        assert layer.operand(5).data.dtype == var.dtype == np.float32
        assert layer.attrs == before.attrs
    again = reestimate_batchnorm(made, x)
    for name, value in made.constants.items():
        np.testing.assert_allclose(again.constants[name].data, value.data, rtol=1e-4, atol=1e-6)


def test_a_scale_is_that_of_the_weight_folded_anew_and_what_a_bias_asked_for_stays_in_proportion() -> None:
    graph, x = with_statistics()
    _, second = graph.find("quant.conv_batch_norm")
    raised = second.operand(7).data * np.float32([1, 2, 1, 4])
    graph.set_data(second.operand(7), raised)
    made = reestimate_batchnorm(graph, x)
    for layer, factor in zip(made.find("quant.conv_batch_norm"), ([1, 1, 1, 1], [1, 2, 1, 4]), strict=True):
        w, gamma, var, scale = (layer.operand(i).data for i in (1, 3, 6, 7))
        folded = w * batch_norm_gain(gamma, var, layer.attrs["eps"]).reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(scale, np.abs(folded).max((1, 2, 3)) / 3 * factor, rtol=1e-5)
        assert scale.dtype == np.float32


@pytest.mark.parametrize("place", [5, 6, 7])
def test_statistics_and_scales_that_others_read_stay(place: int) -> None:
    graph, x = with_statistics()
    layer = graph.find("quant.conv_batch_norm")[0]
    shared = layer.operand(place)
    graph.set_outputs([*graph.outputs, shared] if place < 7 else graph.outputs)
    if place == 7:
        graph.set_outputs([*graph.outputs, graph.insert_before(layer).nn.relu(shared)])
    made = reestimate_batchnorm(graph, x)
    kept = [made.constants[layer.operand(i).name].data for i in (5, 6, 7)]
    assert all(np.array_equal(a, layer.operand(i).data) for a, i in zip(kept, (5, 6, 7), strict=True))
    other = graph.find("quant.conv_batch_norm")[1].operand(6)
    assert not np.array_equal(made.constants[other.name].data, other.data)


def test_a_layer_that_was_measured_anew_keeps_its_activation() -> None:
    x = correlated(8, 2, 5, 5)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(model, torch.from_numpy(x[:2])), "litert"), [x])
    (layer,) = reestimate_batchnorm(graph, x).find("quant.conv_batch_norm")
    assert layer.attrs["activation"] == "relu"


def test_statistics_of_a_graph_without_ranges_are_not_measured() -> None:
    x = correlated(8, 2, 5, 5)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).eval()
    graph = qgraph.prepare(qgraph.trace(model, torch.from_numpy(x[:2])), "litert")
    with pytest.raises(InputError, match="has no ranges yet"):
        reestimate_batchnorm(graph, x)


def test_a_value_that_is_read_again_later_is_still_there() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.conv(x))
            return self.head(y) + y + x

    x = correlated(8, 2, 3, 3)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(Around().eval(), torch.from_numpy(x[:2])), "litert"), [x])
    assert reestimate_batchnorm(graph, x) != graph


# ---- SmoothQuant


NORM = """graph @g level=float (%x: f32[N,4,3]) {{
  const @g: f32[3] = [4.0, 1.0, 0.0], @b: f32[3] = [0.5, -1.0, 0.0]
  const @w: f32[2,3] = [1.0, 0.0, 3.0, -0.25, 0.0, 1.0], @v: f32[2,3] = [0.5, 0.0, 1.0, 0.5, 0.0, 1.0]
{body}
}}"""
PLAIN = """  %1: f32[N,4,3] = nn.layer_norm(%x, @g, @b) {axes=1, eps=0.0} loc(block.norm)
  %2: f32[N,4,2] = nn.linear(%1, @w) loc(block.a)
  %3: f32[N,4,2] = nn.linear(%1, @v) loc(block.b)
  return %2, %3"""


def smoothed(body: str) -> tuple[Graph, Graph, str]:
    """The graph, what it becomes, and what the log says."""
    graph, log = qgraph.parse(NORM.format(body=body)), Log()
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    with logging_to(log):
        made = smooth(graph, x)
    for a, b in zip(*(execute(each, {"x": x}) for each in (graph, made)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    return graph, made, str(log.declined())


def test_channels_of_which_one_side_is_nothing_keep_their_size() -> None:
    graph, made, said = smoothed(PLAIN)
    assert said == "[]" or "smooth" not in said
    (norm,), (first, second) = made.find("nn.layer_norm"), made.find("nn.linear")
    gain, shift = norm.operand(1), norm.operand(2)
    factor = graph.find("nn.layer_norm")[0].operand(1).data[:1] / gain.data[:1]
    assert factor[0] > 1.5
    np.testing.assert_allclose(shift.data, [0.5 / factor[0], -1, 0], rtol=1e-6)
    assert gain.data.tolist()[1:] == [1, 0]  # nothing reads the second, the third is dead
    np.testing.assert_allclose(first.operand(1).data[0], [factor[0], 0, 3], rtol=1e-6)
    np.testing.assert_allclose(second.operand(1).data[0], [0.5 * factor[0], 0, 1], rtol=1e-6)
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    seen = np.abs(values(graph, x)[graph.nodes[0].result]).reshape(-1, 3).max(0)
    assert factor[0] == pytest.approx(np.sqrt(seen[0] / 1.0))  # the larger weight of both layers
    assert {value.data.dtype for value in made.constants.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("axes=1", "axes=2").replace("@g, @b", "@g2, @b2"), "over more than the channels"),
        (lambda text: text.replace("return %2", "return %1, %2"), "its result is returned, or read by others"),
        (lambda text: text.replace("%2: f32[N,4,2] = nn.linear(%1, @w)", "%2: f32[N,4,3] = nn.tanh(%1)"), "read by"),
        (lambda text: text.replace("@v", "@w"), "a weight is computed, or shared"),
        (lambda text: text.replace("return %2, %3", "return %2, %3, @w"), "a weight is computed, or shared"),
        (lambda text: text.replace("return %2, %3", "return %2, %3, @b"), "a gain or shift is computed, or shared"),
        (lambda text: text.replace("return %2, %3", "return %2, %3, @g"), "is computed, or shared"),
    ],
)
def test_what_is_not_smoothed_stays_and_the_log_says_why(change: Callable[[str], str], reason: str) -> None:
    body = change(PLAIN)
    if "@g2" in body:
        rows = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"
        body = f"  const @g2: f32[4,3] = {rows}, @b2: f32[4,3] = {rows}\n{body}"
    graph, made, said = smoothed(body)
    assert made == graph
    assert reason in said


def test_a_gain_that_there_was_not_is_named_after_the_normalization() -> None:
    body = """  %1: f32[N,4,3] = nn.rms_norm(%x) {axes=1, eps=0.0} loc(block.norm)
  %2: f32[N,4,2] = nn.linear(%1, @w)
  return %2"""
    _, made, _ = smoothed(body)
    assert made.find("nn.rms_norm")[0].operand(1).name.startswith("block.norm.weight")
    _, made, _ = smoothed(body.replace(" loc(block.norm)", ""))
    assert made.find("nn.rms_norm")[0].operand(1).name.startswith("nn.rms_norm.weight")


def test_a_normalization_that_nothing_reads_is_left() -> None:
    _, _, said = smoothed("  %1: f32[N,4,3] = nn.layer_norm(%x, @g, @b) {axes=1, eps=0.0}\n  return %x")
    assert "its result is returned, or read by others than linear layers" in said


def test_methods_before_preparing_are_given_examples_where_one_of_them_wants_some() -> None:
    graph = qgraph.parse(NORM.format(body=PLAIN))
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    made = before_preparing(graph, [x], check_methods("equalize,smooth"), check=False)
    assert made.find("nn.layer_norm")[0].operand(1).name != "g"
    assert before_preparing(graph, iter([]), check_methods("equalize"), check=False) == graph


# ---- recipes


def test_a_recipe_says_its_quantizers_and_methods() -> None:
    assert str(Recipe()) == "the target's own quantizers"
    assert str(Recipe(("a", "b"))) == "a,b"
    assert str(Recipe((), {"activation": "mse"})) == "activation=mse"
    assert str(Recipe(("a",), {"activation": "mse", "weight": "x"})) == "activation=mse weight=x a"


def test_the_record_is_a_table_that_ends_with_the_verdict() -> None:
    graph = qgraph.parse("graph @g level=float (%x: f32[N]) {\n  %1: f32[N] = nn.relu(%x)\n  return %1\n}")
    best = Trial(Recipe(("gptq",)), 12.5, 1.26, "9 is below 12")
    out = Trial(Recipe(("smooth",)), None, 0.04, "left out: smooth finds nothing to do")
    lines = str(Tried(graph, graph, best, 12.5, (out, best))).splitlines()
    assert lines == [
        "recipe       score   seconds  why",
        "smooth                   0.0  left out: smooth finds nothing to do",
        "gptq          12.5       1.3  9 is below 12",
        "gptq reaches the goal of 12.5: 12.5",
    ]
    below = Tried(graph, graph, best, 12.6, (out, best))
    assert str(below).splitlines()[-1] == "gptq is the best, and stays below the goal of 12.6: 12.5"
    assert not below.reached
    assert Tried(graph, graph, best, 12.5, ()).reached
    assert not Tried(graph, graph, out, -1e9, ()).reached


X = correlated(16, 4)


def linear() -> Graph:
    torch.manual_seed(0)
    return qgraph.trace(nn.Linear(4, 3), torch.from_numpy(X[:2]))


def tried(scores: list[float], goal: float, recipes: list[Recipe]) -> Tried:
    left = iter(scores)
    return auto(linear(), "litert", calibration=iter([X]), evaluate=lambda _: next(left), goal=goal, recipes=recipes)


def test_trials_end_with_the_first_that_is_good_enough_and_of_equals_the_cheapest_is_the_best() -> None:
    plain, again = Recipe(), Recipe((), {"activation": "mse"})
    found = tried([5.0, 5.0, 4.0], 6.0, [plain, again, Recipe(("gptq",))])
    assert found.best is found.trials[0]
    assert [trial.why for trial in found.trials] == ["the cheapest", "5 is below 6", "5 is below 6"]
    assert all(0 <= trial.seconds < 600 for trial in found.trials)
    found = tried([5.0, 6.0], 6.0, [plain, again, Recipe(("gptq",))])
    assert (found.best, len(found.trials)) == (found.trials[1], 2)
    assert found.reached


def test_a_method_with_nothing_to_do_is_left_out_before_and_after_preparing() -> None:
    recipes = [Recipe(("smooth", "gptq")), Recipe(("batchnorm", "gptq")), Recipe(("gptq", "bias-correction"))]
    found = tried([1.0], 9.0, recipes)
    assert [trial.why for trial in found.trials] == [
        "left out: smooth finds nothing to do",
        "left out: batchnorm finds nothing to do",
        "the cheapest",
    ]
    wanted = qgraph.calibrate(qgraph.prepare(linear(), "litert"), [X])
    wanted = improved(wanted, [X], check_methods("gptq,bias-correction"))
    assert found.graph == wanted
    assert all(0 <= trial.seconds < 600 for trial in found.trials)
    only = tried([1.0], 9.0, [Recipe(("gptq",))])
    assert only.graph == improved(qgraph.calibrate(qgraph.prepare(linear(), "litert"), [X]), [X], check_methods("gptq"))


def test_recipes_that_begin_alike_are_calibrated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Mapping[str, str]] = []
    prepare = module.pipeline.prepare

    def counted(*given: Any, observers: Mapping[str, str], **words: Any) -> Graph:
        calls.append(observers)
        return prepare(*given, observers=observers, **words)

    monkeypatch.setattr(module.pipeline, "prepare", counted)
    made, squares = _Made(linear(), "litert", None, {}), {"activation": "mse"}
    for recipe in (Recipe(), Recipe(("gptq",)), Recipe((), squares), Recipe(("bias-correction",), squares)):
        made.improved(recipe, [X])
    assert calls == [{}, squares]
    assert len(made.calibrated) == 2


def test_quantizers_that_a_target_fixes_are_not_asked_for() -> None:
    squares = {"activation": "mse", "weight": "mse"}
    assert _Made(linear(), "litert", None, {})._fitting(squares) == squares
    assert _Made(linear(), "onnxruntime", None, {})._fitting(squares) == {"activation": "mse"}
    per_tensor = _Made(linear(), "litert", None, {"weights": "per-tensor", "check": False})
    assert per_tensor._fitting(squares) == squares


def test_decibels_without_an_error_are_finite_and_on_examples_those_of_batches() -> None:
    graph = qgraph.parse("graph @g level=float (%x: f32[N]) {\n  %1: f32[N] = nn.relu(%x)\n  return %1\n}")
    x = np.float32([3, 4])
    assert decibels(graph, x)(graph) == pytest.approx(10 * np.log10(25 / 1e-30))
    assert on_examples(graph, [x[:1], x[1:]])(graph) == pytest.approx(10 * np.log10(25 / 1e-30))
    doubled = qgraph.parse("graph @g level=float (%x: f32[N]) {\n  %1: f32[N] = nn.add(%x, %x)\n  return %1\n}")
    assert decibels(graph, x)(doubled) == pytest.approx(0)


def test_methods_are_those_of_the_papers_in_the_order_in_which_they_help() -> None:
    assert [*METHODS] == [
        *("bias-absorption", "equalize", "smooth", "batchnorm", "gptq", "adaround", "brecq", "qdrop"),
        *("mean-correction", "bias-correction"),
    ]
    for name, method in METHODS.items():
        assert sum(map(bool, (method.passes, method.adapt, method.improve))) == 1, name
    with pytest.raises(InputError, match="there is no method 'nothing'") as raised:
        check_methods("gptq,nothing")
    assert "use one of bias-absorption, equalize" in str(raised.value.help)
