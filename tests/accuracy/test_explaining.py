"""The parts of `explain`, one by one: examples, classes, the order of what to try, notes, where floats come from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.accuracy import explaining, methods, reference
from qgraph.accuracy.explaining import explain
from qgraph.accuracy.explanation import Try
from qgraph.accuracy.methods import method_tries
from qgraph.accuracy.reference import _last as last
from qgraph.accuracy.reference import as_floats, float_data, looked_at, missing, rules_of
from qgraph.accuracy.trials import Trial
from qgraph.accuracy.two_runs import AS_IT_IS, TwoRuns
from qgraph.accuracy.units import units_of
from qgraph.errors import InputError
from qgraph.ir import Array, Graph
from tests.accuracy.planted import calibrated, examples, network

GRID = """graph @g level=fake_quant (%x: f32[N,3]) {
  const @s: f32[1] = [0.5], @z: i32[1] = [0]
  %1: f32[N,3] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-2,2]}
  return %1
}"""


# ---- examples and classes


def test_labels_are_one_whole_number_for_each_example() -> None:
    graph, x = qgraph.parse(GRID), np.float32([[1, 0, 0], [0, 1, 0]])
    assert [each.label for each in explain(graph, x, labels=[1, 0, 2], tried=0).classes] == [0, 1]  # more are left out
    for labels in ([0], [0.0, 1.0], [[0], [1]], ["a", "b"]):
        with pytest.raises(InputError, match="are not one integer for each of 2 examples"):
            explain(graph, x, labels=np.array(labels), tried=0)
    assert explain(graph, x, labels=np.uint8([0, 1]), tried=0).classes


def test_without_labels_or_numbers_for_classes_there_are_no_answers() -> None:
    x = np.float32([[1, 0, 0.1], [9, 1, 0]])
    found = explain(qgraph.parse(GRID), x, tried=0)
    assert found.classes == ()
    assert [(each.number, each.label, each.answer, each.real_answer) for each in found.samples] == [
        (1, None, None, None),
        (0, None, None, None),
    ]
    images = qgraph.parse(GRID.replace("[N,3]", "[N,3,1,1]"))
    found = explain(images, x.reshape(2, 3, 1, 1), labels=[0, 1], tried=0)
    assert found.classes == ()
    assert [(each.label, each.answer) for each in found.samples] == [(1, None), (0, None)]


def test_examples_with_another_answer_come_first_then_those_with_more_noise() -> None:
    x = np.float32([[1, 0, 0], [1, 0.1, 0], [0.9, 0, 3], [0.9, 0.2, 0]])
    found = explain(qgraph.parse(GRID), x, labels=[0, 0, 2, 1], tried=0)
    assert [each.number for each in found.samples] == [2, 3, 1, 0]
    assert [(each.real_answer, each.answer) for each in found.samples] == [(2, 0), (0, 0), (0, 0), (0, 0)]
    sqnr = {each.number: each.sqnr_db for each in found.samples}
    assert sqnr[0] == np.inf
    assert sqnr[1] == pytest.approx(10 * np.log10(1.01 / 0.01), abs=1e-4)


def test_classes_are_ordered_by_the_share_that_is_lost_then_by_what_is_right() -> None:
    labels = np.array([0] * 4 + [1] * 2 + [2] * 2 + [3] * 2)
    real = np.array([0, 0, 0, 0, 1, 1, 2, 0, 0, 0])
    got = np.array([0, 0, 0, 1, 1, 0, 2, 0, 3, 0])
    found = explaining._classes(labels, real, got)
    assert [(each.label, each.count, each.real_right, each.right) for each in found] == [
        (1, 2, 2, 1),
        (0, 4, 4, 3),
        (2, 2, 1, 1),
        (3, 2, 0, 1),
    ]
    equal = explaining._classes(labels, labels, np.array([0, 0, 9, 9, 1, 9, 2, 9, 3, 9]))
    assert [each.label for each in equal] == [0, 1, 2, 3]
    less = explaining._classes(labels, real := np.array([0, 0, 0, 9, 1, 1, 2, 9, 9, 9]), real)
    assert [each.label for each in less] == [3, 2, 0, 1]


# ---- what to try


def tried(monkeypatch: pytest.MonkeyPatch, gains: list[tuple[int, float]], of_methods: tuple[float, ...] = ()) -> Any:
    """The order in which changes of these costs and gains are listed."""
    variants = {f"t{i}": object() for i in range(len(gains))}
    noises = {id(each): gain for each, (_, gain) in zip(variants.values(), gains, strict=True)}
    made = [Trial(what, "how", each, cost) for (what, each), (cost, _) in zip(variants.items(), gains, strict=True)]  # type: ignore[arg-type]
    monkeypatch.setattr(explaining, "trials_of", lambda runs, unit, rules: made)
    monkeypatch.setattr(explaining, "method_tries", lambda runs: [Try("all", f"m{g}", "", g) for g in of_methods])
    runs = SimpleNamespace(
        graph=qgraph.parse(GRID), noise=lambda variant: SimpleNamespace(sqnr_db=10 + noises[id(variant)])
    )
    (unit,) = units_of(runs.graph)
    return [each.what for each in explaining._tries(runs, {unit: "x"}, None, 10.0)]  # type: ignore[arg-type]


def test_of_what_gains_about_the_same_the_cheapest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, [(0, 1.0), (0, 3.0), (0, 2.0)]) == ["t1", "t2", "t0"]
    assert tried(monkeypatch, [(3, 10.0), (1, 9.01), (0, 8.99)]) == ["t1", "t0", "t2"]  # a tenth less is about the same
    assert tried(monkeypatch, [(3, 0.5), (1, 0.41), (0, 0.39)]) == ["t1", "t0", "t2"]  # or a tenth of a dB
    assert tried(monkeypatch, [(1, 10.0), (1, 10.5), (1, 9.5)]) == ["t1", "t0", "t2"]  # of one cost what gains more
    assert tried(monkeypatch, [(0, 0.099), (0, 0.1001), (0, -3.0)]) == ["t1"]
    assert tried(monkeypatch, [(1, 10.0), (3, 10.2)], (10.1, 0.05)) == ["t0", "m10.1", "t1"]  # a method costs 2
    assert tried(monkeypatch, []) == []


def test_methods_are_tried_only_where_nodes_are() -> None:
    x = examples(12)
    graph = calibrated(network(), x, "litert", overrides={"*": {"bits": 4}})
    assert any("ptq" in each.how for each in explain(graph, x).tries)
    none = explain(graph, x, tried=0)
    assert none.tries == ()
    assert all(each.gain_db is None and each.alone_db is None for each in none.nodes)
    two = explain(graph, x, tried=2)
    assert [each.gain_db is None for each in two.nodes] == [False] * 2 + [True] * (len(two.nodes) - 2)
    assert two.nodes[0].alone_db is not None
    assert two.nodes[1].alone_db is not None
    assert two.nodes[0].alone_db <= two.nodes[1].alone_db
    names = [each.name for each in two.nodes]
    errors = {each.name: min(each.loss.own_db, each.loss.channels_db) for each in none.nodes}
    assert names[2:] == sorted(names[2:], key=errors.__getitem__)
    assert {*names[:2]} == {*sorted(errors, key=errors.__getitem__)[:2]}


def test_the_results_with_weights_alone_and_activations_alone_rounded_are_told() -> None:
    x = examples(12)
    graph = calibrated(network(), x, "litert")
    found = explain(graph, x, tried=0)
    real = qgraph.run(qgraph.passes.strip_fake_quant(graph), x)
    for alone, weights in ((found.weights_only_db, True), (found.activations_only_db, False)):
        other = graph.clone()
        for node in [*other.find("quant.fake_quant|quant.fake_quant_bias")]:
            if node.operand(0).is_constant != weights:
                node.replace_with(node.operand(0))
        error = np.square(np.float64(qgraph.run(other, x)) - real).sum()
        assert alone == pytest.approx(10 * np.log10(np.square(np.float64(real)).sum() / error), abs=1e-3)


# ---- methods


def count_of_tries(graph: Graph, x: Array) -> int:
    return len(list(method_tries(TwoRuns(graph, x))))


def test_methods_are_tried_where_they_are_quick_and_tell_something(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    graph = calibrated(nn.Linear(3, 2), x, "litert")
    assert count_of_tries(graph, x) == 2
    assert count_of_tries(graph, x[:7]) == 0  # fewer examples tell nothing of others
    monkeypatch.setattr(methods, "MOST_WEIGHTS", 8)
    constants = [node.operand(0) for node in graph.find("quant.fake_quant") if node.operand(0).is_constant]
    assert sum(value.data.size for value in constants) == 6
    assert count_of_tries(graph, x) == 2
    monkeypatch.setattr(methods, "MOST_WEIGHTS", 6)
    assert count_of_tries(graph, x) == 2
    monkeypatch.setattr(methods, "MOST_WEIGHTS", 5)
    assert count_of_tries(graph, x) == 0
    monkeypatch.undo()
    graph.metadata["raised"] = True
    assert count_of_tries(graph, x) == 0  # its weights are rounded already
    assert count_of_tries(calibrated(nn.Tanh(), x, "litert"), x) == 0  # no weights
    fixed = qgraph.passes.set_batch(calibrated(nn.Linear(3, 2), x, "litert"), size="4")
    assert count_of_tries(fixed, x) == 0  # batches of one size


# ---- where floats come from


def test_rules_are_those_of_the_target_with_the_options_of_the_graph() -> None:
    assert rules_of(qgraph.parse(GRID)) is None
    x = examples(4)
    rules = rules_of(calibrated(network(), x, "litert"))
    assert rules is not None
    assert not rules.by_default
    wide = rules_of(calibrated(network(), x, "litert", activations="i16"))
    assert wide is not None
    assert wide.by_default


def test_integers_and_floats_of_both_layouts_become_floats_with_channels_first() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    low = qgraph.lower(calibrated(nn.Conv2d(3, 2, 3), x, "litert"), "litert")
    made = looked_at(low)
    last = x.transpose(0, 2, 3, 1)
    for given, layout in ((x, None), (x, "NCHW"), (last, None), (last, "NHWC")):
        assert np.array_equal(as_floats(low, made, given, layout)["input"], x)  # type: ignore[arg-type]
    codes = qgraph.quantize_inputs(low, last)["input"]
    type_ = low.inputs[0].type
    assert type_.quant is not None
    real = (codes.astype(np.float32) - type_.quant.zero_point) * type_.quant.scale
    assert np.allclose(as_floats(low, made, codes, None)["input"], real.transpose(0, 3, 1, 2))
    square = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    low = qgraph.lower(calibrated(nn.Conv2d(3, 2, 3), square, "litert"), "litert")
    made = looked_at(low)
    assert np.array_equal(as_floats(low, made, square, "NCHW")["input"], square)
    assert np.array_equal(as_floats(low, made, square, "NHWC")["input"], square.transpose(0, 3, 1, 2))
    codes = qgraph.quantize_inputs(low, square, layout="NHWC")["input"]
    for layout in (None, "NCHW"):  # integers are as the graph takes them, whatever is said of floats
        assert as_floats(low, made, codes, layout)["input"].shape == (2, 3, 3, 3)  # type: ignore[arg-type]
    first, second = (as_floats(low, made, codes, each)["input"] for each in (None, "NHWC"))  # type: ignore[arg-type]
    assert np.array_equal(first, second)


def test_inputs_of_two_dimensions_have_no_layout() -> None:
    x = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    low = qgraph.lower(calibrated(nn.Linear(3, 2), x, "litert"), "litert")
    assert np.array_equal(as_floats(low, looked_at(low), x, None)["input"], x)


def test_a_result_that_cannot_be_negative_has_a_relu_in_what_was_raised() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    made = looked_at(qgraph.lower(calibrated(model, x, "litert"), "litert"))
    assert [node.attrs["activation"] for node in made.find("nn.linear")] == ["relu", "none"]


def test_weights_that_point_elsewhere_are_not_those_of_the_float_graph() -> None:
    assert reference._alike(np.float32([1, 0]), np.float32([1, 1.7]))  # 59.5 degrees
    assert not reference._alike(np.float32([1, 0]), np.float32([1, 1.8]))  # 60.9
    assert reference._alike(np.float32([[3, 4]]), np.float32([[6, 8]]))
    assert reference._alike(np.float32([1, 0]), np.float32([1, np.sqrt(3.0) * (1 - 1e-7)]))
    assert not reference._alike(np.float32([1, 0]), np.float32([-1, 0]))
    assert reference._alike(np.float32([0, 0]), np.float32([1, 0]))


def test_constants_are_found_in_the_float_graph_and_what_is_lacking_is_told() -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    source = qgraph.trace(model, torch.from_numpy(x[:2]))
    made = looked_at(qgraph.lower(calibrated(model, x, "litert"), "litert"))
    found = float_data(made, source)
    assert missing(made, found) == []
    weights = [node.operand(0) for node in made.find("quant.fake_quant") if node.operand(0).is_constant]
    for value, layer in zip(weights, (model[0], model[2]), strict=True):
        assert np.array_equal(found[value], layer.weight.detach().numpy())
    assert len(missing(made, {})) == 2
    with torch.no_grad():
        model[2].weight *= -1
    other = float_data(made, qgraph.trace(model, torch.from_numpy(x[:2])))
    assert missing(made, other) == [weights[1].name]
    low = qgraph.lower(calibrated(model, x, "litert"), "litert")
    with pytest.raises(InputError, match="is of level fake_quant, not float"):
        explain(low, x, reference=made)


def test_notes_name_six_constants_that_were_not_found_and_count_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = qgraph.parse(GRID)
    for count, ending in ((6, "w0, w1, w2, w3, w4, w5"), (7, "w0, w1, w2, w3, w4, w5 and 1 more")):
        names = [f"w{i}" for i in range(count)]
        monkeypatch.setattr(explaining, "missing", lambda made, own, names=names: names)
        assert explaining._notes(graph, graph, {}, True) == [
            f"not found in the float graph, so their own serve: {ending}"
        ]
    assert explaining._notes(graph, graph, {}, False) == []
    integer = qgraph.parse(
        GRID.replace("level=fake_quant", "level=integer")
        .replace("%1: f32[N,3] = q", "// ")
        .replace("return %1", "return %x")
    )
    monkeypatch.setattr(explaining, "missing", lambda made, own: [])
    assert explaining._notes(integer, graph, {}, True) == []
    (note,) = explaining._notes(integer, graph, {}, False)
    assert "give the float graph to see more" in note


def test_noise_as_it_is_is_that_of_the_graph() -> None:
    graph, x = qgraph.parse(GRID), np.float32([[0.6, 0, 0]])
    runs = TwoRuns(graph, x)
    assert runs.noise(AS_IT_IS).error == pytest.approx([0.1**2])
    assert explain(graph, x, tried=0).outputs == {graph.output_names[0]: pytest.approx(10 * np.log10(36), abs=1e-4)}


def test_channels_of_images_go_last() -> None:
    assert last(("N", 2, 3, 4)) == ("N", 3, 4, 2)
    assert last((1, 2, 3)) == (1, 2, 3)
