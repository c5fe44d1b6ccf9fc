"""The driver of lowering on graphs of a few nodes: constants, names, errors, clamps and floats, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import qgraph
from qgraph.errors import LoweringError
from qgraph.ir import Graph, QuantParams, TensorType, set_states
from qgraph.targets import get
from qgraph.targets.correspondence import Refusal, Weight
from qgraph.targets.lowering import Lowering, QuantizedWeight, _not_plain, is_read_both_ways

HEAD = """graph @g level=fake_quant target=TARGET (INPUTS) {
  const @s: f32[1] = 0.5, @t: f32[1] = 0.25, @z: i32[1] = 3, @zero: i32[1] = 0, @k: f32[4] = [0.3, -1.0, 99.0, -99.0]
  const @w: f32[2,4] = [0.25, 0.5, -0.5, 9.0, 0.0, -0.25, 0.4, 0.2], @b: f32[2] = [0.5, -0.25]
  const @ws: f32[2] = [0.25, 0.125], @wz: i32[2] = [0, 0]
"""
X = "  %1: f32[N,4] = quant.fake_quant(%x, @s, @z)\n"
W = "  %2: f32[2,4] = quant.fake_quant(@w, @ws, @wz) {range=[-127,127], axis=0, symmetric=true}\n"
LINEAR = X + W + "  %3: f32[N,2] = nn.linear(%1, %2, @b)\n"
ROUNDED = "  %3: f32[N,4] = quant.fake_quant(%2, @s, @z)\n"
LAST = "  %4: f32[N,2] = quant.fake_quant(%3, @t, @z)\n"


def graph_of(body: str, inputs: str = "%x: f32[N,4]", target: str = "litert") -> Graph:
    return qgraph.parse(HEAD.replace("INPUTS", inputs).replace("TARGET", target) + body + "}")


def lowered(body: str, io: str = "integer", fallback: str = "", **words: str) -> Graph:
    graph = graph_of(body, **words)
    lowering = Lowering(graph, get(graph.target), io, fallback=fallback)
    lowering.run()
    return lowering.graph


def refused(body: str, **words: str) -> str:
    with pytest.raises(LoweringError) as caught:
        lowered(body, **words)
    return str(caught.value)


def constants(graph: Graph) -> dict[str, list[object]]:
    return {name: value.data.tolist() for name, value in graph.constants.items()}


# ---- constants


def test_weights_and_biases_are_integers_in_steps_of_their_scales() -> None:
    graph = lowered(LINEAR + LAST + "  return %4\n")
    assert constants(graph) == {
        "w": [[1, 2, -2, 36], [0, -2, 3, 2]],
        "b": [4, -4],  # 0.5 / (0.5 * 0.25), -0.25 / (0.5 * 0.125)
    }
    assert graph.constants["w"].type.quant == QuantParams.of([0.25, 0.125], [0, 0], 0)
    assert graph.constants["b"].type.quant == QuantParams.of([0.125, 0.0625], [0, 0], 0)
    assert [value.type.dtype for value in graph.constants.values()] == ["i8", "i32"]
    assert graph.outputs[0].type == TensorType(("N", 2), "i8", QuantParams.of(0.25, 3))


def test_a_bias_beside_16_bits_is_as_wide_as_the_target_has_it() -> None:
    wide = '{type="i16", range=[-32768,32767], symmetric=true}'
    body = (
        (LINEAR + LAST)
        .replace("(%x, @s, @z)", f"(%x, @s, @zero) {wide}")
        .replace("(%3, @t, @z)", f"(%3, @t, @zero) {wide}")
    )
    graph = lowered(body + "  return %4\n")
    assert graph.constants["b"].type.dtype == get("litert").wide_bias["i16"] == "i64"
    assert constants(graph)["b"] == [4, -4]


def test_a_constant_among_activations_is_rounded_and_has_as_many_dimensions_as_the_result() -> None:
    body = X + "  %2: f32[4] = quant.fake_quant(@k, @s, @z)\n  %3: f32[N,4] = nn.add(%1, %2)\n"
    graph = lowered(body + "  %4: f32[N,4] = quant.fake_quant(%3, @s, @z)\n  return %4\n")
    assert constants(graph) == {"k": [[4, 1, 127, -128]]}
    assert graph.constants["k"].type.quant == QuantParams.of(0.5, 3)


def test_parameters_that_are_not_rounded_constants_are_refused_by_what_they_are() -> None:
    operand = refused(X + "  %2: f32[N,4] = nn.add(%1, @k)\n" + ROUNDED + "  return %3\n")
    assert operand.startswith("operand @k: f32[4] of nn.add is neither computed from an input nor fake-quantized")
    plain = refused((LINEAR + LAST).replace("(%1, %2, @b)", "(%1, @w, @b)") + "  return %4\n")
    assert plain.startswith("litert needs a constant, fake-quantized weight for nn.linear")
    computed = "  %v: f32[2,4] = nn.reshape(%1) {shape=[2,4]}\n  %5: f32[2,4] = quant.fake_quant(%v, @s, @z)\n"
    said = refused(
        (X + computed + "  %3: f32[2,2] = nn.linear(%1, %5)\n" + LAST + "  return %4\n").replace("N,", "2,"),
        inputs="%x: f32[2,4]",
    )
    assert "litert needs a constant, fake-quantized weight for nn.linear" in said
    bias = "  %c: f32[2] = nn.relu(%y)\n  %3: f32[N,2] = nn.linear(%1, %2, %c)\n"
    inputs = "%x: f32[N,4], %y: f32[2]"
    body = X + W + "  %6: f32[2] = quant.fake_quant(%y, @s, @z)\n" + bias.replace("%y", "%6") + LAST + "  return %4\n"
    assert "litert needs a constant bias for nn.linear" in refused(body, inputs=inputs)


@pytest.mark.parametrize(
    ("x_scale", "scales", "span"),
    [
        (1e-8, [1e-30, 1.0], "1e-38 to 1e-08"),
        (1e-8, [1e-32, 1e-31], "1e-40 to 1e-39"),
        (10.0, [1.0, 1e38], "10 to inf"),
        (1.0, [1.0, 2.0], ""),
    ],
)
def test_steps_of_a_bias_are_normal_numbers_of_float32(x_scale: float, scales: list[float], span: str) -> None:
    lowering = Lowering(graph_of(LINEAR + LAST + "  return %4\n"), get("litert"), "integer")
    weight = QuantizedWeight(np.ones((2, 4), np.int8), QuantParams.of(scales, [0, 0], 0), "w")
    x = lowering.graph.add_input("x", TensorType(("N", 4), "i8", QuantParams.of(x_scale, 0)))
    bias = np.float32([1, 1])
    if not span:
        assert lowering.bias_constant(lowering.source.nodes[2], bias, weight, x, "b").data.tolist() == [1, 0]
        return
    with pytest.raises(LoweringError, match="outside float32's normal range") as caught:
        lowering.bias_constant(lowering.source.nodes[2], bias, weight, x, "b")
    assert span in caught.value.what
    assert caught.value.help == "calibrate with data that are like those in use"


def test_a_weights_rows_are_those_of_its_output_channels_wherever_they_lie() -> None:
    data = np.arange(6, dtype=np.int8).reshape(2, 3, 1)
    rows = QuantizedWeight(data, QuantParams.of(1.0, 0), "w").by_channel
    assert rows.tolist() == [[0, 1, 2], [3, 4, 5]]
    columns = QuantizedWeight(data, QuantParams.of(1.0, 0), "w", channels=1).by_channel
    assert columns.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_weight_is_written_in_the_order_that_the_target_wants() -> None:
    lowering = Lowering(graph_of(LINEAR + LAST + "  return %4\n"), get("litert"), "integer")
    data = np.arange(6, dtype=np.int8).reshape(2, 3)
    weight = QuantizedWeight(data, QuantParams.of([1.0, 2.0], [0, 0], 0), "w")
    turned = lowering.weight_constant(weight, Weight(order=(1, 0), axis=1))
    assert turned.data.tolist() == data.T.tolist()
    assert turned.type.quant == QuantParams.of([1.0, 2.0], [0, 0], 1)
    single = lowering.weight_constant(replace(weight, quant=QuantParams.of(1.0, 0)), Weight(axis=1))
    assert single.type.quant == QuantParams.of(1.0, 0)
    assert single.data is not None
    assert single.data.tolist() == data.tolist()


@pytest.mark.parametrize(
    ("number", "fits"), [(2**31 - 1, True), (2**31, False), (-(2**31), True), (-(2**31) - 1, False)]
)
def test_a_constant_of_indices_has_to_fit_into_what_the_target_stores(number: int, fits: bool) -> None:
    body = f"  const @i: i64[1] = [{number}]\n  %1: i64[N] = nn.add(%x, @i)\n  return %1\n"
    if fits:
        (made,) = lowered(body, inputs="%x: i64[N]").constants.values()
        assert (made.data.dtype, made.data.tolist()) == (np.int32, [number])
        return
    said = refused(body, inputs="%x: i64[N]")
    assert f"litert has integers of int32, in which the constant i has no {number}" in said
    body = f"  const @i: i64[3] = [0, {number}, 5]\n  %1: i64[N,3] = nn.add(%x, @i)\n  return %1\n"
    assert f"has no {number}" in refused(body, inputs="%x: i64[N,3]")


# ---- what cannot be lowered


def test_nodes_behind_one_that_cannot_be_lowered_are_not_named_and_others_are() -> None:
    body = X + "  %2: f32[N,4] = nn.hard_sigmoid(%1) loc(first a.py:1)\n  %3: f32[N,4] = quant.fake_quant(%2, @s, @z)\n"
    body += "  %4: f32[N,4] = nn.hard_sigmoid(%3) loc(behind a.py:2)\n  %5: f32[N,4] = nn.relu(%1)\n"
    body += "  %6: f32[N,4] = quant.fake_quant(%5, @s, @z)\n  %7: f32[N,4] = nn.hard_sigmoid(%6) loc(other a.py:3)\n"
    said = refused(body + "  return %4, %7\n")
    assert said.startswith("litert cannot lower 2 nodes")
    assert "first" in said
    assert "other" in said
    assert "behind" not in said


def test_a_node_is_named_as_the_caller_has_it() -> None:
    graph = graph_of(X + "  %2: f32[N,4] = nn.hard_sigmoid(%1) loc(made a.py:1)\n  return %2\n")
    other = graph_of(X + "  %2: f32[N,4] = nn.hard_sigmoid(%1) loc(users b.py:2)\n  return %2\n")
    lowering = Lowering(graph, get("litert"), "integer", {graph.nodes[1]: other.nodes[1]})
    with pytest.raises(LoweringError) as caught:
        lowering.run()
    assert "users  (b.py:2)" in str(caught.value)
    assert "made" not in str(caught.value)


def limited(first: str, second: str) -> Lowering:
    """litert whose two rows for relu refuse scales with these words."""
    target = get("litert")
    row = next(each for each in target.correspondences if each.source == "leaky_relu")
    rows = [replace(row, limits=lambda call: Refusal(first, "help") if first else None)]
    rows += [replace(row, target="litert.relu", attrs={}, limits=lambda call: Refusal(second) if second else None)]
    body = X + "  %2: f32[N,4] = nn.leaky_relu(%1) {negative_slope=0.5}\n" + ROUNDED
    made = replace(target, correspondences=tuple(rows))
    return Lowering(graph_of(body + "  return %3\n"), made, "integer")


def test_the_first_row_that_admits_the_scales_is_taken_or_the_first_ones_refusal_is_said() -> None:
    for words, op in ((("", ""), "leaky_relu"), (("no", ""), "relu")):
        lowering = limited(*words)
        lowering.run()
        assert [node.op for node in lowering.graph.nodes] == [f"litert.{op}"]
    with pytest.raises(LoweringError) as caught:
        limited("one", "two").run()
    assert caught.value.what == "one"
    assert caught.value.help == "help"


def test_limits_of_a_variant_are_asked_too() -> None:
    lowering = limited("", "")
    lowering.target = replace(lowering.target, limits={"litert.leaky_relu": lambda call: Refusal("variant")})
    lowering.run()
    assert [node.op for node in lowering.graph.nodes] == ["litert.relu"]


# ---- inputs, outputs, states


def test_an_input_that_nothing_reads_stays_a_float_and_one_that_is_not_rounded_is_refused() -> None:
    graph = lowered(X + "  return %1\n", inputs="%x: f32[N,4], %y: f32[N,2]")
    assert [value.type.dtype for value in graph.inputs] == ["i8", "f32"]
    for body in (X + "  return %1, %y\n", X + "  %2: f32[N,2] = nn.relu(%y)\n  return %1, %2\n"):
        assert "input %y is not fake-quantized" in refused(body, inputs="%x: f32[N,4], %y: f32[N,2]")


@pytest.mark.parametrize("io", ["integer", "float"])
def test_inputs_and_outputs_are_integers_or_floats_as_asked(io: str) -> None:
    graph = lowered(X + "  return %1\n", io=io)
    ops = [] if io == "integer" else ["litert.quantize", "litert.dequantize"]
    assert [node.op for node in graph.nodes] == ops
    assert graph.metadata["io"] == io
    assert graph.metadata["target"] == "litert"
    ids = lowered("  %1: i64[N] = nn.add(%i, %i)\n  return %1\n", inputs="%i: i64[N]", io=io)
    assert [value.type.dtype for value in (*ids.inputs, *ids.outputs)] == ["i32", "i32"]


def test_states_that_the_runtime_keeps_are_integers_and_have_to_stay_of_one_type() -> None:
    body = X + "  %2: f32[N,4] = quant.fake_quant(%h, @s, @z)\n  %3: f32[N,4] = nn.add(%1, %2)\n"
    body += "  %4: f32[N,4] = quant.fake_quant(%3, SCALE, @z)\n  return %4, h_next=%4\n"
    for scale, wrong in (("@s", False), ("@t", True)):
        graph = graph_of(body.replace("SCALE", scale), inputs="%x: f32[N,4], %h: f32[N,4]")
        set_states(graph, {"h": 1})
        lowering = Lowering(graph, get("tflm"), "float")
        if wrong:
            with pytest.raises(LoweringError, match=r"the state %h: .* has i8<0.25:3>.* as its next value") as caught:
                lowering.run()
            assert caught.value.help == "`prepare` gives both one scale; train and calibrate what it gives"
            continue
        lowering.run()
        assert [value.type.dtype for value in lowering.graph.inputs] == ["f32", "i8"]
        assert [value.type.dtype for value in lowering.graph.outputs] == ["f32", "i8"]


def test_names_of_results_that_inputs_have_already_get_a_word_more() -> None:
    graph = lowered(X + "  return %1\n", inputs="%x: f32[N,4]")
    assert graph.output_names == ["output"]
    sums = "  %2: f32[N,4] = nn.add(%1, %1)\n  %3: f32[N,4] = quant.fake_quant(%2, @s, @z)\n"
    graph = lowered((X + sums).replace("%x", "%output") + "  return %3\n", inputs="%output: f32[N,4]")
    assert graph.output_names == ["output"]
    assert graph.outputs[0].name == "output.output"
    graph = lowered(X + sums + "  return %3, %3\n")
    assert graph.output_names == ["output_0", "output_1"]
    assert graph.outputs[0].name == "output_0"


# ---- codes, and floats


def test_a_result_of_fewer_codes_is_clamped_once() -> None:
    body = "  %1: f32[N,4] = quant.fake_quant(%x, @s, @z) {range=[-8,7]}\n"
    once = lowered(body + "  return %1\n")
    assert [node.op for node in once.nodes] == [node.op for node in lowered(body + CLAMPED[0]).nodes]
    ops = [node.op for node in lowered(body + CLAMPED[1]).nodes]
    assert len(ops) == 2 * len(once.nodes)  # to fewer still
    whole = lowered("  %1: f32[N,4] = quant.fake_quant(%x, @s, @z) {range=[-128,127]}\n  return %1\n")
    assert not whole.nodes


CLAMPED = [
    "  %2: f32[N,4] = quant.fake_quant(%1, @s, @z) {range=[-8,7]}\n  return %2\n",
    "  %2: f32[N,4] = quant.fake_quant(%1, @s, @z) {range=[-8,6]}\n  return %2\n",
]


def test_what_lies_on_another_grid_is_requantized_and_what_lies_on_it_is_not() -> None:
    for scale, ops in (("@s", []), ("@t", ["litert.quantize"])):
        graph = lowered(X + f"  %2: f32[N,4] = quant.fake_quant(%1, {scale}, @z)\n  return %2\n")
        assert [node.op for node in graph.nodes] == ops


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_that_stays_in_float_has_its_weights_as_they_are_rounded(bias: bool) -> None:
    body = LINEAR if bias else LINEAR.replace(", @b)", ")")
    graph = lowered(body + "  return %3\n", fallback="float", io="float")
    assert [node.op for node in graph.nodes][:2] == ["litert.quantize", "litert.dequantize"]
    found = constants(graph)
    assert found["w"] == [[0.25, 0.5, -0.5, 9.0], [0.0, -0.25, 0.375, 0.25]]
    biases = {name: data for name, data in found.items() if name != "w"}
    assert biases in ([{"b": [0.5, -0.25]}] if bias else [{}, {"w.bias": [0.0, 0.0]}])
    assert {value.type.dtype for value in (*graph.constants.values(), graph.outputs[0])} == {"f32"}


def test_integers_are_dequantized_once_for_all_that_stays_in_float() -> None:
    body = X + "  %2: f32[N,4] = nn.exp(%1)\n  %3: f32[N,4] = nn.sqrt(%1)\n  return %2, %3\n"
    graph = lowered(body, fallback="float")
    assert [node.op for node in graph.nodes].count("litert.dequantize") == 1
    assert [value.type.dtype for value in graph.outputs] == ["f32", "f32"]


def test_a_value_is_read_both_ways_where_some_read_its_codes_and_some_itself() -> None:
    graph = graph_of(
        X + "  %2: f32[N,4] = nn.relu(%1)\n  %3: f32[N,4] = quant.fake_quant(%2, @s, @z)\n"
        "  %4: f32[N,4] = nn.tanh(%2)\n  %5: f32[N,4] = nn.tanh(%4)\n  return %3, %5\n"
    )
    x, relu, codes, tanh, last = (node.result for node in graph.nodes)
    assert [is_read_both_ways(value) for value in (x, relu, codes, tanh, last)] == [False, True, False, False, False]


def test_an_op_of_floats_alone_makes_no_indices() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[N,4]) {
      %1: i64[N,4] = nn.cast(%x) {dtype="i64"}
      return %1
    }""")
    (node,) = graph.nodes
    assert _not_plain("litert.max_pool_2d", node, get("litert")) == "litert has nn.cast of floats, not of i64"
    assert _not_plain("litert.cast", node, get("litert")) == ""
