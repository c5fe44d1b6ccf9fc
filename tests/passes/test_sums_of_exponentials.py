"""What is read of numbers and exponentials in a few nodes, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qgraph.ir import Builder, Graph, Node, Value, parse
from qgraph.ir.trained import declare
from qgraph.passes.rules.sums_of_exponentials import (
    Linear,
    exponent,
    exponentials,
    linear,
    number_of,
    powers,
    quotient,
    same,
    summed_exponentials,
)

HEAD = """graph @g level=float (%x: f32[N,3,4], %y: f32[N,3,4], %r: f32[N,1,4]) {
  const @one: f32[] = 1.0, @two: f32[1] = 2.0, @three: f32[1,1,1] = 3.0, @minus: f32[] = -1.0, @zero: f32[] = 0.0
  const @many: f32[4] = 2.0, @inf: f32[] = inf, @nan: f32[] = nan, @high: f32[1,1,1,1] = 2.0, @whole: i32[] = 2
"""


def graph(body: str) -> Graph:
    """The graph whose result is %z."""
    lines = "\n".join(f"  {line.strip()}" for line in body.split(";"))
    return parse(f"{HEAD}{lines}\n  return %z\n}}")


def made(expression: str, before: str = "") -> Value:
    return graph(f"{before}%z: f32[N,3,4] = nn.{expression}").outputs[0]


LINEAR: dict[str, tuple[float, float]] = {
    "add(%x, @two)": (1, 2),
    "add(@two, %x)": (1, 2),
    "sub(%x, @two)": (1, -2),
    "sub(@two, %x)": (-1, 2),
    "mul(%x, @three)": (3, 0),
    "mul(@three, %x)": (3, 0),
    "div(%x, @two)": (0.5, 0),
    "mul(%x, @minus)": (-1, 0),
}


@pytest.mark.parametrize("text", LINEAR)
def test_factors_and_summands_are_read_on_either_side(text: str) -> None:
    value = made(text)
    assert linear(value) == Linear(_x(value), *LINEAR[text])


def _x(value: Value) -> Value:
    """The first value on the way up that no node makes."""
    while value.producer is not None:
        value = next(each for each in value.producer.inputs if not each.is_constant)
    return value


def test_several_are_read_as_one() -> None:
    value = made(
        "div(%c, @minus)",
        "%a: f32[N,3,4] = nn.mul(%x, @three);%b: f32[N,3,4] = nn.add(%a, @two);%c: f32[N,3,4] = nn.sub(@one, %b);",
    )
    assert linear(value) == Linear(_x(value), 3.0, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        *("div(@two, %x)", "div(%x, @zero)", "mul(%x, @zero)", "add(%x, @inf)", "mul(%x, @inf)", "add(%x, @nan)"),
        *("add(%x, @many)", "add(%x, %y)", "maximum(%x, @two)", 'add(%x, @two) {activation="relu"}', "tanh(%x)"),
    ],
)
def test_what_is_no_factor_or_summand_is_left(text: str) -> None:
    value = made(text)
    assert linear(value) == Linear(value)


def test_a_number_that_is_trained_or_has_more_dimensions_or_is_none_of_floats_is_none() -> None:
    built = graph("%z: f32[N,3,4] = nn.add(%x, @two)")
    (node,) = built.nodes
    assert number_of(node.operand(1), node) == 2
    declare(built, {"two": True})
    assert number_of(node.operand(1), node) is None
    built = graph("%w: f32[1,N,3,4] = nn.add(%x, @high);%z: f32[N,3,4] = nn.reshape(%w) {shape=[-1,3,4]}")
    assert number_of(built.nodes[0].operand(1), built.nodes[0]) is None
    built = graph(
        '%i: i32[N,3,4] = nn.cast(%x) {dtype="i32"};%j: i32[N,3,4] = nn.add(%i, @whole);'
        '%z: f32[N,3,4] = nn.cast(%j) {dtype="f32"}'
    )
    assert number_of(built.nodes[1].operand(1), built.nodes[1]) is None


def test_numbers_are_built_again_and_1_and_0_are_not_written() -> None:
    for words, more, ops in (
        ((1.0, 0.0), (1.0, 0.0), []),
        ((2.0, 0.0), (0.5, 0.0), []),
        ((2.0, 1.0), (3.0, -3.0), ["nn.mul"]),
        ((1.0, 1.0), (1.0, 1.0), ["nn.add"]),
        ((2.0, 1.0), (3.0, 1.0), ["nn.mul", "nn.add"]),
    ):
        built = graph("%z: f32[N,3,4] = nn.tanh(%x)")
        value = Linear(built.inputs[0], *words).build(Builder(built), *more)
        assert [node.op for node in built.nodes[1:]] == ops
        found = linear(value)
        assert (found.factor, found.summand) == (words[0] * more[0], words[1] * more[0] + more[1])


EXPONENT: dict[str, tuple[float, float] | None] = {
    "exp(%x)": (1, 0),
    "exp(%u)": (3, 2),
    "pow(@two, %x)": (math.log(2), 0),
    "pow(@two, %u)": (3 * math.log(2), 2 * math.log(2)),
    "pow(@one, %x)": None,
    "pow(@minus, %x)": None,
    "pow(@zero, %x)": None,
    "pow(%x, @two)": None,
    "tanh(%x)": None,
}
BEFORE = "%a: f32[N,3,4] = nn.mul(%x, @three);%u: f32[N,3,4] = nn.add(%a, @two);"


@pytest.mark.parametrize("text", EXPONENT)
def test_an_exponential_is_one_or_a_number_to_a_power(text: str) -> None:
    value, expected = made(text, BEFORE), EXPONENT[text]
    found = exponent(value)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (found.factor, found.summand) == pytest.approx(expected)
        assert found.base is _x(value)


E = "%e: f32[N,3,4] = nn.exp(%x);%n: f32[N,3,4] = nn.mul(%x, @minus);%f: f32[N,3,4] = nn.exp(%n);"
E += "%g: f32[N,3,4] = nn.exp(%y);%h: f32[N,3,4] = nn.mul(%e, @three);%i: f32[N,3,4] = nn.sub(@one, %h);"
SUMS: dict[str, dict[float, float] | None] = {
    "exp(%x)": {1: 1},
    "mul(%e, @three)": {1: 3},
    "add(%e, @two)": {1: 1, 0: 2},
    "sub(@two, %e)": {1: -1, 0: 2},
    "add(%e, %f)": {1: 1, -1: 1},
    "sub(%e, %f)": {1: 1, -1: -1},
    "sub(%e, %e)": {},
    "add(%e, %h)": {1: 4},
    "sub(%h, %i)": {1: 6, 0: -1},
    "add(%e, %g)": None,
    "mul(%e, %f)": None,
    "add(%e, %x)": None,
    "add(%x, %e)": None,
    "tanh(%e)": None,
    'add(%e, %f) {activation="relu"}': None,
}


@pytest.mark.parametrize("text", SUMS)
def test_sums_of_exponentials_are_read_by_factor(text: str) -> None:
    value = made(text, E)
    assert value.producer is not None
    found = exponentials(value, value.producer)
    assert (None if found is None else dict(found.terms)) == SUMS[text]
    if found is not None and text != "sub(%e, %e)":
        assert found.base is _x(value)


def test_a_number_is_a_sum_of_exponentials_too() -> None:
    node = graph("%z: f32[N,3,4] = nn.add(%x, @two)").nodes[0]
    found = exponentials(node.operand(1), node)
    assert found is not None
    assert (found.base, found.terms) == (None, {0.0: 2.0})


@pytest.mark.parametrize(("summand", "is_read"), [(79.5, True), (80.0, False), (-79.5, True), (-80.0, False)])
def test_an_exponential_of_a_large_number_is_none(summand: float, is_read: bool) -> None:
    built = parse(f"""graph @g level=float (%x: f32[N,3]) {{
      const @c: f32[] = {summand}
      %1: f32[N,3] = nn.add(%x, @c)
      %2: f32[N,3] = nn.exp(%1)
      return %2
    }}""")
    found = exponentials(built.outputs[0], built.nodes[-1])
    assert (found is not None) == is_read
    assert found is None or found.terms[1.0] == pytest.approx(math.exp(summand))


@pytest.mark.parametrize(("count", "is_read"), [(8, True), (9, False)])
def test_sums_are_read_so_many_nodes_deep(count: int, is_read: bool) -> None:
    for left in (True, False):
        lines = ["%a0: f32[N,3,4] = nn.exp(%x)"]
        pairs = [(f"%a{i - 1}", "%a0") if left else ("%a0", f"%a{i - 1}") for i in range(1, count + 1)]
        lines += [f"%a{i}: f32[N,3,4] = nn.add({a}, {b})" for i, (a, b) in enumerate(pairs, 1)]
        built = graph(";".join(lines).replace(f"%a{count}:", "%z:"))
        found = exponentials(built.outputs[0], built.nodes[-1])
        assert (found is not None) == is_read
        assert found is None or found.terms == {1.0: count + 1}


M = "%e: f32[N,3,4] = nn.exp(%x);%k: f32[N,1,4] = nn.exp(%r);"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exp(%x)", ("%x", None)),
        ("mul(%e, %y)", ("%x", "%y")),
        ("mul(%y, %e)", ("%x", "%y")),
        ("mul(%k, %y)", None),
        ("mul(%x, %y)", None),
        ("add(%e, %y)", None),
        ('mul(%e, %y) {activation="relu"}', None),
    ],
)
def test_powers_are_exponentials_and_those_times_a_mask(text: str, expected: tuple[str, str | None] | None) -> None:
    value = made(text, M)
    found = powers(value)
    names = None if found is None else (f"%{found.u.name}", None if found.mask is None else f"%{found.mask.name}")
    assert names == expected


def summed(body: str, type: str) -> Any:
    built = parse(
        f"{HEAD}  %e: f32[N,3,4] = nn.exp(%x)\n"
        + "\n".join(f"  {x.strip()}" for x in body.split(";"))
        + "\n  return %z\n}"
    )
    assert str(built.outputs[0].type) == type
    return summed_exponentials(built.outputs[0])


def test_a_sum_of_exponentials_has_kept_its_dimensions_has_them_again_or_lost_the_first_ones() -> None:
    for body, type, axes in (
        ("%z: f32[N,3,1] = nn.sum(%e) {axes=[2], keepdims=true}", "f32[N,3,1]", (2,)),
        ("%z: f32[N,3] = nn.sum(%e) {axes=[2], keepdims=false}", "f32[N,3]", None),
        ("%z: f32[3,4] = nn.sum(%e) {axes=[0], keepdims=false}", "f32[3,4]", (0,)),
        ("%z: f32[4] = nn.sum(%e) {axes=[1,0], keepdims=false}", "f32[4]", (1, 0)),
        ("%z: f32[N,4] = nn.sum(%e) {axes=[1], keepdims=false}", "f32[N,4]", None),
        ("%s: f32[N,3] = nn.sum(%e) {axes=[2], keepdims=false};%z: f32[N,3,1] = nn.reshape(%s) {shape=[-1,3,1]}",
         "f32[N,3,1]", (2,)),
        ("%s: f32[N,3] = nn.sum(%e) {axes=[2], keepdims=false};%z: f32[N,1,3] = nn.reshape(%s) {shape=[-1,1,3]}",
         "f32[N,1,3]", None),
        ("%s: f32[N,3,1] = nn.sum(%e) {axes=[2], keepdims=true};%z: f32[N,3] = nn.reshape(%s) {shape=[-1,3]}",
         "f32[N,3]", None),
        ("%s: f32[N,3,1] = nn.sum(%e) {axes=[2], keepdims=true};%z: f32[N,3,4] = nn.expand(%s) {shape=[-1,3,4]}",
         "f32[N,3,4]", (2,)),
        ("%t: f32[N,3,4] = nn.abs(%e);%z: f32[N,3,1] = nn.sum(%t) {axes=[2], keepdims=true}", "f32[N,3,1]", (2,)),
        ("%z: f32[N,3,1] = nn.sum(%y) {axes=[2], keepdims=true}", "f32[N,3,1]", None),
        ("%z: f32[N,3,1] = nn.max(%e) {axes=[2], keepdims=true}", "f32[N,3,1]", None),
        ("%z: f32[N,4,3] = nn.reshape(%e) {shape=[-1,4,3]}", "f32[N,4,3]", None),
    ):  # fmt: skip
        found = summed(body, type)
        assert (None if found is None else tuple(found.axes)) == axes, body
        assert found is None or found.powers.u.name == "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("div(%x, %y)", "xy"),
        ("mul(%x, %v)", "xy"),
        ("mul(%v, %x)", "xy"),
        ("mul(%x, %w)", None),
        ("mul(%x, %y)", None),
        ("add(%x, %v)", None),
        ('mul(%x, %v) {activation="relu"}', None),
    ],
)
def test_a_quotient_is_a_division_or_a_product_with_1_by_something(text: str, expected: str | None) -> None:
    before = "%v: f32[N,3,4] = nn.div(@one, %y);%w: f32[N,3,4] = nn.div(@two, %y);"
    node = made(text, before).producer
    assert node is not None
    found = quotient(node)
    assert (None if found is None else found[0].name + found[1].name) == expected


def nodes(body: str) -> list[Node]:
    return list(graph(body).nodes)


def test_values_are_the_same_that_are_made_of_the_same_by_the_same() -> None:
    pair = "%a: f32[N,3,4] = nn.{0};%z: f32[N,3,4] = nn.{1}"
    for first, second, expected in (
        ("tanh(%x)", "tanh(%x)", True),
        ("tanh(%x)", "tanh(%y)", False),
        ("tanh(%x)", "sigmoid(%x)", False),
        ("add(%x, @two)", "add(%x, @two)", True),
        ("add(%x, @two)", "add(%x, @three)", False),
        ("add(%x, %y)", "add(%y, %x)", False),
        ("clamp(%x) {min=0.0}", "clamp(%x) {min=1.0}", False),
        ("clamp(%x) {min=0.0}", "clamp(%x) {min=0.0}", True),
        ("dropout(%x) {p=0.5}", "dropout(%x) {p=0.5}", False),
        ("softmax(%x) {axis=2}", "softmax(%x) {axis=1}", False),
    ):
        a, b = (node.result for node in nodes(pair.format(first, second)))
        assert same(a, b) == expected, (first, second)
        assert same(a, a)
    built = graph("%a: f32[N,3,4] = nn.add(%x, @one);%z: f32[N,3,4] = nn.add(%a, @minus)")
    one, minus = (node.operand(1) for node in built.nodes)
    assert not same(one, minus)
    assert not same(one, built.inputs[0])
    copy = built.add_constant(one.data.copy(), "copy")
    assert same(one, copy)
    declare(built, {"one": True})
    assert not same(one, copy)
    assert not same(copy, one)


@pytest.mark.parametrize(("count", "expected"), [(8, True), (9, False)])
def test_values_are_compared_so_many_nodes_deep(count: int, expected: bool) -> None:
    lines = [
        f"%{side}{i}: f32[N,3,4] = nn.tanh({f'%{side}{i - 1}' if i else '%x'})" for side in "ab" for i in range(count)
    ]
    built = graph(";".join(lines).replace(f"%b{count - 1}:", "%z:"))
    assert same(built.nodes[count - 1].result, built.outputs[0]) == expected
