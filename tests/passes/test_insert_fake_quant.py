"""What `insert-fake-quant` refuses, and what it leaves as it was."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import qgraph
from qgraph import passes, targets
from qgraph.errors import InputError
from qgraph.ir import Graph
from qgraph.passes.lower import float_nodes
from qgraph.targets.target import Target

GRAPH = """graph @g level=float (%x: f32[N,2,3,3]) {
  const @w: f32[2,2,1,1] = [1.0, 2.0, -1.0, 0.5], @g: f32[2] = 2.0, @z: f32[2] = 0.5
  %1: f32[N,2,3,3] = nn.conv(%x, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]} loc(stem m.py:1)
  %2: f32[N,2,3,3] = nn.batch_norm(%1, @g, @z, @z, @g) {eps=0.0} loc(norm m.py:2)
  %3: f32[N,2,3,3] = nn.conv(%2, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]} loc(stem m.py:3)
  return %3
}"""


def graph() -> Graph:
    return qgraph.parse(GRAPH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batchnorm": "gone"}, "batchnorm='gone' is not a choice\n  help    choose live or fold"),
        (
            {"overrides": {"tail": {"bits": 4}}},
            "override 'tail' matches no origin of the graph\n  help    origins: norm, stem",
        ),
        (
            {"overrides": {"stem": {"bit": 4, "a": 1, "bits": 4}}},
            "override 'stem' has no word a, bit\n  help    use bits, activation_bits",
        ),
        ({"overrides": {"stem": {"bits": 1}}}, "override 'stem': bits=1 is outside 2..8"),
        ({"overrides": {"stem": {"activation_bits": 17}}}, "override 'stem': activation_bits=17 is outside 2..16"),
        (
            {"overrides": {"stem": {"bits": 4}, "s*": {"bits": 5}}},
            "override 's*': bits=5 has no effect\n"
            "  help    the nodes that it matches do not have a weight, or an earlier pattern names them",
        ),
        (
            {"overrides": {"stem": {"activation_bits": 4}, "s*": {"activation_bits": 5}}},
            "override 's*': activation_bits=5 has no effect\n  help    the nodes that it matches do not have a result "
            "with a scale of their own, or an earlier pattern names them",
        ),
        ({"observers": {"bias": "min_max"}}, "observers name 'bias'\n  help    choose for activation, weight"),
        (
            {"observers": {"weight": "lsq"}},
            "quantizer 'lsq' is not for weights\n"
            "  help    choose from min_max, moving_average, mse, pair_safe, percentile",
        ),
        ({"overrides": {"stem": {"bits": 32}}}, "bits=32 keep nodes in float\n  help    allow it: fallback='float'"),
        ({"overrides": {"stem": {"bits": "4"}}}, "override 'stem': bits='4' is no number\n  help    choose from 2..8"),
        (
            {"overrides": ["stem"]},
            'overrides are [\'stem\']\n  help    give a dictionary, such as {"head": {"bits": 4}}',
        ),
        ({"fallback": "int"}, "fallback='int' is not a choice\n  help    choose \"float\", or leave it out"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        passes.insert_fake_quant(graph(), target="litert", **options)
    assert str(caught.value) == message


def test_a_target_without_16_bits_refuses_more_than_8() -> None:
    with pytest.raises(InputError, match=r"override 'stem': activation_bits=9 is outside 2\.\.8"):
        passes.insert_fake_quant(graph(), target="onnxruntime", overrides={"stem": {"activation_bits": 9}})


def test_scales_that_a_targets_integers_depend_on_are_not_the_users_to_choose() -> None:
    with pytest.raises(InputError) as caught:
        passes.insert_fake_quant(graph(), target="onnxruntime", observers={"weight": "mse"})
    assert str(caught.value) == (
        "quantizer 'mse' would replace 'pair_safe', on which the target's integers depend\n"
        "  help    choose other weights for the target: see its options, `qgraph targets NAME`"
    )
    same = passes.insert_fake_quant(graph(), target="onnxruntime", observers={"weight": "pair_safe"})
    assert same == passes.insert_fake_quant(graph(), target="onnxruntime")


@pytest.mark.parametrize("bits", [2, 8])
def test_weights_of_fewer_bits_have_a_symmetric_range_and_its_scale(bits: int) -> None:
    prepared = passes.insert_fake_quant(graph(), target="litert", overrides={"stem": {"bits": bits}}, batchnorm="fold")
    largest = 2 ** (bits - 1) - 1
    layer = prepared.find("nn.conv")[-1].operand(1).producer
    assert layer is not None
    assert layer.attrs["range"] == (-largest, largest)
    np.testing.assert_array_equal(layer.operand(1).data, np.float32([2, 1]) / np.float32(largest))


@pytest.mark.parametrize(
    ("bits", "activations", "expected"),
    [(4, "i8", (-128, -113)), (8, "i8", (-128, 127)), (12, "i16", (-2048, 2047)), (9, "i16", (-256, 255))],
)
def test_results_of_fewer_bits_have_the_lowest_codes_or_those_around_zero(
    bits: int, activations: str, expected: tuple[int, int]
) -> None:
    text = GRAPH.replace("nn.batch_norm(%1, @g, @z, @z, @g) {eps=0.0}", "nn.tanh(%1)").replace(
        "(stem m.py:3)", "(b m.py)"
    )
    overrides = {"stem": {"activation_bits": bits}}
    made = passes.insert_fake_quant(qgraph.parse(text), target="litert", overrides=overrides, activations=activations)
    (mark,) = made.find("nn.conv")[0].result.users
    assert mark.attrs["range"] == expected


def test_a_weight_that_two_layers_share_is_quantized_once_unless_one_has_a_live_batchnorm() -> None:
    text = GRAPH.replace("nn.batch_norm(%1, @g, @z, @z, @g) {eps=0.0}", "nn.relu(%1)")
    shared = passes.insert_fake_quant(qgraph.parse(text), target="litert")
    first, second = shared.find("nn.conv")
    assert first.operand(1) is second.operand(1)
    live = passes.insert_fake_quant(graph(), target="litert")
    assert len(live.find("quant.conv_batch_norm")) == 1
    scales = [name for name in live.constants if name.startswith("w") and name.endswith("_scale")]
    assert scales == ["w_scale", "w_1_scale"], "folded, the weight has another range"
    np.testing.assert_array_equal(
        live.constants["w_scale"].data, live.constants["w_1_scale"].data * np.float32(2 / np.sqrt(2.0))
    )


def test_the_graph_says_how_it_was_prepared() -> None:
    prepared = passes.insert_fake_quant(graph(), target="litert", weights="per-tensor")
    assert prepared.level == "fake_quant"
    assert (prepared.metadata["target"], prepared.metadata["weights"]) == ("litert", "per-tensor")
    assert [value.data.size for name, value in prepared.constants.items() if name.endswith("_scale")] == [1] * 5


LACKING = """graph @g level=float (%x: f32[N,2,3,3]) {
  const @w: f32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0], @b: f32[2] = [0.5, -0.25], @g: f32[2] = 2.0, @v: f32[2] = 4.0
  const @f: f32[2,2] = [1.0, 2.0, 3.0, 4.0], @k: f32[2,1,1] = [1.0, 2.0]
  %1: f32[N,2,3,3] = nn.conv(%x, @w, @b) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
  %2: f32[N,2,3,3] = nn.batch_norm(%1, @g, @b, @b, @v) {eps=0.0}
  %3: f32[N,2,3,3] = nn.tanh(%2)
  %4: f32[N,2,3,3] = nn.sub(%3, @k)
  %5: f32[N,2,3,3] = nn.add(%3, %4)
  %6: f32[N,2] = nn.mean(%5) {axes=[2,3]}
  %7: f32[N,2] = nn.linear(%6, @f, @b)
  %8: f32[N,2] = nn.batch_norm(%7, @g, @b, @b, @v) {eps=0.0}
  return %2, %4, %8
}"""
KEPT = """
  %1: f32[N,2,3,3] = quant.fake_quant(%x, @x_scale, @x_zero_point)
  %2: f32[N,2,3,3] = nn.conv(%1, @w, @b)
  %3: f32[N,2,3,3] = quant.fake_quant(%2, @conv_scale, @conv_zero_point)
  %4: f32[N,2,3,3] = nn.tanh(%2)
  %5: f32[N,2,3,3] = quant.fake_quant(%4, @tanh_scale, @tanh_zero_point)
  %6: f32[N,2,3,3] = nn.sub(%4, @k)
  %7: f32[N,2,3,3] = quant.fake_quant(%6, @sub_scale, @sub_zero_point)
  %8: f32[N,2,3,3] = nn.add(%5, %7)
  %9: f32[N,2,3,3] = quant.fake_quant(%8, @add_scale, @add_zero_point)
  %10: f32[N,2] = nn.mean(%9)
  %11: f32[N,2] = quant.fake_quant(%10, @mean_scale, @mean_zero_point, @add_scale)
  %12: f32[N,2] = quant.linear_batch_norm(%11, @f, @b, @g, @b, @b, @v, @f_scale, @f_zero_point, @mean_scale)
  %13: f32[N,2] = quant.fake_quant(%12, @linear_batch_norm_scale, @linear_batch_norm_zero_point)
  return %3, %7, %13"""


def without(*sources: str) -> Target:
    """litert without the rows of these ops."""
    litert = targets.get("litert")
    rows = tuple(row for row in litert.correspondences if row.source not in sources)
    return replace(litert, correspondences=rows, legalize=())


def test_batch_normalization_does_not_stay_in_float_by_itself() -> None:
    graph = qgraph.parse(LACKING)
    found = float_nodes(graph, without("conv", "tanh", "sub"))
    assert [node.op for node in found] == ["nn.conv", "nn.tanh", "nn.sub"]
    assert list(found) == [graph.nodes[0], graph.nodes[2], graph.nodes[3]], "nodes of the graph itself"


def test_what_the_target_lacks_stays_in_float_between_fake_quants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CONV_2D, TANH and SUB: a layer takes its batch normalization in, and its parameters are not rounded."""
    lacking = without("conv", "tanh", "sub")
    monkeypatch.setattr(targets, "get", lambda name: lacking)
    made = passes.insert_fake_quant(qgraph.parse(LACKING), target="litert", fallback="float")
    lines = [re.sub(r"\.folded| \{.*\}", "", line) for line in str(made).splitlines()]
    assert "\n".join(["", *(line for line in lines if line.startswith(("  %", "  return")))]) == KEPT
    assert made.metadata["fallback"] == "float"
    rounded = {
        node.operand(1).name.removesuffix("_scale")
        for node in made.find("quant.fake_quant")
        if node.attrs["rounding"] == "half_away"
    }
    assert rounded == {"x", "conv", "sub", "tanh"}, "floats are rounded as the target quantizes them"


