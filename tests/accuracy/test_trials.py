"""What is tried at a node: the changes, how one asks for them, and the grids that they are, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph import quantizers, targets
from qgraph.accuracy import trials
from qgraph.accuracy.trials import alone, has_16, in_float, on_grid, sharing, trials_of, with_bits, with_weight_bits
from qgraph.accuracy.two_runs import AS_IT_IS, TwoRuns, Variant
from qgraph.accuracy.units import Unit, units_of
from qgraph.ir import Array, Graph
from qgraph.targets.rules import QuantRules

ELSEWHERE = "an option of the target, where it has one (`qgraph targets NAME`)"
X = np.float32([[1, -2], [3, 0.5]])


def layer(
    codes: str, result: str = "-128,127", scales: str = "0.5", attrs: str = "", zero: int = 0, own: bool = True
) -> Graph:
    count = scales.count(",") + 1
    zeros = ", ".join([str(zero)] * count)
    return qgraph.parse(f"""graph @g target=litert level=fake_quant (%x: f32[N,2]) {{
  const @w: f32[2,2] = [1.5, -3.5, 0.5, 0.25], @ws: f32[{count}] = [{scales}], @wz: i32[{count}] = [{zeros}]
  const @s: f32[1] = [0.25], @z: i32[1] = [0], @rs: f32[1] = [0.25], @rz: i32[1] = [0]
  %1: f32[N,2] = quant.fake_quant(%x, @s, @z) {{type="i8", range=[-128,127]}}
  %2: f32[2,2] = quant.fake_quant(@w, @ws, @wz) {{type="i8", range=[{codes}], observer="min_max"{attrs}}}
  %3: f32[N,2] = nn.linear(%1, %2) {{activation="none"}} loc(head.fc)
  %4: f32[N,2] = quant.fake_quant(%3, {"@rs, @rz" if own else "@s, @z"}) {{type="i8", range=[{result}]}}
  return %4
}}""")


def rules(target: str = "litert") -> QuantRules:
    return targets.get(target).quant_rules()


def tried(graph: Graph, of: QuantRules | None = None, place: int = -1) -> dict[str, trials.Trial]:
    unit = list(units_of(graph))[place]
    return {each.what: each for each in trials_of(TwoRuns(graph, X), unit, of)}


def unit_of(graph: Graph, op: str) -> Unit:
    (found,) = (unit for unit in units_of(graph) if unit.op == op)
    return found


def grids(variant: Variant, graph: Graph, mark: int) -> tuple[object, list[float], list[int]]:
    """The codes, scales and zero points that a variant gives a fake-quantization."""
    node = graph.find("quant.fake_quant")[mark]
    scale, zero = (variant.data[node.operand(i)] for i in (1, 2))
    assert scale.dtype == np.float32
    assert zero.dtype == np.int32
    return variant.attrs[node]["range"], scale.tolist(), zero.tolist()


def test_everything_that_may_mend_a_layer_is_tried_in_an_order_of_costs() -> None:
    found = tried(layer("-7,7", "-8,7"), rules())
    assert [(each.what, each.how, each.cost) for each in found.values()] == [
        ("weights of 8 bits", 'overrides={"head.fc": {"bits": 8}}', 3),
        ("weights with a scale per channel", "quantize the float model anew", 2),
        ("scales of the present weights", "quantize the float model anew", 0),
        ("weights by mse", 'observers={"weight": "mse"}', 1),
        ("weights by percentile", 'observers={"weight": "percentile"}', 1),
        ("a range of all that is seen", "calibrate on such examples", 0),
        ("a range by percentile", 'observers={"activation": "percentile"}', 1),
        ("a range by mse", 'observers={"activation": "mse"}', 1),
        ("a result of 8 bits", 'overrides={"head.fc": {"activation_bits": 8}}', 3),
        ("a result of 16 bits", 'overrides={"head.fc": {"activation_bits": 16}}', 4),
    ]


def test_only_what_is_not_there_already_is_tried() -> None:
    graph = layer("-127,127", scales="0.02756, 0.00394", attrs=", axis=0")  # all its codes are used
    assert not {"weights of 8 bits", "weights with a scale per channel", "a result of 8 bits"} & {*tried(graph)}
    assert "a result of 16 bits" not in tried(graph)  # without rules nobody knows
    of_input = [(each.what, each.how) for each in tried(layer("-7,7"), rules(), 0).values()]
    assert of_input[0] == ("a range of all that is seen", "calibrate on such examples")
    assert of_input[-1] == ("a result of 16 bits", ELSEWHERE)
    wide = layer("-7,7", "-32767,32767")
    assert "a result of 16 bits" not in tried(wide, rules())


@pytest.mark.parametrize(("largest", "more"), [(63, True), (64, False)])
def test_weights_of_7_bits_may_have_8(largest: int, more: bool) -> None:
    graph = layer("-127,127", scales=f"{3.5 / largest}")
    assert ("weights of 8 bits" in tried(graph)) == more


def test_a_weight_gets_the_scale_of_its_largest_magnitude() -> None:
    graph = layer("-7,7", scales="0.6")
    found = tried(graph)
    assert grids(found["weights of 8 bits"].variant, graph, 1) == ((-127, 127), [np.float32(3.5 / 127)], [0])
    codes, scale, _ = grids(found["weights with a scale per channel"].variant, graph, 1)
    assert codes == (-6, 6)  # 3.5 is 6 steps of 0.6: so many codes are used
    assert scale == pytest.approx([3.5 / 6, 0.5 / 6])
    assert grids(found["scales of the present weights"].variant, graph, 1)[1] == pytest.approx([3.5 / 6])
    mark = graph.find("quant.fake_quant")[1]
    assert found["weights with a scale per channel"].variant.attrs[mark]["axis"] == 0


def test_a_weight_whose_zero_point_is_not_zero_keeps_it() -> None:
    graph = layer("0,15", scales="0.5", zero=8)
    assert grids(tried(graph)["scales of the present weights"].variant, graph, 1) == ((1, 15), [0.5], [8])
    few = layer("0,100", scales="0.00001", zero=99)  # one step is left above the zero point
    assert grids(tried(few)["scales of the present weights"].variant, few, 1)[0] == (98, 100)
    none = layer("-7,7", scales="100.0")  # no code but 0 is used
    assert grids(tried(none)["scales of the present weights"].variant, none, 1)[0] == (-1, 1)


def test_a_weight_of_n_bits_has_a_symmetric_grid_of_them() -> None:
    graph = layer("-7,7")
    mark = graph.find("quant.fake_quant")[1]
    runs = TwoRuns(graph, X)
    for bits, largest in ((2, 1), (4, 7), (8, 127)):
        codes, scale, _ = grids(with_weight_bits(runs, mark, bits), graph, 1)
        assert (codes, scale) == ((-largest, largest), [np.float32(3.5 / largest)])


def test_scales_that_integers_depend_on_are_not_chosen_by_another_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(quantizers.get("min_max")), "binding", True)
    assert not any(word.startswith("weights by") for word in tried(layer("-7,7")))


def test_a_target_whose_layers_have_one_scale_is_asked_for_more_by_an_option() -> None:
    spec = rules("onnxruntime").ops["nn.linear"].weights["w"]
    found = tried(layer("-7,7"), rules("onnxruntime"))["weights with a scale per channel"]
    assert found.how == (ELSEWHERE if spec.axis is None else "quantize the float model anew")
    single = QuantRules(rules().activation, rules("litert").ops, "half_even")
    assert has_16(unit_of(layer("-7,7"), "nn.linear"), single) is False  # it has none
    one_scale = targets.get("litert").quant_rules()
    changed = {"nn.linear": type(one_scale.ops["nn.linear"])(weights={"w": type(spec)("i8", -127, 127)})}
    few = QuantRules(rules().activation, changed, "half_even")
    assert tried(layer("-7,7"), few)["weights with a scale per channel"].how == ELSEWHERE


def test_ops_without_a_form_of_16_bits_get_none() -> None:
    unit = unit_of(layer("-7,7"), "nn.linear")
    assert has_16(unit, rules())
    rule = type(rules().ops["nn.linear"])(narrow=True)
    narrow = QuantRules(rules().activation, {"nn.linear": rule}, "half_even", wide=rules().wide)
    assert not has_16(unit, narrow)
    assert has_16(unit, QuantRules(rules().activation, {}, "half_even", wide=rules().wide))  # no rule forbids it
    assert not has_16(unit, None)


def test_the_range_of_all_that_is_seen_includes_zero_and_keeps_the_codes() -> None:
    graph = layer("-7,7", "-8,7")  # the largest result is 1 * 1.5 + 2 * 3.5 = 8.5
    found = tried(graph, rules())
    codes, scale, zero = grids(found["a range of all that is seen"].variant, graph, 2)
    assert (codes, zero) == ((-8, 7), [-8])
    assert scale == pytest.approx([8.5 / 15])
    codes, scale, zero = grids(found["a result of 8 bits"].variant, graph, 2)
    assert (codes, zero) == ((-128, 127), [-128])
    assert scale == pytest.approx([8.5 / 255])
    codes, scale, zero = grids(found["a result of 16 bits"].variant, graph, 2)
    assert (codes, zero) == ((-32767, 32767), [0])
    assert scale == pytest.approx([8.5 / 32767])


def test_a_range_by_a_quantizer_is_what_it_asks_for_of_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "SAMPLE", 150)
    x = np.random.default_rng(0).normal(0, 1, (200, 1)).astype(np.float32)
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,1]) {
  const @s: f32[1] = [1.0], @z: i32[1] = [0]
  %1: f32[N,1] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-128,127]}
  return %1
}""")
    found = {each.what: each for each in trials_of(TwoRuns(graph, x), next(units_of(graph)), None)}
    for name in ("percentile", "mse"):
        low, minus_high = quantizers.get(name).seen(torch.from_numpy(x[::2, 0]), None).reshape(-1).tolist()
        _, scale, _ = grids(found[f"a range by {name}"].variant, graph, 0)
        assert scale == pytest.approx([(-minus_high - low) / 255])


