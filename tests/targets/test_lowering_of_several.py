"""Lowering of nodes with several results, of states, of origins and words, and of what stays in float or not."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.errors import LoweringError
from qgraph.ir import RESULTS, Graph, set_states
from qgraph.ir.trained import TRAINED
from qgraph.targets import get
from qgraph.targets.lowering import Lowering
from tests.targets.test_lowering_by_hand import LAST, LINEAR, ROUNDED, X, constants, graph_of, lowered

TOPK = "%2: f32[N,2], %3: i64[N,2] = nn.topk(%1) {k=2, axis=1, largest=true}\n"


T = "f32[N,4]"
TANH = f"  %2: {T} = nn.tanh(%1)\n"


def ops(graph: Graph) -> list[str]:
    return [node.op.removeprefix("litert.").removeprefix("ort.") for node in graph.nodes]


# ---- several results


def test_all_results_of_a_node_are_lowered_each_as_what_it_is() -> None:
    graph = lowered(X + "  " + TOPK + "  return %2, %3\n", fallback="float")
    assert [value.type.dtype for value in graph.outputs] in (["i8", "i32"], ["f32", "i32"])
    turned = lowered(X + "  " + TOPK + "  return %3, %2\n", fallback="float")
    assert [value.type.dtype for value in turned.outputs] == [value.type.dtype for value in graph.outputs][::-1]
    rounded = X + "  " + TOPK + "  %4: f32[N,2] = quant.fake_quant(%2, @s, @z)\n  return %4, %3\n"
    assert [value.type.dtype for value in lowered(rounded).outputs] == ["i8", "i32"]


def test_both_results_of_an_op_on_ids_are_ids() -> None:
    body = "  %2: i64[N,2], %3: i64[N,2] = nn.topk(%1) {k=2, axis=1, largest=true}\n  return %2, %3\n"
    graph = lowered(body.replace("%1", "%i"), inputs="%i: i64[N,4]")
    (node,) = [node for node in graph.nodes if "topk" in node.op]
    assert tuple(graph.outputs) == tuple(node.results)
    assert [value.type.shape for value in graph.outputs] == [("N", 2)] * 2


def test_what_is_chosen_by_indices_is_of_the_type_of_what_it_is_chosen_from() -> None:
    body = (
        X + "  %2: f32[N,3] = nn.gather(%1, %i) {axis=1}\n  %3: f32[N,3] = quant.fake_quant(%2, @s, @z)\n  return %3\n"
    )
    graph = lowered(body, inputs="%x: f32[N,4], %i: i64[3]")
    assert ops(graph) == ["gather"]
    assert graph.outputs[0].type.q.scale == (0.5,)
    place = "  const @place: i64[] = 1\n" + X + "  %2: f32[N] = nn.gather(%1, @place) {axis=1}\n"
    graph = lowered(place + "  %3: f32[N] = quant.fake_quant(%2, @s, @z)\n  return %3\n")
    assert graph.constants["place"].type.shape == ()
    assert graph.outputs[0].type.shape == ("N",)


# ---- origins and words


def test_nodes_come_from_where_what_they_are_made_of_came_from() -> None:
    body = f"""  %1: {T} = quant.fake_quant(%x, @s, @z) loc(first a.py:1)
  %2: {T} = nn.tanh(%1) loc(second a.py:2)
  %3: {T} = quant.fake_quant(%2, @t, @zero) loc(third a.py:3)
  %4: {T} = nn.relu(%3) loc(last a.py:4)
  %5: {T} = quant.fake_quant(%4, @t, @zero) loc(behind a.py:5)
  return %5
