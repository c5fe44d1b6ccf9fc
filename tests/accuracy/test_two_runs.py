"""Values of a graph under other ways to quantize, noises, and what is looked at as one, by hand."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph.accuracy import two_runs
from qgraph.accuracy.choices import choices_of
from qgraph.accuracy.losses import loss_of
from qgraph.accuracy.two_runs import (
    Noise,
    TwoRuns,
    Variant,
    decibels,
    difference,
    folded,
    is_parameter,
    joined,
    power,
    with_open_batch,
)
from qgraph.accuracy.units import names_of, units_of
from qgraph.errors import InputError
from qgraph.ir import Array, Graph

NAN, INF = float("nan"), float("inf")


def layers(batch: str = "N", results: str = "%4") -> Graph:
    """y = Q(Q(w) Q(x)), z = -y: x on steps of 1, w = 2.3 on steps of 1, y on steps of 1.5."""
    return qgraph.parse(f"""graph @g level=fake_quant (%x: f32[{batch},1]) {{
  const @w: f32[1,1] = [2.3], @one: f32[1] = [1.0], @z: i32[1] = [0], @s: f32[1] = [1.5]
  %1: f32[{batch},1] = quant.fake_quant(%x, @one, @z) {{type="i8", range=[-9,9]}}
  %2: f32[1,1] = quant.fake_quant(@w, @one, @z) {{type="i8", range=[-7,7]}}
  %3: f32[{batch},1] = nn.linear(%1, %2) {{activation="none"}} loc(layer net.py:3)
  %4: f32[{batch},1] = quant.fake_quant(%3, @s, @z) {{type="i8", range=[-9,9]}}
  return {results}
}}""")


# ---- variants


def test_a_variant_computes_again_only_what_lies_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = layers()
    runs = TwoRuns(graph, np.float32([[1.2], [3]]))
    first, weight, last = graph.find("quant.fake_quant")
    computed: list[str] = []
    kernel = runs._kernel
    monkeypatch.setattr(runs, "_kernel", lambda node, operands: computed.append(node.op) or kernel(node, operands))
    assert runs.outputs(Variant())[0][0].tolist() == [[1.5], [6]]  # 2, 6
    assert computed == []
    assert runs.outputs(Variant(frozenset([last])))[0][0].tolist() == [[2], [6]]
    assert computed == []  # in float there is nothing to compute
    got = runs.outputs(Variant(data={last.operand(1): np.float32([4.0])}))
    assert got[0][0].tolist() == [[0], [8]]  # half to even
    assert computed == ["quant.fake_quant"]
    assert runs.outputs(Variant(frozenset([weight, last])))[0][0].tolist() == [[np.float32(2.3)], [np.float32(2.3) * 3]]
    got = runs.outputs(Variant(attrs={last: {"range": (0, 2)}}))
    assert got[0][0].tolist() == [[1.5], [3]]
    assert last.attrs["range"] == (-9, 9)
    both = Variant(frozenset([first])) | Variant(
        frozenset([weight]), {last: {"range": (0, 2)}}, {last.operand(1): got[0][0]}
    )
    assert both.floats == {first, weight}
    assert both.attrs == {last: {"range": (0, 2)}}
    assert list(both.data) == [last.operand(1)]


def test_one_layer_under_a_variant_reads_what_the_graph_as_it_is_makes() -> None:
    graph = layers()
    runs = TwoRuns(graph, np.float32([[1.2], [3]]))
    first, weight, _ = graph.find("quant.fake_quant")
    (layer,) = graph.find("nn.linear")
    (made,) = runs.result_of(layer, Variant(frozenset([first, weight])))
    assert made.tolist() == [[np.float32(2.3)], [np.float32(2.3) * 3]]  # x on its grid, whatever the variant says
    assert runs.result_of_parameter(weight, Variant()).tolist() == [[2]]
    assert runs.result_of_parameter(weight, Variant(frozenset([weight]))).tolist() == [[np.float32(2.3)]]


def test_own_data_are_those_of_the_float_model_alone() -> None:
    graph = layers()
    weight = graph.find("quant.fake_quant")[1]
    runs = TwoRuns(graph, np.float32([[3]]), {weight.operand(0): np.float32([[10]])})
    assert runs.real[graph.outputs[0]][0].tolist() == [[30]]
    assert runs.rounded[graph.outputs[0]][0].tolist() == [[6]]
    assert runs.outputs(Variant(frozenset([weight])))[0][0].tolist() == [[13.5]]  # 30 is beyond 9 steps of 1.5


def test_a_batch_of_two_is_run_for_each_two_examples() -> None:
    graph = layers("2")
    runs = TwoRuns(graph, np.float32([[1.2], [3], [0], [2]]))
    assert (runs.count, runs.examples) == (2, 4)
    assert joined(runs.rounded[graph.outputs[0]]).tolist() == [[1.5], [6], [0], [4.5]]
    (layer,) = graph.find("nn.linear")
    weight = graph.find("quant.fake_quant")[1]
    assert joined(runs.result_of(layer, Variant(frozenset([weight]))))[3] == np.float32(2.3) * 2
    assert runs.noise().error.shape == (4,)
    unit = list(units_of(graph))[-1]
    whole = TwoRuns(layers(), np.float32([[1.2], [3], [0], [2]]))
    assert loss_of(runs, unit) == loss_of(whole, list(units_of(whole.graph))[-1])


def test_constants_among_the_results_are_no_noise() -> None:
    graph = layers(results="%4, @w, %3")
    runs = TwoRuns(graph, np.float32([[1.2]]))
    assert len(runs.outputs(Variant())) == 2
    assert runs.noise().error == pytest.approx([(1.5 - 2.3 * 1.2) ** 2 + (2 - 2.3 * 1.2) ** 2])
    assert runs.noise().signal == pytest.approx([2 * (2.3 * 1.2) ** 2])


# ---- how many examples


def test_so_many_examples_serve_as_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each example there are four values, the weight's included, of four bytes, in both models."""
    graph, x = layers(), np.ones((10, 1), np.float32)
    each = 8 * 4
    for memory, count in ((each * 3, 3), (each * 4 - 1, 3), (each * 10, 10), (0, 1), (1000 * each, 10)):
        monkeypatch.setattr(two_runs, "MEMORY", memory)
        assert TwoRuns(graph, x).examples == count, memory
    monkeypatch.setattr(two_runs, "MEMORY", 0)
    assert TwoRuns(layers("2"), x).examples == 2  # a batch at least
    monkeypatch.setattr(two_runs, "MEMORY", 5 * (8 * 7 // 2))
    assert TwoRuns(layers("2"), x).examples == 4  # whole batches
    assert two_runs._limited(graph, np.ones((0, 1), np.float32))["x"].shape == (0, 1)


# ---- noises


def test_the_noise_of_several_results_is_that_of_each_example_in_all() -> None:
    real = [(np.float32([[3, 4], [0, 1]]),), (np.float32([1, 2]),)]
    got = [(np.float32([[3, 5], [2, 1]]),), (np.float32([1, 5]),)]
    noise = Noise.between(real, got)
    assert noise.signal.tolist() == [25 + 1, 1 + 4]
    assert noise.error.tolist() == [1, 4 + 9]
    assert noise.sqnr_db == pytest.approx(10 * np.log10(31 / 14))


def test_the_standard_error_of_one_example_or_of_none_that_errs_is_not_known() -> None:
    def error(signal: Array, noise: Array) -> float:
        return Noise(np.float64(signal), np.float64(noise)).standard_error_db

    assert np.isnan(error([1], [1]))
    assert np.isnan(error([1, 2], [0, 0]))
    assert np.isnan(error([0, 0], [1, 2]))
    by_hand = np.std([1 / 1.5 - 1 / 2, 2 / 1.5 - 3 / 2], ddof=1) * 10 / np.log(10) / np.sqrt(2)
    assert error([1, 2], [1, 3]) == pytest.approx(by_hand)


def test_decibels_of_nothing_are_infinite() -> None:
    assert decibels(100.0, 1.0) == 20
    assert decibels(1.0, 0.0) == decibels(0.0, 0.0) == INF
    assert decibels(0.0, 1.0) == -INF
    assert decibels(1e300, 1e-300) == INF


def test_equal_infinities_do_not_differ_and_others_differ_without_end() -> None:
    (found,) = difference((np.float32([INF, -INF, INF, NAN, 3]),), (np.float32([INF, INF, 1, 1, 1]),))
    assert found.dtype == np.float64
    assert found.tolist()[:1] == [0]
    assert found.tolist()[4:] == [2]
    assert np.isinf(found[1:4]).all() | (np.abs(found[1:4]) > 1e300).all()


def test_powers_are_sums_over_all_runs() -> None:
    runs = (np.float32([[1, 2]]), np.float32([[3, 0]]))
    assert power(runs) == 14
    assert joined(runs).tolist() == [[1, 2], [3, 0]]
    assert joined((np.float32(3),)).tolist() == [3]
    assert joined((np.float32(3), np.float32(4))).tolist() == [3, 4]
    assert power((np.float32(3), np.float32(4))) == 25
    assert joined(runs[:1]) is runs[0]


# ---- graphs


def test_a_graph_without_ranges_or_of_another_level_is_refused() -> None:
    graph = layers()
    assert [node.op for node in folded(graph).nodes] == [node.op for node in graph.nodes]
    mark = graph.find("quant.fake_quant")[2]
    graph.set_data(mark.operand(1), np.float32([NAN]))
    with pytest.raises(InputError, match="graph g of level fake_quant has no ranges"):
        folded(graph)
    floats = qgraph.parse("graph @h level=float (%x: f32[N]) {\n  %1: f32[N] = nn.relu(%x)\n  return %1\n}")
    with pytest.raises(InputError, match="graph h of level float has no ranges"):
        folded(floats)


def test_a_batch_is_opened_where_the_graph_allows_it() -> None:
    assert with_open_batch(layers("2")).inputs[0].type.shape == ("N", 1)
    open_already = layers("B")
    assert with_open_batch(open_already) is open_already
    fixed = qgraph.parse("""graph @h level=fake_quant (%x: f32[2,3]) {
  %1: f32[6] = nn.reshape(%x) {shape=[6]}
  return %1
}""")
    assert with_open_batch(fixed).inputs[0].type.shape == (2, 3)
    scalar = qgraph.parse("graph @h level=fake_quant (%x: f32[]) {\n  %1: f32[] = nn.relu(%x)\n  return %1\n}")
    assert with_open_batch(scalar) is scalar


def test_parameters_are_constants_and_what_is_fake_quantized_of_them() -> None:
    graph = layers()
    x, w, layer, y = (node.result for node in graph.nodes)
    assert [is_parameter(value) for value in (x, w, layer, y)] == [False, True, False, False]
    assert is_parameter(graph.find("quant.fake_quant")[1].operand(0))
    assert not is_parameter(graph.inputs[0])


# ---- units


SEVERAL = """graph @g level=fake_quant (%a: f32[N,4,2,2], %b: f32[N,3]) {
  const @w: f32[5,3] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], @v: f32[5] = [1, 2, 3, 4, 5]
  const @s: f32[1] = [1.0], @t: f32[1] = [2.0], @z: i32[1] = [0]
  %1: f32[N,4,2,2] = quant.fake_quant(%a, @s, @z) {type="i8", range=[-9,9]}
  %2: f32[N,4,2,2] = quant.fake_quant(%1, @t, @z) {type="i8", range=[-9,9]} loc(cat)
  %3: f32[5,3] = quant.fake_quant(@w, @s, @z) {type="i8", range=[-9,9]}
  %4: f32[5] = quant.fake_quant(@v, @s, @z) {type="i8", range=[-9,9]}
  %5: f32[N,5] = nn.linear(%b, %3, %4) {activation="none"} loc(net.py:7, head net.py:8)
  %6: f32[N,5] = nn.relu(%5) loc(net.py:9)
  %7: f32[N,5] = quant.fake_quant(%6, @t, @z) {type="i8", range=[-9,9]}
  %8: f32[N,5] = nn.tanh(%7) loc(net.py:9)
  %9: f32[N,5] = quant.fake_quant(%8, @t, @z) {type="i8", range=[-9,9]}
  %10: f32[N,5] = nn.sigmoid(%9)
  %11: f32[N,5] = quant.fake_quant(%10, @t, @z) {type="i8", range=[-9,9]}
  return %2, %11
}"""


def test_units_are_inputs_changes_of_grid_and_ops_with_what_belongs_to_them() -> None:
    graph = qgraph.parse(SEVERAL)
    units = list(units_of(graph))
    names, texts = names_of(units, graph.value_names()), graph.value_names()
    assert [(names[unit], unit.op, texts[unit.value], unit.path) for unit in units] == [
        ("a", "input", "%a", ""),
        ("cat", "requantize", "%1", "cat"),
        ("head", "nn.linear", "%5", "head"),
        ("net.py:9 %6", "nn.relu", "%6", ""),
        ("net.py:9 %8", "nn.tanh", "%8", ""),
        ("%10", "nn.sigmoid", "%10", ""),
    ]
    by_name = {names[unit]: unit for unit in units}
    head = by_name["head"]
    assert head.mark is None
    assert [each.operand(0).name for each in head.parameters] == ["w", "v"]
    assert [each.operand(0).name for each in head.weights] == ["w"]  # a bias is none
    assert [unit.weights for unit in units if unit is not head] == [()] * 5
    assert [unit.channel_axis for unit in units] == [1, 1, 1, 1, 1, 1]


def test_channels_are_those_of_the_op_or_the_second_of_images_or_the_last() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%a: f32[N,4,2,3], %b: f32[N,3], %c: f32[3], %d: f32[]) {
  const @s: f32[1] = [1.0], @z: i32[1] = [0]
  %1: f32[N,4,2,3] = quant.fake_quant(%a, @s, @z) {type="i8", range=[-9,9]}
  %2: f32[N,3] = quant.fake_quant(%b, @s, @z) {type="i8", range=[-9,9]}
  %3: f32[3] = quant.fake_quant(%c, @s, @z) {type="i8", range=[-9,9]}
  %4: f32[] = quant.fake_quant(%d, @s, @z) {type="i8", range=[-9,9]}
  return %1, %2, %3, %4
}""")
    assert [unit.channel_axis for unit in units_of(graph)] == [1, 1, 0, 0]


def test_what_is_fake_quantized_twice_is_a_unit_each_time() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,1]) {
  const @s: f32[1] = [1.0], @t: f32[1] = [2.0], @z: i32[1] = [0]
  %1: f32[N,1] = nn.relu(%x)
  %2: f32[N,1] = quant.fake_quant(%1, @s, @z) {type="i8", range=[0,9]}
  %3: f32[N,1] = quant.fake_quant(%1, @t, @z) {type="i8", range=[0,2]}
  return %2, %3
}""")
    first, second = units_of(graph)
    assert (first.mark, second.mark) == tuple(graph.find("quant.fake_quant"))
    assert first.node is second.node


