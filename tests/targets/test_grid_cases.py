"""Which values lie on one grid, case by case: the values of a group stand together, groups are parted by `|`."""

from __future__ import annotations

from collections.abc import Collection

import pytest

import qgraph
from qgraph import targets
from qgraph.errors import InputError
from qgraph.ir import Graph, Node, set_states
from qgraph.targets.grids import Grids

HEAD = "graph @g level=float (%x: f32[N,2,4,4], %y: f32[N,2,4,4]) {\n  const @k: f32[1,2,4,4] = 0.5\n"
SAME, WIDE, MEAN = "f32[N,2,4,4]", "f32[N,4,4,4]", "f32[N,2,1,1]"


def pad(of: str, value: float) -> str:
    return f"%p: {SAME} = nn.pad(%{of}) {{pads=[0,0,0,0,0,0,0,0], value={value}}}"


A = f"%a: {SAME} = nn.relu(%x)"
B = f"%b: {SAME} = nn.relu(%y)"
CAT = f"%c: {WIDE} = nn.concat(%a, %b) {{axis=1}}"
MOVED = f"%r: {SAME} = nn.max_pool(%a) {{kernel=[1,1], stride=[1,1], pads=[0,0,0,0]}}"
OTHER = f"%o: {SAME} = nn.relu6(%a)"
SIGMOIDS = (f"%a: {SAME} = nn.sigmoid(%x)", f"%b: {SAME} = nn.sigmoid(%y)")
TANH = f"%b: {SAME} = nn.tanh(%y)"
POOLED = "f32[N,2,2,2]"
POOLS = [
    f"%{new}: {POOLED} = nn.avg_pool(%{old}) {{kernel=[2,2], stride=[2,2], pads=[0,0,0,0]}}"
    for new, old in (("m", "a"), ("n", "b"))
]
MEANS = [f"%{new}: {MEAN} = nn.mean(%{old}) {{axes=[2,3], keepdims=true}}" for new, old in (("m", "a"), ("n", "b"))]

CASES: dict[str, tuple[list[str], str, str]] = {  # what it is -> lines, what is returned, groups
    "two that nobody else reads join": ([A, B, CAT], "c", "a b c | x | y"),
    "inputs join too": ([f"%c: {WIDE} = nn.concat(%x, %y) {{axis=1}}"], "c", "c x y"),
    "one that is returned keeps its own": ([A, B, CAT], "a c", "a | b c | x | y"),
    "one that another op reads keeps its own": ([A, B, OTHER, CAT], "c o", "a | b c | o | x | y"),
    "one that moves joins with what it moves": (
        [A, B, MOVED, CAT.replace("%a", "%r")],
        "c",
        "a b c r | x | y",
    ),
    "one that moves, of what another op reads": (
        [A, B, OTHER, MOVED, CAT.replace("%a", "%r")],
        "c o",
        "a r | b c | o | x | y",
    ),
    "one that moves and is returned": ([A, B, MOVED, CAT.replace("%a", "%r")], "r c", "a r | b c | x | y"),
    "what moves to the concat beside the value itself": (
        [A, MOVED, f"%c: {WIDE} = nn.concat(%a, %r) {{axis=1}}"],
        "c",
        "a c r | x",
    ),
    "the same value twice": ([A, f"%c: {WIDE} = nn.concat(%a, %a) {{axis=1}}"], "c", "a c | x"),
    "dropout moves": (
        [A, B, f"%r: {SAME} = nn.dropout(%a) {{p=0.5}}", CAT.replace("%a", "%r")],
        "c",
        "a b c r | x | y",
    ),
    "an average has the grid of its operand, and does not join": (
        [A, B, *POOLS, "%c: f32[N,4,2,2] = nn.concat(%m, %n) {axis=1}"],
        "c",
        "a m | b n | c | x | y",
    ),
    "a mean joins, and what it is of does not": (
        [A, B, *MEANS, "%c: f32[N,4,1,1] = nn.concat(%m, %n) {axis=1}"],
        "c",
        "a | b | c m n | x | y",
    ),
    "two fixed grids that are one lend it": ([*SIGMOIDS, CAT], "c", "a b c | x | y"),
    "two fixed grids that differ do not": ([SIGMOIDS[0], TANH, CAT], "c", "a | b | c | x | y"),
    "a fixed grid and another do not": ([SIGMOIDS[0], B, CAT], "c", "a | b c | x | y"),
    "a fixed grid and a constant do not": (
        [SIGMOIDS[0], f"%c: {WIDE} = nn.concat(%a, @k) {{axis=1}}"],
        "c",
        "a | c | x",
    ),
    "a fixed grid lends itself to others' readers too": ([*SIGMOIDS, CAT], "a c", "a b c | x | y"),
    "a concat of one moves": ([A, f"%c: {SAME} = nn.concat(%a) {{axis=1}}"], "a c", "a c | x"),
    "a pad with zeros moves": ([A, pad("a", 0.0)], "a p", "a p | x"),
    "a pad with a number has its own": ([A, pad("a", 0.5)], "a p", "a | p | x"),
    "a pad with a number takes what nobody else reads": ([A, pad("a", 0.5)], "p", "a p | x"),
    "a pad with infinity has its operand's": ([A, pad("a", float("-inf"))], "a p", "a p | x"),
    "a pad with a number that a fixed grid holds": ([SIGMOIDS[0], pad("a", 0.5)], "a p", "a p | x"),
    "a pad with a number that a fixed grid does not hold": ([SIGMOIDS[0], pad("a", 2.0)], "a p", "a | p | x"),
    "concats of concats": (
        [A, B, CAT, "%d: f32[N,6,4,4] = nn.concat(%c, %x) {axis=1}"],
        "d",
        "a b c d | x | y",
    ),
}