"""
    graph = lowered(body, io="float")
    origins = {node.op.removeprefix("litert."): node.origins[0].path for node in graph.nodes}
    paths = {op: path for op, path in origins.items() if op != "quantize"}
    assert paths == {"tanh": "second", "relu": "last", "dequantize": "last"}
    assert [node.origins[0].path for node in graph.find("litert.quantize")] == ["first", "second"]
    few = body.replace("@s, @z) loc(first", "@s, @z) {range=[-8,7]} loc(first")
    assert {node.origins[0].path for node in lowered(few).nodes[:2]} == {"first"}


def test_words_of_the_source_go_along_but_for_those_about_training_and_nested_results() -> None:
    graph = graph_of(X + "  return %1\n")
    graph.metadata.update({"mine": "1", RESULTS: "{}", TRAINED: "[]"})
    lowering = Lowering(graph, get("litert"), "integer")
    lowering.run()
    assert lowering.graph.metadata["mine"] == "1"
    assert RESULTS not in lowering.graph.metadata
    assert TRAINED not in lowering.graph.metadata
    assert lowering.graph.name == "g"
    assert lowering.graph.level == "integer"


# ---- states


def stateful(body: str, io: str, states: dict[str, int]) -> Graph:
    graph = graph_of(body, inputs="%x: f32[N,4], %h: f32[N,4]")
    set_states(graph, states)
    lowering = Lowering(graph, get("tflm"), io)
    lowering.run()
    return lowering.graph


def test_a_state_that_is_returned_too_is_dequantized_there_alone() -> None:
    body = X + "  %2: f32[N,4] = quant.fake_quant(%h, @s, @z)\n  return %2, h_next=%1\n"
    graph = stateful(body, "float", {"h": 1})
    assert [value.type.dtype for value in graph.inputs] == ["f32", "i8"]
    assert [value.type.dtype for value in graph.outputs] == ["f32", "i8"]
    assert graph.find("litert.dequantize")[0].origins == ()


def test_a_state_whose_next_value_is_an_input_of_another_type_is_refused() -> None:
    body = X + "  %2: f32[N,4] = quant.fake_quant(%h, @t, @z)\n  return %2, h_next=%1\n"
    with pytest.raises(LoweringError) as caught:
        stateful(body, "integer", {"h": 1})
    assert caught.value.where == ()
    made = X + "  %2: f32[N,4] = quant.fake_quant(%h, @t, @z)\n  %3: f32[N,4] = nn.add(%1, %2) loc(sum a.py:1)\n"
    made += "  %4: f32[N,4] = quant.fake_quant(%3, @s, @z)\n  return %2, h_next=%4\n"
    with pytest.raises(LoweringError) as caught:
        stateful(made, "integer", {"h": 1})
    assert "sum" in str(caught.value)


# ---- clamps


@pytest.mark.parametrize(
    ("first", "second", "clamps"),
    [("-8,7", "-128,127", 1), ("-8,7", "-10,9", 1), ("-8,7", "-10,5", 2), ("-8,7", "-7,9", 2), ("-128,127", "-8,7", 1)],
)
def test_codes_are_clamped_where_fewer_are_let_through_than_before(first: str, second: str, clamps: int) -> None:
    body = f"  %1: f32[N,4] = quant.fake_quant(%x, @s, @z) {{range=[{first}]}}\n"
    body += f"  %2: f32[N,4] = quant.fake_quant(%1, @s, @z) {{range=[{second}]}}\n  return %2\n"
    one = len(lowered("  %1: f32[N,4] = quant.fake_quant(%x, @s, @z) {range=[-8,7]}\n  return %1\n").nodes)
    assert len(lowered(body).nodes) == one * clamps


# ---- what stays in float


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # integers where its result is fake-quantized, floats where it is not
        (
            "  %2: f32[N,4] = nn.tanh(%1)\n  %3: f32[N,4] = quant.fake_quant(%2, @t, @z)\n  return %3\n",
            ["tanh", "quantize"],
        ),
        ("  %2: f32[N,4] = nn.tanh(%1)\n  return %2\n", ["dequantize", "float_tanh"]),
        # one reader that fake-quantizes is enough
        (
            "  %2: f32[N,4] = nn.tanh(%1)\n  %3: f32[N,4] = quant.fake_quant(%2, @t, @z)\n"
            "  %4: f32[N,4] = nn.reshape(%2) {shape=[-1,4]}\n  return %3, %4\n",
            ["tanh", "quantize", "reshape"],
        ),
        # what moves codes needs no fake-quantization behind it
        ("  %2: f32[N,4] = nn.reshape(%1) {shape=[-1,4]}\n  return %2\n", ["reshape"]),
        # what reads a float is one of floats, whatever else it reads
        (
            "  %2: f32[N,4] = nn.tanh(%1)\n  %3: f32[N,4] = nn.add(%1, %2)\n"
            "  %4: f32[N,4] = quant.fake_quant(%3, @t, @z)\n  return %4\n",
            ["dequantize", "float_tanh", "float_add", "quantize"],
        ),
    ],
)
def test_an_op_stays_in_float_where_it_reads_floats_or_nothing_rounds_its_result(
    body: str, expected: list[str]
) -> None:
    assert ops(lowered(X + body, fallback="float")) == expected


def test_without_a_fallback_an_op_has_integers_though_nothing_rounds_its_result() -> None:
    assert ops(lowered(X + "  %2: f32[N,4] = nn.tanh(%1)\n  return %2\n")) == ["tanh", "quantize"]


def test_weights_in_float_lie_as_the_target_wants_them() -> None:
    body = """  const @cw: f32[2,3,1,1] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5], @cs: f32[1] = 0.25
  %1: f32[N,3,2,2] = quant.fake_quant(%x, @s, @z)
  %2: f32[2,3,1,1] = quant.fake_quant(@cw, @cs, @zero) {range=[-127,127], symmetric=true}
  %p: f32[N,2,2,3] = nn.transpose(%1) {perm=[0,2,3,1]}
  %3: f32[N,2,2,2] = nhwc.conv(%p, %2) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1], groups=1}
  return %3