def test_the_bias_of_a_layer_of_a_constant_has_no_steps_to_be_rounded_to() -> None:
    arrays = {"k": np.ones((5, 4), np.float32), "b": np.ones(3, np.float32)}
    graph = qgraph.parse(
        """graph @g level=float (%x: f32[3,4]) {
          const @k: f32[5,4]
          const @b: f32[3]
          %1: f32[5,3] = nn.linear(@k, %x, @b)
          return %1
        }""",
        constants=arrays,
    )
    (layer,) = passes.insert_fake_quant(graph, target="litert").find("nn.linear")
    assert [value.name for value in layer.operands if value.is_constant] == ["k", "b"]


def test_from_16_bits_and_to_them_values_are_requantized_as_the_target_does_it() -> None:
    source = qgraph.parse("""graph @g level=float (%x: f32[N,2,3,3]) {
      %1: f32[N,2,3,3] = nn.tanh(%x) loc(fine m.py:1)
      %2: f32[N,2,3,3] = nn.sigmoid(%1) loc(coarse m.py:2)
      %3: f32[N,4,3,3] = nn.concat(%1, %x) {axis=1} loc(joined m.py:3)
      return %2, %3
    }""")
    made = passes.insert_fake_quant(source, target="litert-xnnpack", overrides={"fine": {"activation_bits": 16}})
    found = {
        (str(mark.operand(0).producer.attrs["type"]), str(mark.attrs["type"]), str(mark.attrs["rounding"]))
        for mark in made.find("quant.fake_quant")
        if mark.operand(0).producer is not None and mark.operand(0).producer.op == "quant.fake_quant"
    }
    assert found == {
        ("i8", "i16", "double_rounding"),
        ("i16", "i8", "double_rounding"),
        ("i8", "i8", "steps_of_256"),
    }
