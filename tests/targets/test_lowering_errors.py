"""What lowering says of a graph that is not ready to be lowered."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import qgraph
from qgraph.errors import LoweringError, NotCalibrated, QGraphError
from qgraph.ir import QuantParams, TensorType
from qgraph.passes import lower
from qgraph.targets import get
from qgraph.targets.lowering import Lowering, QuantizedWeight, known_data
from qgraph.targets.target import Option

HEAD = """graph @g level=fake_quant target=litert (%x: f32[N,4], %y: f32[N,4]) {
  const @s: f32[1] = 0.25, @z: i32[1] = 3, @nan: f32[1] = [nan], @k: f32[1,4] = 0.5
  const @some: f32[4] = [0.5, 0.5, nan, 0.5], @zs: i32[4] = 0
"""
X, Y = (f"  %{n}: f32[N,4] = quant.fake_quant(%{v}, @s, @z) loc({v} m.py:{n})\n" for n, v in ((1, "x"), (2, "y")))


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            X + "  return %1, %y\n}",
            LoweringError,
            "input %y is not fake-quantized\n  help    run insert-fake-quant first",
        ),
        (
            X + "  %2: f32[N,4] = nn.add(%1, %y)\n  return %2\n}",
            LoweringError,
            "input %y is not fake-quantized\n  help    run insert-fake-quant first",
        ),
        (
            X + Y + "  return %1, %2, @k\n}",
            LoweringError,
            "output 2 is not computed from an input\n  help    a graph of constants has no use",
        ),
        (
            X.replace("@s", "@nan") + Y.replace("@s", "@nan") + "  return %1, %2\n}",
            NotCalibrated,
            "values without a scale: 2, the first is %x: f32[N,4]\n"
            "  node    %1: f32[N,4] = quant.fake_quant(%x, @nan, @z) LAST\n"
            "  origin  x  (m.py:1)\n"
            "  help    calibrate first: qgraph.calibrate(graph, batches)",
        ),
        (
            X + Y + "  %3: f32[1,4] = quant.fake_quant(@k, @some, @zs) {axis=1}\n  return %1, %2, %3\n}",
            NotCalibrated,
            "values without a scale: 1, the first is @k: f32[1,4]\n"
            "  node    %3: f32[1,4] = quant.fake_quant(@k, @some, @zs) LAST\n"
            "  help    calibrate first: qgraph.calibrate(graph, batches)",
        ),
    ],
)
def test_what_is_missing_is_said(body: str, error: type[QGraphError], message: str) -> None:
    graph = qgraph.parse(HEAD + body)
    with pytest.raises(error) as caught:
        Lowering(graph, get("litert"), "integer").run()
    assert re.sub(r"\{.*\}", "LAST", str(caught.value)) == message


BIAS = """graph @g level=fake_quant target=litert (%x: f32[N,1]) {
  const @w: f32[2,1] = [100.0, 0.5], @b: f32[2] = [0.0, 1.0], @one: f32[1] = 1.0, @z: i32[1] = 0
  const @ws: f32[2] = [1.0, 0.5], @wz: i32[2] = 0
  %1: f32[N,1] = quant.fake_quant(%x, @one, @z)
  %2: f32[2,1] = quant.fake_quant(@w, @ws, @wz) {range=[-127,127], axis=0, symmetric=true}
  %3: f32[N,2] = nn.linear(%1, %2, @b)
  %4: f32[N,2] = quant.fake_quant(%3, @one, @z)
  return %4
}"""


@pytest.mark.parametrize(
    ("bias", "channel"),
    [
        ([-(2.0**31), 0.0], None),
        ([-(2.0**31) - 256, 0.0], 0),
        ([2.0**31 - 128, 0.0], None),
        ([2.0**31, 0.0], 0),
        ([0.0, -(2.0**30)], None),
        ([2.0**30, 2.0**30], 1),
        ([-(2.0**40), 2.0**32], 0),
    ],
)
def test_a_bias_has_to_fit_into_int32(bias: list[float], channel: int | None) -> None:
    lowering = Lowering(qgraph.parse(BIAS), get("litert"), "integer")
    graph = lowering.source
    weight = QuantizedWeight(np.ones((2, 1), np.int8), QuantParams.of([1.0, 0.5], 0, 0), "w")
    x = lowering.graph.add_input("x", TensorType(("N", 1), "i8", QuantParams.of(1.0, 0)))
    data = np.float32(bias)
    if channel is None:
        made = lowering.bias_constant(graph.nodes[2], data, weight, x, "b")
        assert np.array_equal(made.data, data / np.float32([1.0, 0.5]))
        return
    with pytest.raises(LoweringError) as caught:
        lowering.bias_constant(graph.nodes[2], data, weight, x, "b")
    said = f"the bias of channel {channel} is {bias[channel]:.4g}, at scale {[1, 0.5][channel]} outside int32"
    assert caught.value.what == said


def test_a_bias_beside_a_weight_of_one_scale_has_one_scale() -> None:
    lowering = Lowering(qgraph.parse(BIAS), get("litert"), "integer")
    weight = QuantizedWeight(np.ones((2, 1), np.int8), QuantParams.of(0.5, 0), "w")
    x = lowering.graph.add_input("x", TensorType(("N", 1), "i8", QuantParams.of(0.25, 0)))
    made = lowering.bias_constant(lowering.source.nodes[2], np.float32([1.0, -2.0]), weight, x, "b")
    assert made.type.quant == QuantParams.of(0.125, 0)
    assert made.data.tolist() == [8, -16]


PER_TENSOR = ", or use weights=per-tensor"
OPTIONS = {
    "that one": ({"weights": Option(("per-channel", "per-tensor"), "")}, PER_TENSOR),
    "others for weights": ({"weights": Option(("pair-safe", "u8"), "")}, ""),
    "none for weights": ({"activations": Option(("i8", "per-tensor"), "")}, ""),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_the_help_about_tiny_weights_names_an_option_that_the_target_has(case: str) -> None:
    options, words = OPTIONS[case]
    lowering = Lowering(qgraph.parse(BIAS), replace(get("litert"), options=options), "integer")
    assert lowering.tiny_weights() == f"the channel's weights are tiny beside its bias: remove the channel{words}"


def test_an_io_that_there_is_not_is_refused() -> None:
    with pytest.raises(QGraphError, match="io='codes' is not a choice"):
        lower(qgraph.parse(HEAD + X + Y + "  return %1, %2\n}"), target="litert", io="codes")


def test_names_of_results_are_kept_where_they_were_given_and_made_where_not() -> None:
    graph = qgraph.parse(HEAD + X + Y + "  return %1\n}".replace("%1", "a=%1, %2"))
    for io in ("integer", "float"):
        lowered = lower(graph, target="litert", io=io)
        assert lowered.output_names == ["a", "output_1"]
        assert [value.type.dtype for value in (*lowered.inputs, *lowered.outputs)] == (
            ["i8"] * 4 if io == "integer" else ["f32"] * 4
        )
    one = lower(qgraph.parse(HEAD.replace(", %y: f32[N,4]", "") + X + "  return %1\n}"), target="litert", io="float")
    assert one.output_names == ["output"]
    assert one.metadata["io"] == "float"


def test_the_numbers_of_a_constant_are_known_fake_quantized_or_not_and_those_of_a_computed_value_are_not() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,2]) {
      const @k: f32[2] = [1.3, -0.6], @s: f32[1] = 0.5, @z: i32[1] = 0
      %1: f32[2] = quant.fake_quant(@k, @s, @z)
      %2: f32[2] = quant.fake_quant_bias(@k, @s, @s)
      %3: f32[N,2] = quant.fake_quant(%x, @s, @z)
      %4: f32[2] = nn.relu(@k)
      return %1, %2, %3, %4
    }""")
    fake_quantized, bias, of_input, relu = graph.outputs
    assert np.array_equal(known_data(graph.constants["k"]), np.float32([1.3, -0.6]))
    assert np.array_equal(known_data(fake_quantized), np.float32([1.5, -0.5]))
    assert np.array_equal(known_data(bias), np.float32([1.25, -0.5]))
    for value, named in ((of_input, "%3: f32[N,2]"), (relu, "%4: f32[2]"), (graph.inputs[0], "%x: f32[N,2]")):
        with pytest.raises(LoweringError) as caught:
            known_data(value)
        assert caught.value.what.replace("%?", named[:2]) == (
            f"operand {named} is neither a constant nor the fake-quantized form of one"
        )