def graph_of(lines: list[str], returned: str) -> Graph:
    used = " ".join(lines)
    head = HEAD if "%y" in used else HEAD.replace(", %y: f32[N,2,4,4]", "")
    outputs = ", ".join(f"%{name}" for name in returned.split())
    return qgraph.parse(
        head + "\n".join(f"  {line} loc({line[1]} m.py:1)" for line in lines) + f"\n  return {outputs}\n}}"
    )


def grids_of(lines: list[str], returned: str, bits: dict[str, int] | None = None, target: str = "litert") -> Grids:
    def asked(node: Node, among: Collection[int] = range(17)) -> tuple[int, str] | None:
        name = node.result.name
        return (bits[name], name) if bits and bits.get(name) in among else None

    return Grids(graph_of(lines, returned), targets.get(target).quant_rules(), asked)


def groups(grids: Grids) -> str:
    found: dict[int, list[str]] = {}
    for value in grids.activations():
        found.setdefault(id(grids.of(value)), []).append(value.name)
    return " | ".join(sorted(" ".join(sorted(names)) for names in found.values()))


@pytest.mark.parametrize("case", CASES)
def test_values_lie_on_one_grid_where_that_costs_nobody_anything(case: str) -> None:
    lines, returned, expected = CASES[case]
    assert groups(grids_of(lines, returned)) == expected


BITS = {
    "one operand asks": ({"a": 4}, "a b c | x | y", 4),
    "both ask for the same": ({"a": 4, "b": 4}, "a b c | x | y", 4),
    "the operands differ": ({"a": 4, "b": 6}, "a | b | c | x | y", None),
    "the result asks": ({"c": 4}, "a b c | x | y", 4),
    "the result and an operand ask for the same": ({"c": 4, "a": 4}, "a b c | x | y", 4),
    "the result and an operand differ": ({"c": 4, "a": 6}, "a | b c | x | y", 4),
}