def test_a_grid_that_an_op_always_has_is_changed_to_16_bits_only() -> None:
    graph = layer("-7,7", "-8,7")
    graph.find("quant.fake_quant")[2].attrs["observer"] = "fixed"
    assert [word for word in tried(graph, rules()) if not word.startswith(("weights", "scales"))] == [
        "a result of 16 bits"
    ]


@pytest.mark.parametrize(
    ("seen", "scale", "zero"),
    [
        ((-1.0, 1.55), 0.01, -28),
        ((0.5, 2.55), 0.01, -128),  # 0 is part of every grid
        ((-2.55, -1.0), 0.01, 127),
        ((0.0, 0.0), 1.0, -128),  # of nothing the scale is free
    ],
)
def test_a_grid_covers_a_range_and_zero(seen: tuple[float, float], scale: float, zero: int) -> None:
    graph = layer("-7,7")
    marks = [graph.find("quant.fake_quant")[0]]
    made = on_grid(marks, seen, (-128, 127))
    assert grids(made, graph, 0) == ((-128, 127), [np.float32(scale)], [zero])
    assert made.attrs[marks[0]]["rounding"] == "half_even"


def test_a_grid_of_16_bits_is_symmetric_about_the_larger_end() -> None:
    graph = layer("-7,7")
    marks = [graph.find("quant.fake_quant")[0]]
    for seen, end in (((-2.0, 1.0), 2.0), ((-1.0, 3.0), 3.0)):
        codes, scale, zero = grids(with_bits(marks, seen, 16), graph, 0)
        assert (codes, scale, zero) == ((-32767, 32767), [np.float32(2 * end / 65534)], [0])
    assert grids(with_bits(marks, (-8.0, 7.0), 4), graph, 0) == ((-8, 7), [1.0], [0])


