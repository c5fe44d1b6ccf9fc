"""How a node's result gets its grid, by rules that say one thing each, and which operands are read on another grid."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest

import qgraph
from qgraph.errors import InputError
from qgraph.ir import Graph, Node
from qgraph.targets.grids import Grid, Grids, brought, is_activation
from qgraph.targets.rules import OpRule, QuantRules, QuantSpec

BYTES, WIDE = QuantSpec("i8", -128, 127), QuantSpec("i16", -32767, 32767, symmetric=True)


def rules(wide: bool = True, by_default: bool = False, **ops: OpRule) -> QuantRules:
    named = {f"nn.{name}": rule for name, rule in ops.items()}
    return QuantRules(BYTES, named, "half_even", wide=WIDE if wide else None, by_default=by_default)


def graph_of(lines: str, inputs: str = "%x: f32[N,2], %y: f32[N,2]", returned: str = "%1") -> Graph:
    return qgraph.parse(f"""graph @g level=float ({inputs}) {{
  const @t: f32[3,2] = [1, 2, 3, 4, 5, 6], @k: f32[2] = [1, 2]
{lines}
  return {returned}
}}""")


def grids(graph: Graph, of: QuantRules, bits: dict[str, int] | None = None, **words: Any) -> Grids:
    names = {value: name.removeprefix("%") for value, name in graph.value_names().items()}

    def asked(node: Node, among: Collection[int] = range(17)) -> tuple[int, str] | None:
        name = names[node.results[0]]
        found = (bits or {}).get(name)
        return (found, name) if found is not None and found in among else None

    return Grids(graph, of, asked, **words)


def rule(line: str, returned: str = "%1", of: OpRule | None = None, **words: str) -> str:
    """The rule of the first node under one for its op."""
    graph = graph_of(line, returned=returned, **words)
    node = graph.nodes[0]
    return grids(graph, rules(**({node.op.removeprefix("nn."): of} if of is not None else {}))).rule(node)


RELU, GATHER = "  %1: f32[N,2] = nn.relu(%x)", "  %1: f32[N,2] = nn.gather(@t, %i) {axis=0}"
FIXED, SAME, SHARED, JOIN = OpRule("fixed", scale=0.5), OpRule("same"), OpRule("shared"), OpRule("join")


def test_a_rule_is_what_the_target_says_where_it_holds_and_else_its_own() -> None:
    assert rule(RELU) == "own"
    assert rule(RELU, of=SAME) == "same"
    assert rule(RELU, of=OpRule("same", holds=lambda node: False)) == "own"
    assert rule("  %1: f32[N,2] = nn.dropout(%x) {p=0.5}") == "same"  # nothing happens to the codes
    graph = graph_of(RELU)
    assert grids(graph, rules(relu=FIXED), floats=[graph.nodes[0]]).rule(graph.nodes[0]) == "own"


def test_what_indices_choose_of_constants_has_no_operand_whose_grid_it_could_have() -> None:
    ids = "%i: i64[N]"
    assert rule(GATHER, of=SAME, inputs=ids) == "own"
    assert rule(GATHER, of=JOIN, inputs=ids) == "own"
    assert rule(GATHER, of=FIXED, inputs=ids) == "fixed"


def test_a_join_of_one_operand_moves_or_shares_or_brings_a_number() -> None:
    pad = "  %1: f32[N,4] = nn.pad(%x) {{pads=[0,1,0,1], value={}}}"
    assert rule(pad.format(0.0), of=JOIN) == "same"
    assert rule(pad.format(0.5), of=JOIN) == "join"
    for infinity in ("inf", "-inf"):
        assert rule(pad.format(infinity), of=JOIN) == "shared"
    assert rule("  %1: f32[N,2] = nn.concat(%x) {axis=1}", of=JOIN) == "same"
    assert rule("  %1: f32[N,4] = nn.concat(%x, %y) {axis=1}", of=JOIN) == "join"
    assert rule("  %1: f32[N,2] = nn.concat(%x) {axis=1}", of=SHARED) == "shared"


def test_the_number_of_a_pad_counts_and_other_joins_bring_none() -> None:
    pad = "  %1: f32[N,4] = nn.pad(%x) {pads=[0,1,0,1], value=0.5}"
    graph = graph_of(pad + "\n  %2: f32[N,6] = nn.concat(%1, %x) {axis=1}")
    assert [brought(node) for node in graph.nodes] == [0.5, 0.0]
    apart = graph_of(pad)
    assert grids(apart, rules(pad=JOIN)).of(apart.nodes[0].result).number == 0.5


def test_floats_that_inputs_make_are_activations() -> None:
    graph = graph_of(
        "  %1: f32[N,2] = nn.relu(%x)\n  %2: f32[2] = nn.relu(@k)\n  %3: bool[N,2] = nn.less(%x, %y)\n"
        '  %4: f32[N,2] = nn.cast(%3) {dtype="f32"}'
    )
    assert [is_activation(node) for node in graph.nodes] == [True, False, False, True]


# ---- widths


def of_16(graph: Graph, of: QuantRules, bits: dict[str, int] | None = None, **words: Any) -> dict[str, bool]:
    made = grids(graph, of, bits, **words)
    names = graph.value_names()
    return {names[value].removeprefix("%"): made.of(value).wide for value in made.activations()}


TWO = "  %1: f32[N,2] = nn.relu(%x)\n  %2: f32[N,2] = nn.tanh(%1)"


def test_values_have_16_bits_where_asked_for_or_by_default_or_where_they_are_fine() -> None:
    graph = graph_of(TWO, returned="%2")
    assert of_16(graph, rules()) == {"x": False, "y": False, "1": False, "2": False}
    assert of_16(graph, rules(), {"1": 16}) == {"x": False, "y": False, "1": True, "2": False}
    assert of_16(graph, rules(by_default=True)) == {"x": True, "y": True, "1": True, "2": True}
    assert of_16(graph, rules(by_default=True), {"1": 8})["1"] is False
    narrow = OpRule(narrow=True)
    assert of_16(graph, rules(by_default=True, tanh=narrow)) == {"x": True, "y": True, "1": True, "2": False}
    assert of_16(graph, rules(), fine=graph.nodes[:1]) == {"x": False, "y": False, "1": True, "2": False}
    assert of_16(graph, rules(relu=narrow), fine=graph.nodes[:1])["1"] is False


def test_what_moves_16_bits_by_an_op_of_8_has_8() -> None:
    graph = graph_of(TWO, returned="%2")
    for of, wide in ((SAME, True), (OpRule("same", narrow=True), False), (OpRule("shared", narrow=True), False)):
        assert of_16(graph, rules(tanh=of), {"1": 16})["2"] is wide
    made = grids(graph, rules(tanh=OpRule("same", narrow=True)))
    assert made.of(graph.nodes[1].result) is made.of(graph.nodes[0].result)  # 8 bits have 8


def test_more_bits_than_an_op_has_are_refused() -> None:
    graph = graph_of(TWO, returned="%2")
    of = rules(tanh=OpRule(narrow=True))
    assert of_16(graph, of, {"2": 8})["2"] is False
    with pytest.raises(InputError, match=r"'2' asks for 9 bits of nn.tanh, whose integer op has 8") as caught:
        grids(graph, of, {"2": 9})
    assert caught.value.help == "let it have 8: what reads it may have 16"
    assert "nn.tanh(%1)" in str(caught.value)


def test_a_fixed_grid_is_that_of_8_or_16_bits_as_asked_and_of_no_others() -> None:
    graph = graph_of(RELU)
    of = rules(relu=OpRule("fixed", scale=0.5, zero_point=-3, wide=(0.25, 0)))

    def fixed(bits: dict[str, int] | None, of: QuantRules = of) -> tuple[object, bool]:
        grid = grids(graph, of, bits).of(graph.nodes[0].result)
        return grid.fixed, grid.wide

    assert fixed(None) == fixed({"1": 8}) == ((0.5, -3), False)
    assert fixed({"1": 16}) == ((0.25, 0), True)
    assert fixed({"1": 4}) == ((0.5, -3), False)
    assert fixed({"1": 16}, rules(relu=OpRule("fixed", scale=0.5, zero_point=-3))) == ((0.5, -3), False)
    by_default = rules(by_default=True, relu=OpRule("fixed", scale=0.5, zero_point=-3, wide=(0.25, 0)))
    assert fixed(None, by_default) == ((0.25, 0), True)


# ---- edges


def edges(
    graph: Graph, of: QuantRules, bits: dict[str, int] | None = None, **words: Any
) -> list[tuple[str, int, bool, object]]:
    made = grids(graph, of, bits, **words)
    names = graph.value_names()
    return [(names[node.results[0]], index, grid.wide, grid.fixed) for node, index, grid in made.edges()]


def test_operands_of_another_width_are_read_on_a_grid_of_this_one() -> None:
    graph = graph_of(TWO, returned="%2")
    assert edges(graph, rules()) == []
    assert edges(graph, rules(), {"1": 16}) == [("%1", 0, True, None), ("%2", 0, False, None)]
    assert edges(graph, rules(), {"2": 16}) == [("%2", 0, True, None)]
    assert edges(graph, rules(), {"2": 16}, floats=graph.nodes[1:]) == []
    finely = OpRule(finely=(0,))
    assert edges(graph, rules(tanh=finely)) == [("%2", 0, True, None)]
    assert edges(graph, rules(tanh=finely), {"1": 16}) == [("%1", 0, True, None)]
    assert edges(graph, rules(wide=False, tanh=finely)) == []
    assert edges(graph, rules(tanh=OpRule(finely=(1,)))) == []


def test_several_readers_of_another_width_share_a_grid() -> None:
    graph = graph_of(TWO + "\n  %3: f32[N,2] = nn.sigmoid(%1)", returned="%2, %3")
    made = grids(graph, rules(), {"2": 16, "3": 16})
    (_, _, first), (_, _, second) = made.edges()
    assert first is second
    assert first.root is graph.nodes[0].result


def test_what_lies_on_a_fixed_grid_is_read_on_the_fixed_one_of_the_other_width() -> None:
    graph = graph_of(TWO, returned="%2")
    of = rules(relu=OpRule("fixed", scale=0.5, zero_point=-3, wide=(0.25, 0)))
    assert edges(graph, of, {"2": 16}) == [("%2", 0, True, (0.25, 0))]
    assert edges(graph, of, {"1": 16}) == [("%1", 0, True, None), ("%2", 0, False, (0.5, -3))]
    assert edges(graph, of, fine=graph.nodes[:1]) == [("%1", 0, True, None), ("%2", 0, False, None)]


def test_values_are_fine_that_have_16_bits_without_being_asked_for() -> None:
    graph = graph_of(TWO, returned="%2")
    value = graph.nodes[0].result
    assert grids(graph, rules(), fine=graph.nodes[:1]).is_fine(value)
    assert not grids(graph, rules()).is_fine(value)
    assert not grids(graph, rules(), {"1": 16}).is_fine(value)
    assert not grids(graph, rules(by_default=True)).is_fine(value)
    made = grids(graph, rules())
    assert value in made
    assert graph.constants["k"] not in made


def test_constants_of_joins_and_tables_of_which_rows_are_chosen_are_on_the_grid_of_the_result() -> None:
    joined = graph_of("  %1: f32[N,2] = nn.concat(%x, @t) {axis=0}")
    assert edges(joined, rules(concat=JOIN)) == [("%1", 1, False, None)]
    assert edges(joined, rules(concat=OpRule())) == []
    assert edges(graph_of(GATHER, "%i: i64[N]"), rules()) == [("%1", 0, False, None)]


def test_bits_that_are_asked_for_first_are_kept_with_who_asked() -> None:
    graph = graph_of(TWO)
    grid = Grid(graph.inputs[0], False)
    first, second = graph.nodes
    grid.ask(None, first)
    assert (grid.bits, grid.wide) == (None, False)
    grid.ask((4, "a"), first)
    grid.ask((4, "b"), second)
    assert grid.bits == (4, "a", first)
    with pytest.raises(InputError, match="'a' and 'b' ask for activations of 4 and 5 bits") as caught:
        grid.ask((5, "b"), second)
    assert caught.value.help == "these values share their scale: ask for the same number of bits"
    assert "nn.relu(%x)" in str(caught.value)
    assert "nn.tanh(%1)" in str(caught.value)


def test_a_grid_admits_parts_of_its_width_that_ask_for_nothing_else() -> None:
    graph = graph_of(TWO)
    node = graph.nodes[0]

    def made(bits: int | None, default: bool = False) -> Grid:
        return Grid(node.result, default, bits=None if bits is None else (bits, "p", node))

    admitted: Callable[[Grid, Grid], bool] = lambda a, b: a.admits(b)  # noqa: E731
    assert admitted(made(None), made(None))
    assert admitted(made(4), made(None))
    assert admitted(made(4), made(4))
    assert not admitted(made(4), made(5))
    assert not admitted(made(None), made(4))
    assert not admitted(made(None), made(None, default=True))
    assert not admitted(made(16), made(None))
    assert admitted(made(16), made(None, default=True))
    assert [made(bits).wide for bits in (8, 9)] == [False, True]
    assert made(8, default=True).wide is False


def test_numbers_of_a_join_have_to_lie_on_the_grid_that_it_is_lent() -> None:
    """On codes from -128 to 127 of scale 0.5 around -128: up to 127.5, and half a step beyond."""
    for number, lent in ((127.5, True), (127.75, True), (127.8, False), (-0.25, True), (-0.3, False)):
        lines = "  %1: f32[N,2] = nn.relu(%x)\n  %2: f32[N,4] = nn.pad(%1) {pads=[0,1,0,1], value=NUMBER}"
        graph = graph_of(lines.replace("NUMBER", str(number)), returned="%2")
        of = rules(relu=OpRule("fixed", scale=0.5, zero_point=-128), pad=JOIN)
        assert (grids(graph, of).of(graph.nodes[1].result).fixed == (0.5, -128)) == lent, number
    assert np.isfinite(brought(graph.nodes[1]))


def test_of_several_floats_that_a_node_in_float_makes_those_that_are_read_have_grids_of_their_own() -> None:
    shapes = {"x": "[N,3,2]", "w": "[8,2]", "r": "[8,2]"}
    graph = qgraph.parse(f"""graph @g level=float (%x: f32{shapes["x"]}) {{
  const @w: f32{shapes["w"]} = 0.5, @r: f32{shapes["r"]} = 0.5
  %1: f32[N,3,2], %2: f32[N,2], %3: f32[N,2] = nn.lstm(%x, @w, @r)
  %4: f32[N,2] = nn.relu(%2)
  return %1, %4
}}""")
    lstm, relu = graph.nodes
    found = grids(graph, rules(), floats=[lstm])
    assert found.activations() == [graph.inputs[0], *lstm.results[:2], relu.result]
    assert found.of(lstm.results[0]) is not found.of(lstm.results[1])
    assert found.of(lstm.results[1]).root is lstm.results[1]
    assert grids(graph, rules()).activations() == [graph.inputs[0], lstm.results[0], relu.result]
