"""What the details of a group say."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph.differ import Detail
from qgraph.differ.constants import constant_change
from qgraph.ir import Graph, parse

TEXT = """graph @g level=integer target=litert layout=NHWC io=integer (%x: i8<0.5:0>[N,4,4,2]) {
  const @w: i8<0.5:0,0.25:0,0.125:0;axis=0>[3,1,1,2] = [1, 2, 3, 4, 5, 6]
  const @b: i32<0.25:0,0.125:0,0.0625:0;axis=0>[3] = [1, 2, 3]
  %y: i8<0.5:0>[N,4,4,3] = litert.conv_2d(%x, @w, @b) {stride=[1,1], padding="SAME", dilation=[1,1], activation="NONE"}
  %z: i8<0.5:0>[N,2,2,3] = litert.max_pool_2d(%y) {kernel=[2,2], stride=[2,2], padding="SAME", activation="NONE"}
  return %z
}"""


def details(before: str, after: str, text: str = TEXT) -> list[Detail]:
    assert before in text
    diff = qgraph.diff(parse(text), parse(text.replace(before, after)))
    assert all(change.kind == "changed" for change in diff.changes)
    return [detail for change in diff.changes for detail in change.details]


@pytest.mark.parametrize(
    ("before", "after", "what", "text"),
    [
        ("%y: i8<0.5:0>", "%y: i8<0.505:0>", "parameters", "parameters of result: <0.5:0> -> <0.505:0>"),
        ("%y: i8<0.5:0>", "%y: i8<0.5:3>", "parameters", "parameters of result: <0.5:0> -> <0.5:3>"),
        ('stride=[1,1], padding="SAME"', 'stride=[1,1], padding="VALID"', "attribute", 'padding: "SAME" -> "VALID"'),
        (
            "i8<0.5:0,0.25:0,0.125:0;axis=0>",
            "i8<0.5:0,0.3:0,0.125:0;axis=0>",
            "parameters",
            "parameters of @w: <0.25:0 at 1 of 3, axis 0> -> <0.3:0 at 1 of 3, axis 0>",
        ),
        ("= [1, 2, 3]", "= [1, 2, 5]", "constant", "@b: [1, 2, 3] -> [1, 2, 5]"),
        (
            "[1, 2, 3, 4, 5, 6]",
            "[3, 4, 1, 2, 5, 6]",
            "constant",
            "@w: 4 of 6 elements differ, by up to 2 (41.9 % of its norm): permuted along axis 0",
        ),
    ],
)
def test_one_difference_is_one_detail(before: str, after: str, what: str, text: str) -> None:
    (found,) = details(before, after)
    assert (found.what, str(found)) == (what, text)


def test_a_wider_integer_is_retyped_and_has_other_bits() -> None:
    found = details("%z: i8<0.5:0>[N,2,2,3]", "%z: i16<0.25:0>[N,2,2,3]")
    assert [detail.what for detail in found] == ["retyped", "bits", "parameters"]
    assert str(found[1]) == "bits of result: 8 -> 16"


FAKE_QUANT = """graph @g level=fake_quant (%x: f32[N,2]) {
  const @s: f32[1] = [0.5], @z: i32[1] = [0]
  %1: f32[N,2] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-128,127]}
  return %1
}"""


def test_scale_and_range_of_a_fake_quant_are_parameters_and_bits() -> None:
    assert [(d.what, str(d)) for d in details("[0.5]", "[0.25]", FAKE_QUANT)] == [("parameters", "@s: [0.5] -> [0.25]")]
    found = details("range=[-128,127]", "range=[-8,7]", FAKE_QUANT)
    assert [(d.what, str(d)) for d in found] == [("bits", "range: [-128,127] -> [-8,7]")]


def test_how_a_constant_changed() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert constant_change(x, x.copy()) is None
    columns = constant_change(x, np.ascontiguousarray(x[:, ::-1]))
    assert columns is not None
    assert columns.permuted_axis == 1
    other = constant_change(x, x + np.float32(0.5))
    assert other is not None
    assert (other.changed, other.size, other.max_abs, other.permuted_axis) == (12, 12, 0.5, None)
    nan = np.array([np.nan, 1, 2], np.float32)
    assert constant_change(nan, nan.copy()) is None
    assert constant_change(nan, np.array([np.nan, 1, 3], np.float32)).max_abs == 1  # type: ignore[union-attr]
    assert constant_change(nan, np.array([0, 1, 2], np.float32)).max_abs == np.inf  # type: ignore[union-attr]
    assert constant_change(np.array([True]), np.array([False])).max_abs == 1  # type: ignore[union-attr]


def test_differences_of_whole_graphs_are_told_apart() -> None:
    graph = parse(FAKE_QUANT)
    assert qgraph.diff(graph, _renamed(graph)).about == ("input 0: %x: f32[N,2] -> %image: f32[N,2]",)
    two = graph.clone()
    two.set_outputs([*two.outputs, two.inputs[0]])
    assert "outputs: 1 -> 2" in qgraph.diff(graph, two).about
    other = graph.clone()
    other.set_outputs(other.inputs)
    diff = qgraph.diff(graph, other)
    assert diff.about == ("output 0 comes from: quant.fake_quant -> %x",)
    assert not diff.identical


def _renamed(graph: Graph) -> Graph:
    copy = graph.clone()
    copy.inputs[0].name = "image"
    return copy