def test_a_result_whose_grid_the_op_fixes_is_requantized_to_the_one_that_is_asked_for_if_it_is_another() -> None:
    for scale, zero, ops in ((1 / 256, -128, ["logistic"]), (1 / 64, 3, ["logistic", "quantize"])):
        text = HEAD + f"  const @t: f32[1] = {scale}, @u: i32[1] = {zero}\n" + X
        text += "  %2: f32[N,4] = nn.sigmoid(%1)\n  %3: f32[N,4] = quant.fake_quant(%2, @t, @u)\n  return %3\n}"
        lowered = lower(qgraph.parse(text.replace(", %y: f32[N,4]", "")), target="litert", io="integer")
        assert [node.op for node in lowered.nodes] == [f"litert.{op}" for op in ops]
        assert lowered.outputs[0].type.q.scale == (scale,)
        assert lowered.outputs[0].type.q.zero_points.tolist() == [zero]


def test_a_result_whose_grid_the_op_fixes_has_16_bits_where_what_it_reads_has() -> None:
    wide = '{type="i16", range=[-32768,32767], symmetric=true}'
    lowered = lower(
        qgraph.parse(f"""graph @g level=fake_quant target=litert (%x: f32[N,4]) {{
          const @s: f32[1] = {2.0**-12}, @t: f32[1] = {2.0**-15}, @z: i32[1] = 0
          %1: f32[N,4] = quant.fake_quant(%x, @s, @z) {wide}
          %2: f32[N,4] = nn.sigmoid(%1)
          %3: f32[N,4] = quant.fake_quant(%2, @t, @z) {wide}
          return %3
        }}"""),
        target="litert",
        io="integer",
    )
    assert [node.op for node in lowered.nodes] == ["litert.logistic"]
    assert lowered.outputs[0].type == TensorType(("N", 4), "i16", QuantParams.of(2.0**-15, 0))