@pytest.mark.parametrize("case", BITS)
def test_nobody_gets_other_bits_than_he_asks_for(case: str) -> None:
    bits, expected, number = BITS[case]
    grids = grids_of([A, B, CAT], "c", bits)
    assert groups(grids) == expected
    asked = next(grids.of(value) for value in grids.activations() if value.name == "c").bits
    assert (asked[0] if asked else None) == number


def test_bits_of_a_result_keep_fixed_grids_from_being_lent_and_fixed_grids_have_none() -> None:
    assert groups(grids_of([*SIGMOIDS, CAT], "c", {"c": 4})) == "a | b | c | x | y"
    assert groups(grids_of([*SIGMOIDS, CAT], "c", {"a": 4})) == "a b c | x | y"


def test_what_moves_may_ask_for_the_same_bits_and_no_others() -> None:
    grids = grids_of([A, MOVED], "r", {"a": 4, "r": 4})
    (grid,) = {id(grids.of(value)): grids.of(value) for value in grids.activations() if value.name in "ar"}.values()
    assert grid.bits is not None
    assert grid.bits[:2] == (4, "a")
    with pytest.raises(InputError, match="'a' and 'r' ask for activations of 4 and 5 bits") as caught:
        grids_of([A, MOVED], "r", {"a": 4, "r": 5})
    assert "a  (m.py:1)" in str(caught.value)
    assert "r  (m.py:1)" in str(caught.value)


def test_a_pads_number_counts_in_its_grid() -> None:
    for value, number in ((0.5, 0.5), (0.0, 0.0)):
        grids = grids_of([A, pad("a", value)], "p")
        assert [grids.of(each).number for each in grids.activations() if each.name == "p"] == [number]
    grids = grids_of([SIGMOIDS[0], pad("a", 0.5)], "p")
    assert [grids.of(each).fixed for each in grids.activations() if each.name == "p"] == [(1 / 256, -128)]


