"""Patterns, rules and the loop that applies them."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

from qgraph.errors import InputError, PassError
from qgraph.ir import Builder, Graph, parse, verify_graph
from qgraph.passes import rewriter
from qgraph.passes.engine.log import Log, logging_to
from qgraph.passes.rewriter import (
    Declined,
    Match,
    Replacement,
    Rule,
    every,
    match_pattern,
    maybe,
    pattern,
    rewrite,
    rule,
)

GRAPH = """graph @g level=float (%x: f32[N,4], %y: f32[N,4]) {
  const @c: f32[1,4] = [1.0, 2.0, 3.0, 4.0]
  %1: f32[N,4] = nn.relu(%x) loc(a m.py:1)
  %2: f32[N,4] = nn.add(@c, %1) loc(b m.py:2)
  %3: f32[N,4] = nn.relu6(%2) loc(c m.py:3)
  %4: f32[N,8] = nn.concat(%3, %3) {axis=1} loc(d m.py:4)
  %5: f32[N,4] = nn.add(%x, %y)
  return %4, %5
}"""


def graph() -> Graph:
    return parse(GRAPH)


def declined(shape: object, node: object) -> str:
    found = match_pattern(shape, node)  # type: ignore[arg-type]
    assert isinstance(found, Declined)
    return found.reason


def test_commutative_operands_match_in_either_order() -> None:
    add = list(graph().nodes)[1]
    plain = pattern("nn.add", pattern("nn.relu", "x"), "@c")
    assert match_pattern(plain, add) is None
    match = match_pattern(pattern("nn.add", pattern("nn.relu", "x", bind="relu"), "@c", commutative=True), add)
    assert isinstance(match, Match)
    assert (match.x.name, match.c.name, match.relu.op) == ("x", "c", "nn.relu")
    assert [node.op for node in match.matched] == ["nn.relu", "nn.add"]


def test_a_name_that_is_bound_twice_asks_for_the_same_value() -> None:
    nodes = list(graph().nodes)
    assert isinstance(match_pattern(pattern("nn.concat", "x", "x"), nodes[3]), Match)
    assert "another value" in declined(pattern("nn.add", "x", "x"), nodes[4])


def test_conditions_that_fail_say_why() -> None:
    nodes = list(graph().nodes)
    assert declined(pattern("nn.add", "@x"), nodes[4]) == "operand x of nn.add is not a constant"
    assert declined(pattern("nn.relu6", "x", uses=1), nodes[2]) == "the result of nn.relu6 has 2 uses, not 1"
    assert declined(pattern("nn.concat", "x", attrs={"axis": 0}), nodes[3]) == "nn.concat has axis=1, not 0"
    wide = pattern("nn.concat", "x", attrs={"axis": lambda axis: axis > 1})
    assert declined(wide, nodes[3]) == "nn.concat has axis=1"
    assert "rank 4" in declined(pattern("nn.relu", "x", type="f[N, C, H, W]"), nodes[0])
    part = pattern("nn.relu6", type="f[N, C]")
    assert isinstance(match_pattern(pattern("nn.concat", part, type="f[N, D]"), nodes[3]), Match)
    assert "C is 8 there, 4 elsewhere" in declined(pattern("nn.concat", part, type="f[N, C]"), nodes[3])


def test_optional_and_variadic_parts() -> None:
    nodes = list(graph().nodes)
    both = pattern("nn.relu6", maybe(pattern("nn.add", "@c", "x", bind="add")))
    match = match_pattern(both, nodes[2])
    assert isinstance(match, Match)
    assert match.add.op == "nn.add"
    without = pattern("nn.concat", maybe(pattern("nn.relu", "x", bind="relu")))
    match = match_pattern(without, nodes[3])
    assert isinstance(match, Match)
    assert match.relu is None
    assert match.x is nodes[2].result
    match = match_pattern(pattern("nn.concat", every(pattern("nn.relu6", bind="parts"))), nodes[3])
    assert isinstance(match, Match)
    assert match.parts == (nodes[2].result, nodes[2].result)
    match = match_pattern(pattern("nn.concat", "first", "*rest"), nodes[3])
    assert isinstance(match, Match)
    assert match.rest == (nodes[2].result,)
    assert match_pattern(pattern("nn.concat", every(pattern("nn.relu"))), nodes[3]) is None


def test_a_rewrite_keeps_uses_types_names_and_origins() -> None:
    @rule(pattern("nn.relu6", pattern("nn.add", pattern("nn.relu", "x"), "@c", commutative=True)))
    def swap(match: Match, build: Builder) -> Replacement:
        return build.nn.relu6(build.nn.add(match.x, build.constant(np.zeros((1, 4), np.float32), "zero")))

    changed = graph()
    assert rewrite(changed, [swap]) == 1
    verify_graph(changed)
    assert [node.op for node in changed.nodes] == ["nn.add", "nn.relu6", "nn.concat", "nn.add"]
    assert [origin.path for origin in list(changed.nodes)[1].origins] == ["a", "b", "c"]
    assert list(changed.nodes)[2].operands == (list(changed.nodes)[1].result,) * 2


def test_a_rule_that_declines_leaves_nothing_behind() -> None:
    @rule(pattern("nn.relu6", "x"))
    def builds_and_declines(match: Match, build: Builder) -> Replacement:
        build.nn.relu(match.x)
        return Declined("for no reason")

    changed, log = graph(), Log()
    with logging_to(log):
        assert rewrite(changed, [builds_and_declines]) == 0
    assert changed == graph()
    assert [(name, node.op, reason) for name, node, reason in log.declined()] == [
        ("builds_and_declines", "nn.relu6", "for no reason")
    ]


def test_rules_that_never_end_are_an_error() -> None:
    @rule(pattern("nn.relu", "x"))
    def again(match: Match, build: Builder) -> Replacement:
        return build.nn.relu(match.x)

    with pytest.raises(PassError, match="do not come to an end: again applied again and again"):
        rewrite(graph(), [again])


@pytest.mark.parametrize(("times", "ends"), [(rewriter.LIMIT * 2, True), (rewriter.LIMIT * 2 + 1, False)])
def test_so_many_rewrites_are_taken_and_no_more(times: int, ends: bool) -> None:
    done: list[str] = []

    @rule(pattern("nn.relu", "x"))
    def often(match: Match, build: Builder) -> Replacement:
        done.append("once")
        return build.nn.relu(match.x) if len(done) <= times else Declined("enough")

    if ends:
        assert rewrite(chain("nn.relu", 1), [often]) == times
        return
    with pytest.raises(PassError, match=r"the rules do not come to an end: often applied"):
        rewrite(chain("nn.relu", 1), [often])


def test_a_rule_is_called_by_its_name_and_place_where_it_has_one() -> None:
    @rule(pattern("nn.relu", "x"))
    def same(match: Match, build: Builder) -> Replacement:
        return match.root.result

    assert re.fullmatch(r"same \(.*test_rewriter\.py:\d+\)", str(same))
    assert str(Rule("made", same.pattern, functools.partial(lambda match, build: match.root))) == "made"


def test_a_rule_must_return_another_value() -> None:
    @rule(pattern("nn.relu", "x"))
    def same(match: Match, build: Builder) -> Replacement:
        return match.root.result

    with pytest.raises(PassError, match=r"the replacement of nn\.relu is"):
        rewrite(graph(), [same])


@pytest.mark.parametrize(("made", "words"), [(None, "None"), (3, "3"), ([], "empty")])
def test_a_rule_that_returns_no_value_is_named(made: Any, words: str) -> None:
    @rule(pattern("nn.relu", "x"))
    def forgetful(match: Match, build: Builder) -> Replacement:
        return made  # type: ignore[no-any-return]  # as a rule without a return statement does

    log = Log()
    with logging_to(log), pytest.raises(PassError, match=rf"the replacement of nn\.relu is {words}"):
        rewrite(graph(), [forgetful])
    assert log.running is not None
    assert log.running[0] is forgetful


def test_a_pattern_of_an_op_that_there_is_not_is_an_error() -> None:
    @rule(pattern("nn.relu", pattern("nn.relu7", "x")))
    def misspelt(match: Match, build: Builder) -> Replacement:
        return build.nn.relu(match.x)

    with pytest.raises(InputError, match=r"there is no op 'nn\.relu7'"):
        rewrite(graph(), [misspelt])


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the rules that were tried, once for each node."""
    names: list[str] = []
    apply = rewriter._apply

    def counted(graph: Graph, rule: rewriter.Rule, *arguments: Any) -> Any:
        names.append(rule.name)
        return apply(graph, rule, *arguments)

    monkeypatch.setattr(rewriter, "_apply", counted)
    return names


