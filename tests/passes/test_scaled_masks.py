"""Masks before factors and under bounds: which are moved, or dropped, to what, and which stay."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.interpreter import execute
from qgraph.ir import Graph, parse
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.rewriter import rewrite
from qgraph.passes.rules.scaled_masks import bound_of_masks, mask_behind_factor

HEAD = """graph @g level=float (%v: f32[N,2,3], %m: f32[N,2,3], %c: bool[N,2,3], %r: f32[N,1,3]) {
  const @one: f32[] = 1.0, @two: f32[] = 2.0, @far: f32[] = -1e4, @near: f32[] = -9e3, @zero: f32[] = 0.0
  const @half: f32[] = 0.5, @minus: f32[1] = -0.5, @halves: f32[1,2,3] = 0.5
  const @mask: f32[1,2,3] = [0.0, -1e4, 0.25, -1e9, -0.5, -1e30], @bias: f32[1,2,3] = [0.0, -1.0, 0.25, -0.5, 2.0, 1.0]
  const @low: f32[1,2,3] = -1e9, @mixed: f32[1,2,3] = [-1e9, -1e9, -1e9, -1e9, -1e9, -1.0]
"""
GIVEN = """  %o: f32[N,2,3] = nn.sub(@one, %m)
  %k: f32[N,2,3] = nn.mul(%o, @far)
"""
"""A mask of an input: 1 less it, times a number next to -inf."""


def graph(body: str, result: str = "%y") -> Graph:
    made = parse(f"{HEAD}{body}\n  return {result}\n}}")
    erase_dead_code(made)  # constants that are for others
    return made


def ops(graph: Graph) -> list[str]:
    return [node.op.removeprefix("nn.") for node in graph.nodes]


def rewritten(before: Graph) -> Graph:
    """After the rules; what is far below 0, or above, is so before and after, and all else is the same."""
    made = before.clone()
    rewrite(made, [mask_behind_factor, bound_of_masks])
    erase_dead_code(made)
    rng = np.random.default_rng(0)
    inputs = {"v": rng.normal(size=(4, 2, 3)), "r": rng.normal(size=(4, 1, 3)), "m": rng.random((4, 2, 3)) > 0.5}
    feeds = {name: np.float32(array) for name, array in inputs.items()} | {"c": rng.random((4, 2, 3)) > 0.5}
    for old, new in zip(execute(before, feeds), execute(made, feeds), strict=True):
        near = np.abs(old) < 1e3
        np.testing.assert_allclose(old[near], new[near], rtol=1e-6, atol=1e-6)
        assert (np.abs(new[~near]) > 1e3).all()
        assert np.array_equal(np.sign(old[~near]), np.sign(new[~near]))
    return made


MOVED = {
    "a constant": ("%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, @half)", "mul add"),
    "a constant, the number first": (
        "%a: f32[N,2,3] = nn.add(@mask, %v)\n  %y: f32[N,2,3] = nn.mul(@half, %a)",
        "mul add",
    ),
    "turned": ("%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, @minus)", "mul add"),
    "subtracted": ("%a: f32[N,2,3] = nn.sub(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, @half)", "mul sub"),
    "of an input": (
        f"{GIVEN}  %a: f32[N,2,3] = nn.add(%v, %k)\n  %y: f32[N,2,3] = nn.mul(%a, @half)",
        "sub mul mul add",
    ),
    "of an input, turned": (
        f"{GIVEN}  %a: f32[N,2,3] = nn.add(%v, %k)\n  %y: f32[N,2,3] = nn.mul(%a, @minus)",
        "sub mul mul add",
    ),
    "of a condition": (
        '%d: f32[N,2,3] = nn.cast(%c) {dtype="f32"}\n  %k: f32[N,2,3] = nn.mul(@far, %d)\n'
        "  %a: f32[N,2,3] = nn.add(%v, %k)\n  %y: f32[N,2,3] = nn.mul(%a, @minus)",
        "cast mul mul add",
    ),
    "of a moved input": (
        "%t: f32[N,3,2] = nn.transpose(%m) {perm=[0,2,1]}\n  %o: f32[N,3,2] = nn.sub(@one, %t)\n"
        "  %k: f32[N,3,2] = nn.mul(%o, @far)\n  %u: f32[N,2,3] = nn.transpose(%k) {perm=[0,2,1]}\n"
        "  %a: f32[N,2,3] = nn.add(%v, %u)\n  %y: f32[N,2,3] = nn.mul(%a, @minus)",
        "transpose sub mul mul transpose add",
    ),
    "in a sum of sums": (
        f"{GIVEN}  %a: f32[N,2,3] = nn.add(%v, %k)\n  %b: f32[N,2,3] = nn.sub(@bias, %a)\n"
        "  %y: f32[N,2,3] = nn.mul(%b, @half)",
        "sub mul mul mul add sub",
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_mask_before_a_factor_is_added_behind_it(name: str) -> None:
    body, expected = MOVED[name]
    made = rewritten(graph(f"  {body.strip()}"))
    assert sorted(ops(made)) == sorted(expected.split())
    assert made.outputs[0].producer is not None
    assert made.outputs[0].producer.op in ("nn.add", "nn.sub")


def test_of_a_constant_mask_only_what_is_near_is_multiplied_and_a_mask_of_far_numbers_stays_itself() -> None:
    made = rewritten(graph("  %a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, @minus)"))
    (scaled,) = (value for name, value in made.constants.items() if name.startswith("mask"))
    assert scaled.name == "mask.scaled"
    assert scaled.data.flatten().tolist() == [0, 1e4, -0.125, np.float32(1e9), 0.25, np.float32(1e30)]
    assert scaled.data.dtype == np.float32
    made = rewritten(graph("  %a: f32[N,2,3] = nn.add(%v, @low)\n  %y: f32[N,2,3] = nn.mul(%a, @half)"))
    assert "low" in made.constants


STAYS = {
    "times nothing": "%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, @zero)",
    "by several numbers": "%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, @halves)",
    "by no number": "%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, %v)",
    "a product with an activation": "%a: f32[N,2,3] = nn.add(%v, @mask)\n"
    '  %y: f32[N,2,3] = nn.mul(%a, @half) {activation="relu"}',
    "a sum with an activation": '%a: f32[N,2,3] = nn.add(%v, @mask) {activation="relu"}\n'
    "  %y: f32[N,2,3] = nn.mul(%a, @half)",
    "no mask": "%a: f32[N,2,3] = nn.add(%v, @bias)\n  %y: f32[N,2,3] = nn.mul(%a, @half)",
    "one far number": "%a: f32[N,2,3] = nn.add(%v, @far)\n  %y: f32[N,2,3] = nn.mul(%a, @half)",
    "a product of masks": "%a: f32[N,2,3] = nn.mul(%v, @mask)\n  %y: f32[N,2,3] = nn.mul(%a, @half)",
    "2 less an input": "%o: f32[N,2,3] = nn.sub(@two, %m)\n  %k: f32[N,2,3] = nn.mul(%o, @far)\n"
    "  %a: f32[N,2,3] = nn.add(%v, %k)\n  %y: f32[N,2,3] = nn.mul(%a, @half)",
    "1 less what is computed": "%t: f32[N,2,3] = nn.sigmoid(%m)\n  %o: f32[N,2,3] = nn.sub(@one, %t)\n"
    "  %k: f32[N,2,3] = nn.mul(%o, @far)\n  %a: f32[N,2,3] = nn.add(%v, %k)\n  %y: f32[N,2,3] = nn.mul(%a, @half)",
    "times a number that is not far": "%o: f32[N,2,3] = nn.sub(@one, %m)\n  %k: f32[N,2,3] = nn.mul(%o, @near)\n"
    "  %a: f32[N,2,3] = nn.add(%v, %k)\n  %y: f32[N,2,3] = nn.mul(%a, @half)",
    "a bound above": "%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.clamp(%a) {min=-1e4, max=5.0}",
    "a bound that is not far": "%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.clamp(%a) {min=-9e3}",
    "bounds one of which is not far": "%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.maximum(%a, @mixed)",
    "a computed bound": "%a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.maximum(%a, %v)",
    "a bound of no mask": "%a: f32[N,2,3] = nn.add(%v, @bias)\n  %y: f32[N,2,3] = nn.maximum(%a, @low)",
    "a bound of a row": "%s: f32[1,1,3] = nn.slice(@mask) {axis=1, start=0, end=1}\n  %a: f32[N,1,3] = nn.add(%r, %s)\n"
    "  %y: f32[N,2,3] = nn.maximum(%a, @low)",
}


@pytest.mark.parametrize("name", STAYS)
def test_all_else_stays(name: str) -> None:
    before = graph(f"  {STAYS[name]}")
    assert rewritten(before) == before


def test_a_masked_sum_that_others_read_stays() -> None:
    for last in ("nn.mul(%a, @half)", "nn.clamp(%a) {min=-1e4}"):
        before = graph(f"  %a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = {last}", "%y, %a")
        assert rewritten(before) == before


@pytest.mark.parametrize(
    "bound", ["clamp(%a) {min=-1e4}", "maximum(%a, @low)", "maximum(@low, %a)", "maximum(%a, @far)"]
)
def test_a_bound_that_only_what_is_left_out_is_below_goes(bound: str) -> None:
    made = rewritten(graph(f"  %a: f32[N,2,3] = nn.add(%v, @mask)\n  %y: f32[N,2,3] = nn.{bound}"))
    assert ops(made) == ["add"]