# ---- choices


def choices(
    bits: tuple[int, ...] = (4,), activation_bits: tuple[int, ...] = (8,), text: str = SEVERAL
) -> dict[str, str]:
    graph = qgraph.parse(text.replace("level=", "target=litert level="))
    found = choices_of(graph, bits, activation_bits)
    return {f"{each.name}.{each.word}": " ".join(map(str, each.options)) for each in found}


def test_choices_are_weights_and_grids_that_an_override_can_name() -> None:
    assert choices() == {"head.bits": "4", "cat.activation_bits": "8"}
    assert choices((8, 2, 4, 4), (16, 2, 8)) == {"head.bits": "2 4 8", "cat.activation_bits": "2 8 16"}
    assert choices((4,), ()) == {"head.bits": "4"}
    for bits, activation_bits, message in (
        ((1, 8), (8,), "litert has no bits=1"),
        ((9,), (8,), "litert has no bits=9"),
        ((8,), (1,), "litert has no activation_bits=1"),
        ((8,), (9,), "litert has no activation_bits=9"),
    ):
        with pytest.raises(InputError, match=message):
            choices(bits, activation_bits)


def test_a_grid_that_an_op_always_has_is_no_choice() -> None:
    fixed = SEVERAL.replace("range=[-9,9]} loc(cat)", 'range=[-9,9], observer="fixed"} loc(cat)')
    # it is shared with %7, %9 and %11, which are not fixed
    assert "cat.activation_bits" in choices(text=fixed)
    alone = fixed.replace("@t: f32[1] = [2.0]", "@t: f32[1] = [2.0], @u: f32[1] = [2.0]").replace("(%1, @t", "(%1, @u")
    assert "cat.activation_bits" not in choices(text=alone)