def chain(op: str, length: int) -> Graph:
    made = Graph()
    value = made.add_input("x", graph().inputs[0].type)
    for _ in range(length):
        value = Builder(made).node(op, [value], {}).result
    made.set_outputs([value])
    return made


def test_only_what_is_near_a_rewrite_is_looked_at_again(tried: list[str]) -> None:
    """Rules that shorten a chain of n nodes, or put others in their place, take a number of looks linear in n."""

    @rule(pattern("nn.relu", pattern("nn.relu", "x")))
    def shorten(match: Match, build: Builder) -> Replacement:
        return build.nn.relu(match.x)

    @rule(pattern("nn.relu6|nn.relu", "x"))
    def exchange(match: Match, build: Builder) -> Replacement:
        return Declined("done") if match.root.op == "nn.relu" else build.nn.relu(match.x)

    shortened = chain("nn.relu", 500)
    assert rewrite(shortened, [shorten]) == 499
    assert len(shortened) == 1
    assert len(tried) <= 4 * 500, "every node once, and what is around each rewrite"
    tried.clear()
    exchanged = chain("nn.relu6", 500)
    assert rewrite(exchanged, [exchange]) == 500
    assert [node.op for node in exchanged.nodes] == ["nn.relu"] * 500
    assert len(tried) <= 4 * 500, "every node once, and what is around each rewrite"


