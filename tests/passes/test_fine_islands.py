"""Where 16 bits begin by themselves: which values are squares, and which shares are small."""

from __future__ import annotations

import pytest

from qgraph.ir import parse
from qgraph.passes.rules.islands import LONG_ROW, _begins_16_bits, _of_squares

HEAD = """graph @g level=float (%x: f32[N,3,4], %y: f32[N,3,4], %i: i64[N,3,4]) {
  const @two: f32[] = 2.0
  %s: f32[N,3,4] = nn.mul(%x, %x)
  %t: f32[N,3,4] = nn.mul(%y, %y)
  %p: f32[N,3,4] = nn.mul(%x, %y)
"""
SQUARES = {
    "mul(%x, %x)": True,
    "mul(%x, %y)": False,
    "mul(%s, @two)": True,
    "mul(@two, %s)": True,
    "mul(%s, %y)": False,
    "mul(%x, @two)": False,
    "relu(%s)": False,
    "add(%s, %t)": False,
    "mean(%s) {axes=[2], keepdims=true}": True,
    "sum(%s) {axes=[2], keepdims=true}": True,
    "max(%s) {axes=[2], keepdims=true}": True,
    "mean(%p) {axes=[2], keepdims=true}": False,
    "transpose(%s) {perm=[0,2,1]}": True,
    "transpose(%x) {perm=[0,2,1]}": False,
}


@pytest.mark.parametrize("text", SQUARES)
def test_squares_are_products_with_themselves_and_what_is_summed_scaled_or_moved_of_them(text: str) -> None:
    shape = {"mean": "[N,3,1]", "sum(": "[N,3,1]", "max(": "[N,3,1]", "tran": "[N,4,3]"}.get(text[:4], "[N,3,4]")
    graph = parse(f"{HEAD}  %z: f32{shape} = nn.{text}\n  return %z\n}}")
    assert _of_squares(graph.outputs[0]) == SQUARES[text]
    assert not _of_squares(graph.inputs[0])


def test_indices_are_no_squares() -> None:
    graph = parse("graph @g level=float (%i: i64[N,3]) {\n  %z: i64[N,3] = nn.mul(%i, %i)\n  return %z\n}")
    assert not _of_squares(graph.outputs[0])


@pytest.mark.parametrize(
    ("text", "begins"),
    [("sub(%s, %t)", True), ("sub(%s, %x)", False), ("sub(%x, %t)", False), ("add(%s, %t)", False)],
)
def test_a_difference_of_squares_has_16_bits(text: str, begins: bool) -> None:
    graph = parse(f"{HEAD}  %z: f32[N,3,4] = nn.{text}\n  return %z\n}}")
    assert _begins_16_bits(graph.nodes[-1]) == begins


@pytest.mark.parametrize(
    ("size", "last", "begins"),
    [
        (str(LONG_ROW + 1), "relu(%s)", True),
        (str(LONG_ROW), "relu(%s)", False),
        ("T", "relu(%s)", True),
        (str(LONG_ROW + 1), "", False),
        (str(LONG_ROW + 1), "transpose(%s) {perm=[1,0]}", False),
    ],
)
def test_the_shares_of_a_long_row_have_16_bits_where_they_are_not_returned(size: str, last: str, begins: bool) -> None:
    shape = f"{size},N" if "transpose" in last else f"N,{size}"
    more = f"  %z: f32[{shape}] = nn.{last}\n  return %z\n" if last else "  return %s\n"
    graph = parse(
        f"graph @g level=float (%x: f32[N,{size}]) {{\n  %s: f32[N,{size}] = nn.softmax(%x) {{axis=1}}\n{more}}}"
    )
    assert _begins_16_bits(graph.nodes[0]) == begins