"""
    graph = lowered(body, inputs="%x: f32[N,3,2,2]", fallback="float")
    assert graph.constants["cw"].type.shape == (2, 1, 1, 3)
    assert constants(graph)["cw"] == [[[[0.25, 0.5, 0.75]]], [[[1.0, 1.25, 1.5]]]]
    bias = [data for name, data in constants(graph).items() if name != "cw"]
    assert bias in ([], [[0.0, 0.0]])


def test_constants_among_floats_are_broadcast_and_ids_are_stored_as_the_target_does() -> None:
    body = X + "  %2: f32[N,4] = nn.tanh(%1)\n  %3: f32[N,4] = nn.mul(%2, @k)\n  return %3\n"
    found = constants(lowered(body, fallback="float"))
    assert np.array_equal(found["k"], np.array([[0.3, -1.0, 99.0, -99.0]], np.float32))
    ids = "  const @i: i64[1] = [7]\n  %1: i64[N] = nn.add(%x, @i)\n  return %1\n"
    for target, dtype in (("litert", "i32"), ("onnxruntime", "i64")):
        assert get(target).indices in ("", dtype)
        graph = lowered(ids, inputs="%x: i64[N]", target=target)
        assert {value.type.dtype for value in (*graph.constants.values(), *graph.inputs)} == {dtype}


def test_a_fake_quantization_of_the_same_grid_adds_nothing_and_of_a_float_quantizes_it() -> None:
    assert ops(lowered(X + "  %2: f32[N,4] = quant.fake_quant(%1, @s, @z)\n  return %2\n")) == []
    body = (
        X
        + "  %2: f32[N,4] = nn.tanh(%1)\n  %5: f32[N,4] = nn.exp(%2)\n"
        + ROUNDED.replace("%2", "%5")
        + "  return %3\n"
    )
    assert ops(lowered(body, fallback="float")) == ["dequantize", "float_tanh", "float_exp", "quantize"]


def test_a_layer_that_reads_an_integer_and_rounds_is_one_of_integers() -> None:
    assert ops(lowered(LINEAR + LAST + "  return %4\n")) == ["fully_connected"]