def test_what_reads_a_new_value_and_what_a_rewrite_frees_is_looked_at_again() -> None:
    """A rule that applies only once another did, before it and behind it."""

    @rule(pattern("nn.relu6", "x"))
    def exchange(match: Match, build: Builder) -> Replacement:
        return build.nn.relu(match.x)

    @rule(pattern("nn.add", pattern("nn.relu", "x"), pattern("nn.relu", "x")))
    def behind(match: Match, build: Builder) -> Replacement:
        return build.nn.mul(match.x, build.constant(np.full((1, 4), 2, np.float32), "two"))

    @rule(pattern("nn.sigmoid", "x", uses=1, bind="sigmoid"))
    def before(match: Match, build: Builder) -> Replacement:
        return build.nn.tanh(match.x)

    made = parse("""graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.relu(%x)
  %2: f32[N,4] = nn.relu6(%x)
  %3: f32[N,4] = nn.add(%1, %2)
  return %3
}""")
    assert rewrite(made, [behind, exchange]) == 2
    assert [node.op for node in made.nodes] == ["nn.mul"]

    @rule(pattern("nn.add", "x", "x"))
    def once(match: Match, build: Builder) -> Replacement:
        return build.nn.relu(match.x)

    twice = parse("""graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.sigmoid(%x)
  %2: f32[N,4] = nn.add(%1, %1)
  return %2
}""")
    assert rewrite(twice, [before, once]) == 2, "the sigmoid has one use after the add is gone"
    assert [node.op for node in twice.nodes] == ["nn.tanh", "nn.relu"]