def test_in_float_leaves_out_what_shares_the_grid_and_alone_keeps_only_the_units_own() -> None:
    graph = layer("-7,7", own=False)
    first, weight, last = graph.find("quant.fake_quant")
    unit = unit_of(graph, "nn.linear")
    assert in_float(unit).floats == {weight, last, first}  # both activations are on one grid
    assert alone(unit, frozenset((first, weight, last))).floats == {first}
    assert in_float(Unit(unit.node, None, unit.parameters)).floats == {weight}


def test_what_only_moves_in_a_raised_graph_shares_a_grid_by_equal_constants() -> None:
    def moved(scale: float, zero: int, op: str) -> Array:
        graph = qgraph.parse(f"""graph @g level=fake_quant (%x: f32[2,2]) {{
  const @s: f32[1] = [1.0], @z: i32[1] = [0], @t: f32[1] = [{scale}], @u: i32[1] = [{zero}]
  %1: f32[2,2] = quant.fake_quant(%x, @s, @z) {{type="i8", range=[-2,2]}}
  %2: f32[2,2] = {op}
  %3: f32[2,2] = quant.fake_quant(%2, @t, @u) {{type="i8", range=[-2,2]}}
  return %3
}}""")
        return np.asarray(len(sharing(graph.find("quant.fake_quant")[0])))

    transposed = "nn.transpose(%1) {perm=[1,0]}"
    assert moved(1.0, 0, transposed) == 2
    assert moved(2.0, 0, transposed) == 1
    assert moved(1.0, 1, transposed) == 1
    assert moved(1.0, 0, "nn.add(%1, %x)") == 1  # it makes values of its own


def test_what_cannot_be_named_is_asked_for_another_way() -> None:
    graph = layer("-7,7", "-8,7")
    graph.find("nn.linear")[0].origins = ()
    found = tried(graph, rules())["weights of 8 bits"]
    assert found.how == "by an override, once a module path names the node"


def test_what_a_variant_computes_is_what_the_graph_with_that_change_does() -> None:
    graph = layer("-7,7")
    runs = TwoRuns(graph, X)
    found = [each for each in tried(graph, rules()).values() if "per channel" not in each.what]  # more scales
    for trial in found:
        changed = graph.clone()
        pairs = list(zip(graph.find("quant.fake_quant"), changed.find("quant.fake_quant"), strict=True))
        for mark, own in pairs:
            own.attrs.update(trial.variant.attrs.get(mark, {}))
            for i in range(3):
                value = mark.operand(i)
                if value in trial.variant.data:
                    changed.set_data(own.operand(i), trial.variant.data[value])
        ((got,),) = runs.outputs(trial.variant)
        assert np.array_equal(got, qgraph.run(changed, X)), trial.what
    assert runs.noise(AS_IT_IS).sqnr_db == runs.noise().sqnr_db
