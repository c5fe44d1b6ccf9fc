"""How ranges around sums before softmaxes follow from what is seen, case by case, worked out by hand."""

from __future__ import annotations

import pytest

import qgraph
from qgraph.ir import Graph
from qgraph.targets.masks import held_scores, masks_of

HEAD = """graph @g level=float (%x: f32[N,4], %m: f32[N,4], %c: bool[N,4]) {
  const @far: f32[1] = -1e9, @up: f32[1] = 1e4, @near: f32[1] = 0.5, @two: f32[1] = 2.0, @less: f32[1] = -2.0
  const @none: f32[1] = 0.0, @row: f32[4] = [0.5, 1, 2, 3], @out: f32[4] = [0, -1e9, 0, -1e9]
  const @slope: f32[1] = -1e9, @row2: f32[1,4] = [1, 2, 3, 4]
  %s: f32[N,4] = nn.softmax(%x) {axis=1}
"""


def graph_of(*lines: str, axis: int = 1) -> Graph:
    """A graph whose scores are %s and whose last line is read by a softmax."""
    last = lines[-1].split(":")[0]
    shape = lines[-1].split(":")[1].split("=")[0].strip()
    body = "\n".join(f"  {line}" for line in lines)
    return qgraph.parse(f"{HEAD}{body}\n  %z: {shape} = nn.softmax({last}) {{axis={axis}}}\n  return %z\n}}")


S = "f32[N,4]"
ADDED = f"%a: {S} = nn.add(%s, %m)"
MASK = f"%k: {S} = nn.mul(%m, @far)"
MASKED = f"%a: {S} = nn.add(%s, %k)"
SCORES = "scores:-1:16:0"
CERTAIN = "scores:-1:16:1"