def test_layers_that_share_a_weight_or_a_grid_are_one_choice() -> None:
    text = """graph @g level=fake_quant (%x: f32[N,3]) {
  const @w: f32[3,3] = [1, 2, 3, 4, 5, 6, 7, 8, 9], @s: f32[1] = [1.0], @t: f32[1] = [2.0], @z: i32[1] = [0]
  %1: f32[N,3] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-9,9]}
  %2: f32[3,3] = quant.fake_quant(@w, @s, @z) {type="i8", range=[-9,9]}
  %3: f32[N,3] = nn.linear(%1, %2) {activation="none"} loc(a)
  %4: f32[N,3] = quant.fake_quant(%3, @t, @z) {type="i8", range=[-9,9]}
  %5: f32[N,3] = nn.linear(%4, %2) {activation="none"} loc(b)
  %6: f32[N,3] = quant.fake_quant(%5, @t, @z) {type="i8", range=[-9,9]}
  return %6
}"""
    weights, grids = choices_of(qgraph.parse(text.replace("level=", "target=litert level=")), (4,), (8,))
    assert (weights.paths, weights.elements, weights.macs, weights.op) == (("a", "b"), 9, 18, "nn.linear")
    assert weights.reads == [grids]  # b reads what a writes
    assert (grids.paths, len(grids.marks), grids.elements, grids.macs) == (("a", "b"), 2, 0, 0)
    graph = qgraph.parse(text.replace("level=", "target=litert level="))
    weights, grids = choices_of(graph, (4,), (8,))
    runs = TwoRuns(graph, np.float32([[1, 1, 1], [-1, 0, 0]]))
    seen = [runs.real[mark.operand(0)][0] for mark in grids.marks]
    low, high = min(each.min() for each in seen), max(each.max() for each in seen)
    variant = grids.variant(runs, 8)
    scale, zero = (variant.data[grids.marks[0].operand(i)] for i in (1, 2))
    assert scale == pytest.approx((high - low) / 255)
    assert zero == [np.rint(-128 - low / scale[0])]
    variant = weights.variant(runs, 4)
    assert variant.data[weights.marks[0].operand(1)] == pytest.approx(9 / 7)