ADD = f"%s: {SAME} = nn.add(%x, %y)"
STATES: dict[str, tuple[list[str], str, dict[str, int], str, str]] = {
    # what it is -> lines, what is returned, states (input -> output), groups, what is requantized as it is returned
    "a state and its next value": ([A, ADD], "a s", {"x": 1}, "a | s x | y", ""),
    "a state of fixed scale": ([SIGMOIDS[0]], "a", {"x": 0}, "a x", ""),
    "a state that stays as it is": ([A], "a x", {"x": 1}, "a | x", ""),
    "a ring buffer": (
        [A, f"%r: {SAME} = nn.max_pool(%x) {{kernel=[1,1], stride=[1,1], pads=[0,0,0,0]}}"],
        "a r",
        {"x": 1},
        "a | r x",
        "",
    ),
    "two states that change places": (
        [CAT.replace("%a", "%x").replace("%b", "%y")],
        "c x y",
        {"x": 2, "y": 1},
        "c | x y",
        "",
    ),
    "a state that is joined with another value, and a fixed scale": (
        [f"%c: {WIDE} = nn.concat(%x, %y) {{axis=1}}", f"%a: {SAME} = nn.sigmoid(%y)"],
        "c a",
        {"x": 1},
        "a | c x | y",
        "a on c",
    ),
    "two fixed scales": (
        [f"%a: {SAME} = nn.sigmoid(%y)", f"%b: {SAME} = nn.tanh(%x)"],
        "a b",
        {"x": 0, "y": 1},
        "a x | b y",
        "",
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_lies_on_the_grid_of_its_next_value(case: str) -> None:
    lines, returned, states, expected, requantized = STATES[case]
    graph = graph_of(lines, returned)
    set_states(graph, states)
    grids = Grids(graph, targets.get("litert").quant_rules(), lambda node, among=(): None)
    assert groups(grids) == expected
    edges = [
        f"{node.operand(index).name} on {grid.root.name}" for node, index, grid in grids.edges() if not node.results
    ]
    assert edges == ([requantized] if requantized else [])


def test_bits_that_are_asked_for_are_those_of_the_state_too() -> None:
    def asked(node: Node, among: Collection[int] = range(17)) -> tuple[int, str] | None:
        return (4, "s") if node.result.name == "s" else None

    graph = graph_of([A, ADD], "a s")
    set_states(graph, {"x": 1})
    grids = Grids(graph, targets.get("litert").quant_rules(), asked)
    bits = grids.of(graph.inputs[0]).bits
    assert bits is not None
    assert bits[:2] == (4, "s")


@pytest.mark.parametrize(("bits", "wide"), [(7, False), (8, False), (9, True), (16, True)])
def test_more_than_8_bits_are_stored_in_16(bits: int, wide: bool) -> None:
    grids = grids_of([A], "a", {"a": bits})
    assert [grids.of(value).wide for value in grids.activations()] == [False, wide]


@pytest.mark.parametrize(("target", "wide"), [("litert", True), ("tflm", False)])
def test_what_moves_16_bits_has_8_where_its_op_has_no_more(target: str, wide: bool) -> None:
    dropped = f"%d: {SAME} = nn.dropout(%a) {{p=0.5}}"
    grids = grids_of([A, dropped, MEANS[0].replace("nn.mean(%a)", "nn.max(%d)")], "m", {"a": 16}, target)
    a, d, m = (grids.of(value) for value in grids.activations()[1:])
    assert a is d
    assert a.wide
    assert (m is a) == m.wide == wide


def test_constants_of_a_concat_lie_on_its_grid_where_it_has_one_for_all() -> None:
    text = """graph @g level=float (%x: f32[1,2]) {
      const @k: f32[1,3] = 0.5
      %1: f32[1,2] = nn.relu(%x)
      %2: f32[1,5] = nn.concat(%1, @k) {axis=1}
      return %2
    }"""
    for target, places in (("litert", [1]), ("onnxruntime", [])):
        grids = Grids(qgraph.parse(text), targets.get(target).quant_rules(), lambda node, among=(): None)
        assert [index for _, index, _ in grids.edges()] == places


def test_all_rows_of_a_table_lie_on_the_grid_of_those_that_are_chosen() -> None:
    text = """graph @g level=float (%i: i64[N]) {
      const @t: f32[3,1] = [0.5, -2.0, 9.0]
      %1: f32[N,1] = nn.gather(@t, %i) {axis=0}
      return %1
    }"""
    grids = Grids(qgraph.parse(text), targets.get("litert").quant_rules(), lambda node, among=(): None)
    ((node, index, grid),) = grids.edges()
    assert index == 0
    assert grid is grids.of(node.result)


def test_bits_that_are_asked_for_what_moves_a_state_are_those_of_its_next_value() -> None:
    def grids(**bits: int) -> Grids:
        graph = graph_of([MOVED.replace("%a", "%x"), ADD], "r s")
        set_states(graph, {"x": 1})
        rules = targets.get("litert").quant_rules()
        return Grids(graph, rules, lambda node, among=(): asked_for(node, bits))

    def asked_for(node: Node, bits: dict[str, int]) -> tuple[int, str] | None:
        return (bits[node.result.name], node.result.name) if node.result.name in bits else None

    for bits in ({"r": 4}, {"s": 4}, {"r": 4, "s": 4}):
        made = grids(**bits)
        assert groups(made) == "r s x | y"
        found = made.of(made.graph.outputs[1]).bits
        assert found is not None
        assert found[0] == 4
    with pytest.raises(InputError, match="'s' and 'r' ask for activations of 5 and 4 bits on one grid"):
        grids(r=4, s=5)


def test_a_state_whose_next_value_is_a_constant_keeps_a_grid_of_its_own() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[1,2], %h: f32[1,2]) {
      const @k: f32[1,2] = 0.5
      %1: f32[1,2] = nn.add(%x, %h)
      return %1, @k
    }""")
    set_states(graph, {"h": 1})
    grids = Grids(graph, targets.get("litert").quant_rules(), lambda node, among=(): None)
    assert groups(grids).count("|") == 2
    assert grids.edges() == []