CASES: dict[str, tuple[list[str], dict[str, str], str]] = {  # lines -> observers by value, ops that make masks
    "an input may be a mask": ([ADDED], {"m": "addend", "a": SCORES}, ""),
    "on either side": ([f"%a: {S} = nn.add(%m, %s)"], {"m": "addend", "a": SCORES}, ""),
    "that is taken away": ([f"%a: {S} = nn.sub(%s, %m)"], {"m": "addend:-1", "a": SCORES}, ""),
    "from which scores are taken away": ([f"%a: {S} = nn.sub(%m, %s)"], {"m": "addend", "a": SCORES}, ""),
    "no sum": ([f"%a: {S} = nn.mul(%s, %m)"], {}, ""),
    "no mask": ([f"%a: {S} = nn.add(%s, %s)"], {}, ""),
    "a factor next to an infinity": ([MASK, MASKED], {"k": "mask", "a": CERTAIN}, "mul"),
    "a positive one too": (
        [MASK.replace("@far", "@up"), f"%a: {S} = nn.sub(%s, %k)"],
        {"k": "mask:-1", "a": CERTAIN},
        "mul",
    ),
    "a factor that is none": ([MASK.replace("@far", "@near"), MASKED], {"k": "addend", "a": SCORES}, ""),
    "what a mask is made of": (
        [
            f"%j: {S} = nn.sub(@two, %m)",
            MASK.replace("%m", "%j"),
            f"%l: {S} = nn.add(%k, @near)",
            "%a: f32[N,4] = nn.add(%s, %l)",
        ],
        {"l": "mask", "k": "of_masks", "a": CERTAIN},
        "add mul",
    ),
    "a constant mask": ([f"%a: {S} = nn.add(%s, @out)"], {"a": CERTAIN}, ""),
    "a constant bias": ([f"%a: {S} = nn.add(%s, @row)"], {}, ""),
    "a mask of conditions": ([f"%k: {S} = nn.where(%c, @near, @far)", MASKED], {"a": CERTAIN}, ""),
    "a product with a number behind": (
        [ADDED, f"%b: {S} = nn.mul(%a, @near)"],
        {"m": "addend", "a": "scores:-1:32:0", "b": SCORES},
        "",
    ),
    "with the number first": (
        [ADDED, f"%b: {S} = nn.mul(@near, %a)"],
        {"m": "addend", "a": "scores:-1:32:0", "b": SCORES},
        "",
    ),
    "a quotient behind": (
        [ADDED, f"%b: {S} = nn.div(%a, @two)"],
        {"m": "addend", "a": "scores:-1:32:0", "b": SCORES},
        "",
    ),
    "two factors behind": (
        [ADDED, f"%b: {S} = nn.mul(%a, @two)", f"%d: {S} = nn.mul(%b, @two)"],
        {"m": "addend", "a": "scores:-1:4:0", "b": "scores:-1:8:0", "d": SCORES},
        "",
    ),
    "a negative factor turns scores about": ([ADDED, f"%b: {S} = nn.mul(%a, @less)"], {}, ""),
    "a factor of nothing": ([ADDED, f"%b: {S} = nn.mul(%a, @none)"], {}, ""),
    "factors of their own": ([ADDED, f"%b: {S} = nn.mul(%a, @row)"], {}, ""),
    "a computed factor": ([ADDED, f"%b: {S} = nn.mul(%a, %m)"], {}, ""),
    "an op that is not linear": ([ADDED, f"%b: {S} = nn.tanh(%a)"], {}, ""),
    "dropout behind": (
        [ADDED, f"%b: {S} = nn.dropout(%a) {{p=0.5}}"],
        {"m": "addend", "a": SCORES, "b": SCORES},
        "",
    ),
    "a sum with scores behind": (
        [ADDED, f"%b: {S} = nn.add(%s, %a)"],
        {"m": "addend", "a": SCORES, "b": SCORES},
        "",
    ),
    "taken away from scores": ([ADDED, f"%b: {S} = nn.sub(%s, %a)"], {}, ""),
    "rows that stay rows": (
        [ADDED, "%b: f32[N,1,4] = nn.reshape(%a) {shape=[-1,1,4]}", "%d: f32[N,1,4] = nn.mul(%b, @two)"],
        {"m": "addend", "a": "scores:-1:8:0", "b": "scores:-1:8:0", "d": SCORES},
        "",
    ),
    "rows that do not": ([ADDED, "%b: f32[N,2,2] = nn.reshape(%a) {shape=[-1,2,2]}"], {}, ""),
    "a mask that was moved": (
        [
            "%t: f32[N,1,4] = nn.reshape(%m) {shape=[-1,1,4]}",
            "%u: f32[N,4] = nn.reshape(%t) {shape=[-1,4]}",
            "%a: f32[N,4] = nn.add(%s, %u)",
        ],
        {"m": "addend", "a": SCORES},
        "",
    ),
    "two masks, of which one is certain": (
        [MASK, f"%a: {S} = nn.add(%m, %k)"],
        {"m": "addend", "k": "mask", "a": CERTAIN},
        "mul",
    ),
    "scores that are repeated": (
        [
            "%j: f32[1,4] = nn.softmax(@row2) {axis=1}",
            "%i: f32[1,4] = nn.max(%m) {axes=[0], keepdims=true}",
            "%a: f32[1,4] = nn.add(%j, %i)",
            "%b: f32[N,4] = nn.expand(%a, %x) {shape=[-2,4]}",
        ],
        {"m": "addend", "a": SCORES, "b": SCORES},
        "",
    ),
    "a mask that is repeated": (
        [
            "%i: f32[1,4] = nn.slice(%m) {axis=0, start=0, end=1, step=1}",
            "%k: f32[N,4] = nn.expand(%i, %x) {shape=[-2,4]}",
            "%a: f32[N,4] = nn.add(%s, %k)",
        ],
        {"m": "addend", "a": SCORES},
        "",
    ),
    "a weighted one is learned": (
        [f"%k: {S} = nn.prelu(%m, @slope)", MASKED],
        {},
        "",
    ),
    "a sum over rows is none": (
        ["%j: f32[N,1] = nn.sum(%m) {axes=[1], keepdims=true}", f"%a: {S} = nn.add(%s, %j)"],
        {},
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_lies_around_a_sum_before_a_softmax_is_held(case: str) -> None:
    lines, observers, makers = CASES[case]
    graph = graph_of(*lines, axis=2 if "[N,1,4] =" in lines[-1] or "[N,2,2] =" in lines[-1] else 1)
    held = held_scores(graph, masks_of(graph))
    assert {value.name: word for value, word in held.observers.items()} == observers
    assert sorted(node.op.removeprefix("nn.") for node in held.makers) == makers.split()


def test_the_axis_of_a_softmax_goes_along_with_what_is_transposed() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[N,4,3], %m: f32[N,4,3]) {
  %s: f32[N,4,3] = nn.softmax(%x) {axis=1}
  %a: f32[N,4,3] = nn.add(%s, %m)
  %t: f32[N,3,4] = nn.transpose(%a) {perm=[0,2,1]}
  %z: f32[N,3,4] = nn.softmax(%t) {axis=2}
  %u: f32[N,4,3] = nn.softmax(%a) {axis=2}
  return %z, %u
}""")
    first = graph.clone()
    first.set_outputs(first.outputs[:1])
    first.erase(first.nodes[-1])
    held = held_scores(first, ())
    assert {value.name: word for value, word in held.observers.items()} == {
        "m": "addend",
        "a": "scores:-2:16:0",
        "t": "scores:-1:16:0",
    }


def test_of_two_softmaxes_the_one_with_a_mask_that_is_certain_counts() -> None:
    text = f"""{HEAD}  {ADDED}
  {MASK}
  %b: {S} = nn.add(%a, %k)
  %y: {S} = nn.softmax(%b) {{axis=1}}
  %z: {S} = nn.softmax(%a) {{axis=0}}
  return ORDER
}}"""
    for order in ("%y, %z", "%z, %y"):
        graph = qgraph.parse(text.replace("ORDER", order))
        held = held_scores(graph, masks_of(graph))
        assert {value.name: word for value, word in held.observers.items()} == {
            "m": "addend",
            "k": "mask",
            "b": CERTAIN,
            "a": SCORES.replace("-1", "-2"),
        }


@pytest.mark.parametrize(("number", "mask"), [(-1e4, True), (-9999.0, False), (-3e38, True), (1e9, False)])
def test_a_constant_is_a_mask_from_minus_ten_thousand_down(number: float, mask: bool) -> None:
    graph = qgraph.parse(f"""graph @g level=float (%x: f32[N,2]) {{
  const @k: f32[2] = [0.0, {number}], @i: i64[1] = [-20000], @e: f32[0,2] = []
  %1: f32[N,2] = nn.add(%x, @k)
  return %1, @i, @e
}}""")
    assert [*masks_of(graph)] == ([graph.constants["k"]] if mask else [])


def test_what_activations_or_sums_make_is_no_mask_and_what_moves_one_is() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[N,2], %i: i64[N,2]) {
  const @k: f32[2] = [0.0, -1e9], @s: f32[1] = [1.0], @z: i32[1] = [0], @one: i64[1] = [1]
  %1: f32[2] = quant.fake_quant(@k, @s, @z) {type="i16", range=[-32768,32767]}
  %2: f32[N,2] = nn.cast(%i) {dtype="f32"}
  %3: f32[N,2] = nn.mul(%2, %1)
  %4: f32[N,2] = nn.add(%x, %1)
  %5: i64[N,2] = nn.add(%i, @one)
  %6: f32[N,2] = nn.cast(%5) {dtype="f32"}
  return %3, %4, %6
}""")
    names = graph.value_names()
    assert {names[value] for value in masks_of(graph)} >= {"@k", "%3"}
    assert not {names[value] for value in masks_of(graph)} & {"%2", "%4", "%5", "%6"}
